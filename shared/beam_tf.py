"""The beam search of beam.py as one compiled loop over the whole batch, for a network that is a Keras model."""

from collections.abc import Callable

import tensorflow as tf

from shared.beam import Finished, Hypothesis, check_beam, hypotheses, length_divisors


class BeamSearch:
    """Finds the n best of each row; what is searched for, and when the search stops, is said in beam.py.

    It is traced once, for batches of any size and length.

    Args:
        begin: from what is read, tensors as `signature` has them, to the states at the start, a nested structure of tensors
            `(rows, ...)`, at least one, and another structure, possibly empty, of what `step` needs and does not change, an
            encoder's memory for one. Both are repeated for the beams of a row; the states are reordered after each step.
        step: from the last tokens `(n,)` int32, the states before them and what does not change, to log-probabilities of the
            next token `(n, vocabulary)` and the new states, in the structure of those given. n is rows * beam. A function
            around a call of a Keras model.
        signature: `tf.TensorSpec`s of what `begin` takes.
        start, end, beam, length_penalty: see `shared.beam.search`.
        max_length: 1 or more, steps, that for the end counted, of any row.
        limits: from what is read to the steps of each row `(rows,)` int32, at most `max_length`. None: that of all rows.

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
        max_length: int,
        length_penalty: float,
        limits: Callable | None = None,
    ):
        check_beam(beam)
        self.begin, self.step, self.start, self.end, self.beam, self.max_length = begin, step, start, end, beam, max_length
        self.limits = limits
        self.divisors = length_divisors(max_length, length_penalty)
        self.search = tf.function(self._search, input_signature=signature, autograph=False)

    def __call__(self, *inputs) -> list[list[Hypothesis]]:
        """The n best of each row."""
        return hypotheses(Finished(*(part.numpy() for part in self.search(*inputs))), self.end)

    def _search(self, *inputs) -> Finished:
        states, constants = self.begin(*inputs)
        rows = tf.shape(tf.nest.flatten(states)[0])[0]
        limits = (self.limits(*inputs) if self.limits else tf.fill((rows,), self.max_length))[:, None]
        states, constants = tf.nest.map_structure(lambda each: tf.repeat(each, self.beam, axis=0), (states, constants))
        nothing = tf.fill((rows, self.beam), -float("inf"))
        finished = Finished(nothing, nothing, tf.fill((rows, self.beam, self.max_length), self.end))
        totals = tf.where(tf.range(self.beam) == 0, 0.0, nothing)  # the beams of a row would all be the same one
        last = tf.fill((rows * self.beam,), self.start)

        def body(length, last, totals, tokens, finished, states):
            log_probabilities, after = self.step(last, states, constants)
            totals, parents, chosen = _extend(totals, log_probabilities)
            tokens = tf.gather(tokens, parents, batch_dims=1)
            tokens = tf.where(tf.range(self.max_length) == length, chosen[..., None], tokens)
            totals, finished = self._close(length, limits, chosen, Finished(totals, totals, tokens), finished)
            before = tf.reshape(tf.range(rows)[:, None] * self.beam + parents, (-1,))
            states = tf.nest.map_structure(lambda new, old: _reorder(new, before, old.shape), after, states)
            return length + 1, tf.reshape(chosen, (-1,)), totals, tokens, finished, states

        first = (0, last, totals, finished.tokens, finished, states)
        return tf.while_loop(lambda length, last, totals, *_: tf.reduce_any(tf.math.is_finite(totals)), body, first)[4]

    def _close(self, length, limits, chosen, kept: Finished, finished: Finished):
        """Set aside what ended or reached the maximum length. Returns log-probabilities of the others, and what is finished."""
        ended = (chosen == self.end) | (length + 1 >= limits)
        scores = tf.where(ended, kept.totals / tf.gather(self.divisors, length), -float("inf"))
        both = zip(finished, kept._replace(scores=scores), strict=True)
        scores, totals, tokens = (tf.concat(parts, axis=1) for parts in both)
        scores, places = tf.math.top_k(scores, self.beam)
        finished = Finished(scores, *(tf.gather(part, places, batch_dims=1) for part in (totals, tokens)))
        given_up = kept.totals / tf.gather(self.divisors, limits - 1) <= scores[:, -1:]
        return tf.where(ended | given_up, -float("inf"), kept.totals), finished


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
