"""The beam search of beam.py as one compiled loop over the whole batch, for a network that is a Keras model."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from shared.beam import Finished, Hypothesis, check_beam, hypotheses, length_divisors


class BeamSearch:
    """Finds the n best of each row; what is searched for, and when the search stops, is said in beam.py.

    It is traced once, for batches of any size and length and for any number of steps.

    Args:
        begin: from what is read, tensors as `signature` has them, to the states at the start, a nested structure of tensors
            `(rows, ...)`, at least one, and another structure, possibly empty, of what `step` needs and does not change, an
            encoder's memory for one. Both are repeated for the beams of a row; the states are reordered after each step.
        step: from the last tokens `(n,)` int32, the states before them and what does not change, to log-probabilities of the
            next token `(n, vocabulary)` and the new states, in the structure of those given. n is rows * beam. A function
            around a call of a Keras model.
        signature: `tf.TensorSpec`s of what `begin` takes.
        start, end, beam, length_penalty: see `shared.beam.search`.

    Raises:
        UserError: for a beam below 1; when called, for one wider than the vocabulary.
    """

    def __init__(
        self,
        begin: Callable,
        step: Callable,
        signature: list,
        *,
        start: int,
        end: int,
        beam: int,
        length_penalty: float,
    ):
        check_beam(beam)
        self.begin, self.step, self.start, self.end, self.beam = begin, step, start, end, beam
        self.length_penalty = length_penalty
        steps = [tf.TensorSpec(None, tf.int32), tf.TensorSpec((None,), tf.float32)]
        self.search = tf.function(self._search, input_signature=[*steps, *signature], autograph=False)

    def __call__(self, *inputs, max_length: int | np.ndarray) -> list[list[Hypothesis]]:
        """The n best of each row; `max_length`: see `shared.beam.search`."""
        divisors = length_divisors(np.max(max_length, initial=1), self.length_penalty)
        finished = self.search(np.int32(max_length), divisors, *inputs)
        return hypotheses(Finished(*(part.numpy() for part in finished)), self.end)

    def _search(self, max_length, divisors, *inputs) -> Finished:
        states, constants = self.begin(*inputs)
        rows, longest = tf.shape(tf.nest.flatten(states)[0])[0], tf.size(divisors)
        limits = tf.broadcast_to(max_length, (rows,))[:, None]
        states, constants = tf.nest.map_structure(lambda each: tf.repeat(each, self.beam, axis=0), (states, constants))
        nothing = tf.fill((rows, self.beam), -float("inf"))
        finished = Finished(nothing, nothing, tf.fill((rows, self.beam, longest), self.end))
        totals = tf.where(tf.range(self.beam) == 0, 0.0, nothing)  # the beams of a row would all be the same one
        last = tf.fill((rows * self.beam,), self.start)

        def body(length, last, totals, tokens, finished, states):
            log_probabilities, after = self.step(last, states, constants)
            totals, parents, chosen = _extend(totals, log_probabilities)
            tokens = tf.gather(tokens, parents, batch_dims=1)
            tokens = tf.where(tf.range(longest) == length, chosen[..., None], tokens)
            ended = (chosen == self.end) | (length + 1 >= limits)
            scores = tf.where(ended, totals / divisors[length], -float("inf"))
            finished = _best_of(finished, Finished(scores, totals, tokens))
            given_up = totals / tf.gather(divisors, limits - 1) <= finished.scores[:, -1:]
            totals = tf.where(ended | given_up, -float("inf"), totals)
            before = tf.reshape(tf.range(rows)[:, None] * self.beam + parents, (-1,))
            states = tf.nest.map_structure(lambda new, old: _reorder(new, before, old.shape), after, states)
            return length + 1, tf.reshape(chosen, (-1,)), totals, tokens, finished, states

        first = (0, last, totals, finished.tokens, finished, states)
        return tf.while_loop(lambda length, last, totals, *_: tf.reduce_any(tf.math.is_finite(totals)), body, first)[4]


def _best_of(finished: Finished, ended: Finished) -> Finished:
    """See `shared.beam._best_of`."""
    scores, totals, tokens = (tf.concat(both, axis=1) for both in zip(finished, ended, strict=True))
    scores, places = tf.math.top_k(scores, finished.scores.shape[1])
    return Finished(scores, *(tf.gather(part, places, batch_dims=1) for part in (totals, tokens)))


def _extend(totals, log_probabilities):
    """See `shared.beam._extend`."""
    beam, vocabulary = totals.shape[1], log_probabilities.shape[-1]
    check_beam(beam, vocabulary)
    continued = totals[..., None] + tf.reshape(tf.cast(log_probabilities, "float32"), (-1, beam, vocabulary))
    values, places = tf.math.top_k(tf.reshape(continued, (-1, beam * vocabulary)), beam)
    return values, places // vocabulary, places % vocabulary


def _reorder(state, before, shape):
    """A loop's variables keep their static shapes."""
    return tf.ensure_shape(tf.gather(state, before), shape)
