"""The network: history -> encoder -> decoder -> quantiles of each step ahead, as differences from the last known value."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import layers, ops

from apps.weather.config import Config
from apps.weather.decoder import decode
from apps.weather.intervals import Calibration
from apps.weather.segments import forecast_linearly, forecast_segments

PACKAGE = "apps.weather"


def build_model(config: Config, num_columns: int, forecast: list[int], clock: Sequence[int] = ()) -> keras.Model:
    """Build the network; in and out are normalised values.

    It reads differences from the last known value and forecasts such: the level of a season that it was not trained on is
    nothing new to it.

    Args:
        config: the settings.
        num_columns: columns of the series.
        forecast: those of them that are forecast, K in number.
        clock: those that tell the time; they are read as they are.

    Returns:
        Uncompiled model from a dict of "history" `(batch, history, num_columns)` to quantiles `(batch, horizon, K, quantiles)`.
        With the autoregressive head "targets" `(batch, horizon, K)` and "forced" `(batch, horizon, 1)` are inputs too, see
        `apps.weather.decoder`.
    """
    inputs = {"history": keras.Input((config.history, num_columns), name="history")}
    last = inputs["history"][:, -1:]
    differences, anchor = inputs["history"] - last, ops.take(last, forecast, axis=2)
    if config.head == "segments":
        alone = ops.take(differences, forecast, axis=2)
        x, anchor = forecast_segments(config, alone), anchor + forecast_linearly(config, alone)
    else:
        inputs["targets"] = keras.Input((config.horizon, len(forecast)), name="targets")
        inputs["forced"] = keras.Input((config.horizon, 1), name="forced")
        is_clock = np.isin(np.arange(num_columns), clock)
        x = decode(config, ops.where(is_clock, inputs["history"], differences), inputs["targets"] - anchor, inputs["forced"])
    return keras.Model(inputs, ops.cast(anchor[..., None] + in_order(x), "float32"), name="network")


def unforced(config: Config, history, num_forecast: int) -> dict:
    """The network's inputs where no target is known: normalised histories, and nothing forced."""
    if config.head == "segments":
        return {"history": history}
    nothing = ops.zeros_like(history[:, :1, :1]) + ops.zeros((1, config.horizon, num_forecast))
    return {"history": history, "targets": nothing, "forced": nothing[..., :1]}


def in_order(raw):
    """From anything `(..., 1)` or `(..., 3)` to quantiles that cannot cross: the median, and steps above 0 away from it."""
    if raw.shape[-1] == 1:
        return raw
    below, median, above = ops.split(raw, 3, axis=-1)
    return ops.concatenate([median - ops.softplus(below), median, median + ops.softplus(above)], axis=-1)


@keras.saving.register_keras_serializable(PACKAGE)
class PinballLoss(keras.losses.Loss):
    """What quantile forecasts are judged by (Koenker and Bassett, 1978); of the median alone it is half the absolute error.

    Of targets `(batch, horizon, K)` and forecasts `(batch, horizon, K, quantiles)`.
    """

    def __init__(self, quantiles, name="pinball_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.quantiles = tuple(quantiles)

    def call(self, targets, forecast):
        error = targets[..., None] - forecast
        quantiles = ops.convert_to_tensor(np.array(self.quantiles, "float32"))
        return ops.mean(ops.maximum(quantiles * error, (quantiles - 1) * error), axis=-1)

    def get_config(self):
        return super().get_config() | {"quantiles": self.quantiles}


def median_error(target: int, unit: float) -> Callable:
    """A metric for `compile`, "mae_target": the mean absolute error of the median of the target, in its own unit.

    Args:
        target: the target's place among the columns that are forecast.
        unit: its standard deviation over the training rows.
    """

    def mae_target(targets, forecast):
        median = forecast[:, :, target, forecast.shape[-1] // 2]
        return unit * ops.mean(ops.abs(targets[:, :, target] - median), axis=1)

    return mae_target


def build_servable(
    config: Config, network: keras.Model, mean, deviation, forecast: list[int], target: int, dtype: str = "float64"
) -> keras.Model:
    """What is saved: histories `(batch, history, num_columns)` in the data's own units in, calibrated quantiles in them out.

    Both in 64 bits unless `dtype` is another: of a counter at 45,000,000, 32 bits see no difference below 4. The layer
    "calibration" has the weights of `apps.weather.intervals.fit_widening`; until they are set, it changes nothing.

    Args:
        config: the settings.
        network: see `build_model`.
        mean, deviation: of each column over the training rows, `(num_columns,)`.
        forecast: see `build_model`.
        target: the target's place among them; `config.lower_bound` is its bound.
        dtype: of what goes in and comes out.
    """
    history = keras.Input((config.history, len(mean)), dtype=dtype, name="history")
    normalize = layers.Normalization(mean=mean, variance=deviation**2, dtype=dtype, name="normalization")
    units = layers.Normalization(
        axis=-2, mean=mean[forecast], variance=deviation[forecast] ** 2, invert=True, dtype=dtype, name="units"
    )
    uncompiled = keras.Model(network.input, network.output, name="network")  # leaves the optimizer behind
    quantiles = uncompiled(unforced(config, ops.cast(normalize(history), "float32"), len(forecast)))
    quantiles = Calibration(dtype="float32", name="calibration")(quantiles)  # also with --precision mixed_bfloat16
    quantiles = units(ops.cast(quantiles, dtype))
    if config.lower_bound is not None:
        lowest = np.where(np.arange(len(forecast)) == target, config.lower_bound, -np.inf)
        quantiles = ops.maximum(quantiles, lowest[:, None].astype(dtype))
    return keras.Model(history, quantiles, name="servable")
