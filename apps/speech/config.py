"""Every setting of the speech app, on one page."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import tyro

from shared.cli import UserError
from shared.settings import Recurrent, TableRequest, Training, check_at_least, check_source

RECURRENT = Recurrent(cell="gru", units=128, num_layers=2, bidirectional=True, dropout=0.2)
TRAINING = Training(epochs=30, patience=15, batch_size=64, learning_rate=2e-3, weight_decay=1e-2)
WINDOW_SECONDS, HOP_SECONDS = 0.03, 0.01  # of the spectrogram
HALVINGS = 2  # so many convolutions halve the number of frames
Mode = Literal["window", "carried", "reset"]
MAX_EXPLAINED = 8  # clips in one picture
UNKNOWN, SILENCE = "_unknown_", "_silence_"  # the classes that are no word


@dataclass(frozen=True)
class Config:
    preset: Literal["smoke", "streaming", "default", "best"] = "default"
    """Where the others start from: smoke (seconds), streaming (under 80,000 parameters), default (minutes), best (an hour)."""

    # Data
    data: str | None = None
    """Your own recordings: a folder with a folder for each word. None: Speech Commands."""
    dataset: Literal["auto", "speech_commands", "sample"] = "auto"
    """Without --data. auto: Speech Commands where it is available, else words from a synthesizer."""
    words: tuple[str, ...] = ()
    """Words to tell apart; all others become _unknown_. None given: the ten commands where all are there, else every word."""
    silence: bool | None = None
    """Learn a class _silence_ too. None: where the words are the ten commands, or _silence_ or _background_noise_ is there."""
    speaker_pattern: str | None = None
    """Who speaks, by a file's name: a regular expression with a group, or a position: 2 for 0_george_0.wav."""
    test_speaker: str | None = None
    """Test on this speaker of --data alone. (python -m apps.speech folds does so with one speaker after the other.)"""
    clip_seconds: float = 1.0
    """Length of a clip. A shorter one gets silence on both sides, of a longer one the loudest part is taken."""
    sample_rate: int = 16_000
    """Samples per second; recordings of another rate are resampled."""
    limit: int | None = None
    """Use at most this many clips of each word in training, validation and test."""

    # Features
    mels: int = 40
    """Bands of the mel spectrogram, and as many cepstral coefficients."""
    top_db: float | None = 80.0
    """Floor below a clip's loudest value, in decibels; None for none, as a network that carries its state needs it."""

    # Augmentation, in training alone
    augmentation: float = 1.0
    """Strength of all changes (augment.py): 0 for none, 1 as described there."""
    masks: int = 1
    """Stretches of time that are hidden, and as many of the mel bands."""
    lead_seconds: float = 0.0
    """At most so much of another clip stands before each, for a network that carries its state through a stream."""

    # Model
    filters: tuple[int, ...] = (32, 64)
    """Filters of the convolutions in front, if any: each layer halves the coefficients, the first two the frames too."""
    pooling: Literal["last", "max", "mean", "attention"] = "attention"
    """How the frames become one vector."""

    recurrent: Recurrent = RECURRENT
    training: Training = TRAINING

    def __post_init__(self):
        """What can be known to be wrong before any work is done."""
        check_at_least(1, self, "limit", "mels")
        check_at_least(4_000, self, "sample_rate")
        check_at_least(WINDOW_SECONDS, self, "clip_seconds")
        check_at_least(0, self, "top_db", "augmentation", "masks", "lead_seconds")
        check_source(self)
        if (self.test_speaker or self.speaker_pattern) and not self.data:
            raise UserError("--test-speaker and --speaker-pattern are for recordings of your own: give --data.")
        if len(set(self.words)) == 1 or len(set(self.words)) < len(self.words):
            raise UserError(f"--words names two or more different words; got {' '.join(self.words)}.")
        if self.lead_seconds > self.clip_seconds:
            raise UserError(f"--lead-seconds is at most --clip-seconds ({self.clip_seconds:g}); got {self.lead_seconds:g}.")
        if any(count < 1 for count in self.filters):
            raise UserError(f"--filters are 1 or more each; got {self.filters}.")

    @property
    def samples(self) -> int:
        """Samples in a clip."""
        return round(self.clip_seconds * self.sample_rate)

    @property
    def window_length(self) -> int:
        """Samples that one frame of the spectrogram looks at."""
        return round(WINDOW_SECONDS * self.sample_rate)

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return round(HOP_SECONDS * self.sample_rate)

    @property
    def frames_per_output(self) -> int:
        """Frames from one step of the recurrence to the next: the convolutions thin them out."""
        return 2 ** min(len(self.filters), HALVINGS)

    @property
    def streamable(self) -> bool:
        """Whether the network reads each frame once, so that its state can be carried on through a stream."""
        return not self.recurrent.bidirectional and self.top_db is None and self.pooling == "last"

    @property
    def mode(self) -> Mode:
        """In which the network was trained to read a stream."""
        return "carried" if self.streamable and self.lead_seconds else "window"


DEFAULT = Config()
PRESETS = {
    "smoke": replace(
        DEFAULT,
        preset="smoke",
        limit=12,
        filters=(8,),
        recurrent=replace(RECURRENT, units=16, num_layers=1),
        training=replace(TRAINING, epochs=2),
    ),
    "streaming": replace(
        DEFAULT,
        preset="streaming",
        top_db=None,
        lead_seconds=1.0,
        filters=(16, 24),
        pooling="last",
        recurrent=replace(RECURRENT, units=64, num_layers=1, bidirectional=False, dropout=0.1),
        training=replace(TRAINING, epochs=120, patience=120),
    ),
    "default": DEFAULT,
    "best": replace(
        DEFAULT, preset="best", masks=2, filters=(32, 64, 64), training=replace(TRAINING, epochs=240, patience=240)
    ),
}


@dataclass(frozen=True)
class Request:
    """What to recognise."""

    clips: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Recordings of a word each: WAV, FLAC, OGG or MP3, any sample rate and number of channels."""
    stream: str | None = None
    """A long recording; prints the commands in it with their times."""
    microphone: bool = False
    """Detect commands until Ctrl-C (needs the package sounddevice)."""
    threshold: float | None = None
    """Probability, 0 to 1, from which a command counts, for --stream and --microphone. None: the one chosen on validation."""
    mode: Mode | None = None
    """How a stream is read: a window slides over it, or each frame is computed once and the state carried on, for ever or until
    it is reset in silence. None: as the network was trained to."""
    clip_column: str = "clip"
    """Column of --file that holds the path of a recording; one that does not begin with / starts from the folder of --file."""
    table: Annotated[TableRequest, tyro.conf.OmitArgPrefixes] = field(default_factory=TableRequest)
    """Name the word in each recording of a table: its rows, with label and probabilities, are written."""
    explain: bool = False
    """Draw what in the sound of each clip made its answer (integrated gradients), into explanation.png in this folder."""
    run: str | None = None
    """Run folder to ask; None: the newest finished run."""

    def __post_init__(self):
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UserError(f"--threshold is a probability, 0 to 1; got {self.threshold}.")
        if (given := bool(self.clips) + bool(self.table.file) + bool(self.stream) + self.microphone) != 1:
            raise UserError(
                f"Give recordings of a word each, or --file TABLE, or --stream FILE, or --microphone; got {given} of the four."
            )
        if (self.clips or self.table.file) and (self.mode or self.threshold is not None):
            raise UserError("--threshold and --mode are for --stream and --microphone; leave them out for clips.")
        if self.explain and not 1 <= len(self.clips) <= MAX_EXPLAINED:
            raise UserError(
                f"--explain is for 1 to {MAX_EXPLAINED} recordings of a word each, not for --file, --stream or --microphone; "
                f"got {len(self.clips)} recordings."
            )
