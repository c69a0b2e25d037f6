"""From files to tagged sentences: schemes of tags, CoNLL columns, spans of characters, and what can be wrong with them."""

import itertools
import json
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apps.tagging import data, reading, schemes
from apps.tagging.config import PRESETS
from apps.tagging.sample import make_sentences
from apps.tagging.schemes import Span
from apps.tagging.text import tag_ids, vectorise
from apps.tagging.words import MAX_CHARACTERS, MAX_TOKENS, UNKNOWN, Vocabulary, tokenise
from shared.cli import UserError

REPOSITORY = Path(__file__).parent.parent
SNIPS = REPOSITORY.parent / "shared" / "data" / "snips"
SMOKE = PRESETS["smoke"]
SENTENCE = ["to", "new", "york", "at", "seven"]
IN_SCHEMES = {
    "IOB2": ["O", "B-city", "I-city", "O", "B-time"],
    "IOB1": ["O", "I-city", "I-city", "O", "I-time"],
    "BIOES": ["O", "B-city", "E-city", "O", "S-time"],
}


def random_spans(rng: random.Random) -> tuple[list[Span], int]:
    """Spans that do not overlap, often next to each other, and the length of their sentence."""
    length, spans, place = rng.randint(1, 12), [], 0
    while place < length:
        last = min(length - 1, place + rng.randint(0, 2))
        if rng.random() < 0.6:
            spans.append(Span(rng.choice("abc"), place, last))
        place = last + 1
    return spans, length


def written(spans: list[Span], length: int, scheme: str) -> list[str]:
    """Tags of spans, by the definition of each scheme; BILOU is BIOES with other letters."""
    tags = ["O"] * length
    for number, span in enumerate(spans):
        touches = number and spans[number - 1].last == span.first - 1 and spans[number - 1].type == span.type
        for place in range(span.first, span.last + 1):
            prefix = "B" if place == span.first and (scheme != "IOB1" or touches) else "I"
            if scheme in ("BIOES", "BILOU") and place == span.last:
                prefix = ("S" if scheme == "BIOES" else "U") if span.first == span.last else "E" if scheme == "BIOES" else "L"
            tags[place] = f"{prefix}-{span.type}"
    return tags


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BILOU"])
def test_every_scheme_is_recognised_and_says_the_same_spans(scheme):
    rng = random.Random(0)
    examples = [random_spans(rng) for _ in range(300)]
    sentences = [written(*example, scheme) for example in examples]
    recognised = schemes.recognise(sentences)
    assert recognised == ("BIOES" if scheme == "BILOU" else scheme)
    for tags, (spans, length) in zip(sentences, examples, strict=True):
        converted, broken = schemes.to_iob2(tags, recognised)
        assert converted == written(spans, length, "IOB2")
        assert not broken
        assert schemes.spans_of(converted) == spans
        assert schemes.tags_of(spans, length) == converted


@pytest.mark.parametrize(
    ("tags", "scheme", "expected", "broken"),
    [
        (["I-a", "I-a", "O"], "IOB2", ["B-a", "I-a", "O"], 1),
        (["B-a", "I-b", "I-b"], "IOB2", ["B-a", "B-b", "I-b"], 1),
        (["B-a", "O", "E-a"], "BIOES", ["B-a", "O", "B-a"], 2),  # a span never ended, and an end of nothing
        (["B-a", "S-a", "O"], "BIOES", ["B-a", "B-a", "O"], 1),
        (["S-a", "I-a", "E-a"], "BIOES", ["B-a", "B-a", "I-a"], 1),
        (["B-a"], "BIOES", ["B-a"], 1),
    ],
)
def test_broken_sequences_are_counted_and_begin_a_new_span(tags, scheme, expected, broken):
    assert schemes.to_iob2(tags, scheme) == (expected, broken)


def test_parts_of_speech_are_tags_by_themselves():
    assert schemes.recognise([["DT", "NN", "VB"], ["O"]]) == "plain"
    assert schemes.recognise([["O", "O"]]) == "plain"


def test_conll_columns_comments_documents_and_odd_tokens(tmp_path):
    """Tabs, or else spaces; CRLF; a no-break space inside a token; a sentence that begins with #; a byte order mark."""
    file = tmp_path / "train.conll"
    text = "-DOCSTART- -X- O\n\n# intent = Fly\nto\tTO\tO\r\nnew\u00a0york\tNN\tB-city\r\n\r\n\n#\tSYM\tO\nseven\tCD\tB-time"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    first, second = reading.read(file, 0, -1)
    assert first == (["to", "new\u00a0york"], ["O", "B-city"], [4, 5])
    assert second == (["#", "seven"], ["O", "B-time"], [8, 9])
    assert reading.read(file, 0, 1)[1].tags == ["SYM", "CD"]
    file.write_text("to O\nnew  B-city\nyork I-city\n")
    assert reading.read(file, 0, -1) == [(["to", "new", "york"], ["O", "B-city", "I-city"], [1, 2, 3])]


def test_spans_of_characters_become_tags_of_tokens(tmp_path, capsys):
    text = "Let's go to New York, at 7:30!"
    city, time = text.index("New"), text.index("7:30")
    rows = [
        {
            "text": text,
            "spans": [{"start": city, "end": city + 8, "label": "city"}, {"start": time, "end": time + 4, "label": "t"}],
        },
        {"text": text, "labels": [[city, city + 8, "city"]], "spans": None},
        {"text": text, "label": [[city + 1, city + 6, "city"]]},  # cuts New and York
    ]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second, third = reading.read(file, 0, -1)
    assert first.tokens == ["Let's", "go", "to", "New", "York", ",", "at", "7", ":", "30", "!"]
    assert [(span.type, span.first, span.last) for span in schemes.spans_of(first.tags)] == [("city", 3, 4), ("t", 7, 9)]
    assert second.tags == third.tags == ["O"] * 3 + ["B-city", "I-city"] + ["O"] * 6
    assert "on 1 lines a span begins or ends inside a token" in (printed := capsys.readouterr().out)
    assert "line 3" in printed


TWO_SENTENCES = "to\tO\nparis\tB-city\n\nto\tO\nrome\tB-city\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"mine.conll": "to\tO\nparis\n"}, "mine.conll, line 2: expected a token and its tag; got one column, 'paris'"),
        ({"mine.conll": "to\tO\nparis\t \n"}, "line 2: there is no tag in column -1 of ['paris', ' ']"),
        ({"mine.conll": "\n\n"}, "mine.conll holds no sentence"),
        ({"mine.conll": ""}, "mine.conll holds no sentence"),
        ({"mine.conll": "to\tO\n" * (MAX_TOKENS * 5)}, "line 1: a sentence of 5,000 tokens; 1,000 are the most"),
        ({"mine.conll": "to\tO\nparis\tO\n\n" * 9}, "every tag is 'O', so there is nothing to learn"),
        (
            {"mine.conll": "to\tTO\nparis\tB-city\n"},
            "two schemes of tags: 'B-city' on line 2 names a span, 'TO' on line 1 none",
        ),
        ({"mine.conll": TWO_SENTENCES}, "2 different sentences are too few to cut 20% off for test"),
        ({"mine.jsonl": '{"text": "to paris"}\n'}, "mine.jsonl does not parse: line 1: expected a list of spans"),
        ({"mine.jsonl": '{"text": "to paris", "spans": [[3, 99, "city"]]}\n'}, "the span 3 to 99 lies outside of the text"),
        ({"mine.jsonl": '{"text": "to paris", "spans": [[2, 3, "city"]]}\n'}, "the span 2 to 3 holds no token"),
        ({"mine.jsonl": '{"text": "to paris", "spans": [[0, 5, "a"], [3, 8, "b"]]}\n'}, "line 1: spans overlap"),
        ({"mine.jsonl": '{"text": 1, "spans": []}\n'}, 'line 1: expected a string under "text"'),
        ({"mine.jsonl": "[1]\n"}, "line 1 is no object"),
        (
            {"train.conll": TWO_SENTENCES, "test.conll": "to\tO\nseven\tB-time\n"},
            "test.conll, line 2: the tag 'B-time' does not",
        ),
        ({"train.conll": TWO_SENTENCES, "test.conll": "to\tO\nparis\tS-city\n"}, "test.conll has BIOES tags"),
        ({"train.conll": TWO_SENTENCES, "test.conll": "to\tTO\nparis\tNN\n"}, "test.conll has plain tags"),
        ({"train.conll": TWO_SENTENCES, "train.jsonl": "{}"}, "train.conll and train.jsonl are both taken for train"),
        ({"other.conll": TWO_SENTENCES, "test.conll": TWO_SENTENCES}, "expected a file train"),
    ],
)
def test_what_is_wrong_with_files_is_named(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    path = tmp_path / next(iter(files)) if len(files) == 1 else tmp_path
    with pytest.raises(UserError, match=re.escape(message)):
        data.load(replace(SMOKE, data=str(path)))


def test_a_mistake_is_answered_before_tensorflow_is_imported_and_leaves_nothing(tmp_path):
    (tmp_path / "mine.conll").write_text("to\tO\nparis\n")
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "apps.tagging", "train", "--data", str(tmp_path / "mine.conll")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 2
    assert "error: " in answer.stderr
    imported = {line.split("|")[-1].strip() for line in answer.stderr.splitlines() if line.startswith("import time:")}
    assert "apps.tagging.reading" in imported
    assert not {"tensorflow", "keras"} & imported
    assert [path.name for path in tmp_path.iterdir()] == ["mine.conll"]


def write_conll(file: Path, sentences) -> None:
    file.write_text("\n".join("".join(f"{token}\t{tag}\n" for token, tag in zip(*pair, strict=True)) for pair in sentences))


def test_a_folder_keeps_its_parts_and_a_file_is_cut_without_a_leak(tmp_path, capsys):
    sentences = make_sentences(300, seed=5)
    parts = {"train": sentences[:200], "dev": sentences[200:240], "test": sentences[240:]}
    (folder := tmp_path / "mine").mkdir()
    for name, part in parts.items():
        write_conll(folder / f"{name}.conll", part)
    splits = data.load(replace(SMOKE, data=str(folder), limit=None))
    for (tokens, tags, _), name in zip(splits[:3], parts, strict=True):
        assert [*zip(tokens, tags, strict=True)] == parts[name]
    assert splits.name == "mine"
    assert splits.train.tag_names == tuple(
        ["O"]
        + [f"{b}-{t}" for t in sorted({schemes.split(tag)[1] for _, tags in sentences for tag in tags} - {""}) for b in "BI"]
    )

    write_conll(tmp_path / "one.conll", sentences + sentences[:50])
    splits = data.load(replace(SMOKE, data=str(tmp_path / "one.conll"), limit=None))
    found = [{tuple(tokens) for tokens in part.tokens} for part in splits[:3]]
    assert not any(one & other for one, other in itertools.combinations(found, 2))
    different = {tuple(tokens) for tokens, _ in sentences}
    assert set.union(*found) == different
    assert f"{350 - len(different)} of 350 sentences dropped" in capsys.readouterr().out
    again = data.load(replace(SMOKE, data=str(tmp_path / "one.conll"), limit=None))
    assert again.fingerprint == splits.fingerprint


def test_ids_of_sentences_do_not_depend_on_what_stands_beside_them():
    sentences = [["To", "New", "York", "at", "7"], ["to"], ["a" * 40, "to", "To"]]
    vocabulary = Vocabulary.learn([*sentences, ["to", "Yorks", "new"]], ["O"])
    together = vocabulary.encode(sentences)
    for row, tokens in enumerate(sentences):
        for name, ids in vocabulary.encode([tokens]).items():
            np.testing.assert_array_equal(together[name][row, : len(tokens)], ids[0])
            assert not together[name][row, len(tokens) :].any()
    ragged = vectorise(vocabulary, sentences)
    np.testing.assert_array_equal(ragged["words"].to_tensor(), together["words"])
    np.testing.assert_array_equal(ragged["characters"].to_tensor(), together["characters"])
    spelled = [vocabulary.characters[one] for one in together["characters"][0, 2] if one > UNKNOWN]
    assert "".join(spelled) == "York"
    assert together["words"][0, 1] == vocabulary.word_ids["new"]  # in lower case
    assert together["words"][0, 2] == UNKNOWN  # once alone
    assert (together["characters"][2, 0] == vocabulary.character_ids["a"]).sum() == MAX_CHARACTERS


def test_a_vocabulary_of_lower_case_makes_new_sentences_so_and_is_saved(tmp_path):
    vocabulary = Vocabulary.learn([["to", "rome"], ["to", "rome"]], ["O", "B-city", "I-city"])
    vocabulary.save(tmp_path / "vocabulary.json")
    again = Vocabulary.load(tmp_path / "vocabulary.json")
    assert again.tags == ["O", "B-city", "I-city"]
    for name, ids in again.encode([["to", "rome"]]).items():
        np.testing.assert_array_equal(ids, again.encode([["TO", "Rome"]])[name])
    mixed = Vocabulary.learn([["to", "Rome"], ["to", "Rome"]], ["O"])
    assert (mixed.encode([["Rome"]])["characters"] != mixed.encode([["rome"]])["characters"]).any()


def test_an_accent_may_be_typed_in_two_ways():
    vocabulary = Vocabulary.learn([["caf\u00e9", "caf\u00e9"]], ["O"])
    one, other = (vocabulary.encode([[token]]) for token in ("caf\u00e9", "cafe\u0301"))
    for name, ids in one.items():
        np.testing.assert_array_equal(ids, other[name])
        assert (ids != UNKNOWN).all()


def test_tags_become_numbers():
    sentences = data.Sentences([["to", "rome"], ["rome"]], [["O", "B-city"], ["B-city"]], ("O", "B-city", "I-city"))
    assert tag_ids(sentences).to_list() == [[0, 1], [1]]


def test_tokens_know_their_places():
    text = "Wer's glaubt: \u201eNew-York\u201c \U0001f600 3.5e\u0301\u0301"
    for token, start, end in tokenise(text):
        assert text[start:end] == token
    assert "".join(token for token, _, _ in tokenise(text)) == "".join(text.split())
    assert tokenise(" \t\n") == []


def test_in_the_sample_names_stand_for_both_and_most_are_new_in_test():
    """So neither the word nor its neighbour alone tells where a journey starts."""
    splits = data.load(replace(SMOKE, dataset="sample", limit=None))

    def names(part, kind):
        pairs = ((tokens, span) for tokens, tags in zip(*part[:2], strict=True) for span in schemes.spans_of(tags))
        return [" ".join(tokens[span.first : span.last + 1]) for tokens, span in pairs if span.type == kind]

    starts, ends = (set(names(splits.train, kind)) for kind in ("from_city", "to_city"))
    new = [name for name in names(splits.test, "from_city") if name not in starts | ends]
    assert len(new) > 0.3 * len(names(splits.test, "from_city"))
    assert len(starts & ends) > 0.2 * min(len(starts), len(ends))


@pytest.mark.skipif(not SNIPS.exists(), reason="SNIPS does not lie beside the checkout")
def test_snips_is_read_whole():
    splits = data.load(replace(PRESETS["default"], data=str(SNIPS)))
    assert [len(part.tokens) for part in splits[:3]] == [13_084, 700, 700]
    assert len(splits.train.tag_names) == 1 + 2 * 39
    assert sum(len(schemes.spans_of(tags)) for tags in splits.test.tags) == sum(
        line.split("\t")[1].startswith("B-") for line in (SNIPS / "test.conll").read_text().splitlines() if "\t" in line
    )
