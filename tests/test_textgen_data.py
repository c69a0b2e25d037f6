"""Text: what is read, what is refused, how it is cut; the n-grams against a count by hand."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apps.textgen import baseline, characters, data
from apps.textgen.config import DEFAULT, TRAINING
from shared.cli import UserError

SHAKESPEARE = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser() / "tiny_shakespeare"


def load(path, content=None, batch_size=1, sequence_length=2, **settings):
    if content is not None:
        Path(path).write_bytes(content)
    training = replace(TRAINING, batch_size=batch_size)
    return data.load(replace(DEFAULT, data=str(path), sequence_length=sequence_length, training=training, **settings))


def as_string(text):
    return "".join(map(chr, text.characters))


@pytest.mark.parametrize("chunk", [3, 1 << 22])  # a chunk may end within a character or a line end
def test_a_file_is_read_as_it_is_with_plain_line_ends(chunk, monkeypatch):
    monkeypatch.setattr(data, "CHUNK", chunk)
    content = "\N{BYTE ORDER MARK}Zwölf\r\nBoxkämpfer\rjagen den Hund\N{GRINNING FACE}\n日本語\r\n"
    for encoded in (content.encode(), content.encode("utf-16-le"), content.encode("utf-16-be")):
        parts = load("own.txt", encoded)
        assert as_string(parts.train) + as_string(parts.validation) + as_string(parts.test) == (
            "Zwölf\nBoxkämpfer\njagen den Hund\N{GRINNING FACE}\n日本語\n"
        )


def test_a_folder_is_a_document_per_file_in_order():
    for name, content in (("b.TXT", "B" * 50), ("a.txt", "a" * 100), ("c.md", "no")):
        Path(name).write_text(content)
    parts = load(".")
    assert as_string(parts.train) == "a" * 100 + "B" * 35
    assert parts.train.document_lengths.tolist() == [100, 35]
    assert parts.validation.document_lengths.tolist() == [8]
    assert parts.test.document_lengths.tolist() == [7]


def test_splits_are_contiguous_and_90_10_has_no_test_part():
    content = bytes(np.random.default_rng(0).integers(97, 123, 1000, dtype=np.uint8))
    parts = load("own.txt", content)
    assert [len(part.characters) for part in parts[:3]] == [900, 50, 50]
    assert "".join(as_string(part) for part in parts[:3]) == content.decode()
    parts = load("own.txt", split="90/10")
    assert as_string(parts.validation) == as_string(parts.test) == content.decode()[900:]


def test_limit_takes_the_first_characters():
    assert as_string(load("own.txt", b"0123456789" * 10, limit=40).train) == "0123456789" * 3 + "012345"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "own.txt is empty"),
        (b"text \0 text", "binary file.*expected UTF-8"),
        ("no mark".encode("utf-16-le"), "iconv -f utf-16le"),
        ("half an emoji: \ud83d".encode("utf-16", "surrogatepass"), "begins as UTF-16, but unexpected end of data"),
        ("half an emoji: \ud83d".encode("utf-8", "surrogatepass"), "not UTF-8"),
        ("Zw\xf6lf".encode("latin1"), "not UTF-8.*iconv -f latin1"),
        (b"cut off: \xe6\x97", "not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(content, message):
    with pytest.raises(UserError, match=message):
        load("own.txt", content)


def test_what_is_not_there_is_named():
    with pytest.raises(UserError, match="no such file or folder"):
        load("nowhere.txt")
    Path("empty").mkdir()
    with pytest.raises(UserError, match=r"no \.txt file in this folder"):
        load("empty")


def test_the_smallest_text_that_works_is_told():
    with pytest.raises(UserError, match=r"so 40 are needed.* has 46 characters"):
        load("own.txt", b"a" * 45, batch_size=4, sequence_length=10)
    load("own.txt", b"a" * 46, batch_size=4, sequence_length=10)
    with pytest.raises(UserError, match="has 31 characters"):  # training has enough, but test would have nothing to predict
        load("own.txt", b"a" * 30)
    load("own.txt", b"a" * 31)


def test_rare_characters_are_the_unknown_one_and_ids_follow_unicode():
    parts = load("own.txt", "abcabcab\N{GRINNING FACE}\N{GRINNING FACE}dab".encode() + b"a" * 20)
    vocabulary = characters.learn_vocabulary(parts.train)
    assert vocabulary == ["a", "b", "c", "\N{GRINNING FACE}"]
    ids = characters.encode(parts.train, vocabulary).characters
    assert ids[:12].tolist() == [2, 3, 4, 2, 3, 4, 2, 3, 5, 5, characters.UNKNOWN, 2]
    assert characters.decode(ids[8:12], vocabulary) == "\N{GRINNING FACE}\N{GRINNING FACE}\N{REPLACEMENT CHARACTER}a"


def test_a_text_in_which_no_character_comes_twice_has_no_vocabulary():
    with pytest.raises(UserError, match="No character comes up 2 times in the training text"):
        characters.learn_vocabulary(data.Text(np.arange(97, 123), np.array([26])))


def test_the_sample_is_there_on_every_machine():
    parts = data.load(replace(DEFAULT, dataset="sample"))
    assert parts.name == "sample"
    assert 500_000 < sum(len(part.characters) for part in parts[:3]) <= data.SAMPLE_CHARACTERS
    assert "def " in as_string(parts.test)


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason="Tiny Shakespeare does not lie prepared")
def test_tiny_shakespeare_splits_as_nanogpt_has_it():
    parts = data.load(replace(DEFAULT, split="90/10"))
    assert (len(parts.train.characters), len(parts.validation.characters)) == (1_003_854, 111_540)
    assert as_string(parts.train).startswith("First Citizen:\nBefore we proceed any further")
    assert len(set(as_string(parts.train))) == 65
    assert set(as_string(parts.train)) - set(characters.learn_vocabulary(parts.train)) == {"$"}  # which comes up once


def nats_by_hand(train: str, text: str, order: int, num_ids: int) -> float:
    """Witten and Bell's interpolation, from its definition."""
    counts = Counter(train[at : at + n] for n in range(1, order + 1) for at in range(len(train) - n + 1))

    def probability(history: str, character: str) -> float:
        shorter = probability(history[1:], character) if history else 1 / num_ids
        after = {c: counts[history + c] for c in set(train) if counts[history + c]}
        if not after:
            return shorter
        return (after.get(character, 0) + len(after) * shorter) / (sum(after.values()) + len(after))

    histories = [text[max(0, at - order + 1) : at] for at in range(1, len(text))]
    return -np.mean([np.log(probability(history, c)) for history, c in zip(histories, text[1:], strict=True)])


def test_ngrams_are_interpolated_as_defined():
    rng = np.random.default_rng(0)
    train, text = ("".join(rng.choice(list("aab bcd"), size)) for size in (400, 60))
    parts = [data.Text(np.array([ord(c) - 95 if c != " " else 1 for c in one]), np.array([len(one)])) for one in (train, text)]
    fitted = baseline.fit_baseline(parts[0], parts[0], num_ids=7)
    assert len(fitted.orders) == baseline.MAX_ORDER  # on what it has counted, the longest are the best
    nats = baseline.nats_by_order(fitted, parts[1])
    for order in (1, 2, 3, 5):
        assert nats[order - 1] == pytest.approx(nats_by_hand(train, text, order, 7))
    two = data.Text(np.concatenate([parts[1].characters] * 2), np.array([60, 60]))  # the first of each is not asked for
    once_more = nats_by_hand(train, text + text, 1, 7) * 119 - nats_by_hand(train, text[0] * 2, 1, 7)
    assert baseline.nats_by_order(fitted, two)[0] == pytest.approx(once_more / 118)
    assert baseline.nats_by_block(fitted, two).shape == (baseline.MAX_ORDER, 60)  # blocks of 2 characters
    chosen = baseline.fit_baseline(*parts, num_ids=7)
    assert len(chosen.orders) == np.argmin(nats) + 1


def test_ngrams_count_the_end_of_a_text_that_is_too_long(monkeypatch):
    ids = np.random.default_rng(0).integers(2, 9, 600)
    whole, end = (data.Text(part, np.array([len(part)])) for part in (ids, ids[-100:]))
    monkeypatch.setattr(baseline, "MAX_CHARACTERS", 100)
    fitted, expected = (baseline.fit_baseline(text, end, num_ids=9) for text in (whole, end))
    assert fitted.characters == 100
    np.testing.assert_array_equal(baseline.nats_by_block(fitted, end), baseline.nats_by_block(expected, end))


def test_nats_by_block_are_the_sums_over_neighbours(monkeypatch):
    """Each block's sum is what its characters have by themselves, whatever the chunk in which they are looked up."""
    ids = np.random.default_rng(0).integers(2, 9, 1000)
    text = data.Text(ids, np.array([400, 600]))
    fitted = baseline.fit_baseline(text, text, num_ids=9)
    by_block = baseline.nats_by_block(fitted, text)[-1]
    monkeypatch.setattr(baseline, "block_size", lambda text: 1)
    single = baseline.nats_by_block(fitted, text)[-1]
    assert single[0] == single[400] == 0  # each document's first character is not asked for
    np.testing.assert_allclose(by_block, single.reshape(50, 20).sum(axis=1))
