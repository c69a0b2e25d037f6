"""Forecasts drawn beside what was observed: the same six of validation every few epochs, and those of the report."""

from pathlib import Path

import numpy as np
import pandas as pd

from apps.weather.config import Config
from apps.weather.data import Series
from apps.weather.model import build_servable
from shared.plots import plt, save_figure
from shared.tensorboard import QUALITY, EpochPictures

FORECASTS_DRAWN = 6
HORIZONS_BEFORE = 3  # so much of the past is drawn


class Forecasts(EpochPictures):
    """A picture, `forecasts.png`, of the same validation windows each time, see `EpochPictures`.

    The axes stay as they are, so that one sees the forecasts move. The intervals are those of the network: what is served gets
    them calibrated once the training has ended.

    Args:
        config: the settings.
        experiment: its network, in the data's own units, makes the forecasts.
        folder: the run folder.
    """

    group = QUALITY

    def __init__(self, config: Config, experiment, folder: Path):
        super().__init__(folder)
        self.series, forecast = experiment.data, experiment.forecast
        self.origins = spread(self.series.origins.validation)
        self.target = forecast.index(self.series.target)
        normalisation = experiment.mean, experiment.deviation
        self.in_units = build_servable(config, experiment.network, *normalisation, forecast, self.target)
        observed = np.hstack([self.series.values[rows, self.series.target] for rows in rows_drawn(self.series, self.origins)])
        low, high = observed.min(axis=1), observed.max(axis=1)
        margin = (high - low) / 2 + experiment.deviation[self.series.target] / 10  # also where nothing changes
        self.limits = np.stack([low - margin, high + margin], axis=1)

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `forecasts.png`."""
        histories = self.series.values[self.series.windows.history_rows(self.origins)]
        quantiles = self.in_units.predict_on_batch(histories)[:, :, self.target]
        figure = draw_forecasts(self.series, self.origins, quantiles)
        for axis, limits in zip(figure.axes, self.limits, strict=False):
            axis.set_ylim(*limits)
        picture = folder / "forecasts.png"
        intervals = ", intervals not calibrated yet" if quantiles.shape[2] > 1 else ""
        save_figure(figure, picture, f"{title}: validation, {self.series.columns[self.series.target]}{intervals}")
        return [picture], {}

    def write_plots(self) -> None:
        """Nothing: the report draws calibrated forecasts of test."""


def spread(origins: np.ndarray) -> np.ndarray:
    """Six of forecast origins `(n,)`, the first and the last among them."""
    return origins[np.linspace(0, len(origins) - 1, FORECASTS_DRAWN).astype(int)]


def rows_drawn(series: Series, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows before and after forecast origins `(n,)` that are drawn: `(n, steps)` each."""
    windows = series.windows
    return windows.history_rows(origins)[:, -HORIZONS_BEFORE * windows.horizon :], windows.target_rows(origins)


def draw_forecasts(series: Series, origins: np.ndarray, quantiles: np.ndarray):
    """A figure with a panel for each of at most six forecast origins: the target before and after it, and what was forecast.

    Args:
        series: the data.
        origins: `(n,)`.
        quantiles: of the target in its own unit, `(n, horizon, quantiles)`.
    """
    figure, axes = plt.subplots(2, 3, figsize=(9.5, 6.2))
    past, future = rows_drawn(series, origins)
    before, after = np.arange(1 - past.shape[1], 1), np.arange(1, 1 + future.shape[1])
    for number, (axis, origin, fan) in enumerate(zip(axes.ravel(), origins, quantiles, strict=False)):
        axis.plot(before, series.values[past[number], series.target], "k-")
        axis.plot(after, series.values[future[number], series.target], "k:", label="observed")
        axis.plot(after, fan[:, fan.shape[1] // 2], "C0-", label="forecast")
        if fan.shape[1] > 1:
            axis.fill_between(after, fan[:, 0], fan[:, -1], color="C0", alpha=0.25, linewidth=0, label="interval")
        axis.set_title(f"{pd.Timestamp(series.times[origin]):%Y-%m-%d %H:%M}", fontsize=11)
    for axis in axes[1]:
        axis.set_xlabel("steps after the forecast origin")
    axes[0, 0].legend()
    return figure
