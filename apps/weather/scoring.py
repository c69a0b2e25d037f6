"""How far forecasts are from the targets: by step, by column, by window, and for the target column by window and step."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from apps.weather.windows import Windows
from shared.comparison import Lead, paired_bootstrap

CHUNK = 256  # windows that are forecast at a time
MIN_BLOCKS = 5  # of the bootstrap
Forecaster = Callable[[np.ndarray], np.ndarray]  # from origins (n,) to quantiles (n, horizon, K, quantiles), normalised


class Errors(NamedTuple):
    """All normalised; NaN where no value was measured. "target" is the one column that the run is about."""

    squared: np.ndarray  # (horizon, K) mean over the windows
    absolute: np.ndarray  # (horizon, K) mean over the windows
    target_absolute: np.ndarray  # (n, horizon)
    target_inside: np.ndarray  # (n, horizon) 1 where the target lies between the outer quantiles, else 0
    target_width: np.ndarray  # (n, horizon) distance of the outer quantiles
    by_window: dict[str, np.ndarray]  # (n,), their mean is that of all values: "mae", "mse"; "mae_target" of the target alone


def forecast_all(forecaster: Forecaster, origins: np.ndarray) -> np.ndarray:
    """`(n, horizon, K, quantiles)`, as one array."""
    return np.concatenate([forecaster(origins[first : first + CHUNK]) for first in range(0, len(origins), CHUNK)])


def measure(forecaster: Forecaster, observed: np.ndarray, windows: Windows, origins: np.ndarray, target: int) -> Errors:
    """Forecast all windows and compare, a few hundred at a time: memory stays small however long the horizon is.

    Args:
        forecaster: what is judged.
        observed: `(rows, K)`, the columns that are forecast, normalised; NaN where a value was not measured but imputed.
        windows: how they lie.
        origins: `(n,)`.
        target: the target's place among the columns.
    """
    squared, absolute, count = np.zeros((3, windows.horizon, observed.shape[1]))
    of_target, of_windows = [], []
    for first in range(0, len(origins), CHUNK):
        some = origins[first : first + CHUNK]
        targets, quantiles = observed[windows.target_rows(some)], forecaster(some)
        known = ~np.isnan(targets)
        error = np.where(known, quantiles[..., quantiles.shape[-1] // 2] - targets, 0.0).astype(np.float64)
        squared += (error**2).sum(axis=0)
        absolute += np.abs(error).sum(axis=0)
        count += known.sum(axis=0)
        of_windows.append((np.abs(error).sum(axis=(1, 2)), (error**2).sum(axis=(1, 2))))
        of_target.append(_of_target(targets[:, :, target], error[:, :, target], quantiles[:, :, target]))
    values_per_window = count.sum() / len(origins)
    mae, mse = (np.concatenate(part) / values_per_window for part in zip(*of_windows, strict=True))
    of_target = [np.concatenate(part) for part in zip(*of_target, strict=True)]
    with np.errstate(invalid="ignore"):  # a step at which nothing was measured has no mean
        means = squared / count, absolute / count
        mae_target = np.nansum(of_target[0], axis=1) * len(origins) / np.isfinite(of_target[0]).sum()
    return Errors(*means, *of_target, {"mae": mae, "mse": mse, "mae_target": mae_target})


def _of_target(targets: np.ndarray, error: np.ndarray, quantiles: np.ndarray):
    """Absolute error, inside the interval or not, and the interval's width, `(n, horizon)` each."""
    low, high = quantiles[..., 0], quantiles[..., -1]
    unknown = np.isnan(targets)
    inside = np.where(unknown, np.nan, (targets >= low) & (targets <= high))
    return np.where(unknown, np.nan, np.abs(error)), inside, high - low


def lead(network: Errors, baseline: Errors, windows: Windows, metric: str) -> Lead:
    """How far the network is ahead of a baseline on the same test windows, by one of the measures of `Errors.by_window`.

    Neighbouring windows overlap, so they are drawn in blocks as long as a window. A test of fewer than five of them tells
    nothing of the spread between blocks: its interval is the range of single windows.
    """
    ours, theirs = network.by_window[metric], baseline.by_window[metric]
    block = windows.stride * (windows.history + windows.horizon)
    if len(ours) < MIN_BLOCKS * block:
        ahead = theirs - ours
        return Lead(float(ahead.mean()), float(ahead.min()), float(ahead.max()))
    return paired_bootstrap(ours, theirs, higher_is_better=False, block=block)


def leads(errors: dict[str, Errors], windows: Windows, names: dict[str, str], metric: str, unit: float) -> dict:
    """The entries "beats_baseline", "lead" (by `metric`) and "other_leads" of metrics.json.

    By each measure the network is compared with the baseline that is best by it; it beats them if it does by every one.

    Args:
        errors: on test, of "network" and of the baselines.
        windows: how they lie.
        names: what the baselines are called.
        metric: what the run is judged by.
        unit: see `summarise`.
    """
    measures, found = dict.fromkeys(errors["network"].by_window, 1.0) | {"mae_target": unit}, {}
    if errors["network"].absolute.shape[1] == 1:
        del measures["mae_target"]  # with nothing but the target forecast, it is the mae
    for measure, scale in measures.items():
        means = {who: error.by_window[measure].mean() for who, error in errors.items() if who != "network"}
        strongest = min(means, key=means.get)
        ahead = Lead(*(scale * part for part in lead(errors["network"], errors[strongest], windows, measure)))
        found[measure] = ahead.describe(measure, f"the strongest baseline ({names[strongest]})")
    return {
        "beats_baseline": all(of["beats_baseline"] for of in found.values()),
        "lead": found.pop(metric)["lead"],
        "other_leads": [of["lead"] for of in found.values()],
    }


def summarise(errors: Errors, unit: float) -> dict[str, float]:
    """For metrics.json: mean errors over all steps and columns, normalised; that of the target in its own unit.

    Args:
        errors: see `measure`.
        unit: the target's standard deviation over the training rows.
    """
    means = {name: float(of_windows.mean()) for name, of_windows in errors.by_window.items()}
    return means | {"mae_target": means["mae_target"] * unit}
