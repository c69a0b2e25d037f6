"""Beam search: the likeliest sequences that a network writes a token at a time. In NumPy; beam_tf.py gives the same answers.

A beam holds the `beam` likeliest beginnings of each row. At every step all their continuations are compared, and the `beam`
likeliest of them are kept; those among them that ended are set aside, with their score, and the others are continued:

    kept       c   ca   <end>          three continuations kept, of which one ended
    continued  c   ca                  all tokens may follow these two, and of those again the three likeliest are kept
    finished   <end>                   the `beam` best by score, log-probability / length ** length_penalty (Wu et al., 2016,
                                       without their constant 5), where the length counts the end

So a beam of 1 is greedy decoding: it ends where the end is the likeliest token.

A beginning is given up as soon as `beam` finished ones are at least as good as it can still become. As a log-probability does
not grow from step to step, that is log-probability / max_length ** length_penalty: exact for a length penalty of 0, a bound
for more, the better the fewer steps a row may take. A row whose beginnings have all ended or been given up is done, and the
search stops when all rows are.
Sums are in 32 bits, and of two that are equal the first in the order of beams and tokens counts as the better one.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from shared.cli import UserError


class Hypothesis(NamedTuple):
    """One of the n best."""

    tokens: np.ndarray  # int32, without start and end
    log_probability: float  # nats: the sum over the tokens and the end
    score: float  # log-probability / (number of tokens, the end counted if there is one) ** length_penalty


class Finished(NamedTuple):
    """The best hypotheses of each row so far, the best one first. NumPy's arrays or TensorFlow's tensors."""

    scores: np.ndarray  # (rows, beam), minus infinity where there are fewer
    totals: np.ndarray  # (rows, beam), log-probabilities
    tokens: np.ndarray  # (rows, beam, max_length), the end from where it stands on


def search(
    step: Callable,
    states: list[np.ndarray],
    rows: int,
    *,
    start: int,
    end: int,
    beam: int,
    max_length: int | np.ndarray,
    length_penalty: float,
) -> list[list[Hypothesis]]:
    """Find the n best of each row.

    Args:
        step: from the last tokens `(n,)` int32 and the states before them to log-probabilities of the next token
            `(n, vocabulary)` and the new states. n is rows * beam; the beams of a row stand next to each other. What does
            not change from step to step, such as an encoder's memory, the function holds itself, repeated as the states are.
        states: at the start, arrays with the leading axis n: `np.repeat(state, beam, axis=0)` of those of the rows.
        rows: how many sequences are written side by side. They do not influence each other.
        start: the token before the first one.
        end: the token that ends a sequence.
        beam: width, from 1 to the size of the vocabulary.
        max_length: 1 or more, steps, that for the end counted; of all rows, or `(rows,)`, of each. What has not ended after
            so many is closed as it is.
        length_penalty: 0 or more. 0: the likeliest win, which favours short ones; 1: the best mean per token.

    Returns:
        For each row `beam` hypotheses sorted by score, the best first; fewer if fewer have a probability above 0.

    Raises:
        UserError: for a beam below 1, or wider than the vocabulary.
    """
    check_beam(beam)
    limits = np.broadcast_to(max_length, rows)[:, None]
    divisors = length_divisors(limits.max(initial=1), length_penalty)
    finished = _nothing_finished(rows, beam, len(divisors), end)
    totals = np.where(np.arange(beam) == 0, np.float32(0), finished.totals)  # the beams of a row would all be the same one
    tokens, last, length = finished.tokens, np.full(rows * beam, start, np.int32), 0
    while np.isfinite(totals).any():
        log_probabilities, states = step(last, states)
        totals, parents, chosen = _extend(totals, log_probabilities)
        tokens = np.take_along_axis(tokens, parents[..., None], axis=1)
        tokens[:, :, length] = chosen
        ended = (chosen == end) | (length + 1 >= limits)
        scores = np.where(ended, totals / divisors[length], -np.inf)
        finished = _best_of(finished, Finished(scores, totals, tokens))
        given_up = totals / divisors[limits - 1] <= finished.scores[:, -1:]
        totals = np.where(ended | given_up, -np.inf, totals)
        before = (np.arange(rows)[:, None] * beam + parents).ravel()
        states = [np.take(state, before, axis=0) for state in states]
        last, length = chosen.ravel(), length + 1
    return hypotheses(finished, end)


def check_beam(beam: int, vocabulary: int | None = None) -> None:
    """Raise a UserError if a beam is below 1 or wider than the vocabulary; None: that is not known yet."""
    if beam < 1:
        raise UserError(f"--beam is 1 or more; got {beam}. 1 is greedy, 5 is a good width.")
    if vocabulary is not None and beam > vocabulary:
        raise UserError(f"--beam {beam} is wider than the vocabulary, {vocabulary} tokens. Give {vocabulary} or less.")


def length_divisors(max_length: int, length_penalty: float) -> np.ndarray:
    """What the log-probability of a hypothesis of length 1, 2, ..., max_length is divided by, `(max_length,)`."""
    return (np.arange(1, max_length + 1) ** float(length_penalty)).astype(np.float32)


def hypotheses(finished: Finished, end: int) -> list[list[Hypothesis]]:
    """The n best of each row."""
    return [
        [
            Hypothesis(ids[ids != end], float(total), float(score))
            for score, total, ids in zip(*of_row, strict=True)
            if score > -np.inf
        ]
        for of_row in zip(*finished, strict=True)
    ]


def _nothing_finished(rows: int, beam: int, max_length: int, end: int) -> Finished:
    nothing = np.full((rows, beam), -np.inf, np.float32)
    return Finished(nothing, nothing, np.full((rows, beam, max_length), end, np.int32))


def _extend(totals: np.ndarray, log_probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The likeliest continuations: log-probabilities, which beam they continue and with which token, all `(rows, beam)`."""
    (rows, beam), vocabulary = totals.shape, log_probabilities.shape[-1]
    check_beam(beam, vocabulary)
    continued = totals[..., None] + np.asarray(log_probabilities, np.float32).reshape(rows, beam, vocabulary)
    values, places = _top(continued.reshape(rows, beam * vocabulary), beam)
    return values, places // vocabulary, (places % vocabulary).astype(np.int32)


def _best_of(finished: Finished, ended: Finished) -> Finished:
    scores, totals, tokens = (np.concatenate(both, axis=1) for both in zip(finished, ended, strict=True))
    scores, places = _top(scores, finished.scores.shape[1])
    return Finished(scores, np.take_along_axis(totals, places, axis=1), np.take_along_axis(tokens, places[..., None], axis=1))


def _top(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` largest of each row, the first of equal ones first, and where they stand.

    One after the other: of 20,000 values five are found so in a fiftieth of the time that sorting takes, and, unlike
    `np.argpartition`, always the same ones.
    """
    left, rows, found = values.copy(), np.arange(len(values)), []
    for _ in range(count):
        places = left.argmax(axis=1)
        found.append((left[rows, places], places))
        left[rows, places] = -np.inf
    values, places = (np.stack(parts, axis=1) for parts in zip(*found, strict=True))
    return values, places
