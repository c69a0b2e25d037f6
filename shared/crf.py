"""A linear-chain conditional random field: the probability of a whole sequence of tags, not of each tag alone.

The score of a sequence is the sum of its emissions, one per step, and of its transitions, one per pair of neighbours
(Lafferty, McCallum and Pereira, 2001; on top of a recurrent network: Huang, Xu and Yu, 2015; Lample et al., 2016):

    start[a] + emission[0, a] + transition[a, b] + emission[1, b] + ... + end[z]

Its probability is exp(score) over the sum of exp(score) of all sequences, which the forward algorithm adds up step by step.
The likeliest sequence, and the probability of a tag, are found in chain.py.
Masks are `(batch, time)`, True where there is data, padding on the right; no row may be all False.
"""

import keras
import numpy as np
from keras import ops

FORBIDDEN = -1e4  # score of what cannot be: exp of it is 0 in 32 bits
SMALLEST = 1e-37  # of a probability before its logarithm


@keras.saving.register_keras_serializable("shared.crf")
class CRF(keras.layers.Layer):
    """Scores of transitions, start and end, which are learned with `CRFLoss`; emissions pass through as they are.

    Args:
        allowed: `(tags + 1, tags + 1)` True or False: which tag may follow which; the last row is the start, the last column
            the end. None: all may. What is forbidden is never decoded and has no probability.
    """

    def __init__(self, allowed=None, **options):
        super().__init__(**options)
        self.allowed = None if allowed is None else np.asarray(allowed, bool)
        self.supports_masking = True

    def build(self, shape):
        """Scores start at 0: all sequences that are allowed are alike."""
        tags = shape[-1]
        if self.allowed is not None and self.allowed.shape != (tags + 1, tags + 1):
            raise ValueError(f"allowed is (tags + 1, tags + 1), here {(tags + 1, tags + 1)}; got {self.allowed.shape}")
        self.learned = self.add_weight((tags + 1, tags + 1), initializer="zeros", name="transitions")

    def call(self, emissions):
        """Emissions `(batch, time, tags)`, unchanged."""
        return ops.copy(emissions)  # the tensor itself would take its mask along, see `compute_mask`

    def compute_mask(self, *_):
        """None: the loss takes from the tags what is padding."""

    def scores(self):
        """Transitions `(tags, tags)`, start `(tags,)` and end `(tags,)`."""
        every = ops.cast(self.learned, "float32")
        if self.allowed is not None:
            every = ops.where(self.allowed, every, FORBIDDEN)
        return every[:-1, :-1], every[-1, :-1], every[:-1, -1]

    def get_config(self):
        allowed = None if self.allowed is None else self.allowed.tolist()
        return super().get_config() | {"allowed": allowed}


class CRFLoss(keras.losses.Loss):
    """Minus the log-likelihood of the tags, nats per step: that of all rows divided by their steps.

    Of tags `(batch, time)`, a negative number where there is padding, and emissions `(batch, time, tags)`.
    """

    def __init__(self, crf: CRF, name="crf_loss"):
        super().__init__(name=name)
        self.crf = crf

    def call(self, tags, emissions):
        """`(batch,)`, each row's part, of which Keras takes the mean (a sum would not be divided among several devices)."""
        tags = ops.cast(tags, "int32")
        mask = tags >= 0
        nats = -log_likelihood(emissions, ops.maximum(tags, 0), mask, *self.crf.scores())
        return nats / ops.mean(ops.sum(ops.cast(mask, "float32"), axis=1))


def log_likelihood(emissions, tags, mask, transitions, start, end):
    """Log-probability of sequences of tags, `(batch,)`.

    Args:
        emissions: `(batch, time, tags)`.
        tags: `(batch, time)`, 0 or above, also where there is padding.
        mask: `(batch, time)`.
        transitions, start, end: see `CRF.scores`.
    """
    emissions = ops.cast(emissions, "float32")
    return path_score(emissions, tags, mask, transitions, start, end) - log_partition(emissions, mask, transitions, start, end)


def path_score(emissions, tags, mask, transitions, start, end):
    """The score of sequences of tags, `(batch,)`; arguments as in `log_likelihood`."""
    shown = ops.cast(mask, "float32")
    emitted = ops.sum(ops.take_along_axis(emissions, tags[..., None], axis=2)[..., 0] * shown, axis=1)
    pairs = tags[:, :-1] * start.shape[0] + tags[:, 1:]
    passed = ops.sum(ops.take(ops.reshape(transitions, (-1,)), pairs) * shown[:, 1:], axis=1)
    last = ops.take_along_axis(tags, _last_step(mask)[:, None], axis=1)[:, 0]
    return ops.take(start, tags[:, 0]) + emitted + passed + ops.take(end, last)


def log_partition(emissions, mask, transitions, start, end):
    """Logarithm of the sum of exp(score) over all sequences, `(batch,)`, by the forward algorithm, which is a recurrence."""
    later, shown = emissions[:, 1:], mask[:, 1:]
    later, shown = ops.pad(later, [[0, 0], [0, 1], [0, 0]]), ops.pad(shown, [[0, 0], [0, 1]])  # one step at least
    _, forward = keras.layers.RNN(ForwardCell(transitions), return_state=True)(
        later, mask=shown, initial_state=start + emissions[:, 0]
    )
    return ops.logsumexp(forward + end, axis=1)


class ForwardCell(keras.layers.Layer):
    """One step of the forward algorithm: the state is the log-sum of exp(score) of all beginnings that end with a tag.

    A step is a matrix product of probabilities, scaled by their largest: as exact as the sum of exponentials, and many times
    cheaper. What is less likely than the likeliest by a factor of 1e37 counts as that.
    """

    def __init__(self, transitions):
        super().__init__(dtype="float32")
        self.factors = ops.exp(transitions)
        self.state_size = self.output_size = transitions.shape[0]

    def call(self, emissions, states):
        """Emissions `(batch, tags)` and the state `(batch, tags)` to the new state, twice: it is also the output."""
        [forward] = states
        largest = ops.stop_gradient(ops.max(forward, axis=1, keepdims=True))
        reached = ops.log(ops.maximum(ops.matmul(ops.exp(forward - largest), self.factors), SMALLEST)) + largest + emissions
        return reached, [reached]


def _last_step(mask):
    return ops.sum(ops.cast(mask, "int32"), axis=1) - 1
