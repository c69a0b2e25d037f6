"""The conditional random field of crf.py in NumPy: what predictions need, without TensorFlow or Keras.

Emissions are `(batch, time, tags)`, lengths `(batch,)`, at least 1; what stands behind a row's length has no effect. Scores are
those of `shared.crf.CRF.scores`: transitions `(tags, tags)`, start and end `(tags,)`.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Scores(NamedTuple):
    """Of a tag after another, at the start, at the end. All 0: every tag is decided by itself."""

    transitions: np.ndarray  # (tags, tags)
    start: np.ndarray  # (tags,)
    end: np.ndarray  # (tags,)

    @classmethod
    def zeros(cls, tags: int) -> "Scores":
        """Those of a network without a conditional random field."""
        return cls(np.zeros((tags, tags), np.float32), np.zeros(tags, np.float32), np.zeros(tags, np.float32))

    @classmethod
    def load(cls, file: Path) -> "Scores":
        """Read what `save` wrote."""
        with np.load(file) as saved:
            return cls(*(saved[name] for name in cls._fields))

    def save(self, file: Path) -> None:
        """Write NumPy's archive of arrays."""
        with open(file, "wb") as opened:
            np.savez(opened, **self._asdict())


def viterbi(emissions: np.ndarray, lengths: np.ndarray, scores: Scores) -> np.ndarray:
    """The likeliest tags `(batch, time)`, 0 behind a row's length."""
    batch, time, _ = emissions.shape
    best, came_from = scores.start + emissions[:, 0], []
    for step in range(1, time):
        candidates = best[:, :, None] + scores.transitions
        came_from.append(candidates.argmax(axis=1))
        best = np.where((step < lengths)[:, None], candidates.max(axis=1) + emissions[:, step], best)
    tags, rows = np.zeros((batch, time), np.int64), np.arange(batch)
    tag = (best + scores.end).argmax(axis=1)
    for step in range(time - 1, -1, -1):
        tags[:, step] = np.where(step < lengths, tag, 0)
        if step:
            tag = np.where(step < lengths, came_from[step - 1][rows, tag], tag)
    return tags


class Marginals(NamedTuple):
    """The forward and backward sums of a batch: logarithms of the total of exp(score) of all beginnings, and of all ends."""

    emissions: np.ndarray  # (batch, time, tags)
    scores: Scores
    forward: np.ndarray  # (batch, time, tags), the emission of the step counted in
    backward: np.ndarray  # (batch, time, tags), that of the step left out
    partition: np.ndarray  # (batch,)

    def of_tags(self) -> np.ndarray:
        """The probability of each tag at each step, `(batch, time, tags)`."""
        return np.exp(self.forward + self.backward - self.partition[:, None, None])

    def of_span(self, row: int, first: int, tags: np.ndarray) -> float:
        """The probability that a row has just these tags `(n,)` from step `first` on."""
        last = first + len(tags) - 1
        between = self.scores.transitions[tags[:-1], tags[1:]].sum()
        inside = self.emissions[row, np.arange(first + 1, last + 1), tags[1:]].sum()
        total = self.forward[row, first, tags[0]] + between + inside + self.backward[row, last, tags[-1]]
        return float(np.exp(total - self.partition[row]))


def marginals(emissions: np.ndarray, lengths: np.ndarray, scores: Scores) -> Marginals:
    """By the forward-backward algorithm (Rabiner, 1989), in 64 bits."""
    emissions = np.asarray(emissions, np.float64)
    scores = Scores(*(np.asarray(part, np.float64) for part in scores))
    forward, backward = np.empty_like(emissions), np.empty_like(emissions)
    forward[:, 0] = scores.start + emissions[:, 0]
    for step in range(1, emissions.shape[1]):
        reached = _log_matmul(forward[:, step - 1], scores.transitions) + emissions[:, step]
        forward[:, step] = np.where((step < lengths)[:, None], reached, forward[:, step - 1])
    backward[:, -1] = scores.end
    for step in range(emissions.shape[1] - 2, -1, -1):
        reached = _log_matmul(backward[:, step + 1] + emissions[:, step + 1], scores.transitions.T)
        backward[:, step] = np.where((step + 1 < lengths)[:, None], reached, scores.end)
    return Marginals(emissions, scores, forward, backward, np.logaddexp.reduce(forward[:, -1] + scores.end, axis=1))


def _log_matmul(logs: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """Logarithm of exp(logs) @ exp(transitions), `(batch, tags)`, scaled by the largest of each row."""
    largest = logs.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):  # what cannot be is minus infinity
        return np.log(np.exp(logs - largest) @ np.exp(transitions)) + largest
