"""Every setting of the weather app, on one page."""

from dataclasses import dataclass, replace
from math import gcd
from typing import Literal

from shared.cli import UserError, check_at_least, check_seed, check_share, check_source, flag


@dataclass(frozen=True)
class Config:
    preset: Literal["smoke", "default", "benchmark"] = "default"
    """Where the others start from: smoke (seconds), default (minutes), benchmark (the long-horizon benchmark)."""

    # Data
    data: str | None = None
    """Your own series: a CSV or Parquet file, or a folder of them, one for each place. None: Jena, 2009 to 2016."""
    dataset: Literal["auto", "jena", "sample"] = "auto"
    """Without --data. auto: Jena's weather where it can be had, else a generated station."""
    time_column: tuple[str, ...] = ()
    """Column that holds the time; or several: date and hour, or year, month, day, hour. None: the first that reads as times."""
    station_column: str | None = None
    """Column that names the place, where a file holds several."""
    target: str | None = None
    """Column to forecast. None: the first one that looks like a temperature, else the first one."""
    inputs: tuple[str, ...] = ()
    """Columns that the network sees beside the target, as the file names them. None: all that hold numbers."""
    channels: Literal["target", "all"] = "target"
    """Forecast the target alone, or every column."""
    clean: bool = True
    """Take out missing codes and impossible values, fill short gaps. The benchmark's protocol takes the rows as they are."""
    longest_gap: int = 6
    """Rows that are missing in a row and get interpolated; no window reaches across a longer gap."""
    train_share: float = 0.7
    """Share of the rows, from the start, to train on."""
    validation_share: float = 0.1
    """Share of the rows after them that choices are made on; what follows is test."""
    limit: int | None = None
    """Use only so many rows from the start; of several places, so many times that they have together."""

    # Windows
    every: int | None = None
    """Rows from one step to the next; windows start at every row nevertheless. None: an hour's, but at least one."""
    window_stride: int = 1
    """Training takes only every so many-th window; validation and test take all."""
    history: tuple[int, ...] = (24, 48)
    """Steps that the network sees. Several, in rising order: a network for each, whose forecasts are averaged."""
    horizon: int = 24
    """Steps that it forecasts."""

    # Model
    head: tuple[Literal["direct", "autoregressive", "segments"], ...] = ("direct", "autoregressive")
    """direct: all steps at once; autoregressive: a decoder, step by step; segments: a recurrence over segments (SegRNN).
    Several: a network for each with each history."""
    linear: Literal["none", "learned", "ridge"] = "ridge"
    """Linear map of the history that the recurrence adds to: the baseline's ridge regression, kept as it is, or one that is
    learned with it. none: the last value alone."""
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    """Quantiles to forecast, in rising order; 0.5 is the point forecast, the outer ones bound the interval."""
    lower_bound: float | None = None
    """Least value that the target can have, such as 0 for a concentration; no quantile is forecast below it."""
    cell: Literal["rnn", "gru", "lstm"] = "gru"
    """Recurrent cell."""
    units: int = 128
    """Width of each recurrent layer."""
    num_layers: int = 1
    """Recurrent layers on top of each other; --head segments has one."""
    dropout: float = 0.3
    """Share of features dropped before and after each recurrent layer."""
    residual: bool = False
    """Add each recurrent layer's input to its output."""
    normalization: Literal["layer", "batch"] | None = None
    """Normalise between recurrent layers."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Of the recurrence; relu is for --cell rnn, which then starts from the identity."""
    segment_length: int = 48
    """Steps in a segment, for --head segments; history and horizon are whole numbers of them."""

    # Training
    epochs: int = 3
    """Most passes over the training windows."""
    patience: int = 3
    """Stop after so many epochs without a better validation loss."""
    batch_size: int = 128
    """Windows in a step."""
    learning_rate: float = 1e-3
    """Peak of the schedule: linear warm-up over a twentieth of the steps, then cosine towards zero."""
    weight_decay: float = 1e-2
    """Share of each weight taken away a step, times the learning rate (AdamW)."""
    teacher_forcing: float = 1.0
    """Share of the steps that an autoregressive decoder is given the truth at first; it falls to none in a straight line."""
    clipping: Literal["none", "global_norm", "norm", "value", "adaptive"] = "global_norm"
    """How gradients are clipped; see shared/gradients.py."""
    clip_threshold: float = 1.0
    """Bound for clipping."""
    seed: int = 0
    """Of the weights, the order and dropout."""
    deterministic: bool = False
    """Same result to the last bit in every run on this machine."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """Numbers that the network computes in."""
    backtest: int = 0
    """Retrain on so many growing histories, and tell mean and spread; 0 for none."""
    resume: bool = False
    """Go on with the newest unfinished run, with the settings that it had; other flags only say which one."""

    @property
    def longest_history(self) -> int:
        """Steps of a window before those that are forecast."""
        return self.history[-1]

    @property
    def metric(self) -> Literal["mae", "mse"]:
        """What a run is judged by: the absolute error, or, as the benchmark is published, the squared one."""
        return "mse" if self.preset == "benchmark" else "mae"

    @property
    def coverage(self) -> float:
        """Share of the truth that the interval between the outer quantiles is to hold."""
        return self.quantiles[-1] - self.quantiles[0]

    def __post_init__(self):
        """What can be known to be wrong before any work is done."""
        check_at_least(1, self, "limit", "every", "horizon", "units", "num_layers", "segment_length", "epochs")
        check_at_least(1, self, "patience", "batch_size", "window_stride")
        check_at_least(0, self, "longest_gap", "learning_rate", "weight_decay", "backtest")
        check_seed(self)
        check_source(self)
        if not self.history or self.history[0] < 1 or list(self.history) != sorted(set(self.history)):
            raise UserError(f"--history is a length of 1 step or more, or several in rising order; got {self.history}.")
        check_share(self, "dropout")
        for field in ("train_share", "validation_share"):
            if not 0 < getattr(self, field) < 1:
                raise UserError(f"{flag(field)} lies between 0 and 1; got {getattr(self, field)}.")
        if self.train_share + self.validation_share >= 1:
            raise UserError("--train-share and --validation-share leave nothing for test; they are below 1 together.")
        if not 0 <= self.teacher_forcing <= 1:
            raise UserError(f"--teacher-forcing lies from 0 to 1; got {self.teacher_forcing}.")
        if list(self.quantiles) != sorted(set(self.quantiles)) or 0.5 not in self.quantiles:
            raise UserError(f"--quantiles are in rising order, with 0.5 among them; got {self.quantiles}.")
        if not 0 < self.quantiles[0] <= self.quantiles[-1] < 1:
            raise UserError(f"--quantiles lie between 0 and 1; got {self.quantiles}.")
        if len(self.quantiles) > 1 and 0.5 in (self.quantiles[0], self.quantiles[-1]):
            raise UserError(f"--quantiles are 0.5 alone, or some below and some above it; got {self.quantiles}.")
        if self.backtest and self.resume:
            raise UserError("--backtest makes runs of its own; --resume can't go on with them. Leave one out.")
        if self.clip_threshold <= 0:
            raise UserError(f"--clip-threshold is above 0; got {self.clip_threshold}.")
        if self.activation == "relu" and self.cell != "rnn":
            raise UserError(f"--activation relu is for --cell rnn; a {self.cell} has tanh in its equations.")
        if not self.head or len(set(self.head)) < len(self.head):
            raise UserError(f"--head is one kind of head, or several different ones; got {' '.join(self.head) or 'none'}.")
        if "segments" in self.head:
            if self.num_layers > 1:
                raise UserError(f"--head segments has one recurrent layer; got --num-layers {self.num_layers}.")
            if self.residual or self.normalization or self.activation != "tanh":
                raise UserError("--head segments knows no --residual, --normalization or --activation; leave them out.")
            spans = *self.history, self.horizon
            if any(span % self.segment_length for span in spans):
                raise UserError(
                    f"--history {' '.join(map(str, self.history))} and --horizon {self.horizon} are whole numbers of "
                    f"--segment-length {self.segment_length} with --head segments; {gcd(*spans)} divides them."
                )


DEFAULT = Config()
PRESETS = {
    "smoke": replace(DEFAULT, preset="smoke", limit=6_000, head=("direct",), history=(24,), units=16, epochs=2),
    "default": DEFAULT,
    "benchmark": replace(
        DEFAULT,
        preset="benchmark",
        channels="all",
        clean=False,
        every=1,
        history=(720,),
        horizon=96,
        head=("segments",),
        quantiles=(0.5,),
        epochs=2,
    ),
}
