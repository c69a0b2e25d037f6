"""Look at a series before training on it: make weather-check."""

import numpy as np
import pandas as pd

from apps.weather import baseline, report
from apps.weather.cleaning import DAY
from apps.weather.config import Config
from apps.weather.data import Series, statistics
from apps.weather.train import prepare
from shared.check import Findings, tell
from shared.plots import plt

MIN_WINDOWS = 200  # to train on
STEPS_SHOWN = 96  # of the autocorrelation


def check(config: Config, series: Series) -> None:
    """Print what the series holds, what speaks against training on it and, if nothing does, how long training takes."""
    report.print_cleaning(series)
    tell(look(series), config, lambda: {"training": (prepare(config, series), config.training.epochs)})


def look(series: Series) -> Findings:
    """See how each column lies in each part, and what forecasting without a network would give."""
    origins = series.origins
    parts = {"train": 0, "validation": 1, "test": 2}
    usable = {part: (series.split == number) & (series.segment_id >= 0) for part, number in parts.items()}
    about, columns = _table_of_parts(series, parts), _table_of_columns(series, usable)
    target = series.columns[series.target]
    last, yesterday = _errors(series, origins.validation)
    remarks = [
        f"On validation, repeating the last value of {target} is wrong by {last:.3f} on average, the same time yesterday by "
        f"{yesterday:.3f}: what the network has to beat."
    ]
    if constant := [name for name, spread in columns["standard deviation"].items() if spread == 0]:
        remarks.append(f"Constant in training, so they say nothing: {', '.join(constant)}.")
    if abs(shift := columns.loc[target, "test lies higher by, standard deviations"]) > 1:
        remarks.append(f"Test lies {shift:+.1f} standard deviations off training: another season, or another regime.")
    obstacles = []
    if last == 0:
        obstacles.append(f"the target {target} does not change in validation: repeating it cannot be beaten.")
    if len(origins.train) < MIN_WINDOWS:
        obstacles.append(
            f"there are {len(origins.train)} windows to train on; {MIN_WINDOWS} are the fewest that say anything. "
            "Give more rows."
        )
    figures = {"target": _plot(series, usable)}
    return Findings("weather", series.name, {"parts": about, "columns": columns}, figures, remarks, obstacles)


def _table_of_parts(series: Series, parts: dict[str, int]) -> pd.DataFrame:
    """Rows, gaps, windows and times of each part."""
    return pd.DataFrame(
        {
            part: {
                "rows": int(np.sum(series.split == number)),
                "in gaps too long to fill": int(np.sum((series.split == number) & (series.segment_id < 0))),
                "with an interpolated value": int(np.sum(series.imputed.any(axis=1)[series.split == number])),
                "windows": len(series.origins[number]),
                "from": str(series.times[series.split == number].min())[:16],
                "to": str(series.times[series.split == number].max())[:16],
            }
            for part, number in parts.items()
        },
        dtype=object,
    )


def _table_of_columns(series: Series, usable: dict[str, np.ndarray]) -> pd.DataFrame:
    """How each column lies in training, and how test differs."""
    train = series.values[usable["train"]]
    mean, deviation = statistics(series)
    return pd.DataFrame(
        {
            "mean": train.mean(axis=0),
            "standard deviation": train.std(axis=0),
            "least": train.min(axis=0),
            "greatest": train.max(axis=0),
            "test lies higher by, standard deviations": (series.values[usable["test"]].mean(axis=0) - mean) / deviation,
        },
        [*series.columns],
    )


def _errors(series: Series, origins: np.ndarray) -> tuple[float, float]:
    """Mean absolute error of the last value and of yesterday's, in the target's own unit."""
    windows, forecast, day = series.windows, [series.target], max(1, round(DAY / series.step))
    targets = series.values[windows.target_rows(origins)][:, :, forecast]
    forecasts = (
        baseline.last_value(series.values, origins, forecast, windows),
        baseline.same_time_yesterday(series.values, origins, forecast, windows, day),
    )
    return tuple(float(np.mean(np.abs(found - targets))) for found in forecasts)


def _plot(series: Series, usable: dict[str, np.ndarray]):
    """The target over time, by part; and how alike it is to itself some steps before."""
    figure, (over_time, alike) = plt.subplots(1, 2, figsize=(14, 4.5), width_ratios=(2, 1))
    for part, rows in usable.items():
        over_time.plot(series.times[rows], series.values[rows, series.target], ",", label=part)
    over_time.set(ylabel=series.columns[series.target])
    over_time.legend(markerscale=20)
    target = pd.Series(series.values[usable["train"], series.target][:: series.windows.stride])
    lags = range(1, min(STEPS_SHOWN, len(target) // 2))
    alike.plot([*lags], [target.autocorr(lag) for lag in lags] if target.std() > 0 else [1.0 for _ in lags])
    alike.set(xlabel="steps before", ylabel="correlation with itself", ylim=(-1, 1))
    return figure
