"""Every setting of the sentiment app, on one page."""

from dataclasses import dataclass, replace
from typing import Literal

from shared.cli import UserError, check_at_least, check_seed, check_share, check_source


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
    """Without --data. auto: IMDB where it can be had, else the generated sample."""
    validation_share: float = 0.1
    """Share of the training reviews that choices are made on."""
    limit: int | None = None
    """Use only so many training and so many test reviews."""

    # Text
    vocabulary_size: int = 30_000
    """Words that the network knows, the most frequent ones."""
    ngram_order: int = 3
    """Count single words (1), also pairs (2), also triples (3)."""
    ngram_vocabulary_size: int = 300_000
    """Pairs that it counts, the most frequent ones; as many triples."""
    min_reviews: int = 2
    """A word or n-gram counts only if it stands in so many training reviews."""
    sequence_length: int = 400
    """Words that the recurrence reads. Of a longer review, a quarter of them from its start and the rest from its end."""

    # Model
    embedding_dim: int = 128
    """Width of a word's embedding."""
    cell: Literal["rnn", "gru", "lstm"] = "gru"
    """Recurrent cell."""
    units: int = 64
    """Width of each recurrent layer, in each direction."""
    num_layers: int = 1
    """Recurrent layers on top of each other."""
    bidirectional: bool = True
    """Read from both ends."""
    dropout: float = 0.3
    """Share of features dropped before and after each recurrent layer."""
    head_dropout: float = 0.5
    """Share of features dropped before the last layer."""
    word_dropout: float = 0.2
    """Share of words that the recurrence does not see in a training step."""
    members: int = 1
    """Recurrent paths, alike but for their random start; all vote."""
    residual: bool = False
    """Add each recurrent layer's input to its output."""
    normalization: Literal["layer", "batch"] | None = None
    """Normalise between recurrent layers."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Of the recurrence; relu is for --cell rnn, which then starts from the identity."""
    pooling: tuple[Literal["last", "max", "mean", "attention"], ...] = ("max", "mean")
    """How the steps become one vector; several are joined."""

    # Training
    pretraining_epochs: int = 0
    """Passes over the training reviews to read before labels come in, as a language model; for one-layer paths."""
    pretraining_learning_rate: float = 2e-3
    """Peak of the schedule of pretraining."""
    epochs: int = 4
    """Most passes over the training reviews."""
    patience: int = 2
    """Stop after so many epochs without a better validation accuracy."""
    batch_size: int = 64
    """Reviews in a step."""
    learning_rate: float = 2e-3
    """Peak of the schedule: linear warm-up over a tenth of the steps, then cosine towards a tenth of the peak."""
    clipping: Literal["none", "global_norm", "norm", "value", "adaptive"] = "global_norm"
    """How gradients are clipped; see shared/gradients.py."""
    clip_threshold: float = 1.0
    """Bound for clipping."""
    seed: int = 0
    """Of the validation cut, the weights, the order and dropout."""
    deterministic: bool = False
    """Same result to the last bit in every run on this machine."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """Numbers that the network computes in."""
    multi_gpu: bool = False
    """Share every batch among all GPUs of this machine; --batch-size is a multiple of their number."""
    resume: bool = False
    """Go on with the newest unfinished run, with the settings that it had; other flags only say which one."""

    def __post_init__(self):
        """What can be known to be wrong before any work is done."""
        check_at_least(1, self, "limit", "vocabulary_size", "ngram_order", "ngram_vocabulary_size", "min_reviews")
        check_at_least(4, self, "sequence_length")
        check_at_least(1, self, "embedding_dim", "units", "num_layers", "members", "epochs", "patience", "batch_size")
        check_at_least(0, self, "pretraining_epochs", "pretraining_learning_rate", "learning_rate")
        check_seed(self)
        check_source(self)
        check_share(self, "dropout", "head_dropout", "word_dropout")
        if not 0 < self.validation_share < 1:
            raise UserError(f"--validation-share lies between 0 and 1; got {self.validation_share}.")
        if self.vocabulary_size > 1_000_000:
            raise UserError(f"--vocabulary-size is 1,000,000 or less; got {self.vocabulary_size}.")
        if self.clip_threshold <= 0:
            raise UserError(f"--clip-threshold is above 0; got {self.clip_threshold}.")
        if not self.pooling:
            raise UserError("--pooling names one or more of last, max, mean, attention; got none.")
        if self.activation == "relu" and self.cell != "rnn":
            raise UserError(f"--activation relu is for --cell rnn; a {self.cell} has tanh in its equations.")
        if self.pretraining_epochs and self.num_layers > 1:
            raise UserError(  # in the second layer, each direction would see the word that it has to guess
                f"--pretraining-epochs {self.pretraining_epochs} needs --num-layers 1; got {self.num_layers}."
            )


DEFAULT = Config()
PRESETS = {
    "smoke": replace(DEFAULT, preset="smoke", limit=1500, sequence_length=100, epochs=2, embedding_dim=32, units=32),
    "default": DEFAULT,
    "best": replace(
        DEFAULT, preset="best", units=128, members=3, word_dropout=0.1, pretraining_epochs=5, epochs=3, learning_rate=1e-3
    ),
}
