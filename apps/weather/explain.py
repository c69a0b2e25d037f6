"""Why a forecast is what it is: what each column at each time adds to it, by integrated gradients (shared/attribution.py).

The line runs from a past that stood still at its last values; the columns that tell the time are as they are. So the parts say
what moved the forecast away from the one that the same hour would get with nothing but the last values.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
from keras import ops

from apps.weather import model  # noqa: F401  registers the layers that the saved model is made of
from apps.weather.cleaning import TIME_OF_DAY, TIME_OF_YEAR
from apps.weather.data import Series
from shared.attribution import Attribution, IntegratedGradients
from shared.export import load_saved
from shared.plots import plt, save_figure

MAX_COLUMNS = 12  # that are shown
TIMES_SHOWN = 6


class Explanation(NamedTuple):
    """Of one forecast."""

    table: pd.DataFrame  # what each column (not those that tell the time) at each time adds, in the target's unit
    attribution: Attribution


class Explainer:
    """Explains the target's forecasts: the mean of their medians over the horizon.

    Args:
        servable: the saved model.
        columns: all that it reads.
        target: the target's place among those that are forecast.
    """

    def __init__(self, servable: keras.Model, columns: Sequence[str], target: int):
        self.columns, self.clock = columns, np.isin(columns, [*TIME_OF_DAY, *TIME_OF_YEAR])
        quantiles = servable.output[:, :, target]
        mean = ops.mean(quantiles[..., quantiles.shape[-1] // 2], axis=1, keepdims=True)
        self.gradients = IntegratedGradients(keras.Model({"history": servable.input}, mean))

    def __call__(self, history: np.ndarray, times: Sequence) -> Explanation:
        """Explain the forecast from a history `(history, columns)`, in the data's own units, at these times."""
        stood_still = np.where(self.clock, history, history[-1])
        found = self.gradients({"history": history[None]}, {"history": stood_still[None]})
        table = pd.DataFrame(found.parts["history"], pd.DatetimeIndex(times), self.columns)
        return Explanation(table.loc[:, ~self.clock], found)


def load(folder: Path, metrics: dict) -> Explainer:
    """For the run in a folder; takes some seconds."""
    return Explainer(load_saved(folder), metrics["columns"], metrics["forecast"].index(metrics["target"]))


def by_column(table: pd.DataFrame) -> pd.Series:
    """What each column adds over all times, the largest first, at most 12 of them."""
    return table.sum().sort_values(key=np.abs, ascending=False, kind="stable")[:MAX_COLUMNS]


def draw(found: Explanation):
    """A figure: a heat map of columns by times, those that matter most on top, and what each adds over all times."""
    sums = by_column(found.table)
    parts = found.table[sums.index]
    limit = parts.abs().to_numpy().max() or 1.0
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 1.8 + 0.32 * len(sums)), width_ratios=[4, 1], sharey=True)
    image = left.imshow(parts.T, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    steps = range(len(parts))[:: -(-len(parts) // TIMES_SHOWN)]
    left.set_xticks(steps, [f"{parts.index[step]:%m-%d %H:%M}" for step in steps])
    left.set_yticks(range(len(sums)), sums.index)
    left.set_title("red raises the forecast, blue lowers it")
    right.barh(range(len(sums)), sums, color=np.where(sums > 0, "#b2182b", "#2166ac"))
    right.axvline(0, color="black", linewidth=0.5)
    right.set_title("over all times")
    figure.colorbar(image, ax=left, label="adds", pad=0.02)
    return figure


def in_words(found: Attribution) -> str:
    """The two forecasts that the parts lie between."""
    return f"the forecast's mean is {found.after:.2f}; had all stood still at its last value, {found.before:.2f}"


def draw_worst(file: Path, servable: keras.Model, series: Series, target: int, origin: int) -> None:
    """For report.md: the forecast from one origin of a series; `target` is its place among the columns that are forecast."""
    [rows] = series.windows.history_rows(np.array([origin]))
    found = Explainer(servable, series.columns, target)(series.values[rows], series.times[rows])
    about = f"{series.columns[series.target]}, forecast from {pd.Timestamp(series.times[origin]):%Y-%m-%d %H:%M}"
    save_figure(draw(found), file, f"{about}: {in_words(found.attribution)}")
