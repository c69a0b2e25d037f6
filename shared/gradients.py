"""Clip in the optimizer, measure in the optimizer, report both from a callback.

Backpropagation through time multiplies the gradient by the recurrent weights once a step, so over a long sequence it
shrinks to nothing or blows up (Bengio et al., 1994; Pascanu et al., 2013). Clipping bounds the second; gates, residual
connections, normalisation and a good start help against the first. To see either, measure: the optimizer is where every
gradient passes, on every backend, before and after clipping.
"""

import logging
from typing import Literal

import keras
import numpy as np
from keras import ops

from shared.cli import UserError

Clipping = Literal["none", "global_norm", "norm", "value", "adaptive"]
HISTORY = 1000  # steps that adaptive clipping looks back
LOOK_EVERY = 10  # batches between two looks at the optimizer
VANISHING = 1e-4  # a layer's norm as a share of the strongest layer's
EXPLODING = 20.0  # largest norm of an epoch, in multiples of its mean or of the first epoch's mean

log = logging.getLogger(__name__)


class NotFinite(UserError):
    """A gradient was NaN or infinite. It did not get into the weights."""


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
    `GradientMonitor` reports it. Several replicas (`tf.distribute`) are clipped by the norm of their summed gradient.
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
        """Add what is kept for each variable: sum over the epoch of squared norms; NaN or not at the first bad step."""
        super().build(variables)
        self.epoch_square_sums = self._measurement("epoch_square_sums", (len(variables),))
        self.bad_gradients = self._measurement("bad_gradients", (len(variables),))

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
        return {**super().get_config(), **own, "clip_threshold": _read(self.clip_threshold)}

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
        self.epoch_square_sums.assign_add(ops.where(all_finite, squares, ops.zeros_like(squares)))


@keras.saving.register_keras_serializable("shared.gradients")
class Adam(MeasuredClipping, keras.optimizers.Adam):
    """`keras.optimizers.Adam` that clips and measures, see `MeasuredClipping`."""


@keras.saving.register_keras_serializable("shared.gradients")
class AdamW(MeasuredClipping, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` that clips and measures, see `MeasuredClipping`."""


@keras.saving.register_keras_serializable("shared.gradients")
class SGD(MeasuredClipping, keras.optimizers.SGD):
    """`keras.optimizers.SGD` that clips and measures, see `MeasuredClipping`."""


class GradientMonitor(keras.callbacks.Callback):
    """Report what a `MeasuredClipping` optimizer saw; warn of vanishing and exploding; stop on NaN.

    Adds to the epoch's logs, and so to TensorBoard and `history.csv` if it stands before those callbacks:
    `gradient_norm` (mean before clipping), `gradient_norm_max`, `clipped_share` (of steps, 0 to 1), `clip_threshold`, and
    `gradient_norm/<layer>` (root mean square over the epoch). To every tenth batch's logs: `gradient_norm`.

    Raises:
        NotFinite: from `fit`, naming the layer and the step where the first NaN or infinity came up.
    """

    def __init__(self):
        super().__init__()
        self.first_mean = None
        self.warned = set()

    def on_train_begin(self, logs=None):
        if not isinstance(self.model.optimizer, MeasuredClipping):
            name = type(self.model.optimizer).__name__
            raise TypeError(f"GradientMonitor needs an optimizer of shared.gradients (Adam, AdamW, SGD); got {name}")

    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.reset_measurements()

    def on_train_batch_end(self, batch, logs=None):
        if batch % LOOK_EVERY:
            return
        self._stop_if_not_finite()
        if logs is not None:
            logs["gradient_norm"] = _read(self.model.optimizer.gradient_norm)

    def on_epoch_end(self, epoch, logs=None):
        self._stop_if_not_finite()
        optimizer = self.model.optimizer
        steps = max(_read(optimizer.epoch_steps), 1.0)
        mean = _read(optimizer.epoch_norm_sum) / steps
        largest = _read(optimizer.epoch_norm_max)
        clipped = _read(optimizer.epoch_clipped) / steps
        by_layer = self._norm_by_layer(steps)
        if logs is not None:
            logs |= {"gradient_norm": mean, "gradient_norm_max": largest, "clipped_share": clipped}
            if optimizer.clipping != "none":
                logs["clip_threshold"] = _read(optimizer.clip_threshold)
            logs |= {f"gradient_norm/{layer}": norm for layer, norm in by_layer.items()}
        self._warn_of_vanishing(by_layer)
        self._warn_of_exploding(mean, largest)
        self._warn_of_constant_clipping(clipped)

    def _norm_by_layer(self, steps: float) -> dict[str, float]:
        squares: dict[str, float] = {}
        sums = self.model.optimizer.epoch_square_sums.numpy()
        for layer, square in zip(layer_names(self.model), sums, strict=True):
            squares[layer] = squares.get(layer, 0.0) + float(square)
        return {layer: (square / steps) ** 0.5 for layer, square in squares.items()}

    def _warn_of_vanishing(self, by_layer: dict[str, float]) -> None:
        strongest = max(by_layer, key=by_layer.get)
        for layer, norm in by_layer.items():
            if norm < VANISHING * by_layer[strongest]:
                self._warn_once(
                    f"vanishing/{layer}",
                    f"Vanishing gradient: layer {layer} gets {norm:.1e}, layer {strongest} {by_layer[strongest]:.1e}. {layer} "
                    "hardly learns. What helps: a gated cell (gru, lstm), residual connections, normalization between the "
                    "layers, fewer layers or shorter sequences.",
                )

    def _warn_of_exploding(self, mean: float, largest: float) -> None:
        self.first_mean = mean if self.first_mean is None else self.first_mean
        usual = min(mean, self.first_mean)
        if self.model.optimizer.clipping in ("global_norm", "norm"):
            usual = max(usual, _read(self.model.optimizer.clip_threshold))  # below it, a healthy run may do as it likes
        if largest > EXPLODING * usual > 0:
            cure = (
                "Clipping is off: switch it on (--clipping global_norm)."
                if self.model.optimizer.clipping == "none"
                else "Clipping held it; if the loss jumps all the same, lower the threshold or the learning rate."
            )
            self._warn_once(
                "exploding", f"Exploding gradient: norm {largest:.3g} in a step, where {usual:.3g} is usual. {cure}"
            )

    def _warn_of_constant_clipping(self, clipped: float) -> None:
        # Adam divides by the gradient's size anyway: there, a run whose every step is clipped is as healthy as others.
        is_adam = isinstance(self.model.optimizer, keras.optimizers.Adam)
        if clipped > 0.95 and not is_adam and self.model.optimizer.clipping in ("global_norm", "norm"):
            self._warn_once(
                "constant clipping",
                f"{clipped:.0%} of the steps were clipped: the threshold {_read(self.model.optimizer.clip_threshold):g} lies "
                "below the usual gradient norm, so only the gradient's direction is used. "
                "Raise it to a few times gradient_norm, or use --clipping adaptive.",
            )

    def _warn_once(self, key: str, message: str) -> None:
        if key not in self.warned:
            self.warned.add(key)
            log.warning(message)

    def _stop_if_not_finite(self) -> None:
        step = int(_read(self.model.optimizer.first_bad_step))
        if step >= 0:
            raise NotFinite(f"NaN or infinite gradient at step {step}: {self._origin()} It did not get into the weights.")

    def _origin(self) -> str:
        """Where it began: a broken weight; else the last layer (the first that backpropagation reaches)."""
        names = layer_names(self.model)
        for layer, variable in zip(names, self.model.trainable_variables, strict=True):
            if not np.all(np.isfinite(variable.numpy())):
                return f"the weights of layer {layer} are not finite ({variable.path})."
        bad = self.model.optimizer.bad_gradients.numpy() > 0
        layers = [layer for layer, is_bad in zip(names, bad, strict=True) if is_bad]
        if not layers:
            return "every gradient is finite, but their joint norm overflows. Lower the learning rate."
        if bad.all():
            return (
                f"it entered from the loss at the last layer, {layers[-1]}, and reached every layer. Look for NaN in inputs or "
                "labels; else lower the learning rate or the clip threshold."
            )
        return f"it came up in layer {layers[-1]}; the layers behind it are finite. Lower the learning rate, or clip harder."


def layer_names(model: keras.Model) -> list[str]:
    """The name of the layer that each of `model.trainable_variables` belongs to, in their order."""
    owners = _owners(model)
    return [owners[id(variable)] for variable in model.trainable_variables]


def _owners(model: keras.Model) -> dict[int, str]:
    owners: dict[int, str] = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            inner = {variable: f"{layer.name}/{name}" for variable, name in _owners(layer).items()}
        else:
            inner = {id(variable): layer.name for variable in layer.trainable_variables}
        owners = inner | owners  # of a variable that two layers share, the first one is named
    return owners


def _read(scalar: keras.Variable) -> float:
    """A scalar's value, also of one that is mirrored over several devices, which `float(variable)` does not know."""
    return float(scalar.numpy())


def _whole_gradients(grads):
    """The gradients as one would write them down, and the number of replicas.

    On TensorFlow an embedding's gradient comes in slices, a row for each use, to be summed where a row is used twice; and
    under `tf.distribute` each replica sees its own share, to be summed as well.
    """
    if keras.backend.backend() != "tensorflow":
        return list(grads), 1
    import tensorflow as tf

    grads = [None if grad is None else tf.convert_to_tensor(grad) for grad in grads]
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return grads, 1
    present = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, [grad for grad in grads if grad is not None]))
    return [None if grad is None else next(present) for grad in grads], context.num_replicas_in_sync
