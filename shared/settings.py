"""The settings that every app has, in two groups, and the checks of single settings.

They stand apart from rnn.py and training.py because those import Keras: `--help` and a wrong flag are answered without it.
"""

import math
from dataclasses import dataclass
from typing import Literal

from shared.cli import UserError, flag


@dataclass(frozen=True)
class Recurrent:
    """The recurrent stack: the arguments of `shared.rnn.recurrent_stack`."""

    cell: Literal["rnn", "gru", "lstm"] = "gru"
    """Recurrent cell."""
    units: int = 128
    """Width of each recurrent layer, in each direction."""
    num_layers: int = 1
    """Recurrent layers on top of each other."""
    bidirectional: bool = False
    """Read from both ends."""
    dropout: float = 0.2
    """Fraction of the features dropped before the first recurrent layer and after each."""
    residual: bool = False
    """Add each recurrent layer's input to its output."""
    normalization: Literal["layer", "batch"] | None = None
    """Normalise between recurrent layers."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Activation of the recurrence; relu is for --cell rnn, which then starts from the identity."""

    def __post_init__(self):
        check_at_least(1, self, "units", "num_layers")
        check_fraction(self, "dropout")
        if self.activation == "relu" and self.cell != "rnn":
            raise UserError(f"--activation relu is for --cell rnn; a {self.cell} has tanh in its equations.")


@dataclass(frozen=True)
class Training:
    """The training: what `shared.training` and an app's `fit` need."""

    epochs: int = 10
    """Most passes over the training data."""
    patience: int = 3
    """Stop after this many epochs without a better validation metric."""
    batch_size: int = 64
    """Examples per step."""
    learning_rate: float = 2e-3
    """Peak of the schedule: linear warm-up over a twentieth of the steps, then a cosine to zero."""
    weight_decay: float = 0.0
    """Fraction of each weight taken away per step, times the learning rate (AdamW)."""
    clipping: Literal["none", "global_norm", "norm", "value", "adaptive"] = "global_norm"
    """How gradients are clipped; see shared/gradients.py."""
    clip_threshold: float = 1.0
    """Bound for clipping."""
    seed: int = 0
    """Seed of the weights, the order of the data, dropout and augmentation."""
    deterministic: bool = False
    """The same result to the last bit in every run on this machine."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """Numbers that the network computes in."""
    multi_gpu: bool = False
    """Split every batch over all GPUs of this machine; --batch-size is a multiple of their number."""
    resume: bool = False
    """Go on with the newest unfinished run and its settings; other flags only choose which run is meant."""

    def __post_init__(self):
        check_at_least(1, self, "epochs", "patience", "batch_size")
        check_at_least(0, self, "learning_rate", "weight_decay")
        check_seed(self)
        if not 0 < self.clip_threshold < math.inf:
            raise UserError(f"--clip-threshold is above 0, and finite; got {self.clip_threshold}.")


@dataclass(frozen=True)
class ExportRequest:
    """What `export` needs to know."""

    run: str | None = None
    """Run folder to export; None: the newest finished run."""


@dataclass(frozen=True)
class TableRequest:
    """A whole table to answer; see shared/large_tables.py."""

    file: str | None = None
    """A table of any size (.csv, .tsv, .jsonl, .parquet), or a .txt file with one thing to answer on each line."""
    output: str = "predictions.csv"
    """File to write with --file, .csv, .jsonl or .parquet: the rows of --file and their answers. Must not exist."""
    shard: str | None = None
    """Answer only every N-th row of --file, from row K on: K/N, for example 0/8, so that N processes share the work."""

    def __post_init__(self):
        for name in ("shard", "output"):
            if not self.file and (given := getattr(self, name)) != getattr(TableRequest, name):
                raise UserError(f"--{name} is for --file; got {given} without one.")
        read_shard(self.shard)


@dataclass(frozen=True)
class ServeRequest:
    """How a run is served."""

    run: str | None = None
    """Run folder to serve; None: the newest finished run."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every network of this machine."""
    port: int = 8000
    """Port to listen on; 0 for any that is free."""
    token: str | None = None
    """Bearer token that every request has to carry; None: the environment's SERVE_TOKEN, if any."""
    queue: int = 256
    """Examples that may wait for an answer; what comes beyond them is answered with 503."""
    timeout: float = 10.0
    """Seconds until a request is answered with 504."""
    max_megabytes: float = 10.0
    """Size of a request's body beyond which it is answered with 413."""
    threads: int = 1
    """Threads that an answer is computed with; more make a single answer faster and many at a time slower."""
    page: bool = False
    """Show a page for the browser at / (needs the extra `demo`, which make <app>-demo installs)."""

    def __post_init__(self):
        check_at_least(0, self, "port")
        check_at_least(1, self, "queue", "threads")
        for field in ("timeout", "max_megabytes"):
            if not getattr(self, field) > 0:
                raise UserError(f"{flag(field)} is above 0; got {getattr(self, field)}.")
        if self.page and self.token:
            raise UserError("--page and --token do not go together: a browser has no way to send the token.")
        if self.port > 65_535:
            raise UserError(f"--port is at most 65535; got {self.port}.")


def read_shard(text: str | None) -> tuple[int, int]:
    """ "2/8" as (2, 8); all rows, (0, 1), for None.

    Raises:
        UserError: if it is not two whole numbers, the first the smaller one.
    """
    try:
        number, count = map(int, ("0/1" if text is None else text).split("/"))
    except ValueError:
        number, count = -1, 0
    if not 0 <= number < count:
        raise UserError(f"--shard is K/N, with K from 0 to N - 1, for example 0/8; got {text}.")
    return number, count


def check_at_least(least: float, config: object, *fields: str) -> None:
    """Raise a UserError if one of the fields is below `least` or not a number; None passes."""
    for field in fields:
        value = getattr(config, field)
        if value is not None and not least <= value < math.inf:
            raise UserError(f"{flag(field)} is {least} or more; got {value}.")


def check_seed(config: object) -> None:
    """Raise a UserError if the field `seed` is not one that every random generator takes."""
    if not 0 <= config.seed < 2**31:
        raise UserError(f"--seed is 0 or more and below {2**31}; got {config.seed}.")


def check_fraction(config: object, *fields: str) -> None:
    """Raise a UserError if one of the fields is not 0 or more and below 1."""
    for field in fields:
        if not 0 <= getattr(config, field) < 1:
            raise UserError(f"{flag(field)} is a fraction, 0 or more and below 1; got {getattr(config, field)}.")


def check_split(config: object, *fields: str) -> None:
    """Raise a UserError if one of the fields is not strictly between 0 and 1, or together they leave nothing."""
    for field in fields:
        if not 0 < getattr(config, field) < 1:
            raise UserError(f"{flag(field)} lies between 0 and 1; got {getattr(config, field)}.")
    if sum(getattr(config, field) for field in fields) >= 1:
        raise UserError(f"{' and '.join(map(flag, fields))} together leave nothing; they add up to less than 1.")


def check_source(config: object) -> None:
    """Raise a UserError if both own data and a dataset are asked for."""
    if config.data == "":
        raise UserError('--data "" is empty. Name a file or a folder, or leave it out: --data None.')
    if config.data is not None and config.dataset != "auto":
        raise UserError(
            f"--data {config.data} and --dataset {config.dataset} are two sources. Leave one out, or give --data None."
        )
