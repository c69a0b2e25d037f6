"""SegRNN (Lin et al., 2023): each column by itself, a segment of steps at a time, which is far fewer steps for the recurrence.

For long horizons (preset benchmark). The recurrence adds to the ridge regression of `apps.weather.baseline`, which is kept as
it is. With this file, the branches in model.py and train.py and SEGMENT in config.py go.
"""

import keras
import numpy as np
from keras import layers, ops

from apps.weather.baseline import Linear
from apps.weather.config import SEGMENT, Config
from shared import rnn


def forecast_segments(config: Config, history):
    """From differences `(batch, history, K)` to raw quantiles `(batch, horizon, K, quantiles)`.

    The encoder reads the history's segments; the decoder makes all segments of the horizon at once, each from the encoder's
    state and from which segment of which column it is to be.
    """
    cell, units = rnn.CELLS[config.recurrent.cell], config.recurrent.units
    num_columns, num_quantiles = history.shape[-1], len(config.quantiles)
    past, future = config.history // SEGMENT, config.horizon // SEGMENT
    x = ops.reshape(ops.transpose(history, (0, 2, 1)), (-1, past, SEGMENT))  # (batch * K, past, SEGMENT)
    x = layers.Dense(units, activation="relu", name="segment")(x)
    _, *states = cell(units, return_state=True, name="encoder")(x)
    # Each row's state for each segment of the horizon: (batch * K * future, units)
    states = [ops.repeat(state, future, axis=0) for state in states]
    where = Position(num_columns, future, units, name="position")(history)
    x = cell(units, name="decoder")(where, initial_state=states)
    x = layers.Dropout(config.recurrent.dropout, name="dropout")(x)
    x = layers.Dense(SEGMENT * num_quantiles, name="head")(x)
    x = ops.reshape(x, (-1, num_columns, config.horizon, num_quantiles))
    return ops.transpose(x, (0, 2, 1, 3))


def forecast_linearly(config: Config, history):
    """From differences `(batch, history, K)` to `(batch, horizon, K)`, each column by itself; 0 until `set_linear`."""
    shape = config.horizon, history.shape[-1]
    options = {"kernel_initializer": "zeros", "trainable": False, "name": "linear"}
    return layers.EinsumDense("btc,cth->bhc", shape, bias_axes="hc", **options)(history)


def set_linear(network: keras.Model, linear: Linear) -> None:
    """Let the network's forecast start from the ridge regression's."""
    kernels, biases = zip(*linear.maps, strict=True)
    unread = network.input["history"].shape[1] - linear.history  # steps further back than the ridge regression reads
    kernel = np.stack([np.pad(of_column, ((unread, 0), (0, 0))) for of_column in kernels])
    network.get_layer("linear").set_weights([kernel, np.stack(biases, axis=1)])


@keras.saving.register_keras_serializable("apps.weather")
class Position(layers.Layer):
    """Learned vectors of which column and which segment, `(batch * columns * segments, 1, units)`, half the units each."""

    def __init__(self, columns: int, segments: int, units: int, **kwargs):
        super().__init__(**kwargs)
        self.columns, self.segments, self.units = columns, segments, units

    def build(self, shape):
        half = self.units // 2
        self.of_column = self.add_weight(shape=(self.columns, self.units - half), initializer="random_normal", name="of_column")
        self.of_segment = self.add_weight(shape=(self.segments, half), initializer="random_normal", name="of_segment")

    def call(self, x):
        column = ops.repeat(self.of_column, self.segments, axis=0)
        segment = ops.tile(self.of_segment, (self.columns, 1))
        table = ops.concatenate([column, segment], axis=-1)
        return ops.expand_dims(ops.tile(table, (ops.shape(x)[0], 1)), 1)

    def compute_output_shape(self, shape):
        rows = None if shape[0] is None else shape[0] * self.columns * self.segments
        return rows, 1, self.units

    def get_config(self):
        return super().get_config() | {"columns": self.columns, "segments": self.segments, "units": self.units}
