"""From a sentence to ids in plain Python, for training and, without TensorFlow, for predictions."""

import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import regex

PADDING, UNKNOWN = 0, 1
TOKEN = regex.compile(
    r"[\p{L}\p{M}\p{N}]+(?:['\u2019][\p{L}\p{M}]+)*|\S"
)  # a word or number with its apostrophes; else one mark
DIGIT = regex.compile(r"\p{Nd}")
MAX_CHARACTERS = 16  # of a word; of a longer one its first and its last
MAX_TOKENS = 1_000  # of a sentence
MIN_COUNT = 2  # in the training sentences, of a word or character that gets an id


def tokenise(text: str) -> list[tuple[str, int, int]]:
    """The tokens of a text, each with the place of its first character and that behind its last."""
    return [(found[0], found.start(), found.end()) for found in TOKEN.finditer(text)]


def split_words(text: str) -> list[str]:
    """The tokens of a text alone."""
    return [token for token, _, _ in tokenise(text)]


def composed(token: str) -> str:
    """With accents composed (NFC): the same word however it was typed."""
    return unicodedata.normalize("NFC", token)


def normalise(token: str) -> str:
    """As the network looks a word up: in lower case, every digit a 0."""
    return DIGIT.sub("0", composed(token).lower())


class Vocabulary:
    """The words, characters and tags that a network knows.

    Args:
        words: by id; the first two stand for the padding and for what is not known.
        characters: the same.
        tags: by number.
        lower: whether the training sentences hold lower case alone; new ones are then made so.
    """

    def __init__(self, words: list[str], characters: list[str], tags: list[str], lower: bool):
        self.words, self.characters, self.tags, self.lower = words, characters, tags, lower
        self.word_ids = {word: number for number, word in enumerate(words)}
        self.character_ids = {character: number for number, character in enumerate(characters)}

    @classmethod
    def learn(cls, sentences: list[list[str]], tags: list[str]) -> "Vocabulary":
        """Of training sentences: every word and every character that stands there twice. Rarer words are known by spelling."""
        words = Counter(normalise(token) for tokens in sentences for token in tokens)
        characters = Counter(character for tokens in sentences for token in tokens for character in composed(token))
        lower = all(character == character.lower() for character in characters)
        return cls(_named(words), _named(characters), tags, lower)

    @classmethod
    def load(cls, file: Path) -> "Vocabulary":
        """Read what `save` wrote."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def save(self, file: Path) -> None:
        """Write JSON."""
        parts = {"words": self.words, "characters": self.characters, "tags": self.tags, "lower": self.lower}
        file.write_text(json.dumps(parts), encoding="utf-8")

    def encode(self, sentences: list[list[str]]) -> dict[str, np.ndarray]:
        """Ids, padded with 0: "words" `(n, time)` and "characters" `(n, time, MAX_CHARACTERS)`."""
        time = max(map(len, sentences))
        words = np.zeros((len(sentences), time), np.int32)
        characters = np.zeros((len(sentences), time, MAX_CHARACTERS), np.int32)
        for row, tokens in enumerate(sentences):
            for place, token in enumerate(tokens):
                words[row, place] = self.word_ids.get(normalise(token), UNKNOWN)
                spelled = first_and_last(composed(token.lower() if self.lower else token))
                characters[row, place, : len(spelled)] = [self.character_ids.get(one, UNKNOWN) for one in spelled]
        return {"words": words, "characters": characters}


def first_and_last(token: str) -> str:
    """At most `MAX_CHARACTERS` of a word: of a longer one its first half and its last."""
    half = MAX_CHARACTERS // 2
    return token if len(token) <= MAX_CHARACTERS else token[:half] + token[-half:]


def _named(counts: Counter) -> list[str]:
    """Two places for padding and unknown, then the most frequent first; of equally frequent ones, the smaller."""
    known = (one for one, count in counts.items() if count >= MIN_COUNT)
    return ["", "�", *sorted(known, key=lambda one: (-counts[one], one))]
