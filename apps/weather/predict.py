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
    if metrics["app"] != "weather":
        raise UserError(f"--run {folder} is a run of {metrics['app']}, not of weather.")
    output = Path(request.output)
    picture = output.with_suffix(".png")
    for path in (output, picture):
        if path.exists():
            raise UserError(f"--output {request.output}: {path} exists already; nothing was overwritten. Name another file.")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: the folder {output.parent} does not exist. Make it first.")
    print(f"Asking {folder}, trained on {metrics['dataset']} (preset {metrics['preset']}).", file=sys.stderr)

    import keras
    import pandas as pd

    from apps.weather import data, model  # noqa: F401  model registers the layers that the saved one is made of
    from apps.weather.config import Config

    stored = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in runs.read_json(folder / "config.json").items()
    }
    config = replace(Config(**stored), data=request.data, limit=None)
    series = data.load(replace(config, target=None), cut=False)
    columns = metrics["columns"]
    if missing := [column for column in columns if column not in series.columns]:
        raise UserError(f"{request.data} lacks columns that the run was trained on: {', '.join(missing)}.")
    rows = len(series.values) - 1 - config.every * (config.history - 1)
    if rows < 0 or len(set(series.piece[rows:])) > 1 or series.piece[-1] < 0:
        need = config.every * (config.history - 1) + 1
        raise UserError(
            f"{request.data}: the newest {need} rows without a long gap are needed; {len(series.values)} rows are there."
        )
    values = series.values[:, [series.columns.index(column) for column in columns]]
    quantiles = keras.models.load_model(folder / "model.keras", compile=False).predict_on_batch(
        values[None, rows :: config.every]
    )[0]
    step = config.every * (series.times[-1] - series.times[-2])
    forecast = [metrics["target"]] if config.channels == "target" else columns
    table = pd.DataFrame(
        {
            f"{column}, {quantile:.0%}": quantiles[:, place, number]
            for place, column in enumerate(forecast)
            for number, quantile in enumerate(config.quantiles)
        },
        index=pd.Index([series.times[-1] + step * (ahead + 1) for ahead in range(config.horizon)], name="time"),
    )
    table.to_csv(output)
    _show(table[[column for column in table if column.startswith(f"{metrics['target']}, ")]])
    past = slice(max(0, len(series.values) - 1 - 3 * config.every * config.horizon), None)
    _draw(picture, series.times[past], values[past, columns.index(metrics["target"])], table, metrics["target"], config)
    print(f"Saved: {output}, {picture}")


def _show(table) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table()
    shown.add_column("time")
    for column in table:
        shown.add_column(column, justify="right")
    for time, row in table.iterrows():
        shown.add_row(f"{time:%Y-%m-%d %H:%M}", *(f"{value:.2f}" for value in row))
    Console(width=None if sys.stdout.isatty() else 120).print(shown)


def _draw(file: Path, times, known, table, target: str, config) -> None:
    from shared.plots import plt, save_figure

    figure, axes = plt.subplots(figsize=(10, 4.5))
    axes.plot(times, known, "k-", label="measured")
    axes.plot(table.index, table[f"{target}, 50%"], "C0-", label="forecast")
    outer = [table[f"{target}, {config.quantiles[end]:.0%}"] for end in (0, -1)]
    axes.fill_between(table.index, *outer, color="C0", alpha=0.25, linewidth=0, label=f"{config.coverage:.0%} interval")
    axes.tick_params(axis="x", rotation=30)
    axes.legend()
    save_figure(figure, file, target)


def main() -> None:
    predict(tyro.cli(Request, description=__doc__))


if __name__ == "__main__":
    cli.run(main)
