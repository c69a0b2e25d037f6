"""Every setting of the text generation app, on one page."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import tyro

from apps.textgen.sampling import Sampling
from shared.cli import UserError
from shared.settings import Recurrent, TableRequest, Training, check_at_least, check_seed, check_source

RECURRENT = Recurrent(cell="gru", units=384, dropout=0.2)
TRAINING = Training(epochs=10, patience=3, batch_size=64, learning_rate=4e-3)


@dataclass(frozen=True)
class Config:
    preset: Literal["smoke", "default", "best"] = "default"
    """Where the other values start from: smoke (seconds), default (minutes), best (most of an hour)."""

    # Data
    data: str | None = None
    """Your own text: a UTF-8 or UTF-16 file, or a folder whose .txt files are one document each. None: Tiny Shakespeare."""
    dataset: Literal["auto", "shakespeare", "sample"] = "auto"
    """Without --data. auto: Tiny Shakespeare where it is available, else the sample: Python's standard library."""
    split: Literal["90/5/5", "90/10"] = "90/5/5"
    """Percent of the text, from its start, for train, validation and test. 90/10: no test, as nanoGPT has it."""
    limit: int | None = None
    """Use at most this many characters, from the start."""

    # Model
    embedding_dim: int = 64
    """Width of a character's embedding."""
    sequence_length: int = 64
    """Steps in a window: how far the gradient flows back. The state flows on."""

    recurrent: Recurrent = RECURRENT
    training: Training = TRAINING  # --batch-size: streams of text that are read side by side

    def __post_init__(self):
        """What can be known to be wrong before any work is done."""
        check_at_least(1, self, "limit", "embedding_dim", "sequence_length")
        check_source(self)
        if self.recurrent.bidirectional:
            raise UserError("--bidirectional does not work here: what comes next cannot be read before it is written.")
        if self.training.multi_gpu:
            raise UserError("--multi-gpu does not work here: the state carried from batch to batch lives on one device.")


DEFAULT = Config()
PRESETS = {
    "smoke": replace(
        DEFAULT,
        preset="smoke",
        limit=100_000,
        recurrent=replace(RECURRENT, units=64),
        training=replace(TRAINING, epochs=2, batch_size=32),
    ),
    "default": DEFAULT,
    "best": replace(
        DEFAULT,
        preset="best",
        embedding_dim=128,
        recurrent=replace(RECURRENT, cell="lstm", units=512, num_layers=2, dropout=0.5),
        training=replace(TRAINING, epochs=20, batch_size=128, learning_rate=3e-3, weight_decay=0.2),
    ),
}


@dataclass(frozen=True)
class Request:
    """What to write."""

    prompt: str | None = None
    """What the text goes on from; None: a new line."""
    length: int = 500
    """Most characters to write."""
    temperature: float = 0.8
    """Below 1: nearer to the likeliest character; 0: always that one; above 1: wilder."""
    top_k: int | None = None
    """Choose among this many of the likeliest characters."""
    top_p: float = 1.0
    """Choose among the likeliest characters that have this probability together (nucleus sampling)."""
    samples: int = 1
    """Texts to write side by side."""
    seed: int = 0
    """The same seed gives the same text."""
    stop: str | None = None
    """End the text where this comes up."""
    on_unknown: Literal["error", "skip"] = "error"
    """What to do with characters of the prompt that the network does not know."""
    show_probabilities: bool = False
    """Colour each character by the network's probability for it: green high, yellow, red low."""
    explain: bool = False
    """Instead of writing on, colour what in --prompt makes each likely next character likely (integrated gradients)."""
    run: str | None = None
    """Run folder to ask; None: the newest finished run."""
    prompt_column: str = "prompt"
    """Column of --file that holds the prompt."""
    table: Annotated[TableRequest, tyro.conf.OmitArgPrefixes] = field(default_factory=TableRequest)
    """Write on after each prompt of a table: its rows, with the continuation, are written."""

    def __post_init__(self):
        check_at_least(1, self, "length", "samples")
        check_seed(self)
        Sampling(self.temperature, self.top_k, self.top_p)
        if self.prompt == "":
            raise UserError("--prompt is empty; give one character or more.")
        if self.table.file and (self.prompt is not None or self.samples > 1 or self.show_probabilities):
            raise UserError("--prompt, --samples and --show-probabilities are for a single prompt; leave them out with --file.")
        if self.explain and (self.prompt is None or self.table.file or self.samples > 1 or self.show_probabilities):
            raise UserError(
                "--explain explains the character after one --prompt and writes nothing: give --prompt, and leave out --file, "
                "--samples and --show-probabilities."
            )
