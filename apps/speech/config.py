"""Every setting of the speech app, on one page."""

from dataclasses import dataclass, replace
from typing import Literal

from shared.cli import UserError, check_at_least, check_seed, check_share, check_source


@dataclass(frozen=True)
class Config:
    preset: Literal["smoke", "small", "default", "best"] = "default"
    """Where the others start from: smoke (seconds), small (under 80,000 parameters), default (minutes), best (an hour)."""

    # Data
    data: str | None = None
    """Your own recordings: a folder with a folder for each word. None: Speech Commands."""
    dataset: Literal["auto", "speech_commands", "sample"] = "auto"
    """Without --data. auto: Speech Commands where it can be had, else words from a synthesizer."""
    words: tuple[str, ...] = ()
    """Words to tell apart; all others become _unknown_. None given: the ten commands where all are there, else every word."""
    silence: bool | None = None
    """Learn a class _silence_ too. None: where the words are the ten commands, or _silence_ or _background_noise_ is there."""
    speaker_pattern: str | None = None
    """Who speaks, by a file's name: a regular expression with a group, or a position: 2 for 0_george_0.wav."""
    test_speaker: str | None = None
    """Test on this speaker of --data alone."""
    folds: Literal["speakers"] | None = None
    """A whole run for each speaker of --data, tested on that one alone; then mean and spread."""
    clip_seconds: float = 1.0
    """Length of a clip. A shorter one gets silence on both sides, of a longer one the loudest part is taken."""
    sample_rate: int = 16_000
    """Samples a second; recordings of another rate are resampled."""
    limit: int | None = None
    """Use only so many clips of each word in training, validation and test."""

    # Features
    window_length: int = 480
    """Samples that one frame looks at."""
    hop_length: int = 160
    """Samples from one frame to the next."""
    mels: int = 40
    """Bands of the mel spectrogram."""
    n_mfcc: int = 40
    """Cepstral coefficients, at most as many as bands."""
    top_db: float | None = 80.0
    """Floor below a clip's loudest value, in decibels; None for none, as a network that carries its state needs it."""
    deltas: bool = False
    """Give the slopes of the coefficients too."""

    # Augmentation, in training alone
    speed_change: float = 0.15
    """Faster or slower, and higher or lower, by up to this share."""
    time_shift: float = 0.1
    """Earlier or later by up to so many seconds."""
    gain_change: float = 10.0
    """Louder or softer by up to so many decibels."""
    noise_share: float = 0.7
    """Share of clips that get background noise."""
    lowest_snr: float = 0.0
    """Signal-to-noise ratio of the loudest background noise, in decibels."""
    highest_snr: float = 30.0
    """And of the softest."""
    time_masks: int = 1
    """Stretches of time that are hidden."""
    longest_mask: float = 0.15
    """The longest of them, in seconds."""
    frequency_masks: int = 1
    """Stretches of bands that are hidden."""
    widest_mask: int = 7
    """The widest of them, in bands."""
    mel_warp: float = 0.1
    """Stretch the mel axis by up to this share, as a longer or shorter vocal tract does."""

    # Model
    filters: tuple[int, ...] = (32, 64)
    """Filters of the convolutions in front, if any: each layer halves the coefficients, the first two the frames too."""
    cell: Literal["rnn", "gru", "lstm"] = "gru"
    """Recurrent cell."""
    units: int = 128
    """Width of each recurrent layer, in each direction."""
    num_layers: int = 2
    """Recurrent layers on top of each other."""
    bidirectional: bool = True
    """Read from both ends. Without it, a stream may be computed frame by frame (speech-predict --carry-state)."""
    dropout: float = 0.2
    """Share of features dropped before and after each recurrent layer."""
    residual: bool = False
    """Add each recurrent layer's input to its output."""
    normalization: Literal["layer", "batch"] | None = None
    """Normalise between recurrent layers."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Of the recurrence; relu is for --cell rnn, which then starts from the identity."""
    pooling: Literal["last", "max", "mean", "attention"] = "attention"
    """How the frames become one vector."""

    # Training
    epochs: int = 30
    """Most passes over the training clips."""
    patience: int = 15
    """Stop after so many epochs without a better validation accuracy."""
    batch_size: int = 64
    """Clips in a step."""
    learning_rate: float = 2e-3
    """Peak of the schedule: linear warm-up over a tenth of the steps, then cosine towards zero."""
    weight_decay: float = 1e-2
    """Share of each weight taken away a step, times the learning rate (AdamW)."""
    label_smoothing: float = 0.1
    """Share of the probability that the labels give to all classes alike."""
    clipping: Literal["none", "global_norm", "norm", "value", "adaptive"] = "global_norm"
    """How gradients are clipped; see shared/gradients.py."""
    clip_threshold: float = 1.0
    """Bound for clipping."""
    seed: int = 0
    """Of the weights, the order and all augmentation; the split is the same for all."""
    deterministic: bool = False
    """Same result to the last bit in every run on this machine."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """Numbers that the network computes in."""
    resume: bool = False
    """Go on with the newest unfinished run, with the settings that it had; other flags only say which one."""

    def __post_init__(self):
        """What can be known to be wrong before any work is done."""
        check_at_least(1, self, "limit", "hop_length", "mels", "n_mfcc", "units", "num_layers", "epochs", "patience")
        check_at_least(16, self, "window_length")
        check_at_least(1, self, "batch_size")
        check_at_least(4_000, self, "sample_rate")
        check_at_least(0, self, "top_db", "time_shift", "gain_change", "time_masks", "longest_mask", "frequency_masks")
        check_at_least(0, self, "widest_mask", "learning_rate", "weight_decay")
        check_seed(self)
        check_source(self)
        check_share(self, "dropout", "label_smoothing", "speed_change", "mel_warp")
        if not 0 <= self.noise_share <= 1:
            raise UserError(f"--noise-share lies from 0 to 1; got {self.noise_share}.")
        if self.lowest_snr > self.highest_snr:
            raise UserError(f"--lowest-snr is at most --highest-snr; got {self.lowest_snr} and {self.highest_snr}.")
        if (self.folds or self.test_speaker or self.speaker_pattern) and not self.data:
            raise UserError("--folds, --test-speaker and --speaker-pattern are for recordings of your own: give --data.")
        if self.folds and (self.test_speaker or self.resume):
            raise UserError("--folds trains again for every speaker; leave --test-speaker and --resume out.")
        if self.n_mfcc > self.mels:
            raise UserError(f"--n-mfcc is at most --mels ({self.mels}); got {self.n_mfcc}.")
        if self.widest_mask > self.mels:
            raise UserError(f"--widest-mask is at most --mels ({self.mels}); got {self.widest_mask}.")
        if self.samples < self.window_length:
            raise UserError(f"--clip-seconds {self.clip_seconds} is shorter than one window of {self.window_length} samples.")
        if len(set(self.words)) == 1 or len(set(self.words)) < len(self.words):
            raise UserError(f"--words names two or more different words; got {' '.join(self.words)}.")
        if any(count < 1 for count in self.filters):
            raise UserError(f"--filters are 1 or more each; got {self.filters}.")
        if self.clip_threshold <= 0:
            raise UserError(f"--clip-threshold is above 0; got {self.clip_threshold}.")
        if self.activation == "relu" and self.cell != "rnn":
            raise UserError(f"--activation relu is for --cell rnn; a {self.cell} has tanh in its equations.")

    @property
    def samples(self) -> int:
        """Samples in a clip."""
        return round(self.clip_seconds * self.sample_rate)


DEFAULT = Config()
PRESETS = {
    "smoke": replace(DEFAULT, preset="smoke", limit=12, epochs=2, filters=(8,), units=16, num_layers=1),
    "small": replace(DEFAULT, preset="small", filters=(16, 24), units=32, num_layers=1, epochs=60, patience=60),
    "default": DEFAULT,
    "best": replace(DEFAULT, preset="best", filters=(32, 64, 64), time_masks=2, frequency_masks=2, epochs=240, patience=240),
}
