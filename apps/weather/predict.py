"""What comes next? python -m apps.weather.predict --data new.csv (or: make weather-predict ARGS='--data new.csv')."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from shared import cli, runs
from shared.cli import UserError


@dataclass(frozen=True)
class Request:
    data: str
    """A CSV or Parquet file whose newest rows are forecast from; the columns as in training, in any order."""
    output: str = "forecast.csv"
    """CSV file to write; a plot with the same name lies beside it. Must not exist."""
    run: str | None = None
    """Run folder to ask; None: the newest finished run."""


def predict(request: Request) -> None:
    """Print the forecast with its intervals as a table, write it as CSV, and draw it."""
    folder = runs.find("weather", request.run)
    metrics = runs.read_json(folder / "metrics.json")
    output = Path(request.output)
    if output.suffix != ".csv":
        raise UserError(f"--output {output}: expected a name that ends in .csv; a plot that ends in .png lies beside it.")
    picture = output.with_suffix(".png")
    for path in (output, picture):
        if path.exists():
            raise UserError(f"--output {request.output}: {path} exists already; nothing was overwritten. Name another file.")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: the folder {output.parent} does not exist. Make it first.")
    print(f"Loading {folder}, trained on {metrics['dataset']} (preset {metrics['preset']}).", file=sys.stderr)

    import numpy as np
    import pandas as pd

    from apps.weather import data
    from apps.weather.config import Config
    from apps.weather.windows import history_of

    config = replace(runs.read_config(folder, Config), data=request.data, limit=None)
    inputs = (*config.inputs, *([config.target] if config.inputs and config.target else []))
    series = data.load(replace(config, target=None, inputs=inputs), cut=False)
    if len(series.places) > 1:
        raise UserError(f"{request.data} holds several places, {', '.join(series.places)}; give a file with the rows of one.")
    if series.step.total_seconds() != metrics["row_seconds"]:
        trained = pd.Timedelta(seconds=metrics["row_seconds"])
        raise UserError(f"{request.data} has a row every {series.step}; the run was trained on one every {trained}.")
    columns = metrics["columns"]
    if missing := [column for column in columns if column not in series.columns]:
        raise UserError(f"{request.data} lacks columns that the run was trained on: {', '.join(missing)}.")
    measured = np.flatnonzero(~series.filled)  # what is filled in at the end is not news
    rows = measured[-1] + 1 if len(measured) else 0
    if rows < len(series.values):
        print(f"The newest {len(series.values) - rows} rows are not whole; this is the forecast from {series.times[rows - 1]}.")
    need = config.every * (config.longest_history - 1) + 1
    if rows < need or len(set(series.piece[rows - need : rows])) > 1 or series.piece[rows - 1] < 0:
        raise UserError(f"{request.data}: the newest {need} rows without a long gap are needed; {rows} rows are there.")
    values = series.values[:, [series.columns.index(column) for column in columns]]
    history = values[history_of(np.array([rows - 1]), config)]

    import keras  # so late that a file that does not do is answered at once

    from apps.weather import model  # noqa: F401  registers the layers that the saved one is made of
    from shared.report import print_table

    [quantiles] = keras.models.load_model(folder / "model.keras", compile=False).predict_on_batch(history)
    table = pd.DataFrame(
        {
            name_of(column, quantile): quantiles[:, place, number]
            for place, column in enumerate(metrics["forecast"])
            for number, quantile in enumerate(config.quantiles)
        },
        index=pd.date_range(series.times[rows - 1], periods=1 + config.horizon, freq=config.every * series.step, name="time")[
            1:
        ],
    )
    table.to_csv(output)
    of_target = table[[name_of(metrics["target"], quantile) for quantile in config.quantiles]]
    print_table(of_target.set_axis(of_target.index.strftime("%Y-%m-%d %H:%M")), "", "time", digits=2)
    past = slice(max(0, rows - 1 - 3 * config.every * config.horizon), rows)
    _draw(picture, series.times[past], values[past, columns.index(metrics["target"])], table, metrics["target"], config)
    print(f"Saved: {output}, {picture}")


def name_of(column: str, quantile: float) -> str:
    """Of a forecast's column in the CSV file, for example "temperature (degC), 2.5%"."""
    return f"{column}, {100 * quantile:g}%"


def _draw(file: Path, times, known, table, target: str, config) -> None:
    from shared.plots import plt, save_figure

    figure, axes = plt.subplots(figsize=(10, 4.5))
    axes.plot(times, known, "k-", label="measured")
    axes.plot(table.index, table[name_of(target, 0.5)], "C0-", label="forecast")
    outer = [table[name_of(target, config.quantiles[end])] for end in (0, -1)]
    axes.fill_between(table.index, *outer, color="C0", alpha=0.25, linewidth=0, label=f"{config.coverage:.0%} interval")
    axes.tick_params(axis="x", rotation=30)
    axes.legend()
    save_figure(figure, file, target)


def main() -> None:
    predict(tyro.cli(Request, description=__doc__))


if __name__ == "__main__":
    cli.run(main)
