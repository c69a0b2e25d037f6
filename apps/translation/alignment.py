"""Which tokens of a target belong to which token of its source: none, one or two each, in the same order.

r  i  g     h  t
R  AY .     .  T
"""

import numpy as np

MAX_TARGETS = 2  # of one source token
ROUNDS = 5  # each with the probabilities that the one before it gave
ROWS = 4096  # sequences at a time


class Numbers:
    """The numbers of tokens, from 0 on; `ids` pads with -1."""

    def __init__(self, sequences: list[list[str]]):
        self.tokens = sorted({token for sequence in sequences for token in sequence})
        self.number = {token: number for number, token in enumerate(self.tokens)}

    def ids(self, sequences: list[list[str]]) -> np.ndarray:
        """`(n, time)`, the longest sequence's time."""
        padded = np.full((len(sequences), max(map(len, sequences))), -1)
        for row, sequence in enumerate(sequences):
            padded[row, : len(sequence)] = [self.number[token] for token in sequence]
        return padded


class Aligner:
    """Which target tokens belong to which source token: hard expectation maximisation, from the diagonal on."""

    def __init__(self, sources: np.ndarray, targets: np.ndarray):
        lengths = [(side >= 0).sum(axis=1) for side in (sources, targets)]
        self.emission = np.full((sources.max() + 1, targets.max() + 1), 0.01)  # a token of the target, given one of the source
        self.count = np.ones((sources.max() + 1, MAX_TARGETS + 1))  # how many it has
        rows, places = np.nonzero(targets >= 0)
        diagonal = ((places + 0.5) / lengths[1][rows] * lengths[0][rows]).astype(int)
        np.add.at(self.emission, (sources[rows, diagonal], targets[rows, places]), 1)
        for _ in range(ROUNDS):
            self._learn(sources, targets)

    def _learn(self, sources: np.ndarray, targets: np.ndarray) -> None:
        counts = self(sources, targets)
        rows, places = np.nonzero((sources >= 0) & (counts.sum(axis=1, keepdims=True) > 0))
        tokens, found = sources[rows, places], counts[rows, places]
        firsts = (np.cumsum(counts, axis=1) - counts)[rows, places]
        self.emission, self.count = np.full_like(self.emission, 0.01), np.ones_like(self.count)
        np.add.at(self.count, (tokens, found), 1)
        for offset in range(MAX_TARGETS):
            has = found > offset
            np.add.at(self.emission, (tokens[has], targets[rows[has], firsts[has] + offset]), 1)

    def __call__(self, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """How many target tokens each source token has, `(n, source time)`; all 0 where there are too many for the source."""
        emission, count = (np.log(table / table.sum(axis=1, keepdims=True)) for table in (self.emission, self.count))
        lengths = (sources >= 0).sum(axis=1)
        order, counts = np.argsort(lengths), np.zeros(sources.shape, int)
        for rows in np.split(order, range(ROWS, len(order), ROWS)):
            time = lengths[rows[-1]]
            reachable = targets[rows, : MAX_TARGETS * time + 1]  # and one more, so that too many stay too many
            counts[rows, :time] = _align(sources[rows, :time], reachable, emission, count)
        return counts


def _align(sources: np.ndarray, targets: np.ndarray, emission: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The likeliest alignment by dynamic programming: `score[row, j]` of the targets before `j` and the sources so far."""
    n, time = sources.shape
    score = np.full((n, targets.shape[1] + 1), -np.inf)
    score[:, 0] = 0
    choices = np.zeros((time, *score.shape), np.int8)
    for place in range(time):
        token, is_padding = sources[:, place], sources[:, place] < 0
        options = np.full((MAX_TARGETS + 1, *score.shape), -np.inf)
        emitted = np.concatenate([np.zeros((n, 1)), np.cumsum(emission[token[:, None], targets], axis=1)], axis=1)
        for found in range(min(MAX_TARGETS, targets.shape[1]) + 1):
            before = score[:, : score.shape[1] - found]
            gain = emitted[:, found:] - emitted[:, : emitted.shape[1] - found]
            options[found, :, found:] = before + gain + count[token, found][:, None]
        choices[place] = np.where(is_padding[:, None], 0, options.argmax(axis=0))
        score = np.where(is_padding[:, None], score, options.max(axis=0))
    rows, left = np.arange(n), (targets >= 0).sum(axis=1)
    possible = np.isfinite(score[rows, left])
    counts = np.zeros((n, time), int)
    for place in range(time - 1, -1, -1):
        counts[:, place] = choices[place, rows, left] * possible
        left = left - counts[:, place]
    return counts
