"""A joint n-gram model of sequences that run side by side, as letters and phonemes do (Bisani and Ney, 2008, simplified).

A source token and the target tokens that belong to it (alignment.py) are a unit: (r, R), (i, AY), (g, -), (h, -), (t, T). Units
are counted: an n-gram model tells the next one from those before it, and a beam search finds the units of a new source.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from apps.translation.alignment import Aligner, Numbers

ORDER = 8  # units of the longest n-gram
DISCOUNT = 0.9
BEAM = 20
MAX_UNITS = 15  # of a source token, the most frequent ones
START, END = ("", ()), ("", ("",))  # units


class NGrams:
    """An interpolated Kneser-Ney model (Kneser and Ney, 1995) of units, as a tree of all n-grams that were seen.

    A node is an n-gram; its parent lacks the last unit, its suffix the first one. Node 0 is the empty one.
    """

    def __init__(self, sequences: np.ndarray, units: int):
        """Args: sequences: `(n, time)` numbers of units, padded with -1; units: how many there are."""
        self.units = units
        levels = [*_levels(sequences, units)]
        first = np.cumsum([1, *(len(codes) for codes, _, _ in levels)])  # number of each level's first node
        self.codes = np.concatenate([codes for codes, _, _ in levels])  # parent * units + unit, in ascending order
        self.suffix = np.concatenate([[0], *(suffix for _, suffix, _ in levels)])
        counts = np.concatenate([[0.0], *(count for _, _, count in levels)])
        lower = slice(0, first[ORDER - 1])  # Kneser-Ney: in how many contexts, where there is one
        contexts = np.bincount(self.suffix[first[1] :], minlength=len(counts))
        counts[lower] = np.where(contexts[lower] > 0, contexts[lower], counts[lower])
        self.is_longest = np.arange(len(counts)) >= first[ORDER - 1]
        parents = self.codes // units
        total = np.bincount(parents, counts[1:], len(counts))
        kinds = np.bincount(parents, minlength=len(counts))
        backoff = np.divide(DISCOUNT * kinds, total, out=np.ones_like(total), where=total > 0)
        probability = np.full(len(counts), 1 / units)
        for start, end in pairwise(first):
            above = parents[start - 1 : end - 1]
            own = (counts[start:end] - DISCOUNT).clip(min=0) / total[above]
            probability[start:end] = own + backoff[above] * probability[self.suffix[start:end]]
        self.log_probability, self.log_backoff = np.log(probability), np.log(backoff)

    def step(self, nodes: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The log probability of each unit after each node, and the node after that; both `(n,)`."""
        nodes, score, after = nodes.copy(), np.zeros(len(nodes)), np.zeros(len(nodes), int)
        open_ = np.arange(len(nodes))
        while len(open_):
            wanted = nodes[open_] * self.units + units[open_]
            places = np.searchsorted(self.codes, wanted).clip(max=len(self.codes) - 1)
            found = self.codes[places] == wanted
            here, child = open_[found], places[found] + 1
            score[here] += self.log_probability[child]
            after[here] = np.where(self.is_longest[child], self.suffix[child], child)
            open_ = open_[~found]
            score[open_] += self.log_backoff[nodes[open_]]
            nodes[open_] = self.suffix[nodes[open_]]
        return score, after


def _levels(sequences: np.ndarray, units: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of the n-grams of each length their codes, suffixes and counts."""
    nodes, next_node = np.zeros_like(sequences), 1  # the n-gram that ends at each place, of the length before
    for length in range(1, ORDER + 1):
        valid = sequences >= 0
        valid[:, : length - 1] = False
        before = np.roll(nodes, 1, axis=1) if length > 1 else nodes
        codes, inverse, counts = np.unique((before * units + sequences)[valid], return_inverse=True, return_counts=True)
        suffix = np.zeros(len(codes), int)
        suffix[inverse] = nodes[valid]
        yield codes, suffix, counts
        nodes = np.zeros_like(sequences)
        nodes[valid] = next_node + inverse
        next_node += len(codes)


class JointNGrams:
    """Writes the target of a sequence: `JointNGrams(sources, targets)(new_sources)`; all are lists of tokens."""

    def __init__(self, sources: list[list[str]], targets: list[list[str]]):
        self.known = Numbers(sources)
        source_ids, target_ids = self.known.ids(sources), Numbers(targets).ids(targets)
        counts = Aligner(source_ids, target_ids)(source_ids, target_ids)
        rows = [_units(*row) for row in zip(sources, targets, counts, strict=True) if row[2].any()]
        self.units = Numbers([[START, *row, END] for row in rows])
        sequences = self.units.ids([[START, *row, END] for row in rows])
        self.ngrams = NGrams(sequences, len(self.units.tokens))
        self.candidates = np.full((len(self.known.tokens), MAX_UNITS), -1)
        frequent = np.argsort(-np.bincount(sequences[sequences >= 0]), kind="stable").tolist()
        for number, token in enumerate(self.known.tokens):
            found = [unit for unit in frequent if self.units.tokens[unit][0] == token][:MAX_UNITS]
            self.candidates[number, : len(found)] = found

    def __call__(self, sources: list[list[str]]) -> list[list[str]]:
        """The likeliest target of each that a beam of `BEAM` finds; tokens that training did not hold are passed over."""
        numbers = [[self.known.number[token] for token in source if token in self.known.number] for source in sources]
        found = [[] for _ in sources]
        for length in sorted({len(row) for row in numbers} - {0}):
            rows = [row for row, ids in enumerate(numbers) if len(ids) == length]
            for row, units in zip(rows, self._decode(np.array([numbers[row] for row in rows])), strict=True):
                found[row] = [token for unit in units for token in self.units.tokens[unit][1]]
        return found

    def _decode(self, ids: np.ndarray) -> np.ndarray:
        """Numbers of units `(n, time)` for source tokens `(n, time)`."""
        n, rows = len(ids), np.arange(len(ids))[:, None]
        nodes = self.ngrams.step(np.zeros(n, int), np.full(n, self.units.number[START]))[1][:, None]
        scores, history = np.zeros((n, 1)), np.zeros((n, 1, 0), int)
        for tokens in ids.T:
            units = np.broadcast_to(self.candidates[tokens][:, None], (n, scores.shape[1], MAX_UNITS))
            gains, after = self.ngrams.step(np.repeat(nodes.ravel(), MAX_UNITS), units.ravel().clip(min=0))
            gains = np.where(units < 0, -np.inf, gains.reshape(units.shape))
            total = (scores[:, :, None] + gains).reshape(n, -1)
            best = np.argsort(-total, axis=1)[:, :BEAM]
            scores, nodes = total[rows, best], after.reshape(n, -1)[rows, best]
            history = np.concatenate([history[rows, best // MAX_UNITS], units.reshape(n, -1)[rows, best][:, :, None]], axis=2)
        scores = scores + self.ngrams.step(nodes.ravel(), np.full(nodes.size, self.units.number[END]))[0].reshape(nodes.shape)
        return history[np.arange(n), scores.argmax(axis=1)]


def _units(source: list[str], target: list[str], counts: np.ndarray) -> list[tuple[str, tuple[str, ...]]]:
    ends = np.cumsum(counts[: len(source)]).tolist()
    return [(token, tuple(target[end - count : end])) for token, count, end in zip(source, counts.tolist(), ends, strict=False)]
