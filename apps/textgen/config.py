"""Every setting of the text generation app, on one page."""

from dataclasses import dataclass, replace
from typing import Literal

from shared.cli import UserError, check_at_least, check_seed, check_share, check_source


@dataclass(frozen=True)
class Config:
    preset: Literal["smoke", "default", "best"] = "default"
    """Where the other values start from: smoke (seconds), default (minutes), best (most of an hour)."""

    # Data
    data: str | None = None
    """Your own text: a UTF-8 file, or a folder whose .txt files are one document each. None: Tiny Shakespeare."""
    dataset: Literal["auto", "shakespeare", "sample"] = "auto"
    """Without --data. auto: Tiny Shakespeare where it can be had, else the sample: Python's standard library."""
    split: Literal["90/5/5", "90/10"] = "90/5/5"
    """Percent of the text, from its start, for train, validation and test. 90/10: no test, as nanoGPT has it."""
    limit: int | None = None
    """Use only so many characters from the start."""
    min_count: int = 2
    """A character that comes up less often than this in the training text is read as the unknown one."""

    # Model
    cell: Literal["rnn", "gru", "lstm"] = "gru"
    """Recurrent cell."""
    units: int = 384
    """Width of each recurrent layer."""
    num_layers: int = 1
    """Recurrent layers on top of each other."""
    embedding_dim: int = 64
    """Width of a character's embedding."""
    tied: bool = False
    """The output layer has the embeddings for weights, instead of its own."""
    dropout: float = 0.2
    """Share of features dropped before and after each recurrent layer."""
    residual: bool = False
    """Add each recurrent layer's input to its output."""
    normalization: Literal["layer", "batch"] | None = None
    """Normalise between recurrent layers."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Of the recurrence; relu is for --cell rnn, which then starts from the identity."""

    # Training
    sequence_length: int = 64
    """Steps in a window: how far the gradient flows back. The state flows on."""
    batch_size: int = 64
    """Streams of text that are read side by side."""
    epochs: int = 8
    """Most passes over the training text."""
    patience: int = 3
    """Stop after so many epochs without a better validation loss."""
    learning_rate: float = 4e-3
    """Peak of the schedule: linear warm-up over a twentieth of the steps, then cosine towards zero."""
    weight_decay: float = 0.0
    """Share of each weight taken away a step, times the learning rate (AdamW)."""
    clipping: Literal["none", "global_norm", "norm", "value", "adaptive"] = "global_norm"
    """How gradients are clipped; see shared/gradients.py."""
    clip_threshold: float = 1.0
    """Bound for clipping."""
    sample_length: int = 300
    """Characters to write into TensorBoard after each epoch."""
    seed: int = 0
    """Of the weights and of dropout."""
    deterministic: bool = False
    """Same result to the last bit in every run on this machine."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """Numbers that the network computes in."""
    resume: bool = False
    """Go on with the newest unfinished run, with the settings that it had; other flags only say which one."""

    def __post_init__(self):
        """What can be known to be wrong before any work is done."""
        check_at_least(1, self, "limit", "min_count", "units", "num_layers", "embedding_dim", "sequence_length")
        check_at_least(1, self, "batch_size", "epochs", "patience")
        check_at_least(0, self, "learning_rate", "weight_decay", "sample_length")
        check_seed(self)
        check_source(self)
        check_share(self, "dropout")
        if self.clip_threshold <= 0:
            raise UserError(f"--clip-threshold is above 0; got {self.clip_threshold}.")
        if self.activation == "relu" and self.cell != "rnn":
            raise UserError(f"--activation relu is for --cell rnn; a {self.cell} has tanh in its equations.")


DEFAULT = Config()
PRESETS = {
    "smoke": replace(DEFAULT, preset="smoke", limit=100_000, units=64, epochs=2, batch_size=32),
    "default": DEFAULT,
    "best": replace(
        DEFAULT,
        preset="best",
        cell="lstm",
        units=512,
        num_layers=2,
        embedding_dim=128,
        dropout=0.5,
        batch_size=128,
        epochs=20,
        learning_rate=3e-3,
        weight_decay=0.2,
    ),
}
