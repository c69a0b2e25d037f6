"""The gradient through time: how much of the gradient of the last step's loss reaches the states before it.

Backpropagation multiplies by the recurrent Jacobian once per step, so the norm shrinks or grows about geometrically with the
distance (Bengio et al., 1994; Hochreiter et al., 2001), unless a gate has learned to let it through.
"""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from shared.plots import plt, save_figure
from shared.tensorboard import EpochPictures


class GradientThroughTime(EpochPictures):
    """A picture of the gradient through time, and how many steps it reaches, see `EpochPictures`.

    For models with one input, see `gradient_through_time`.

    Args:
        inputs: a batch, shaped as those that the model is trained on; all rows equally long.
        targets: what belongs to it.
        loss: a function of (targets, outputs) to the loss of the last step, `(batch,)`; see `last_step_cross_entropy`.
        folder: the run folder.
    """

    def __init__(self, inputs, targets, loss: Callable, folder: Path):
        super().__init__(folder)
        self.inputs = inputs
        self.targets = targets
        self.loss = loss

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `gradient_through_time.png`."""
        norms = gradient_through_time(self.model, self.inputs, self.targets, self.loss)
        figure, axes = plt.subplots(figsize=(6, 4))
        plot_norms(axes, norms)
        picture = folder / "gradient_through_time.png"
        save_figure(figure, picture, title)
        return [picture], {f"steps_to_1_percent/{layer}": steps_to_1_percent(of_layer) for layer, of_layer in norms.items()}


def gradient_through_time(model: keras.Model, inputs, targets, loss: Callable) -> dict[str, np.ndarray]:
    """Norm of the gradient of the last step's loss with respect to the state at every step, for each recurrent layer.

    The state is what a layer hands on to its next step (h; of an LSTM, h and c), the gradient the whole one, over all paths
    to the last step. It is found by adding zeros to every state and differentiating with respect to them.

    Args:
        model: functional, one input. Layers inside a `Bidirectional` are left out: there, the loss lies at neither end.
        inputs: a batch `(batch, time, ...)`, all rows equally long.
        targets: what `loss` compares with.
        loss: a function of (targets, outputs) to the loss of the last step, `(batch,)`.

    Returns:
        By the layer's name: `(batch, time)`, the norm over the units.

    Raises:
        ValueError: if the model has no recurrent layer outside of a `Bidirectional`.
    """
    zeros: dict[str, AddedToState] = {}

    def call(layer, *args, **options):
        if not isinstance(layer, layers.RNN):
            return layer(*args, **options)
        sequence, *initial_state = keras.tree.flatten(args)
        initial_state = options.pop("initial_state", None) or initial_state or None
        zeros[layer.name] = AddedToState((len(inputs), inputs.shape[1], sum(layer.state_size)))
        cell = PerturbedCell(layer.cell, name=f"perturbed_{layer.name}")
        probe = layers.RNN(cell, return_sequences=layer.return_sequences, return_state=layer.return_state)
        return probe(zeros[layer.name](sequence), initial_state=initial_state, **options)

    uncompiled = keras.Model(model.input, model.output)  # else the optimizer and the loss would be cloned, too
    probe = keras.models.clone_model(uncompiled, clone_function=lambda layer: layer, call_function=call)
    if not zeros:
        raise ValueError(f"model {model.name} has no recurrent layer outside of a Bidirectional")
    with tf.GradientTape() as tape:
        total = ops.sum(loss(targets, probe(inputs, training=False)))
    gradients = tape.gradient(total, [added.zeros.value for added in zeros.values()])
    return {name: np.linalg.norm(gradient, axis=2) for name, gradient in zip(zeros, gradients, strict=True)}


def last_step_cross_entropy(targets, logits):
    """Cross-entropy, `(batch,)`, of logits `(batch, classes)`, or of the last of `(batch, time, classes)`."""
    if len(logits.shape) == 3:
        targets, logits = targets[:, -1], logits[:, -1]
    return ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)


def quantiles_of_rows(norms: np.ndarray) -> np.ndarray:
    """Of norms `(batch, time)`: `(3, time)`, the 10 % quantile, the median and the 90 % quantile of the rows with a gradient.

    (Not the mean: a few rows with a large loss hold most of it.)
    """
    reached = norms.any(axis=1)
    return np.quantile(norms[reached] if reached.any() else norms, [0.1, 0.5, 0.9], axis=0)


def steps_to_1_percent(norms: np.ndarray) -> int:
    """Steps back until the median of norms `(batch, time)` is below 1 % of what it is at the last step; all, if it never is."""
    backwards = quantiles_of_rows(norms)[1][::-1]
    below = np.flatnonzero(backwards < 0.01 * backwards[0])
    return int(below[0]) if len(below) else len(backwards)


def plot_norms(axes, norms: dict[str, np.ndarray]) -> None:
    """Median of norms `(batch, time)` over the distance to the last step, on a logarithmic scale, and where 10 to 90 % lie."""
    for number, (name, of_rows) in enumerate(norms.items()):
        low, median, high = quantiles_of_rows(of_rows) + 1e-30
        distance = np.arange(len(median))[::-1]
        [line] = axes.semilogy(distance, median, label=name, linewidth=1 + len(norms) - number)  # thin over wide: both are seen
        axes.fill_between(distance, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel="steps before the last", ylabel="gradient's norm: median, 10 to 90 %")
    axes.legend()


class AddedToState(layers.Layer):
    """Joins zeros `(batch, time, width of the state)` to the features, for a `PerturbedCell` to add to its state."""

    def __init__(self, shape):
        super().__init__()
        self.zeros = self.add_weight(shape=shape, initializer="zeros", name="zeros")

    def call(self, sequence):
        return ops.concatenate([sequence, ops.cast(self.zeros, sequence.dtype)], axis=-1)


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
