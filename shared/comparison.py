"""Is the network better than the baseline, or are there too few examples to decide? A paired bootstrap over test examples."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

RESAMPLES = 2_000
CONFIDENCE = 0.95


class Lead(NamedTuple):
    """How far the network is ahead of the baseline; above 0 it is better, whichever way the metric points."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """ "better", "worse", or "draw" where the interval holds 0."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "draw"

    def describe(self, metric: str, baseline: str = "the baseline") -> dict:
        """The entries "beats_baseline" and "lead" of metrics.json."""
        lead = {"metric": metric, "baseline": baseline, **self._asdict(), "verdict": self.verdict}
        return {"beats_baseline": self.verdict == "better", "lead": lead}


def paired_bootstrap(network: np.ndarray, baseline: np.ndarray, higher_is_better: bool, block: int = 1, seed: int = 0) -> Lead:
    """Compare two models on the same examples (Efron and Tibshirani, 1993; Koehn, 2004).

    The examples are drawn again with replacement, both models' values together, so that what makes an example hard for both
    cancels. Neighbours that depend on each other, as overlapping windows do, are drawn as blocks (Kuensch, 1989).

    Args:
        network: `(n,)`, the metric of each example: 0 or 1 for accuracy, an absolute error, nats.
        baseline: `(n,)`, of the same examples in the same order.
        higher_is_better: whether the metric is one to be large.
        block: neighbouring examples that are drawn together.
        seed: of the draws.

    Returns:
        The mean lead with its 95 % percentile interval.
    """
    differences = (np.asarray(network, np.float64) - baseline) * (1 if higher_is_better else -1)
    firsts = np.arange(0, len(differences), block)
    sums, sizes = np.add.reduceat(differences, firsts), np.diff([*firsts, len(differences)])
    means = [sums[drawn].sum() / sizes[drawn].sum() for drawn in _draws(len(sums), seed)]
    return _lead(differences.mean(), means)


def paired_bootstrap_of_totals(network: np.ndarray, baseline: np.ndarray, score: Callable, seed: int = 0) -> Lead:
    """The same for a score of all examples together, such as F1, which no mean over the examples gives.

    Args:
        network: `(n, counts)`, what is counted in each example.
        baseline: the same, of the same examples in the same order.
        score: from the totals, an argument for each of the counts; the more, the better.
        seed: of the draws.
    """

    def lead(rows) -> float:
        return score(*network[rows].sum(axis=0)) - score(*baseline[rows].sum(axis=0))

    return _lead(lead(slice(None)), [lead(drawn) for drawn in _draws(len(network), seed)])


def _draws(examples: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    return (rng.integers(examples, size=examples) for _ in range(RESAMPLES))


def _lead(lead: float, resampled: list[float]) -> Lead:
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Lead(float(lead), float(low), float(high))
