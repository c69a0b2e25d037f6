"""How far forecasts are from the truth: by step, by column, and for the target also by window."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from apps.weather.config import Config
from apps.weather.windows import history_of, horizon_of

CHUNK = 256  # windows that are forecast at a time
Forecaster = Callable[[np.ndarray], np.ndarray]  # from starts (n,) to quantiles (n, horizon, K, quantiles), normalised


class Errors(NamedTuple):
    """All normalised. "target" is the one column that the run is about."""

    squared: np.ndarray  # (horizon, K) mean over the windows
    absolute: np.ndarray  # (horizon, K) mean over the windows
    target_absolute: np.ndarray  # (n, horizon)
    target_inside: np.ndarray  # (n, horizon) True where the truth lies between the outer quantiles
    target_width: np.ndarray  # (n, horizon) distance of the outer quantiles


def forecaster(model: keras.Model, values: np.ndarray, config: Config) -> Forecaster:
    """What a model from histories to quantiles says, window by window."""
    return lambda starts: model.predict_on_batch(values[history_of(starts, config)])


def forecast_all(forecaster: Forecaster, starts: np.ndarray) -> np.ndarray:
    """`(n, horizon, K, quantiles)`, as one array."""
    return np.concatenate([forecaster(starts[first : first + CHUNK]) for first in range(0, len(starts), CHUNK)])


def truth_of(values: np.ndarray, starts: np.ndarray, forecast: list[int], config: Config) -> np.ndarray:
    """What came: `(n, horizon, K)`."""
    return values[horizon_of(starts, config)][:, :, forecast]


def measure(forecaster: Forecaster, values, starts, forecast: list[int], target: int, config: Config) -> Errors:
    """Forecast all windows and compare, a few hundred at a time: memory stays small however long the horizon is."""
    middle = config.quantiles.index(0.5)
    squared, absolute = np.zeros((2, config.horizon, len(forecast)))
    of_target = []
    for first in range(0, len(starts), CHUNK):
        some = starts[first : first + CHUNK]
        truth, quantiles = truth_of(values, some, forecast, config), forecaster(some)
        error = quantiles[..., middle if quantiles.shape[-1] > 1 else 0] - truth
        squared += np.square(error, dtype=np.float64).sum(axis=0)
        absolute += np.abs(error, dtype=np.float64).sum(axis=0)
        own, low, high = truth[:, :, target], quantiles[:, :, target, 0], quantiles[:, :, target, -1]
        of_target.append((np.abs(error[:, :, target]), (own >= low) & (own <= high), high - low))
    return Errors(squared / len(starts), absolute / len(starts), *map(np.concatenate, zip(*of_target, strict=True)))


def summarise(who: str, errors: Errors, unit: float) -> dict[str, float]:
    """For metrics.json: over all steps and columns, normalised; and of the target in its own unit.

    Args:
        who: prefix of the names.
        errors: see `measure`.
        unit: the target's standard deviation over the training rows.
    """
    return {
        f"{who}_mae": float(errors.absolute.mean()),
        f"{who}_mse": float(errors.squared.mean()),
        f"{who}_mae_target": float(errors.target_absolute.mean() * unit),
    }
