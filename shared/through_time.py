"""The gradient through time: how much of the gradient of the loss reaches the states of earlier steps.

Backpropagation multiplies by the recurrent Jacobian once per step, so the norm shrinks or grows about geometrically with the
distance (Bengio et al., 1994; Hochreiter et al., 2001), unless a gate has learned to let it through.
"""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from shared.directions import with_recurrence
from shared.gradients import read_scalar
from shared.plots import plt, save_figure
from shared.tensorboard import EpochPictures

AXIS = 1e-8, 100  # fractions of the largest: the same in every picture, so that they can be compared
ROWS = 32  # of a batch to look into
TINY = 1e-30  # a logarithmic axis has no 0


class GradientThroughTime(EpochPictures):
    """A picture of the gradient through time, and how many steps it reaches, see `EpochPictures`.

    A panel for each layer, or each direction of it, with more than one step. Each curve is drawn as a fraction of its largest
    value, since the gradient as a whole becomes smaller while the network learns.

    Args:
        inputs: a batch of the model's inputs.
        targets: what belongs to it.
        loss: a function of (targets, outputs) to losses, see `gradient_through_time`.
        folder: the run folder.
    """

    def __init__(self, inputs, targets, loss: Callable, folder: Path):
        super().__init__(folder)
        self.batch = inputs, targets, loss
        self.untrained: dict[str, np.ndarray] = {}
        self.earlier: list[dict[str, np.ndarray]] = []

    def on_train_begin(self, logs=None):
        *_, loss = self.batch
        self.measure = measure_gradient(self.model, loss)
        if read_scalar(self.model.optimizer.iterations) == 0:  # else there is no untrained network
            self.untrained = self._norms()

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `gradient_through_time.png`; nothing if every layer has a single step."""
        norms = self._norms()
        if not norms:
            return [], {}
        figure, axes = plt.subplots(1, len(norms), figsize=(1 + 4.5 * len(norms), 4), squeeze=False, sharey=True)
        for axis, name in zip(axes[0], norms, strict=True):
            plot_layer(axis, norms[name], [epoch[name] for epoch in self.earlier], self.untrained.get(name))
            axis.set(title=name, ylabel="")
        axes[0, 0].set_ylabel("gradient's norm as a fraction of the largest")
        picture = folder / "gradient_through_time.png"
        save_figure(figure, picture, title)
        self.earlier.append(norms)
        return [picture], {f"steps_to_1_percent/{layer}": steps_to_1_percent(of_layer) for layer, of_layer in norms.items()}

    def _norms(self) -> dict[str, np.ndarray]:
        inputs, targets, _ = self.batch
        found = self.measure(inputs, targets)
        return {name: norms for name, norms in found.items() if norms.shape[1] > 1}


def gradient_through_time(model: keras.Model, inputs, targets, loss: Callable) -> dict[str, np.ndarray]:
    """What `measure_gradient` gives, for once."""
    return measure_gradient(model, loss, compiled=False)(inputs, targets)


def measure_gradient(model: keras.Model, loss: Callable, compiled: bool = True) -> Callable:
    """Norm of the gradient of the loss with respect to the state at every step, for each recurrent layer and direction.

    The state is what a layer hands on to its next step (h; of an LSTM, h and c), the gradient the whole one, over all paths
    to the loss. It is found by adding zeros to every state and differentiating with respect to them.

    A loss of the last step alone is reached through the steps between, and what is left after so many of them is what the
    recurrence lets through. A loss of a pooled answer is reached from every step directly, too: then a level curve says that
    all steps count, not that the recurrence carries anything.

    Args:
        model: see `shared.directions.with_recurrence`.
        loss: a function of (targets, outputs) to losses of any shape, which are summed; see `last_step_cross_entropy`.
        compiled: worth its time if the function is called again and again.

    Returns:
        A function of (a batch of inputs, the targets). It gives by the layer's name, of a `Bidirectional` by
        "<name>/forward" and "<name>/backward", `(batch, time)`: the norm over the units. The steps stand in the order in which
        the layer reads, and every row ends with its last step, which a backward layer has at the start of the sequence; NaN in
        front of what is shorter, where the mask hid steps.

    Raises:
        ValueError: if the model has no recurrent layer.
    """
    added, shown, backwards = {}, {}, set()

    def run(name, layer, sequence, mask, states):
        joined, added[name] = AddedToState(sum(layer.state_size))(sequence)
        shown[name] = ops.ones_like(sequence[:, :, 0], "bool") if mask is None else mask
        backwards.update([name] if layer.go_backwards else [])
        options = {"return_sequences": True, "return_state": True, "zero_output_for_mask": True}
        recurrence = layers.RNN(PerturbedCell(layer.cell), go_backwards=layer.go_backwards, **options)
        outputs, *states = recurrence(joined, mask=mask, initial_state=states or None)
        return outputs, states

    probe = with_recurrence(model, run)
    probe = keras.Model(probe.input, [probe.output, added, shown])

    def compute(inputs, targets):
        with tf.GradientTape() as tape:
            outputs, zeros, masks = probe(inputs, training=False)
            total = ops.sum(loss(targets, outputs))
        return tape.gradient(total, zeros, unconnected_gradients="zero"), masks

    compute = tf.function(compute, reduce_retracing=True, autograph=False) if compiled else compute

    def measure(inputs, targets):
        gradients, masks = compute(keras.tree.map_structure(ops.convert_to_tensor, inputs), targets)
        # In 64 bits: the square of 1e-21 is 0 in 32.
        norms = {name: np.linalg.norm(np.array(gradient, np.float64), axis=2) for name, gradient in gradients.items()}
        return {name: in_reading_order(norms[name], np.array(masks[name]), name in backwards) for name in added}

    return measure


def in_reading_order(values: np.ndarray, mask: np.ndarray, backwards: bool) -> np.ndarray:
    """Values `(batch, time)` as a layer reads them, every row's last step at the end, NaN in front of shorter rows."""
    values = np.where(mask, values, np.nan)
    if backwards:
        values, mask = values[:, ::-1], mask[:, ::-1]
    hidden = mask[:, ::-1].argmax(axis=1)  # steps after the last one
    time = values.shape[1]
    return np.take_along_axis(values, (np.arange(time) - hidden[:, None]) % time, axis=1)


def last_step_cross_entropy(targets, logits):
    """Cross-entropy, `(batch,)`, of logits `(batch, classes)`, or of the last of `(batch, time, classes)`."""
    if len(logits.shape) == 3:
        targets, logits = targets[:, -1], logits[:, -1]
    return ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)


def quantiles_of_rows(norms: np.ndarray) -> np.ndarray:
    """Of norms `(batch, time)`: `(3, time)`, the 10 % quantile, the median and the 90 % quantile of the rows with a gradient.

    (Not the mean: a few rows with a large loss hold most of it.) Where rows differ in length, as far back as half of them go.
    """
    reached = (norms > 0).any(axis=1)
    norms = norms[reached] if reached.any() else norms
    known = ~np.isnan(norms)
    return np.nanquantile(norms[:, known.mean(axis=0) >= 0.5], [0.1, 0.5, 0.9], axis=0)


def steps_to_1_percent(norms: np.ndarray) -> int:
    """Steps back until the median of norms `(batch, time)` is below 1 % of what it is at the last step; all, if it never is."""
    backwards = quantiles_of_rows(norms)[1][::-1]
    below = np.flatnonzero(backwards < 0.01 * backwards[0])
    return int(below[0]) if len(below) else len(backwards)


def plot_norms(axes, norms: dict[str, np.ndarray]) -> None:
    """Median of norms `(batch, time)` over the distance to the last step, on a logarithmic scale, and where 10 to 90 % lie."""
    for number, (name, of_rows) in enumerate(norms.items()):
        width = 1 + len(norms) - number  # thin over wide: both are seen
        _plot_quantiles(axes, quantiles_of_rows(of_rows), color=f"C{number}", label=name, linewidth=width)
    axes.set(xlabel="steps before the last", ylabel="gradient's norm: median, 10 to 90 %")
    axes.legend()


def plot_layer(axes, norms: np.ndarray, earlier: list[np.ndarray], untrained: np.ndarray | None) -> None:
    """Norms `(batch, time)` of a layer with their band; the medians of earlier epochs faint, of the untrained network grey."""
    if untrained is not None:
        _plot_median(axes, _fractions(untrained), color="grey", label="before training")
    for number, epoch in enumerate(earlier):
        _plot_median(axes, _fractions(epoch), color="C0", alpha=0.3, label="" if number else "earlier epochs")
    _plot_quantiles(axes, _fractions(norms), color="C0", linewidth=2, label="now: median, 10 to 90 %")
    axes.set(xlabel="steps before the last", ylim=AXIS)
    axes.legend(loc="lower left")


def _fractions(norms: np.ndarray) -> np.ndarray:
    quantiles = quantiles_of_rows(norms)
    return quantiles / max(quantiles[1].max(), TINY)


def _plot_quantiles(axes, quantiles: np.ndarray, color: str, **style) -> None:
    _plot_median(axes, quantiles, color=color, **style)
    low, _, high = quantiles + TINY
    axes.fill_between(np.arange(len(low))[::-1], low, high, color=color, alpha=0.15, linewidth=0)


def _plot_median(axes, quantiles: np.ndarray, **style) -> None:
    axes.semilogy(np.arange(quantiles.shape[1])[::-1], quantiles[1] + TINY, **style)


class AddedToState(layers.Layer):
    """Joins zeros `(batch, time, width)` to the features, for a `PerturbedCell` to add to its state; returns them, too."""

    def __init__(self, width: int):
        super().__init__(dtype="float32")
        self.zero = self.add_weight(shape=(width,), initializer="zeros", name="zero")  # the tape records what comes of weights

    def call(self, sequence):
        zeros = ops.zeros_like(sequence[:, :, :1]) + self.zero
        return ops.concatenate([sequence, zeros], axis=-1), zeros


class PerturbedCell(layers.Layer):
    """A cell of Keras, used as it is, whose new state gets the last features of its input added."""

    def __init__(self, cell, **options):
        super().__init__(**options)
        self.cell = cell
        self.state_size = cell.state_size
        self.output_size = cell.output_size

    def call(self, inputs, states):
        features = inputs.shape[-1] - len(states) * self.cell.units
        _, new_states = self.cell(inputs[:, :features], states)
        added = ops.split(inputs[:, features:], len(states), axis=-1)
        perturbed = [state + one for state, one in zip(keras.tree.flatten(new_states), added, strict=True)]
        return perturbed[0], perturbed  # every cell of Keras puts out its h
