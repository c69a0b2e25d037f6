"""Every setting of the weather app, on one page."""

from dataclasses import dataclass, replace
from math import gcd
from typing import Literal

from shared.cli import UserError
from shared.settings import Recurrent, Training, check_at_least, check_source

RECURRENT = Recurrent(cell="gru", units=128, dropout=0.3)
TRAINING = Training(epochs=8, patience=8, batch_size=128, learning_rate=1e-3, weight_decay=1e-2)
SEGMENT = 48  # steps, for --head segments


@dataclass(frozen=True)
class Config:
    preset: Literal["smoke", "default", "benchmark"] = "default"
    """Where the others start from: smoke (seconds), default (minutes), benchmark (the long-horizon benchmark)."""

    # Data
    data: str | None = None
    """Your own series: a CSV or Parquet file, or a folder of them, one for each place. None: Jena, 2009 to 2016."""
    dataset: Literal["auto", "jena", "sample"] = "auto"
    """Without --data. auto: Jena's weather where it is available, else a generated station."""
    time_column: tuple[str, ...] = ()
    """Column that holds the time; or several: date and hour, or year, month, day, hour. Not given: the first that does."""
    station_column: str | None = None
    """Column that names the place, where a file holds several."""
    target: str | None = None
    """Column to forecast. None: the first one that looks like a temperature, else the first one."""
    inputs: tuple[str, ...] = ()
    """Columns that the network reads beside the target, as the file names them. Not given: all that hold numbers."""
    clean: bool = True
    """Remove missing codes and impossible values, fill short gaps. The benchmark's protocol takes the rows as they are."""
    split: tuple[float, float] = (0.7, 0.1)
    """Fractions of the rows, in the order of time, for train and for validation; the rest is test."""
    limit: int | None = None
    """Use at most this many rows, from the start; of several places, this many of the times that they have together."""

    # Windows
    stride: int | None = None
    """Rows from one step to the next; windows start at every row nevertheless. None: the rows of an hour, but at least 1."""
    window_stride: int = 1
    """Train on every n-th window only; validation and test take all."""
    history: int = 48
    """Steps that the network reads."""
    horizon: int = 24
    """Steps that it forecasts."""

    # Model
    head: Literal["autoregressive", "segments"] = "autoregressive"
    """autoregressive: the target, step by step; segments: every column by itself, a segment of steps at a time (SegRNN)."""
    interval: float | None = 0.8
    """Fraction of the targets that the forecast interval is to hold, calibrated on validation. None: a point forecast alone."""
    lower_bound: float | None = None
    """Least value that the target can have, such as 0 for a concentration; nothing is forecast below it."""

    recurrent: Recurrent = RECURRENT
    training: Training = TRAINING

    @property
    def quantiles(self) -> tuple[float, ...]:
        """Quantiles that are forecast, in rising order; the median is the point forecast."""
        return (0.5,) if self.interval is None else ((1 - self.interval) / 2, 0.5, (1 + self.interval) / 2)

    @property
    def metric(self) -> Literal["mae", "mse"]:
        """What a run is judged by: the absolute error, or, as the benchmark is published, the squared one."""
        return "mse" if self.preset == "benchmark" else "mae"

    def __post_init__(self):
        """What can be known to be wrong before any work is done."""
        check_at_least(1, self, "limit", "stride", "window_stride", "history", "horizon")
        check_source(self)
        train, validation = self.split
        if not (train > 0 and validation > 0 and train + validation < 1):
            raise UserError(f"--split is two fractions above 0 that leave something for test; got {train} {validation}.")
        if self.interval is not None and not 0 < self.interval < 1:
            raise UserError(f"--interval lies between 0 and 1; got {self.interval}.")
        if self.recurrent.bidirectional:
            raise UserError("--bidirectional does not work here: the decoder starts from the state after the last step.")
        if self.recurrent.activation == "relu":
            raise UserError("--activation relu does not work here: the decoder's cell has tanh.")
        if self.head == "segments":
            self._check_segments()

    def _check_segments(self):
        if replace(self.recurrent, cell="gru", units=1, dropout=0.0) != Recurrent(units=1, dropout=0.0):
            raise UserError("--head segments has one recurrent layer: --cell, --units and --dropout are all that it knows.")
        if self.history % SEGMENT or self.horizon % SEGMENT:
            raise UserError(
                f"--history {self.history} and --horizon {self.horizon} are whole numbers of segments of {SEGMENT} steps with "
                f"--head segments. SEGMENT in apps/weather/config.py may be {gcd(self.history, self.horizon)}, for one."
            )


DEFAULT = Config()
PRESETS = {
    "smoke": replace(
        DEFAULT,
        preset="smoke",
        limit=6_000,
        history=24,
        recurrent=replace(RECURRENT, units=16),
        training=replace(TRAINING, epochs=2),
    ),
    "default": DEFAULT,
    "benchmark": replace(
        DEFAULT,
        preset="benchmark",
        clean=False,
        stride=1,
        history=720,
        horizon=96,
        head="segments",
        interval=None,
        training=replace(TRAINING, epochs=2),
    ),
}


@dataclass(frozen=True)
class Request:
    """What to forecast from."""

    data: str
    """A CSV or Parquet file whose newest rows are forecast from; the columns as in training, in any order."""
    output: str = "forecast.csv"
    """CSV file to write. Must not exist."""
    plot: bool = False
    """Draw the forecast, too: a PNG beside the CSV file."""
    explain: bool = False
    """Draw, too, what each column at each time adds to the target's forecast (integrated gradients): a second PNG."""
    run: str | None = None
    """Run folder to ask; None: the newest finished run."""
