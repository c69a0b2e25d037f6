"""Optimizers that clip gradients and measure them; `shared.gradient_monitor` reports what they measured.

Backpropagation through time multiplies the gradient by the recurrent weights once per step, so over a long sequence it
shrinks to nothing or blows up (Bengio et al., 1994; Pascanu et al., 2013). Clipping bounds the second; gates, residual
connections, normalisation and a good start help against the first. To see either, measure: every gradient passes through
the optimizer, before and after clipping.
"""

from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from keras import ops

Clipping = Literal["none", "global_norm", "norm", "value", "adaptive"]
HISTORY = 1000  # steps that adaptive clipping looks back


class MeasuredClipping:
    """Mixin for a Keras optimizer: clips gradients and keeps what it saw in variables of its own.

    Args:
        clipping: "none"; "global_norm": all gradients scaled together, so that their joint norm is at most the threshold
            (Pascanu et al., 2013); "norm": each variable's by itself; "value": each element cut to +-threshold;
            "adaptive": by global norm, the threshold being a percentile of the norms of the last 1000 steps
            (AutoClip, Seetharaman et al., 2020).
        clip_threshold: the bound; of no effect with "none" and "adaptive". Lives in the variable `clip_threshold`, so a
            callback can change it during training.
        clip_percentile: for "adaptive", 0 to 100.

    Where a gradient is NaN or infinite, all gradients of that step count as zero, so that it can't get into the weights;
    `shared.gradient_monitor.GradientMonitor` reports it. Several replicas (`tf.distribute`) are clipped by the norm of their
    summed gradient.
    """

    def __init__(
        self,
        *args,
        clipping: Clipping = "global_norm",
        clip_threshold: float = 1.0,
        clip_percentile: float = 90.0,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        if clipping not in ("none", "global_norm", "norm", "value", "adaptive"):
            raise ValueError(f"clipping is none, global_norm, norm, value or adaptive; got {clipping!r}")
        if clip_threshold <= 0:
            raise ValueError(f"clip_threshold is above 0; got {clip_threshold}")
        self.clipping = clipping
        self.clip_percentile = clip_percentile
        self.clip_threshold = self._measurement("clip_threshold", start=clip_threshold)
        self.gradient_norm = self._measurement("gradient_norm")
        self.epoch_steps = self._measurement("epoch_steps")
        self.epoch_clipped = self._measurement("epoch_clipped")
        self.epoch_norm_sum = self._measurement("epoch_norm_sum")
        self.epoch_norm_max = self._measurement("epoch_norm_max")
        self.first_bad_step = self._measurement("first_bad_step", start=-1)
        self.norm_history = self._measurement("norm_history", (HISTORY,), np.inf) if clipping == "adaptive" else None

    def build(self, variables):
        """Add what is kept for each variable: sum over the epoch of squared norms; NaN or not at the first bad step.

        And the largest norm since somebody set it to 0.
        """
        super().build(variables)
        self.epoch_square_sums = self._measurement("epoch_square_sums", (len(variables),))
        self.bad_gradients = self._measurement("bad_gradients", (len(variables),))
        self.recent_norm_max = self._measurement("recent_norm_max")

    def apply(self, grads, trainable_variables=None):
        """Measure and clip the gradients, then update the weights."""
        if not self.built:
            with keras.name_scope(self.name, caller=self):
                self.build(list(trainable_variables))
            self.built = True
        grads, replicas = _whole_gradients(grads)
        squares = ops.stack([0.0 if g is None else ops.sum(ops.square(ops.cast(g, "float32"))) for g in grads])
        norm = ops.sqrt(ops.sum(squares))
        all_finite = ops.isfinite(norm)
        scales, clipped = self._scales(grads, squares, norm)
        self._record(squares, norm, all_finite, clipped)
        present = [n for n, g in enumerate(grads) if g is not None]
        changed = ops.cond(
            all_finite,
            lambda: [self._clip(grads[n], scales[n]) for n in present],
            lambda: [ops.zeros_like(grads[n]) for n in present],
        )
        for n, gradient in zip(present, changed, strict=True):
            grads[n] = gradient if replicas == 1 else gradient / replicas  # Keras sums over the replicas once more
        super().apply(grads, trainable_variables)

    def reset_measurements(self) -> None:
        """Start the epoch's sums again."""
        for variable in (self.epoch_steps, self.epoch_clipped, self.epoch_norm_sum, self.epoch_norm_max):
            variable.assign(0.0)
        if self.built:
            self.epoch_square_sums.assign(ops.zeros_like(self.epoch_square_sums))

    def get_config(self) -> dict:
        own = {"clipping": self.clipping, "clip_percentile": self.clip_percentile}
        return {**super().get_config(), **own, "clip_threshold": read_scalar(self.clip_threshold)}

    def _measurement(self, name, shape=(), start=0.0):
        start = keras.initializers.Constant(start)
        return self.add_variable(shape, start, dtype="float32", name=name, aggregation="only_first_replica")

    def _scales(self, grads, squares, norm):
        """What each gradient is to be multiplied by, and whether anything is clipped."""
        if self.clipping == "adaptive":
            self._adapt_threshold(norm)
        threshold = ops.convert_to_tensor(self.clip_threshold)
        if self.clipping == "none":
            return ops.ones_like(squares), ops.convert_to_tensor(False)
        if self.clipping == "value":  # cut element by element, see `_clip`
            largest = ops.stack([ops.cast(ops.max(ops.abs(g)), "float32") for g in grads if g is not None])
            return ops.ones_like(squares), ops.any(largest > threshold)
        norms = ops.sqrt(squares) if self.clipping == "norm" else ops.broadcast_to(norm, squares.shape)
        return ops.minimum(1.0, threshold / ops.maximum(norms, keras.config.epsilon())), ops.any(norms > threshold)

    def _clip(self, gradient, scale):
        if self.clipping == "none":
            return gradient
        if self.clipping == "value":
            bound = ops.cast(self.clip_threshold, gradient.dtype)
            return ops.clip(gradient, -bound, bound)
        return gradient * ops.cast(scale, gradient.dtype)

    def _adapt_threshold(self, norm):
        """Put the norm into the ring of the last norms, and set the threshold to their percentile (lower of two)."""
        here = ops.equal(ops.arange(HISTORY), ops.cast(self.iterations % HISTORY, "int32"))
        norms = ops.where(here & ops.isfinite(norm), norm, self.norm_history)
        self.norm_history.assign(norms)
        seen = ops.sum(ops.cast(ops.isfinite(norms), "float32"))
        rank = ops.cast(ops.maximum(seen - 1, 0) * (self.clip_percentile / 100), "int32")
        # Slots not yet used hold infinity and sort to the end.
        threshold = ops.take(ops.sort(norms), rank)
        self.clip_threshold.assign(ops.where(ops.isfinite(threshold), threshold, self.clip_threshold))

    def _record(self, squares, norm, all_finite, clipped):
        first_bad = ops.logical_and(ops.logical_not(all_finite), self.first_bad_step < 0)
        self.bad_gradients.assign(ops.where(first_bad, ops.cast(~ops.isfinite(squares), "float32"), self.bad_gradients))
        self.first_bad_step.assign(ops.where(first_bad, ops.cast(self.iterations, "float32"), self.first_bad_step))
        self.gradient_norm.assign(norm)
        finite_norm = ops.where(all_finite, norm, 0.0)
        self.epoch_steps.assign_add(1.0)
        self.epoch_clipped.assign_add(ops.cast(clipped, "float32"))
        self.epoch_norm_sum.assign_add(finite_norm)
        self.epoch_norm_max.assign(ops.maximum(self.epoch_norm_max, finite_norm))
        self.recent_norm_max.assign(ops.maximum(self.recent_norm_max, finite_norm))
        self.epoch_square_sums.assign_add(ops.where(all_finite, squares, ops.zeros_like(squares)))


@keras.saving.register_keras_serializable("shared.gradients")
class Adam(MeasuredClipping, keras.optimizers.Adam):
    """`keras.optimizers.Adam` that clips and measures, see `MeasuredClipping`; with `weight_decay` it is AdamW."""


@keras.saving.register_keras_serializable("shared.gradients")
class SGD(MeasuredClipping, keras.optimizers.SGD):
    """`keras.optimizers.SGD` that clips and measures, see `MeasuredClipping`."""


def read_scalar(scalar: keras.Variable) -> float:
    """A scalar's value, also of one that is mirrored over several devices, which `float(variable)` does not know."""
    return float(scalar.numpy())


def _whole_gradients(grads):
    """The gradients as dense tensors, summed over the replicas, and the number of replicas.

    An embedding's gradient comes in slices, a row for each use, to be summed where a row is used twice; and under
    `tf.distribute` each replica sees its own part, to be summed as well.
    """
    grads = [None if grad is None else tf.convert_to_tensor(grad) for grad in grads]
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return grads, 1
    present = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, [grad for grad in grads if grad is not None]))
    return [None if grad is None else next(present) for grad in grads], context.num_replicas_in_sync
