"""Every setting of the sentiment app, on one page."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import tyro

from shared.cli import UserError
from shared.settings import Recurrent, TableRequest, Training, check_at_least, check_fraction, check_source, check_split

RECURRENT = Recurrent(cell="gru", units=64, bidirectional=True, dropout=0.3)
TRAINING = Training(epochs=4, patience=2, batch_size=64, learning_rate=2e-3)


@dataclass(frozen=True)
class Config:
    preset: Literal["smoke", "default", "best"] = "default"
    """Where the other values start from: smoke (seconds), default (minutes), best (half an hour)."""

    # Data
    data: str | None = None
    """Your own reviews: a .csv, .tsv or .jsonl file, or a folder for each class with .txt files. None: IMDB."""
    text_column: str = "text"
    """Column of --data that holds the review."""
    label_column: str = "label"
    """Column of --data that holds the class, any two or more names or numbers."""
    dataset: Literal["auto", "imdb", "sample"] = "auto"
    """Without --data. auto: IMDB where it is available, else the generated sample."""
    validation_split: float = 0.1
    """Fraction of the training reviews that choices are made on."""
    limit: int | None = None
    """Use at most this many training and this many test reviews."""
    positive: str | None = None
    """Class that must not be missed, for example spam: its threshold is chosen on validation, by F1."""

    # Model
    vocabulary_size: int = 30_000
    """Words that the network knows, the most frequent ones."""
    sequence_length: int = 400
    """Words that the recurrence reads. Of a longer review, a quarter of them from its start and the rest from its end."""
    embedding_dim: int = 128
    """Width of a word's embedding."""
    word_dropout: float = 0.2
    """Fraction of the words that the recurrence does not see in a training step."""
    pooling: tuple[Literal["last", "max", "mean", "attention"], ...] = ("max", "mean")
    """How the steps become one vector; several are joined."""
    ngrams: bool = True
    """Beside the recurrence, sum up weights of words, pairs and triples (ngrams.py)."""
    pretraining_epochs: int = 0
    """Passes over the training reviews as a language model, before labels are read (pretraining.py); one layer only."""

    recurrent: Recurrent = RECURRENT
    training: Training = TRAINING

    def __post_init__(self):
        """What can be known to be wrong before any work is done."""
        check_at_least(1, self, "limit", "vocabulary_size", "embedding_dim")
        check_at_least(4, self, "sequence_length")
        check_at_least(0, self, "pretraining_epochs")
        check_source(self)
        check_fraction(self, "word_dropout")
        check_split(self, "validation_split")
        if self.vocabulary_size > 1_000_000:
            raise UserError(f"--vocabulary-size is 1,000,000 or less; got {self.vocabulary_size}.")
        if not self.pooling:
            raise UserError("--pooling names one or more of last, max, mean, attention; got none.")
        if self.pretraining_epochs and self.recurrent.num_layers > 1:
            raise UserError(  # in the second layer, each direction would see the word that it has to guess
                f"--pretraining-epochs {self.pretraining_epochs} needs --num-layers 1; got {self.recurrent.num_layers}."
            )


DEFAULT = Config()
PRESETS = {
    "smoke": replace(
        DEFAULT,
        preset="smoke",
        limit=4000,
        sequence_length=100,
        embedding_dim=32,
        word_dropout=0.0,
        recurrent=replace(RECURRENT, units=32, dropout=0.1),
        training=replace(TRAINING, batch_size=32, learning_rate=1e-2),
    ),
    "default": DEFAULT,
    "best": replace(
        DEFAULT,
        preset="best",
        word_dropout=0.1,
        pretraining_epochs=5,
        recurrent=replace(RECURRENT, units=128),
        training=replace(TRAINING, epochs=3, learning_rate=1e-3),
    ),
}


@dataclass(frozen=True)
class Request:
    """What to predict."""

    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = field(default=())
    """Reviews. Without any, and without --file, they are read from standard input, one per line."""
    text_column: str = "text"
    """Column of --file that holds the review."""
    table: Annotated[TableRequest, tyro.conf.OmitArgPrefixes] = field(default_factory=TableRequest)
    """Label the reviews of a table, one in each row: its rows, with label and probabilities, are written."""
    explain: bool = False
    """Colour the words by what they add to the label's probability (integrated gradients). Takes some seconds more."""
    run: str | None = None
    """Run folder to ask; None: the newest finished run."""

    def __post_init__(self):
        if (file := self.table.file) and self.texts:
            raise UserError(f"Give reviews as arguments or with --file, not both; got {len(self.texts)} beside {file}.")
        if file and self.explain:
            raise UserError("--explain is for reviews given as arguments or on standard input; leave it out with --file.")
