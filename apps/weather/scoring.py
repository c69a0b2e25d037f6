"""How far forecasts are from the truth: by step, by column, by window, and for the target by window and step."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from apps.weather.config import Config
from apps.weather.windows import history_of, horizon_of
from shared.comparison import Lead, paired_bootstrap

CHUNK = 256  # windows that are forecast at a time
MIN_BLOCKS = 5  # of the bootstrap
Forecaster = Callable[[np.ndarray], np.ndarray]  # from starts (n,) to quantiles (n, horizon, K, quantiles), normalised


class Errors(NamedTuple):
    """All normalised; NaN where no value was measured. "target" is the one column that the run is about."""

    squared: np.ndarray  # (horizon, K) mean over the windows
    absolute: np.ndarray  # (horizon, K) mean over the windows
    target_absolute: np.ndarray  # (n, horizon)
    target_inside: np.ndarray  # (n, horizon) 1 where the truth lies between the outer quantiles, else 0
    target_width: np.ndarray  # (n, horizon) distance of the outer quantiles
    by_window: dict[str, np.ndarray]  # "mae" and "mse": (n,), over all steps and columns; their mean is that of all values


def forecaster(model, values: np.ndarray, config: Config, lowest: np.ndarray | float = -np.inf) -> Forecaster:
    """What a Keras model from histories to quantiles says, window by window; `lowest`: bound of each column, `(K,)`."""
    lowest = np.asarray(lowest, np.float32).reshape(-1, 1)
    return lambda starts: np.maximum(model.predict_on_batch(values[history_of(starts, config)]), lowest)


def forecast_all(forecaster: Forecaster, starts: np.ndarray) -> np.ndarray:
    """`(n, horizon, K, quantiles)`, as one array."""
    return np.concatenate([forecaster(starts[first : first + CHUNK]) for first in range(0, len(starts), CHUNK)])


def truth_of(values: np.ndarray, starts: np.ndarray, forecast: list[int], config: Config) -> np.ndarray:
    """What came: `(n, horizon, K)`."""
    return values[horizon_of(starts, config)[:, :, None], forecast]


def measure(forecaster: Forecaster, observed, starts, forecast: list[int], target: int, config: Config) -> Errors:
    """Forecast all windows and compare, a few hundred at a time: memory stays small however long the horizon is.

    Args:
        forecaster: what is judged.
        observed: `(rows, columns)`, normalised; NaN where a value was not measured but filled in.
        starts: `(n,)`, see `apps.weather.windows.Starts`.
        forecast: columns that are forecast, K in number.
        target: the target's place among them.
        config: the settings.
    """
    middle = config.quantiles.index(0.5)
    squared, absolute, count = np.zeros((3, config.horizon, len(forecast)))
    of_target, of_windows = [], []
    for first in range(0, len(starts), CHUNK):
        some = starts[first : first + CHUNK]
        truth, quantiles = truth_of(observed, some, forecast, config), forecaster(some)
        known = ~np.isnan(truth)
        error = np.where(known, quantiles[..., middle if quantiles.shape[-1] > 1 else 0] - truth, 0.0).astype(np.float64)
        squared += (error**2).sum(axis=0)
        absolute += np.abs(error).sum(axis=0)
        count += known.sum(axis=0)
        of_windows.append((np.abs(error).sum(axis=(1, 2)), (error**2).sum(axis=(1, 2))))
        low, high = quantiles[:, :, target, 0], quantiles[:, :, target, -1]
        own = truth[:, :, target]
        inside = np.where(np.isnan(own), np.nan, (own >= low) & (own <= high))
        of_target.append((np.where(np.isnan(own), np.nan, np.abs(error[:, :, target])), inside, high - low))
    values_in_a_window = count.sum() / len(starts)
    by_window = [np.concatenate(part) / values_in_a_window for part in zip(*of_windows, strict=True)]
    with np.errstate(invalid="ignore"):  # a step at which nothing was measured has no mean
        means = squared / count, absolute / count
    return Errors(*means, *map(np.concatenate, zip(*of_target, strict=True)), dict(zip(("mae", "mse"), by_window, strict=True)))


def lead(network: Errors, baseline: Errors, config: Config) -> Lead:
    """How far the network is ahead of a baseline on the same test windows, by the metric that the run is judged by.

    Neighbouring windows overlap, so they are drawn in blocks as long as a window. A test of less than five of them tells
    nothing of the spread between blocks: its interval is the range of single windows.
    """
    ours, theirs = network.by_window[config.metric], baseline.by_window[config.metric]
    block = config.every * (config.longest_history + config.horizon)
    if len(ours) < MIN_BLOCKS * block:
        ahead = theirs - ours
        return Lead(float(ahead.mean()), float(ahead.min()), float(ahead.max()))
    return paired_bootstrap(ours, theirs, higher_is_better=False, block=block)


def summarise(who: str, errors: Errors, unit: float, config: Config) -> dict[str, float]:
    """For metrics.json, the metric that the run is judged by first: over all steps and columns, normalised; and of the target
    in its own unit.

    Args:
        who: prefix of the names.
        errors: see `measure`.
        unit: the target's standard deviation over the training rows.
        config: the settings.
    """
    names = sorted(errors.by_window, key=lambda name: name != config.metric)
    return {
        **{f"{who}_{name}": float(errors.by_window[name].mean()) for name in names},
        f"{who}_mae_target": float(np.nanmean(errors.target_absolute) * unit),
    }
