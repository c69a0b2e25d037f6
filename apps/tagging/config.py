"""Every setting of the tagging app, on one page."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import tyro

from shared.cli import UserError
from shared.settings import Recurrent, Training, check_at_least, check_fraction, check_source, check_split

RECURRENT = Recurrent(cell="lstm", units=200, bidirectional=True, dropout=0.5)
TRAINING = Training(epochs=12, patience=4, batch_size=32, learning_rate=2e-3)


@dataclass(frozen=True)
class Config:
    preset: Literal["smoke", "default", "best"] = "default"
    """Where the other values start from: smoke (seconds), default (minutes), best (half an hour)."""

    # Data
    data: str | None = None
    """Your own sentences: a CoNLL file (a token and its tag on each line), .jsonl with spans, or a folder with a file train and
    maybe validation and test. None: the generated sample."""
    dataset: Literal["auto", "sample"] = "auto"
    """Without --data there is the generated sample alone."""
    token_column: int = 0
    """Column of a CoNLL file that holds the token, counted from 0."""
    tag_column: int = -1
    """Column of a CoNLL file that holds the tag, counted from 0; -1: the last one."""
    validation_split: float = 0.1
    """Fraction of the training sentences that choices are made on, where --data has no validation file."""
    limit: int | None = None
    """Use at most this many training and this many test sentences."""

    # Model
    embedding_dim: int = 100
    """Width of a word's embedding."""
    character_filters: int = 100
    """Filters of the convolution that reads a word's characters; 0: words alone."""
    word_dropout: float = 0.1
    """Fraction of the words that a training step takes for unknown ones."""
    crf: bool = True
    """Score whole sequences of tags with a conditional random field (shared/crf.py). Without it, every tag by itself."""

    recurrent: Recurrent = RECURRENT
    training: Training = TRAINING

    def __post_init__(self):
        """What can be known to be wrong before any work is done."""
        check_at_least(1, self, "limit", "embedding_dim")
        check_at_least(0, self, "token_column", "character_filters")
        check_source(self)
        check_fraction(self, "word_dropout")
        check_split(self, "validation_split")
        if self.token_column == self.tag_column:
            raise UserError(f"--token-column and --tag-column are both {self.tag_column}; a tag is not its token.")


DEFAULT = Config()
PRESETS = {
    "smoke": replace(
        DEFAULT,
        preset="smoke",
        limit=2000,
        embedding_dim=32,
        character_filters=16,
        recurrent=replace(RECURRENT, units=32, dropout=0.2),
        training=replace(TRAINING, epochs=4, learning_rate=1e-2),
    ),
    "default": DEFAULT,
    "best": replace(
        DEFAULT,
        preset="best",
        recurrent=replace(RECURRENT, units=300),
        training=replace(TRAINING, epochs=30, patience=10, batch_size=16, learning_rate=1e-3),
    ),
}


@dataclass(frozen=True)
class Request:
    """What to predict."""

    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = field(default=())
    """Sentences. Without any, and without --file, they are read from standard input, one per line."""
    file: str | None = None
    """Tag a whole file: .txt with a sentence on each line, CoNLL with a token on each line, or .jsonl with "text"."""
    output: str = "tagged.conll"
    """File to write with --file: .conll (tokens and tags) or .jsonl (text and spans). Must not exist."""
    token_column: int = 0
    """Column of a CoNLL --file that holds the token, counted from 0."""
    explain: bool = False
    """Say which words each span hangs on (integrated gradients). Takes some seconds more."""
    run: str | None = None
    """Run folder to ask; None: the newest finished run."""

    def __post_init__(self):
        check_at_least(0, self, "token_column")
        if not self.file and self.output != Request.output:
            raise UserError(f"--output is for --file; got {self.output} without one.")
        if self.file and self.texts:
            raise UserError(f"Give sentences as arguments or with --file, not both; got {len(self.texts)} beside {self.file}.")
        if self.file and self.explain:
            raise UserError("--explain is for sentences given as arguments or on standard input; leave it out with --file.")
