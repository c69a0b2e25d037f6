"""How the next character is chosen: the settings, and the choice in NumPy; `apps.textgen.generate.choose` is it in Keras."""

import math
from dataclasses import dataclass

import numpy as np

from apps.textgen.characters import UNKNOWN
from shared.cli import UserError
from shared.settings import check_at_least

CHUNK = 32  # characters that are made before they are handed out
MIN_TEMPERATURE = 1e-6  # below it, logits divided by it overflow, and the likeliest character is chosen in any case
FIRST = UNKNOWN + 1  # id that may be chosen


@dataclass(frozen=True)
class Sampling:
    """How the next character is chosen among those that the network holds possible."""

    temperature: float = 1.0
    """Below 1: nearer to the likeliest character; 0: always that one; above 1: wilder."""
    top_k: int | None = None
    """Choose among so many of the likeliest characters."""
    top_p: float = 1.0
    """Choose among the likeliest characters that have this probability together (nucleus sampling)."""

    def __post_init__(self):
        check_at_least(1, self, "top_k")
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"--temperature is 0 or more, and finite; got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top-p lies above 0 and is at most 1; got {self.top_p}.")


def choose(logits: np.ndarray, sampling: Sampling, uniform: np.ndarray) -> np.ndarray:
    """Ids `(samples,)` from logits `(samples, num_ids)`. Padding and the unknown character are never chosen.

    Args:
        logits: those of the network.
        sampling: see there.
        uniform: a random number for each sample, `(samples,)`, 0 or more and below 1. It says how far down the cumulated
            probabilities the id lies.
    """
    if sampling.temperature < MIN_TEMPERATURE:
        chosen = logits[:, FIRST:].argmax(axis=1)
    else:
        cumulated = weights(logits, sampling).cumsum(axis=1)
        chosen = (cumulated > uniform[:, None] * cumulated[:, -1:]).argmax(axis=1)
    return chosen.astype(np.int32) + np.int32(FIRST)


def weights(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The probabilities with which ids from `FIRST` on are chosen, `(samples, num_ids - FIRST)`, times any number.

    Args:
        logits: `(samples, num_ids)`.
        sampling: of a temperature above `MIN_TEMPERATURE`.
    """
    logits = logits[:, FIRST:]
    scaled = np.divide(logits - logits.max(axis=1, keepdims=True), sampling.temperature, dtype=np.float64)
    if sampling.top_k and sampling.top_k < logits.shape[1]:
        least = np.partition(logits, -sampling.top_k, axis=1)[:, [-sampling.top_k]]
        scaled = np.where(logits < least, -np.inf, scaled)
    found = np.exp(scaled)
    if sampling.top_p < 1:
        ranked = -np.sort(-found, axis=1)
        before = ranked.cumsum(axis=1) - ranked  # what all likelier characters have together
        inside = before < sampling.top_p * ranked.sum(axis=1, keepdims=True)
        found = np.where(found < np.where(inside, ranked, np.inf).min(axis=1, keepdims=True), 0, found)
    return found


def probabilities_of(ids: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The network's probabilities of ids `(...)`, from its logits `(..., num_ids)`."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.take_along_axis(exponentials, ids[..., None], axis=-1)[..., 0] / exponentials.sum(axis=-1)
