"""What comes next? make weather-predict ARGS='--data new.csv'."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from apps.weather import data, model  # noqa: F401  model registers the layers that the saved one is made of
from apps.weather.config import Config, Request
from apps.weather.data import Series
from shared import runs
from shared.cli import UserError
from shared.data import new_file
from shared.plots import plt, save_figure
from shared.report import print_table


def predict(request: Request) -> None:
    """Print the forecast with its intervals as a table, write it as CSV, and draw it."""
    output = new_file("--output", request.output)
    if output.suffix != ".csv":
        raise UserError(f"--output {output}: expected a name that ends in .csv; a plot that ends in .png lies beside it.")
    picture = new_file("--output", output.with_suffix(".png"))
    folder, metrics = runs.load("weather", request.run)
    config = replace(runs.read_config(folder, Config), data=request.data, dataset="auto", limit=None)
    series, values, origin = read_newest(config, metrics)
    windows, servable = series.windows, keras.models.load_model(folder / "model.keras", compile=False)
    [quantiles] = servable.predict_on_batch(values[windows.history_rows(np.array([origin]))])
    step = windows.stride * series.step
    times = pd.date_range(series.times[origin] + step, periods=windows.horizon, freq=step, name="time")
    columns = {
        name_of(column, quantile): quantiles[:, place, number]
        for place, column in enumerate(metrics["forecast"])
        for number, quantile in enumerate(config.quantiles)
    }
    table = pd.DataFrame(columns, index=times)
    table.to_csv(output)
    of_target = table[[name_of(metrics["target"], quantile) for quantile in config.quantiles]]
    print_table(of_target.set_axis(of_target.index.strftime("%Y-%m-%d %H:%M")), "", "time", digits=2)
    past = slice(max(0, origin - 3 * windows.stride * windows.horizon), origin + 1)
    measured = pd.Series(values[past, metrics["columns"].index(metrics["target"])], index=series.times[past])
    _draw(picture, measured, of_target, metrics["target"], config.interval)
    print(f"Saved: {output}, {picture}")


def read_newest(config: Config, metrics: dict) -> tuple[Series, np.ndarray, int]:
    """The series in `config.data`, its values `(rows, columns)` in the order of training, and the newest forecast origin.

    Raises:
        UserError: if it holds several places, has another step or lacks a column, or if the newest rows have a long gap.
    """
    inputs = (*config.inputs, *([config.target] if config.inputs and config.target else []))
    series = data.load(replace(config, target=None, inputs=inputs), cut=False)
    if len(series.places) > 1:
        raise UserError(f"{config.data} holds several places, {', '.join(series.places)}; give a file with the rows of one.")
    if series.step.total_seconds() != metrics["row_seconds"]:
        trained = pd.Timedelta(seconds=metrics["row_seconds"])
        raise UserError(f"{config.data} has a row every {series.step}; the run was trained on one every {trained}.")
    if missing := [column for column in metrics["columns"] if column not in series.columns]:
        raise UserError(f"{config.data} lacks columns that the run was trained on: {', '.join(missing)}.")
    measured = np.flatnonzero(~series.imputed.any(axis=1))  # what is imputed at the end is not news
    rows = measured[-1] + 1 if len(measured) else 0
    if rows < len(series.values):
        print(f"The newest {len(series.values) - rows} rows are not whole; this is the forecast from {series.times[rows - 1]}.")
    need = series.windows.stride * (series.windows.history - 1) + 1
    if rows < need or len(set(series.segment_id[rows - need : rows])) > 1 or series.segment_id[rows - 1] < 0:
        raise UserError(f"{config.data}: the newest {need} rows without a long gap are needed; {rows} rows are there.")
    return series, series.values[:, [series.columns.index(column) for column in metrics["columns"]]], rows - 1


def name_of(column: str, quantile: float) -> str:
    """Name of a forecast's column in the CSV file, for example "temperature (degC), 2.5%"."""
    return f"{column}, {100 * quantile:g}%"


def _draw(file: Path, measured: pd.Series, forecast: pd.DataFrame, target: str, interval: float | None) -> None:
    figure, axes = plt.subplots(figsize=(10, 4.5))
    axes.plot(measured.index, measured, "k-", label="measured")
    axes.plot(forecast.index, forecast[name_of(target, 0.5)], "C0-", label="forecast")
    if interval is not None:
        low, *_, high = (forecast[column] for column in forecast)
        axes.fill_between(forecast.index, low, high, color="C0", alpha=0.25, linewidth=0, label=f"{interval:.0%} interval")
    axes.tick_params(axis="x", rotation=30)
    axes.legend()
    save_figure(figure, file, target)
