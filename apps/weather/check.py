"""Look at a series before training on it: python -m apps.weather.check (or: make weather-check)."""

import numpy as np
import pandas as pd

from apps.weather import baseline, data, scoring, windows
from apps.weather.cleaning import DAY
from apps.weather.config import PRESETS, Config
from shared import cli

MIN_WINDOWS = 200  # to train on
STEPS_SHOWN = 96  # of the autocorrelation


def check(config: Config) -> "Findings":  # noqa: F821  imported after the data is read
    """See what the cleaning does, how each column lies in each part, and what forecasting without a network would give."""
    series = data.load(config)
    config = data.with_step(config, series)

    from apps.weather import report
    from shared.check import Findings

    report.print_cleaning(series)
    starts = windows.split(series.piece, series.filled, series.borders, config)
    data.check_windows(series, starts, config)
    parts = {"train": 0, "validation": 1, "test": 2}
    usable = {part: (series.borders == number) & (series.piece >= 0) for part, number in parts.items()}
    about = pd.DataFrame(
        {
            part: {
                "rows": int(np.sum(series.borders == number)),
                "in gaps too long to fill": int(np.sum((series.borders == number) & (series.piece < 0))),
                "with an interpolated value": int(np.sum(series.filled[series.borders == number])),
                "windows": len(starts[number]),
                "from": str(series.times[series.borders == number].min())[:16],
                "to": str(series.times[series.borders == number].max())[:16],
            }
            for part, number in parts.items()
        },
        dtype=object,
    )
    train = series.values[usable["train"]]
    mean, deviation = data.statistics(series)
    columns = pd.DataFrame(
        {
            "mean": train.mean(axis=0),
            "standard deviation": train.std(axis=0),
            "least": train.min(axis=0),
            "greatest": train.max(axis=0),
            "test lies higher by, standard deviations": (series.values[usable["test"]].mean(axis=0) - mean) / deviation,
        },
        [*series.columns],
    )
    target = series.columns[series.target]
    last, yesterday = _errors(series, starts.validation, config)
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
        obstacles.append(f"the target {target} does not change in validation: repeating it can't be beaten.")
    if len(starts.train) < MIN_WINDOWS:
        obstacles.append(
            f"there are {len(starts.train)} windows to train on; {MIN_WINDOWS} are the fewest that say anything. "
            "Give more rows."
        )
    figures = {"target": _plot(series, usable, config)}
    return Findings("weather", series.name, {"parts": about, "columns": columns}, figures, remarks, obstacles)


def _errors(series: data.Series, starts: np.ndarray, config: Config) -> tuple[float, float]:
    """Mean absolute error of the last value and of yesterday's, in the target's own unit."""
    truth = scoring.truth_of(series.values, starts, [series.target], config)
    day = max(1, round(DAY / series.step))
    forecasts = (
        baseline.last_value(series.values, starts, [series.target], config),
        baseline.same_time_yesterday(series.values, starts, [series.target], config, day),
    )
    return tuple(float(np.mean(np.abs(forecast - truth))) for forecast in forecasts)


def _plot(series: data.Series, usable: dict[str, np.ndarray], config: Config):
    """The target over time, by part; and how alike it is to itself some steps before."""
    from shared.plots import plt

    figure, (over_time, alike) = plt.subplots(1, 2, figsize=(14, 4.5), width_ratios=(2, 1))
    for part, rows in usable.items():
        over_time.plot(series.times[rows], series.values[rows, series.target], ",", label=part)
    over_time.set(ylabel=series.columns[series.target])
    over_time.legend(markerscale=20)
    target = pd.Series(series.values[usable["train"], series.target][:: config.every])
    lags = range(1, min(STEPS_SHOWN, len(target) // 2))
    alike.plot([*lags], [target.autocorr(lag) for lag in lags] if target.std() > 0 else [1.0 for _ in lags])
    alike.set(xlabel="steps before", ylabel="correlation with itself", ylim=(-1, 1))
    return figure


def main() -> None:
    config = cli.parse(PRESETS, __doc__)
    findings = check(config)

    from apps.weather.train import train
    from shared.check import tell

    tell(findings, train, PRESETS, config)


if __name__ == "__main__":
    cli.run(main)
