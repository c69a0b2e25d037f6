"""From a review's text to ids in plain Python: what text.py does with Keras layers in training, done without TensorFlow.

`RULES` are read by both. That both give the same ids is tested on reviews and on odd strings. (Characters that Unicode has had
for a year or two may be letters to one of them and not yet to the other.)
"""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import regex

PADDING, UNKNOWN = 0, 1
CHUNK = 500  # texts turned into ids at a time, if they hold,
CHUNK_CHARACTERS = 2_000_000  # padded to the longest, no more than this
MAX_WORDS = 10_000  # of a longer text, its first and last words are read
EMPTY = "(empty)"  # a row without any word would be all padding, which no recurrent kernel takes
PICTURE = "\\p{So}[\\p{M}\U0001f3fb-\U0001f3ff]*"  # an emoji, with its variant or skin tone
RULES = (
    ("</?[a-z][^<>]*>", " "),  # HTML breaks and other tags
    ("[\u2018\u2019\u02bc\uff07]", "'"),
    ("([^0-9])/+|/+([^0-9])", r"\1 \2"),
    ("[^\\p{L}\\p{M}\\p{N}\\p{So}\U0001f3fb-\U0001f3ff\u200c\u200d'/!?]+", " "),  # joiners stand inside words, too
    (f"([\U0001f1e6-\U0001f1ff]{{2}}|{PICTURE}(?:\u200d{PICTURE})*)", r" \1 "),  # a flag is two letters
    ("(^|[ !?])'+|'+([ !?]|$)", r"\1 \2"),  # quotation marks, not apostrophes
    ("([!?])", r" \1 "),
    ("(^| )[\\p{M}\u200c\u200d]+", r"\1"),  # marks that have lost their letter
)


def normalize(texts: list[str]) -> list[str]:
    """Raw texts with accents composed (NFC) and without half surrogates, which TensorFlow cannot do, and without NUL."""
    return [unicodedata.normalize("NFC", one.encode(errors="replace").decode()).replace("\0", " ") for one in texts]


def split_words(text: str) -> list[str]:
    """The words of a normalised text, as `apps.sentiment.text.standardize` finds them."""
    text = text.lower()
    for pattern, replacement in RULES:
        text = regex.sub(pattern, replacement, text)
    return text.split() or [EMPTY]


def in_chunks(texts: list[str], most: int = CHUNK) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Rows, the shortest texts first, and their texts, normalised: a long one is never padded to by many short ones."""
    lengths = np.array([len(one) for one in texts])
    order = np.argsort(lengths, kind="stable")
    while order.size:
        padded = lengths[order[:most]] * np.arange(1, len(order[:most]) + 1)
        fit = max(1, np.searchsorted(padded, CHUNK_CHARACTERS, side="right"))
        yield order[:fit], normalize([texts[row] for row in order[:fit]])
        order = order[fit:]


class Vocabulary:
    """The words and n-grams that a network knows.

    Args:
        words: by id, from 0 on.
        ngrams: for pairs, triples, ...: their keys (see ngrams.py), by number from 2 on. None for a network without n-grams.
        sequence_length: words that the recurrence reads.
    """

    def __init__(self, words: list[str], ngrams: list[np.ndarray], sequence_length: int):
        self.words, self.ngrams, self.sequence_length = words, ngrams, sequence_length
        self.ids = {word: number for number, word in enumerate(words)}
        self.sorted = [np.argsort(keys) for keys in ngrams]

    @classmethod
    def load(cls, file: Path) -> "Vocabulary":
        """Read what `save` wrote."""
        with np.load(file) as saved:
            ngrams = [saved[name] for name in sorted(saved.files) if name.startswith("ngrams")]
            return cls(saved["words"].tobytes().decode().split("\n"), ngrams, int(saved["sequence_length"]))

    def save(self, file: Path) -> None:
        """Write NumPy's archive of arrays. (Not as .npz: a run folder's .npz files are those that `--resume` alone needs.)"""
        words = np.frombuffer("\n".join(self.words).encode(), np.uint8)
        ngrams = {f"ngrams_{order}": keys for order, keys in enumerate(self.ngrams, start=2)}
        with open(file, "wb") as opened:
            np.savez(opened, words=words, sequence_length=self.sequence_length, **ngrams)

    def encode(self, texts: list[str]) -> dict[str, np.ndarray]:
        """Ids of normalised texts, padded with 0: "sequence" `(n, time)` and, with n-grams, "bag" `(n, any)`."""
        rows = [first_and_last(self.word_ids(one), MAX_WORDS) for one in texts]
        found = {"sequence": _padded([first_and_last(row, self.sequence_length) for row in rows])}
        if self.ngrams:
            found["bag"] = _padded([self._bag(row) for row in rows])
        return found

    def word_ids(self, text: str) -> np.ndarray:
        """Of a normalised text's words, in order."""
        return np.array([self.ids.get(word, UNKNOWN) for word in split_words(text)])

    def levels(self, words: np.ndarray) -> list[np.ndarray]:
        """The ids of words `(n,)`, of their pairs `(n - 1,)`, triples, ...: PADDING where one is not known."""
        previous, levels, num_ids = words, [words], len(self.words)
        for order, (keys, by_key) in enumerate(zip(self.ngrams, self.sorted, strict=True), start=2):
            previous = self._look_up(previous[: len(words) - order + 1], words[order - 1 :], keys, by_key)
            levels.append(np.where(previous > UNKNOWN, previous + num_ids, PADDING))
            num_ids += len(keys) + 2
        return levels

    def _bag(self, words: np.ndarray) -> np.ndarray:
        """The ids of all n-grams, each once."""
        ids = np.unique(np.concatenate(self.levels(words)))
        return ids[ids > PADDING]

    def _look_up(self, previous, last, keys, by_key) -> np.ndarray:
        """The numbers of n-grams from those of their first words and that of the last; 1 where one is not known."""
        wanted = previous * 2**20 + last
        place = by_key[np.minimum(np.searchsorted(keys, wanted, sorter=by_key), len(keys) - 1)]
        known = (previous > UNKNOWN) & (last > UNKNOWN) & (keys[place] == wanted)
        return np.where(known, place + 2, UNKNOWN)


def first_and_last(ids: np.ndarray, length: int) -> np.ndarray:
    """At most `length` of them: a quarter from the start, the rest from the end; see `apps.sentiment.text.first_and_last`."""
    return ids if len(ids) <= length else np.concatenate([ids[: length // 4], ids[length // 4 - length :]])


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    table = np.full((len(rows), max(map(len, rows))), PADDING, np.int32)
    for row, ids in enumerate(rows):
        table[row, : len(ids)] = ids
    return table
