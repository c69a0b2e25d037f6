"""An autoregressive decoder: one step after the other, each read from the forecast of the step before.

step of the horizon       1        2        3
reads                     0        f1       f2         f: its own forecast (differences from the last known value)
in training, at times     0        t1       t2         t: the target, where it is forced (scheduled sampling)
writes quantiles          f1       f2       f3         f: their median
"""

import keras
from keras import layers, ops

from apps.weather.config import Config
from shared import rnn

CELLS = {"rnn": layers.SimpleRNNCell, "gru": layers.GRUCell, "lstm": layers.LSTMCell}


def decode(config: Config, history, targets, forced):
    """From a history to raw quantiles `(batch, horizon, K, quantiles)`, all as differences from the last known values.

    The decoder has one layer, which starts from the last state of the last encoder layer.

    Args:
        config: the settings.
        history: `(batch, history, columns)`.
        targets: `(batch, horizon, K)`.
        forced: `(batch, horizon, 1)`, 1 where the decoder reads the target of the step before instead of its own forecast
            (teacher forcing: Williams and Zipser, 1989; less and less often: Bengio et al., 2015).
    """
    num_forecast, num_quantiles = targets.shape[-1], len(config.quantiles)
    _, states = rnn.recurrent_stack(history, **vars(config.recurrent), return_state=True)
    before = ops.pad(targets[:, :-1], [[0, 0], [1, 0], [0, 0]])
    cell = DecoderCell(config.recurrent.cell, config.recurrent.units, num_forecast, num_quantiles, name="decoder_cell")
    x = layers.RNN(cell, return_sequences=True, name="decoder")(
        ops.concatenate([before, forced], axis=-1), initial_state=[*states[-1], ops.zeros_like(before[:, 0])]
    )
    return layers.Reshape((config.horizon, num_forecast, num_quantiles), name="step_by_step")(x)


@keras.saving.register_keras_serializable("apps.weather")
class DecoderCell(layers.Layer):
    """A recurrent cell and its head; carries its last median beside its state.

    A step's input `(batch, K + 1)` is the target of the step before and, in the last column, 1 where it is forced.
    """

    def __init__(self, cell: str, units: int, num_forecast: int, num_quantiles: int, **kwargs):
        super().__init__(**kwargs)
        self.settings = {"cell": cell, "units": units, "num_forecast": num_forecast, "num_quantiles": num_quantiles}
        self.num_forecast, self.num_quantiles = num_forecast, num_quantiles
        self.cell = CELLS[cell](units, dtype=self.dtype_policy)
        self.head = layers.Dense(num_forecast * num_quantiles, dtype=self.dtype_policy)
        sizes = self.cell.state_size
        self.state_size = [*(sizes if isinstance(sizes, (list, tuple)) else [sizes]), num_forecast]
        self.output_size = num_forecast * num_quantiles

    def build(self, shape):
        self.cell.build((shape[0], self.num_forecast))
        self.head.build((shape[0], self.cell.units))

    def call(self, inputs, states, training=False):
        *states, forecast = states
        target, forced = inputs[:, :-1], inputs[:, -1:]
        x, states = self.cell(forced * target + (1 - forced) * forecast, states, training=training)
        raw = self.head(x)
        median = ops.reshape(raw, (-1, self.num_forecast, self.num_quantiles))[:, :, self.num_quantiles // 2]
        return raw, [*states, median]

    def get_config(self):
        return super().get_config() | self.settings
