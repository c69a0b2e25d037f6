"""Attention: every query takes a weighted mean of a memory, such as what an encoder returned at each step of a source.

score[t, s] = (W query[t]) . (U memory[s]) / sqrt(units)       "dot": Luong, Pham and Manning (2015) call it "general";
                                                               scaled as by Vaswani et al. (2017)
score[t, s] = v . tanh(W query[t] + U memory[s])               "additive": Bahdanau, Cho and Bengio (2015)
weight[t]   = softmax(score[t])                                over the places that the mask shows
context[t]  = sum over s of weight[t, s] * memory[s]
"""

import keras
from keras import ops

KINDS = ("dot", "additive")
LOWEST = -1e9  # score of a masked place: minus infinity would turn the gradient of a row with nothing shown into NaN


@keras.saving.register_keras_serializable("shared.attention")
class Attention(keras.layers.Layer):
    """Contexts and weights of queries over a memory.

    Args:
        kind: "dot" or "additive". Additive makes a tensor `(batch, time, source, units)`, dot none that large.
        units: width that queries and memory are projected to.

    Raises:
        ValueError: for another kind.
    """

    def __init__(self, kind: str, units: int, **options):
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}; got {kind!r}")
        super().__init__(**options)
        self.kind = kind
        self.units = units
        self.supports_masking = True

    def build(self, queries_shape, memory_shape):
        """The projections W, U and, for "additive", the vector v."""
        self.query_kernel = self.add_weight((queries_shape[-1], self.units), name="query_kernel")
        self.memory_kernel = self.add_weight((memory_shape[-1], self.units), name="memory_kernel")
        if self.kind == "additive":
            self.vector = self.add_weight((self.units, 1), name="vector")

    def call(self, queries, memory, mask):
        """Attend.

        Args:
            queries: `(batch, time, query_width)`.
            memory: `(batch, source, memory_width)`.
            mask: `(batch, source)`, True where the memory holds something.

        Returns:
            Contexts `(batch, time, memory_width)`, and weights `(batch, time, source)` in float32, which add up to 1 and are
            exactly 0 where the mask is False. In a row that the mask hides wholly all weights, and so the contexts, are 0.
        """
        score = self._dot if self.kind == "dot" else self._additive
        shown = mask[:, None, :]
        scores = ops.where(shown, ops.cast(score(queries, memory), "float32"), LOWEST)
        # Not ops.softmax, which warns of a memory of one step, and gives weights to a row that is hidden wholly.
        parts = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True)) * ops.cast(shown, "float32")
        weights = parts / ops.maximum(ops.sum(parts, axis=-1, keepdims=True), 1.0)  # the largest part is 1
        return ops.matmul(ops.cast(weights, memory.dtype), memory), weights

    def compute_mask(self, *_):
        """None: masks are passed by hand."""

    def _dot(self, queries, memory):
        """Both matrices meet the queries: decoding, one query at a time, need not project the memory at every step."""
        projected = ops.matmul(ops.matmul(queries, self.query_kernel), ops.transpose(self.memory_kernel))
        return ops.matmul(projected, ops.transpose(memory, (0, 2, 1))) / self.units**0.5

    def _additive(self, queries, memory):
        projected, keys = ops.matmul(queries, self.query_kernel), ops.matmul(memory, self.memory_kernel)
        return ops.matmul(ops.tanh(projected[:, :, None] + keys[:, None]), self.vector)[..., 0]

    def get_config(self):
        return super().get_config() | {"kind": self.kind, "units": self.units}
