"""Report gradients and updates of each epoch, warn of vanishing and exploding ones, and stop a training on NaN."""

import logging

import keras
import numpy as np

from shared.cli import UserError
from shared.gradients import MeasuredClipping, read_scalar

LOOK_EVERY = 10  # batches between two looks at the optimizer
VANISHING = 1e-4  # a layer's norm as a fraction of the strongest layer's
EXPLODING = 20.0  # largest norm of an epoch, in multiples of its mean or of the first epoch's mean

log = logging.getLogger(__name__)


class NotFinite(UserError):
    """A gradient was NaN or infinite. It did not get into the weights."""


class GradientMonitor(keras.callbacks.Callback):
    """Report what a `MeasuredClipping` optimizer saw; warn of vanishing and exploding; stop on NaN.

    Adds to the epoch's logs, and so to TensorBoard and `history.csv` if it stands before those callbacks:
    `gradient_norm` (mean before clipping), `gradient_norm_max`, `clipped_fraction` (of steps, 0 to 1), `clip_threshold`, and
    `gradient_norm/<layer>` (root mean square over the epoch).

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
            raise TypeError(f"GradientMonitor needs an optimizer of shared.gradients (Adam, SGD); got {name}")

    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.reset_measurements()

    def on_train_batch_end(self, batch, logs=None):
        if batch % LOOK_EVERY == 0:
            self._stop_if_not_finite()

    def on_epoch_end(self, epoch, logs=None):
        self._stop_if_not_finite()
        optimizer = self.model.optimizer
        steps = max(read_scalar(optimizer.epoch_steps), 1.0)
        mean = read_scalar(optimizer.epoch_norm_sum) / steps
        largest = read_scalar(optimizer.epoch_norm_max)
        clipped = read_scalar(optimizer.epoch_clipped) / steps
        by_layer = norms_by_layer(self.model, optimizer.epoch_square_sums.numpy() / steps)
        if logs is not None:
            logs |= {"gradient_norm": mean, "gradient_norm_max": largest, "clipped_fraction": clipped}
            if optimizer.clipping != "none":
                logs["clip_threshold"] = read_scalar(optimizer.clip_threshold)
            logs |= {f"gradient_norm/{layer}": norm for layer, norm in by_layer.items()}
        self._warn_of_vanishing(by_layer)
        self._warn_of_exploding(mean, largest)
        self._warn_of_constant_clipping(clipped)

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
            usual = max(usual, read_scalar(self.model.optimizer.clip_threshold))  # below it, a healthy run may do as it likes
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
            threshold = read_scalar(self.model.optimizer.clip_threshold)
            self._warn_once(
                "constant clipping",
                f"{clipped:.0%} of the steps were clipped: the threshold {threshold:g} lies below the usual gradient norm, so "
                "only the gradient's direction is used. Raise it to a few times gradient_norm, or use --clipping adaptive.",
            )

    def _warn_once(self, key: str, message: str) -> None:
        if key not in self.warned:
            self.warned.add(key)
            log.warning(message)

    def _stop_if_not_finite(self) -> None:
        step = int(read_scalar(self.model.optimizer.first_bad_step))
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


class UpdateMonitor(keras.callbacks.Callback):
    """Add to the epoch's logs, for each layer, `weight_norm/<layer>` and `update_ratio/<layer>`, measured in its middle step.

    The ratio is the norm of what the step adds to the layer's weights, as a fraction of their norm. About 0.001 is usual; near
    1 the step throws away what was learned, far below it the layer stands still.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self.measured = {}

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self._middle():
            self.before = self._weights()

    def on_train_batch_end(self, batch, logs=None):
        if batch == self._middle():
            after = self._weights()
            norms = norms_by_layer(self.model, [squared_norm(weight) for weight in after])
            moved = [squared_norm(new - old) for new, old in zip(after, self.before, strict=True)]
            changes = norms_by_layer(self.model, moved)
            if any(changes.values()):  # not a step that `checkpoints.Resume` passes over
                self.measured = {f"weight_norm/{layer}": norm for layer, norm in norms.items()}
                self.measured |= {f"update_ratio/{layer}": changes[layer] / norm for layer, norm in norms.items() if norm}

    def on_epoch_end(self, epoch, logs=None):
        logs |= self.measured

    def _middle(self) -> int:
        return (self.params["steps"] or 1) // 2

    def _weights(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self.model.trainable_variables]


def squared_norm(values: np.ndarray) -> float:
    """In 64 bits."""
    return float(np.sum(np.square(values, dtype=np.float64)))


def norms_by_layer(model: keras.Model, squares) -> dict[str, float]:
    """The norm over all variables of each layer, from the squared norm of each of `model.trainable_variables`."""
    found: dict[str, float] = {}
    for layer, square in zip(layer_names(model), squares, strict=True):
        found[layer] = found.get(layer, 0.0) + float(square)
    return {layer: square**0.5 for layer, square in found.items()}


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
