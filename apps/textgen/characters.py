"""From characters to ids and back. 0 is padding and 1 the unknown character; the others stand in the order of Unicode."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from shared.cli import UserError
from shared.data import write_array

CHUNK = 1 << 22  # characters that are held in memory at a time
UNKNOWN = 1
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MAX_CHARACTERS = 10_000
MIN_COUNT = 2


class Text(NamedTuple):
    """Characters `(n,)` as Unicode code points (later as ids), memory-mapped; all documents one behind the other."""

    characters: np.ndarray
    document_lengths: np.ndarray


def in_chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array that may be too large for memory, piece by piece."""
    return (array[start : start + CHUNK] for start in range(0, len(array), CHUNK))


def learn_vocabulary(text: Text) -> list[str]:
    """The characters of the training text that come up twice or more, at most the 10,000 most frequent ones."""
    counts = np.zeros(0x110000, np.int64)
    for chunk in in_chunks(text.characters):
        counts += np.bincount(chunk, minlength=len(counts))
    frequent = np.argsort(-counts, kind="stable")[:MAX_CHARACTERS]
    known = np.sort(frequent[counts[frequent] >= MIN_COUNT])
    if not known.size:
        raise UserError(f"No character comes up {MIN_COUNT} times in the training text. Give a longer one.")
    return [chr(code) for code in known]


def encode(text: Text, vocabulary: list[str]) -> Text:
    """The same text as ids."""
    table = np.full(0x110000, UNKNOWN, np.uint16)
    table[[ord(character) for character in vocabulary]] = np.arange(len(vocabulary)) + 2
    return Text(write_array((table[chunk] for chunk in in_chunks(text.characters)), "uint16"), text.document_lengths)


def decode(ids, vocabulary: list[str]) -> str:
    """Ids `(n,)` as text."""
    characters = ["", REPLACEMENT, *vocabulary]
    return "".join(characters[number] for number in ids)
