"""What is watched while the network trains, and drawn of the epoch that is kept: its state and gates on an example."""

from pathlib import Path

import pandas as pd

from apps.weather.config import SEGMENT, Config
from apps.weather.model import unforced
from shared.states import ROWS, States
from shared.tensorboard import EpochPictures


def callbacks(config: Config, experiment, folder: Path) -> list[EpochPictures]:
    """For `fit`; afterwards, `write_plots` of each draws the kept epoch."""
    return [_states(config, experiment, folder)]


def _states(config: Config, experiment, folder: Path) -> States:
    """Of some validation windows, evenly from all; a step is a row or, with `--head segments`, a segment by its last row."""
    series, origins = experiment.data, experiment.data.origins.validation
    rows = series.windows.history_rows(origins[:: max(1, len(origins) // ROWS)][:ROWS])
    inputs = unforced(config, experiment.values[rows], len(experiment.forecast))
    steps = rows[0, SEGMENT - 1 :: SEGMENT] if config.head == "segments" else rows[0]
    return States(inputs, [f"{time:%m-%d %H:%M}" for time in pd.DatetimeIndex(series.times[steps])], folder)
