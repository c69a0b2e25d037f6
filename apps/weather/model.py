"""The networks: history -> recurrent encoder -> all horizons, as differences from the last known value, as quantiles."""

import itertools
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from apps.weather.config import Config
from apps.weather.intervals import Calibration
from shared import rnn

PACKAGE = "apps.weather"
CELLS = {"rnn": layers.SimpleRNNCell, "gru": layers.GRUCell, "lstm": layers.LSTMCell}


def build_model(
    config: Config,
    num_channels: int,
    forecast: list[int],
    clock: Sequence[int] = (),
    ridges: Sequence[list[np.ndarray]] = (),
) -> keras.Model:
    """Build the networks, each of `config.head` with each of `config.history`, side by side; in and out are normalised values.

    They see differences from the last known value, and forecast such: the level of a season that they were not trained on
    is nothing new to them.

    Args:
        config: the settings.
        num_channels: columns of the series.
        forecast: those of them that are forecast, K in number.
        clock: those that tell the time; they are seen as they are.
        ridges: for `--linear ridge`, of each length, see `apps.weather.baseline.Linear.weights`; without: it adds nothing.

    Returns:
        Uncompiled model from histories `(batch, longest history, num_channels)` to quantiles `(batch, horizon, K, networks,
        quantiles)`. With an autoregressive head its input is a dict of "history", "truth" `(batch, horizon, K)` and "forced"
        `(batch, horizon, 1)`: 1 where the decoder is given the truth about the step before, 0 where it goes on from its own
        forecast.
    """
    inputs = {"history": keras.Input((config.longest_history, num_channels), name="history")}
    if "autoregressive" in config.head:
        inputs["truth"] = keras.Input((config.horizon, len(forecast)), name="truth")
        inputs["forced"] = keras.Input((config.horizon, 1), name="forced")
    members = []
    for head, (number, length) in itertools.product(config.head, enumerate(config.history)):
        with keras.name_scope(f"{head}_{length}"):  # so that their weights have different names
            members.append(_build_member(config, inputs, head, length, forecast, clock))
        if ridges:
            members[-1].get_layer("linear").set_weights(ridges[number])
    quantiles = ops.stack([member(inputs) for member in members], axis=-2)
    return keras.Model(inputs if len(inputs) > 1 else inputs["history"], quantiles, name="network")


def _build_member(
    config: Config, inputs: dict, head: str, length: int, forecast: list[int], clock: Sequence[int]
) -> keras.Model:
    """One network that sees the last `length` steps; from `inputs` to `(batch, horizon, K, quantiles)`."""
    history = inputs["history"][:, -length:]
    differences = history - history[:, -1:]
    anchor = ops.repeat(ops.take(history[:, -1:], forecast, axis=2), config.horizon, axis=1)
    if config.linear != "none":
        anchor = anchor + _linear(config, differences, forecast)
    is_clock = np.isin(np.arange(history.shape[-1]), clock)
    seen = ops.where(is_clock, history, differences)
    if head == "segments":
        added = _segments(config, ops.take(differences, forecast, axis=2))
    elif head == "direct":
        added = _direct(config, seen, len(forecast))
    else:
        added = _autoregressive(config, seen, inputs["truth"] - anchor, inputs["forced"])
    quantiles = ops.cast(anchor[..., None] + quantiles_in_order(config, added), "float32")
    return keras.Model(inputs, quantiles, name=f"{head}_{length}")


def quantiles_in_order(config: Config, raw):
    """From anything `(..., quantiles)` to quantiles that can't cross: the median, and steps above 0 away from it."""
    middle = config.quantiles.index(0.5)
    median = raw[..., middle : middle + 1]
    above = median + ops.cumsum(ops.softplus(raw[..., middle + 1 :]), axis=-1)
    below = median - ops.flip(ops.cumsum(ops.flip(ops.softplus(raw[..., :middle]), axis=-1), axis=-1), axis=-1)
    return ops.concatenate([below, median, above], axis=-1)


@keras.saving.register_keras_serializable(PACKAGE)
class PinballLoss(keras.losses.Loss):
    """What quantile forecasts are judged by (Koenker and Bassett, 1978); of the median alone it is half the absolute error.

    Of the truth `(batch, horizon, K)` and forecasts `(batch, horizon, K, networks, quantiles)`; every network by itself.
    """

    def __init__(self, quantiles, name="pinball_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.quantiles = tuple(quantiles)

    def call(self, truth, forecast):
        error = truth[..., None, None] - forecast
        share = ops.convert_to_tensor(np.array(self.quantiles, "float32"))
        return ops.mean(ops.maximum(share * error, (share - 1) * error), axis=-1)

    def get_config(self):
        return super().get_config() | {"quantiles": self.quantiles}


def build_calibrated(config: Config, network: keras.Model) -> keras.Model:
    """The networks as they forecast, given no truth: their mean, moved by the weights of the layer "calibration".

    From histories to quantiles, both normalised; see `apps.weather.intervals`.
    """
    decodes = "autoregressive" in config.head
    *_, num_channels = (network.input["history"] if decodes else network.input).shape
    history = keras.Input((config.longest_history, num_channels), name="history")
    inputs = history
    if decodes:
        nothing = ops.zeros_like(history[:, :1, :1]) + ops.zeros((1, *network.input["truth"].shape[1:]))
        inputs = {"history": history, "truth": nothing, "forced": nothing[..., :1]}
    calibrate = Calibration(config.quantiles.index(0.5), name="calibration")
    uncompiled = keras.Model(network.input, network.output, name="network")  # leaves the optimizer behind
    return keras.Model(history, calibrate(ops.mean(uncompiled(inputs), axis=-2)), name="calibrated")


def build_servable(config: Config, calibrated: keras.Model, mean, deviation, forecast: list[int], target: int) -> keras.Model:
    """What is saved: histories `(batch, history, num_channels)` in the data's own units in, quantiles in them out.

    Both in 64 bits: of a counter at 45,000,000, 32 bits see no difference below 4.

    Args:
        config: the settings.
        calibrated: see `build_calibrated`.
        mean, deviation: of each column over the training rows, `(num_channels,)`.
        forecast: see `build_model`.
        target: the target's place among them; `config.lower_bound` is its bound.
    """
    history = keras.Input((config.longest_history, len(mean)), dtype="float64", name="history")
    into = layers.Normalization(mean=mean, variance=deviation**2, dtype="float64", name="normalization")
    back = layers.Normalization(
        axis=-2, mean=mean[forecast], variance=deviation[forecast] ** 2, invert=True, dtype="float64", name="units"
    )
    quantiles = back(ops.cast(calibrated(ops.cast(into(history), "float32")), "float64"))
    if config.lower_bound is not None:
        quantiles = ops.maximum(quantiles, bounds(config, len(forecast), target)[:, None])
    return keras.Model(history, quantiles, name="servable")


def bounds(config: Config, num_forecast: int, target: int) -> np.ndarray:
    """The least value of each column that is forecast, `(K,)`: that of the target, in its own unit, is `config.lower_bound`."""
    lowest = np.full(num_forecast, -np.inf)
    lowest[target] = -np.inf if config.lower_bound is None else config.lower_bound
    return lowest


def _stack(config: Config, x, **options):
    return rnn.recurrent_stack(
        x,
        cell=config.cell,
        units=config.units,
        num_layers=config.num_layers,
        dropout=config.dropout,
        residual=config.residual,
        normalization=config.normalization,
        activation=config.activation,
        **options,
    )


def _linear(config: Config, differences, forecast: list[int]):
    """A linear map of a window: `(batch, horizon, K)`. One column comes from all columns, several of them each from itself."""
    options = {"kernel_initializer": "zeros", "trainable": config.linear == "learned", "name": "linear"}
    if len(forecast) == 1:
        return ops.expand_dims(layers.Dense(config.horizon, **options)(layers.Flatten()(differences)), -1)
    shape = config.horizon, len(forecast)
    return layers.EinsumDense("btc,cth->bhc", shape, bias_axes="hc", **options)(ops.take(differences, forecast, axis=2))


def _direct(config: Config, history, num_forecast: int):
    x = _stack(config, history, return_sequences=False)
    shape = config.horizon, num_forecast, len(config.quantiles)
    return layers.Reshape(shape, name="all_steps_at_once")(layers.Dense(int(np.prod(shape)), name="head")(x))


def _segments(config: Config, history):
    """SegRNN (Lin et al., 2023): each column by itself; a step of the recurrence is a segment, which is far fewer steps.

    The encoder reads the history's segments; the decoder makes all segments of the horizon at once, each from the encoder's
    state and from which segment of which column it is to be.
    """
    num_channels, length = history.shape[-1], config.segment_length
    past, future = history.shape[1] // length, config.horizon // length
    x = ops.reshape(ops.transpose(history, (0, 2, 1)), (-1, past, length))  # (batch * K, past, length)
    x = layers.Dense(config.units, activation="relu", name="segment")(x)
    cell = rnn.CELLS[config.cell]
    _, *states = cell(config.units, return_state=True, name="encoder")(x)
    # Each row's state for each segment of the horizon: (batch * K * future, units)
    states = [ops.repeat(state, future, axis=0) for state in states]
    where = Position(num_channels, future, config.units, name="position")(history)
    x = cell(config.units, name="decoder")(where, initial_state=states)
    x = layers.Dropout(config.dropout, name="dropout")(x)
    x = layers.Dense(length * len(config.quantiles), name="head")(x)
    x = ops.reshape(x, (-1, num_channels, config.horizon, len(config.quantiles)))
    return ops.transpose(x, (0, 2, 1, 3))


@keras.saving.register_keras_serializable(PACKAGE)
class Position(layers.Layer):
    """Learned vectors of which column and which segment, `(batch * channels * segments, 1, units)`, half the units each."""

    def __init__(self, channels: int, segments: int, units: int, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.segments, self.units = channels, segments, units

    def build(self, shape):
        half = self.units // 2
        self.of_channel = self.add_weight(
            shape=(self.channels, self.units - half), initializer="random_normal", name="of_channel"
        )
        self.of_segment = self.add_weight(shape=(self.segments, half), initializer="random_normal", name="of_segment")

    def call(self, x):
        channel = ops.repeat(self.of_channel, self.segments, axis=0)
        segment = ops.tile(self.of_segment, (self.channels, 1))
        table = ops.concatenate([channel, segment], axis=-1)
        return ops.expand_dims(ops.tile(table, (ops.shape(x)[0], 1)), 1)

    def compute_output_shape(self, shape):
        rows = None if shape[0] is None else shape[0] * self.channels * self.segments
        return rows, 1, self.units

    def get_config(self):
        return super().get_config() | {"channels": self.channels, "segments": self.segments, "units": self.units}


def _autoregressive(config: Config, history, truth, forced):
    """A decoder that starts from the encoder's last state and reads what it forecast the step before, or the truth of it."""
    num_forecast, num_quantiles = truth.shape[-1], len(config.quantiles)
    _, states = _stack(config, history, return_state=True)
    decoder = DecoderCell(
        config.cell, config.units, num_forecast, num_quantiles, config.quantiles.index(0.5), name="decoder_cell"
    )
    # The truth about the step before: of the first one it is the last known value, a difference of 0.
    before = ops.pad(truth[:, :-1], [[0, 0], [1, 0], [0, 0]])
    nothing = ops.zeros_like(before[:, 0])
    x = layers.RNN(decoder, return_sequences=True, name="decoder")(
        ops.concatenate([before, forced], axis=-1), initial_state=[*states[-1], nothing]
    )
    return layers.Reshape((config.horizon, num_forecast, num_quantiles), name="step_by_step")(x)


@keras.saving.register_keras_serializable(PACKAGE)
class DecoderCell(layers.Layer):
    """A recurrent cell and its head; carries its last point forecast beside its state.

    A step's input is the truth about the step before and, in the last column, 1 where it may be used (teacher forcing, Williams
    and Zipser, 1989; given less and less often: scheduled sampling, Bengio et al., 2015).
    """

    def __init__(self, cell: str, units: int, num_forecast: int, num_quantiles: int, middle: int, **kwargs):
        super().__init__(**kwargs)
        self.options = {
            "cell": cell,
            "units": units,
            "num_forecast": num_forecast,
            "num_quantiles": num_quantiles,
            "middle": middle,
        }
        self.num_forecast, self.num_quantiles, self.middle = num_forecast, num_quantiles, middle
        self.cell = CELLS[cell](units)
        self.head = layers.Dense(num_forecast * num_quantiles)
        sizes = self.cell.state_size
        self.state_size = [*(sizes if isinstance(sizes, (list, tuple)) else [sizes]), num_forecast]
        self.output_size = num_forecast * num_quantiles

    def build(self, shape):
        self.cell.build((shape[0], self.num_forecast))
        self.head.build((shape[0], self.cell.units))

    def call(self, inputs, states, training=False):
        *states, forecast = states
        truth, forced = inputs[:, :-1], inputs[:, -1:]
        x, states = self.cell(forced * truth + (1 - forced) * forecast, states, training=training)
        raw = self.head(x)
        forecast = ops.reshape(raw, (-1, self.num_forecast, self.num_quantiles))[:, :, self.middle]
        return raw, [*states, forecast]

    def get_config(self):
        return super().get_config() | self.options
