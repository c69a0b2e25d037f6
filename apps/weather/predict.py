"""What comes next? make weather-predict ARGS='--data new.csv'."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from apps.weather.config import Config, Request
from apps.weather.data import Series, load_past
from shared import inference, runs
from shared.cli import UserError
from shared.data import new_file
from shared.explaining import check_keras, warn_if_incomplete
from shared.report import print_table

QUANTILES = "quantiles"  # the ONNX file's output
MINUTES = "%Y-%m-%d %H:%M"


class Past(NamedTuple):
    """What a forecast is made from."""

    history: np.ndarray  # (history, columns) in the data's own units, the columns as in training
    measured: pd.Series  # the target by time; the last time is the forecast origin
    newer: int  # rows after it, which are not whole
    step: pd.Timedelta  # from the forecast origin to the first forecast, and on to the next

    @property
    def times(self) -> pd.DatetimeIndex:
        """Those of the history."""
        return pd.date_range(end=self.measured.index[-1], periods=len(self.history), freq=self.step)


class Predictor:
    """Forecasts from tables with a run's ONNX file: needs ONNX Runtime, NumPy and pandas, not TensorFlow.

        predictor = Predictor(Path("runs/weather/2026-11-28_07-47-06"))
        predictor(["new.csv"])
        [{"target": "T (degC)", "origin": "2020-12-31T23:50:00", "times": ["2021-01-01T00:50:00", ...],
          "forecast": {"T (degC)": {"10%": [-0.4, ...], "50%": [0.2, ...], "90%": [0.7, ...]}}}]

    Args:
        folder: the run folder.
        threads: see `shared.inference.OnnxModel`.
    """

    def __init__(self, folder: Path, threads: int | None = None):
        self.folder = Path(folder)
        self.network = inference.OnnxModel(self.folder / inference.ONNX, threads)

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        return runs.read_json(self.folder / "metrics.json")

    @functools.cached_property
    def config(self) -> Config:
        return runs.read_config(self.folder, Config)

    def __call__(self, tables: list[str | Path | pd.DataFrame]) -> list[dict[str, Any]]:
        """An answer for each table: a CSV or Parquet file, or a DataFrame with the columns of the training data.

        Raises:
            UserError: see `read` and `forecast`.
        """
        return self.forecast([self.read(table) for table in tables])

    def read(self, table: str | Path | pd.DataFrame) -> Past:
        """The newest rows of a table, cleaned as in training.

        Raises:
            UserError: for a file that does not read, several places, another step than in training, a column that is missing,
                or a long gap in the newest rows.
        """
        return newest(load_past(table, self.config), self.metrics)

    def forecast(self, pasts: list[Past]) -> list[dict[str, Any]]:
        """An answer for each.

        Raises:
            UserError: if the network's numbers do not suffice for a past.
        """
        names, columns = [f"{100 * quantile:g}%" for quantile in self.config.quantiles], self.metrics["forecast"]
        answers = []
        for past, quantiles in zip(pasts, self.quantiles([past.history for past in pasts]), strict=True):
            origin = past.measured.index[-1]
            if not np.isfinite(quantiles).all():
                largest = np.abs(past.history).max()
                raise UserError(
                    f"Nothing can be forecast from {origin}: values up to {largest:g} in size stand before. Correct them."
                )
            times = pd.date_range(origin + past.step, periods=len(quantiles), freq=past.step)
            forecast = {
                column: dict(zip(names, of_column.T.tolist(), strict=True))
                for column, of_column in zip(columns, quantiles.swapaxes(0, 1), strict=True)
            }
            answer = {"target": self.metrics["target"], "origin": origin.isoformat(), "times": [at.isoformat() for at in times]}
            answers.append(answer | {"forecast": forecast})
        return answers

    def quantiles(self, histories: list[np.ndarray]) -> np.ndarray:
        """`(n, horizon, K, quantiles)` of n histories `(history, columns)`, all in the data's own units."""
        return self.network(history=np.stack(histories))[QUANTILES]


def predict(request: Request) -> None:
    """Print the forecast with its intervals as a table, and write it as CSV; `--plot` draws it, `--explain` why it is so."""
    output = new_file("--output", request.output)
    if output.suffix != ".csv":
        raise UserError(f"--output {output}: expected a name that ends in .csv; with --plot a .png lies beside it.")
    picture = new_file("--output", output.with_suffix(".png")) if request.plot else None
    explained = new_file("--output", output.with_name(f"{output.stem}_explained.png")) if request.explain else None
    predictor = Predictor(inference.find("weather", request.run))
    past = predictor.read(request.data)
    if past.newer:
        print(f"The newest {past.newer} rows are not whole; this is the forecast from {past.measured.index[-1].isoformat()}.")
    [answer] = predictor.forecast([past])
    table, of_target = tables(answer)
    table.to_csv(output)
    print_table(of_target.set_axis(of_target.index.strftime(MINUTES)), answer["target"], "time", digits=2)
    if picture:
        from shared.plots import save_figure  # matplotlib takes half a second to import

        save_figure(draw(past, of_target), picture, answer["target"])
    if explained:
        _explain(explained, past, predictor)
    print("Saved:", ", ".join(str(file) for file in (output, picture, explained) if file))


def _explain(file: Path, past: Past, predictor: Predictor) -> None:
    """Print what each column adds to the forecast, and draw when it does."""
    explainer = load_explainer(predictor)
    from apps.weather import explain
    from shared.plots import save_figure

    found = explainer(past.history, past.times)
    title = f"{predictor.metrics['target']}: {explain.in_words(found.attribution)}"
    print_table(explain.by_column(found.table).to_frame("adds"), title, digits=2)
    save_figure(explain.draw(found), file, title)
    warn_if_incomplete(found.attribution)


def load_explainer(predictor: Predictor):
    """The run's `apps.weather.explain.Explainer`; imports Keras.

    Raises:
        UserError: if it is not installed.
    """
    check_keras()
    from apps.weather import explain

    return explain.load(predictor.folder, predictor.metrics)


def newest(series: Series, metrics: dict[str, Any]) -> Past:
    """The newest window of a series, as the run that `metrics` are of takes it.

    Raises:
        UserError: if it holds several places, has another step or lacks a column, or if the newest rows have a long gap.
    """
    if len(series.places) > 1:
        raise UserError(f"{series.name} holds several places, {', '.join(series.places)}; give the rows of one.")
    if series.step.total_seconds() != metrics["row_seconds"]:
        trained = pd.Timedelta(seconds=metrics["row_seconds"])
        raise UserError(f"{series.name} has a row every {series.step}; the run was trained on one every {trained}.")
    if missing := [column for column in metrics["columns"] if column not in series.columns]:
        raise UserError(f"{series.name} lacks columns that the run was trained on: {', '.join(missing)}.")
    whole = np.flatnonzero(~series.imputed.any(axis=1))  # what is imputed at the end is not news
    rows = whole[-1] + 1 if len(whole) else 0
    windows = series.windows
    need = windows.stride * (windows.history - 1) + 1
    if rows < need or len(set(series.segment_id[rows - need : rows])) > 1 or series.segment_id[rows - 1] < 0:
        raise UserError(f"{series.name}: the newest {need} rows without a long gap are needed; {rows} rows are there.")
    values = series.values[:, [series.columns.index(column) for column in metrics["columns"]]]
    measured = pd.Series(values[:rows, metrics["columns"].index(metrics["target"])], index=series.times[:rows])
    [history] = values[windows.history_rows(np.array([rows - 1]))]
    return Past(history, measured, len(values) - rows, windows.stride * series.step)


def tables(answer: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An answer by time: the quantiles of all columns that are forecast (`T (degC), 10%`), and those of the target (`10%`)."""
    times = pd.DatetimeIndex(answer["times"], name="time")
    found = {column: pd.DataFrame(quantiles, times) for column, quantiles in answer["forecast"].items()}
    return pd.concat([table.add_prefix(f"{column}, ") for column, table in found.items()], axis=1), found[answer["target"]]


def draw(past: Past, forecast: pd.DataFrame):
    """A figure: what was measured, and the quantiles of the target after it, by time."""
    from shared.plots import plt

    measured = past.measured[past.measured.index >= forecast.index[0] - 3 * len(forecast) * past.step]
    low, high = forecast.columns[0], forecast.columns[-1]
    figure, axes = plt.subplots(figsize=(5, 3.2), dpi=200, layout="tight")  # its text is readable on a phone, too
    axes.plot(measured.index, measured, "k-", label="measured")
    axes.plot(forecast.index, forecast["50%"], "C0-", label="forecast")
    if low != high:
        interval = f"{float(high[:-1]) - float(low[:-1]):g}% interval"
        axes.fill_between(forecast.index, forecast[low], forecast[high], color="C0", alpha=0.25, linewidth=0, label=interval)
    axes.tick_params(axis="x", rotation=30)
    axes.legend()
    return figure
