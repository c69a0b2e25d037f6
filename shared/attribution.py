"""Integrated gradients: how much each part of an input adds to a network's answer (Sundararajan, Taly and Yan, 2017).

    attribution of x_i  =  (x_i - baseline_i) * mean of d output / d x_i along the straight line from the baseline to x

The parts add up to the output at the input minus that at the baseline ("completeness"), which tells how exact the mean is.
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from shared.directions import rebuilt

POINTS = (16, 32, 64, 128, 256, 512)  # on the line, more and more until the parts add up
TOLERANCE = 0.01  # of the difference between the two outputs
EPSILON = float(np.finfo(np.float32).eps)
BATCH = 16  # points that are computed at a time


class Attribution(NamedTuple):
    """What each part of one input adds to one output."""

    parts: dict[str, np.ndarray]  # by input, shaped as it is without the batch
    before: float  # the output at the baseline
    after: float  # and at the input
    points: int  # that the mean was taken over

    @property
    def residual(self) -> float:
        """By how much the parts do not add up to `after - before`."""
        return abs(sum(part.sum() for part in self.parts.values()) - (self.after - self.before))

    @property
    def is_complete(self) -> bool:
        """Whether they add up to 1 % or, where next to nothing changes, to what 32 bits can tell."""
        return bool(self.residual <= max(TOLERANCE * abs(self.after - self.before), EPSILON * abs(self.after)))


class IntegratedGradients:
    """Explains answers of a model.

    Args:
        model: functional, from a dict of inputs to outputs `(batch, outputs)`; rows do not depend on each other. One that
            starts with ids is cut behind its embedding first, see `cut`.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.compute = tf.function(self._compute, reduce_retracing=True, autograph=False)

    def __call__(self, inputs: dict[str, np.ndarray], baselines: dict[str, np.ndarray], number: int = 0) -> Attribution:
        """Explain one output.

        The mean along the line is a Gauss-Legendre sum of 16 points, or of twice as many until the parts add up to 1 %, at most
        of 512; see `Attribution.is_complete`.

        Args:
            inputs: of one example, each `(1, ...)`.
            baselines: of those inputs that are explained; the others stay as they are.
            number: of the output.
        """
        outputs, _ = self._at(np.linspace(0, 1, BATCH), inputs, baselines, number)
        for points in POINTS:
            gradients = self._mean_gradients(inputs, baselines, number, points)
            parts = {name: (inputs[name] - baselines[name])[0] * gradient for name, gradient in gradients.items()}
            found = Attribution(parts, float(outputs[0]), float(outputs[-1]), points)
            if found.is_complete:
                break
        return found

    def _mean_gradients(self, inputs, baselines, number, points) -> dict[str, np.ndarray]:
        places, weights = np.polynomial.legendre.leggauss(points)  # between -1 and 1, of the sum 2
        total = dict.fromkeys(baselines, 0.0)
        for first in range(0, points, BATCH):
            rows = slice(first, first + BATCH)
            _, gradients = self._at((places[rows] + 1) / 2, inputs, baselines, number)
            total = {name: total[name] + np.tensordot(weights[rows] / 2, one, axes=1) for name, one in gradients.items()}
        return total

    def _at(self, places: np.ndarray, inputs, baselines, number) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Outputs and gradients at places `(BATCH,)` on the line, from 0, the baseline, to 1, the input."""
        explained = {name: np.multiply.outer(places, inputs[name][0] - baselines[name][0]) for name in baselines}
        explained = {name: (baselines[name] + one).astype(inputs[name].dtype) for name, one in explained.items()}
        others = {name: np.repeat(one, BATCH, axis=0) for name, one in inputs.items() if name not in baselines}
        tensors = (keras.tree.map_structure(tf.constant, one) for one in (explained, others, number))
        return keras.tree.map_structure(lambda tensor: tensor.numpy().astype(np.float64), self.compute(*tensors))

    def _compute(self, explained, others, number):
        with tf.GradientTape() as tape:
            tape.watch(explained)
            outputs = tf.gather(self.model(explained | others, training=False), number, axis=1)
        return outputs, tape.gradient(outputs, explained, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def cut(model: keras.Model, names: list[str]) -> tuple[keras.Model, keras.Model]:
    """Cut a model behind some layers, where values become continuous: no line from a baseline passes between two ids.

    Args:
        model: functional.
        names: of layers, for example an embedding.

    Returns:
        A model from the inputs to what these layers put out, by their names; and one to the same outputs as before that takes
        this as inputs beside those of `model` (ids may still be needed, to make a mask). Both take dicts.
    """
    inside = {}

    def call(layer, *args, **options):
        output = layer(*args, **options)
        if layer.name in names:
            inside[layer.name] = output
        return output

    again = rebuilt(model, call)
    inputs = {tensor.name: tensor for tensor in again.inputs}
    behind = keras.Model([*inputs.values(), *inside.values()], again.output)
    named = {name: keras.Input(batch_shape=one.shape, dtype=one.dtype, name=name) for name, one in (inputs | inside).items()}
    return keras.Model(inputs, inside), keras.Model(named, behind([*named.values()]))
