"""The baseline: for sentences a translation memory, for characters that become symbols a joint n-gram model."""

from itertools import pairwise

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from apps.translation.alignment import MAX_TARGETS
from apps.translation.data import Pairs
from apps.translation.joint import JointNGrams

ROWS = 256  # queries that are compared at a time
WORDS_AND_PAIRS = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\w+|[^\w\s]"}
CHARACTERS = {"analyzer": "char_wb", "ngram_range": (2, 4)}
MAX_CHARACTERS = 100  # of a source that is aligned


class Baseline:
    """Fitted on training pairs, asked with sources.

    Characters to words, as in pronunciation, are written by a joint n-gram model. (The nearest source's target is never right
    there: no target stands in two parts.) All other sources get the target of the nearest training source.

    Args:
        train: pairs.
        kinds: of the sources' tokens and of the targets'; see `apps.translation.data.token_kinds`.
    """

    def __init__(self, train: Pairs, kinds: tuple[str, str]):
        alignable = [pair for pair in zip(*train[:2], strict=True) if _is_alignable(*pair)]
        joint = kinds == ("characters", "words") and len(alignable) > len(train.sources) / 2
        self.name = "a joint n-gram model" if joint else "a translation memory"
        self.answer = Pronunciation(alignable) if joint else Memory(train, kinds[0])

    def __call__(self, sources: list[str]) -> list[str]:
        """The target of each."""
        return self.answer(sources)


class Pronunciation:
    """The words that a joint n-gram model writes for the characters of a source."""

    def __init__(self, pairs: list[tuple[str, str]]):
        self.model = JointNGrams([[*source] for source, _ in pairs], [target.split() for _, target in pairs])

    def __call__(self, sources: list[str]) -> list[str]:
        """The target of each."""
        return [" ".join(words) for words in self.model([[*source] for source in sources])]


class Memory:
    """The target of the nearest training source, by the cosine of tf-idf vectors.

    Args:
        train: pairs; of a source with several targets, the first is given.
        kind: of the sources' tokens. Characters are compared by groups of 2 to 4, all others by words and pairs of them.
    """

    def __init__(self, train: Pairs, kind: str):
        self.targets = [references[0] for references in dict(zip(train.sources, train.references, strict=True)).values()]
        options = CHARACTERS if kind == "characters" else WORDS_AND_PAIRS
        self.vectorizer = TfidfVectorizer(**options, dtype=np.float32)
        self.memory = self.vectorizer.fit_transform(dict.fromkeys(train.sources)).T.tocsr()

    def __call__(self, sources: list[str]) -> list[str]:
        """The target of each; the first of all where nothing is alike."""
        queries, found = self.vectorizer.transform(sources), []
        for first in range(0, len(sources), ROWS):  # all products at once would take gigabytes
            alike = (queries[first : first + ROWS] @ self.memory).tocsr()
            found += [_nearest(alike.data[start:end], alike.indices[start:end]) for start, end in pairwise(alike.indptr)]
        return [self.targets[number] for number in found]


def _is_alignable(source: str, target: str) -> bool:
    """Whether there are few enough words for the characters, and few enough of these."""
    return len(target.split()) <= MAX_TARGETS * len(source) <= MAX_TARGETS * MAX_CHARACTERS


def _nearest(similarities: np.ndarray, numbers: np.ndarray) -> int:
    """The number of the most similar one; of several, the smallest."""
    return int(numbers[similarities == similarities.max()].min()) if len(numbers) else 0
