"""Why a text got its label: what each word adds to the label's probability, by integrated gradients (shared/attribution.py).

The line starts where all vectors of the text are zero: what word dropout makes of a word in training, and what an n-gram adds
that has no weight. What a pair or triple adds is shared equally among its words.
"""

from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from apps.sentiment.config import Config
from apps.sentiment.export import from_ids, vocabulary_of
from apps.sentiment.words import MAX_WORDS, PADDING, Vocabulary, first_and_last, normalize, split_words
from shared.attribution import Attribution, IntegratedGradients, cut
from shared.explaining import Pieces, strongest
from shared.export import load_saved


class Explanation(NamedTuple):
    """Of one text and one label."""

    words: Pieces  # as the network reads them, in order
    attribution: Attribution


class Explainer:
    """Explains the answers of a run.

    Args:
        servable: the saved model.
        vocabulary: that of the run.
    """

    def __init__(self, servable: keras.Model, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        names = ["embedding", "log_ratios"] if vocabulary.ngrams else ["embedding"]
        self.vectors_of, behind = cut(from_ids(servable), names)
        self.gradients = IntegratedGradients(behind)

    def __call__(self, text: str, number: int) -> Explanation:
        """What each word of a text adds to the probability of a class, by its number."""
        [text] = normalize([text])
        ids = self.vocabulary.encode([text])
        vectors = {name: np.asarray(found) for name, found in self.vectors_of(ids).items()}
        zeros = {name: np.zeros_like(one) for name, one in vectors.items()}
        found = self.gradients(ids | vectors, zeros, number)
        of_ids = {name: part.sum(axis=-1) for name, part in found.parts.items()}
        words = first_and_last(np.array(split_words(text)), MAX_WORDS)
        parts = np.zeros(len(words))
        parts[first_and_last(np.arange(len(words)), self.vocabulary.sequence_length)] = of_ids["embedding"]
        if "bag" in ids:
            levels = self.vocabulary.levels(first_and_last(self.vocabulary.word_ids(text), MAX_WORDS))
            parts += share_among_words(levels, ids["bag"][0], of_ids["log_ratios"])
        return Explanation([*zip(words.tolist(), parts.tolist(), strict=True)], found)


def share_among_words(levels: list[np.ndarray], bag: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """What the ids of a bag add, `(n,)` each, shared equally among their places in the text and the words there: `(words,)`."""
    of_id = np.zeros(max(level.max(initial=0) for level in levels) + 1)
    of_id[bag] = parts
    of_id[PADDING] = 0
    found = np.zeros(len(levels[0]))
    for order, level in enumerate(levels, start=1):
        each = of_id[level] / np.bincount(level)[level] / order
        for place in range(order):
            found[place : place + len(level)] += each
    return found


def load(folder: Path, vocabulary: Vocabulary) -> Explainer:
    """For the run in a folder; takes some seconds."""
    return Explainer(load_saved(folder), vocabulary)


def reasons(config: Config, servable: keras.Model, texts: list[str], numbers: list[int]) -> list[str]:
    """For report.md: the words that matter most in each text for the probability of a class, by its number."""
    explainer = Explainer(servable, vocabulary_of(config, servable))
    return [strongest(explainer(text, number).words) for text, number in zip(texts, numbers, strict=True)]
