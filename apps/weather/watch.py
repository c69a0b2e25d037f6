"""What is drawn while the network trains, and of the epoch that is kept: its recurrence from inside, its answers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from keras import ops

from apps.weather.answers import Forecasts
from apps.weather.config import SEGMENT, Config
from apps.weather.data import Series
from apps.weather.model import PinballLoss, unforced
from shared import context, through_time
from shared.states import ROWS, States
from shared.tensorboard import EpochPictures

PRESSURE = ("p (", "pressure", "air pressure")  # how the column begins, beside the target one that is often followed
CHANGE = 3  # steps


def callbacks(config: Config, experiment, folder: Path) -> list[EpochPictures]:
    """For `fit`; afterwards, `write_plots` of each draws the kept epoch."""
    return [
        _states(config, experiment, folder),
        Forecasts(config, experiment, folder),
        _gradient_through_time(config, experiment, folder),
        _loss_by_context(config, experiment, folder),
    ]


def _states(config: Config, experiment, folder: Path) -> States:
    """Of some validation windows, evenly from all; a step is a row or, with `--head segments`, a segment by its last row."""
    series, origins = experiment.data, experiment.data.origins.validation
    rows = series.windows.history_rows(origins[:: max(1, len(origins) // ROWS)][:ROWS])
    inputs = unforced(config, experiment.values[rows], len(experiment.forecast))
    if config.head == "segments":
        steps, named = rows[0, SEGMENT - 1 :: SEGMENT], {}  # its steps are not those of the rows
    else:
        steps, named = rows[0], features(series, rows)
    return States(inputs, [f"{time:%m-%d %H:%M}" for time in pd.DatetimeIndex(series.times[steps])], named, folder)


def features(series: Series, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What units may follow in windows `(n, history)` of row numbers: the same shape by name, NaN where it is not known."""
    hour = (series.times[rows] - series.times[rows].astype("datetime64[D]")) / np.timedelta64(1, "h")
    target, values = series.columns[series.target], series.values[rows]
    found = {
        "steps so far": np.tile(np.arange(1.0, rows.shape[1] + 1), (len(rows), 1)),
        "nearness to noon (cosine)": -np.cos(2 * np.pi * hour / 24),
        f"{target}, above its last value": values[..., series.target] - values[:, -1:, series.target],
    }
    watched = [name for name in series.columns if name == target or name.lower().startswith(PRESSURE)]
    return found | {f"change of {name} in {CHANGE} steps": change(values[..., series.columns.index(name)]) for name in watched}


def change(values: np.ndarray) -> np.ndarray:
    """Of `(n, steps)`, the difference from the value three steps before; NaN at the first ones."""
    found = np.full(values.shape, np.nan)
    found[:, CHANGE:] = values[:, CHANGE:] - values[:, :-CHANGE]
    return found


def _gradient_through_time(config: Config, experiment, folder: Path) -> through_time.GradientThroughTime:
    """The decoder starts from the encoder's last state: through it the gradient of the whole forecast's loss enters."""
    batch = _windows(config, experiment, through_time.ROWS)
    return through_time.GradientThroughTime(*batch, _mean_pinball_loss(config), folder)


def _loss_by_context(config: Config, experiment, folder: Path) -> context.LossByContext:
    """The last value of the history is known in any case: all is forecast as a difference from it."""
    steps = config.history // (SEGMENT if config.head == "segments" else 1)
    batch = _windows(config, experiment, context.ROWS)
    return context.LossByContext(*batch, _mean_pinball_loss(config), steps, folder)


def _windows(config: Config, experiment, rows: int) -> tuple[dict, np.ndarray]:
    """Inputs and targets of some validation windows, evenly from all."""
    windows, origins = experiment.data.windows, experiment.data.origins.validation
    chosen = origins[:: max(1, len(origins) // rows)][:rows]
    histories = experiment.values[windows.history_rows(chosen)]
    targets = experiment.values[windows.target_rows(chosen)][:, :, experiment.forecast]
    return unforced(config, histories, len(experiment.forecast)), targets


def _mean_pinball_loss(config: Config) -> Callable:
    """Of targets and forecasts, over all steps and columns, `(batch,)`."""
    loss = PinballLoss(config.quantiles)
    return lambda targets, forecast: ops.mean(loss.call(targets, forecast), axis=(1, 2))
