"""Commands in a stream: posteriors are smoothed and compared with a threshold, and a command is not detected twice.

    samples (n,) -> SlidingWindow.push -> times (m,), posteriors (m, classes) -> Detector.push -> events

`SlidingWindow` takes any network. `CarriedState` computes each frame once and carries the state on; a network trained on
single clips is much worse that way (it never saw a state older than its clip), so it has to be asked for.
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
from scipy.stats import chi2

from apps.speech import audio
from apps.speech.config import Config
from apps.speech.data import SILENCE, UNKNOWN, Clips
from apps.speech.model import build_streamer, frames_per_output, zero_memory
from shared.cli import UserError

WINDOW_STEP = 0.1  # seconds from one window to the next
SMOOTHING = 0.3  # seconds that posteriors are averaged over
HOLD_OFF = 0.8  # seconds after a command in which no other is detected
TOLERANCE = 0.5  # seconds before a command begins, or after it ends, in which its detection still counts
TRACK_SECONDS = 600.0  # at most
COMMAND_FREE_SECONDS = 3_600.0  # at most; each clip is used once, so that few clips give less
GAPS = (0.5, 2.5)  # seconds between two clips of a track
TRACK_SNR = 15.0  # decibels from the noise of a track up to its clips


class Event(NamedTuple):
    seconds: float
    word: str
    probability: float


def make_source(config: Config, model: keras.Model, carry_state: bool = False) -> "SlidingWindow | CarriedState":
    """What turns samples into posteriors; `model` is the one in a run folder.

    Raises:
        UserError: with `carry_state`, for a network that has to see a whole clip.
    """
    if not carry_state:
        return SlidingWindow(config, model)
    if config.recurrent.bidirectional or config.top_db is not None or config.pooling != "last":
        raise UserError(
            "--carry-state needs a network that reads each frame once; this one sees a clip as a whole. Leave it out, or "
            "train with --no-bidirectional --top-db None --pooling last."
        )
    return CarriedState(config, model)


class SlidingWindow:
    """Shows the network a clip's length at a time. A posterior's time is the middle of its window.

    Half a window of silence stands before the first sample, so that a word there comes to the middle of a window, too.
    """

    def __init__(self, config: Config, model: keras.Model):
        self.config, self.model = config, model
        self.step = min(round(WINDOW_STEP * config.sample_rate), config.samples)
        self.seconds_per_posterior = self.step / config.sample_rate
        self.kept = np.zeros(config.samples // 2, np.float32)
        self.start = -len(self.kept)

    def push(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Samples `(n,)` that follow those before: times in seconds `(m,)` and posteriors `(m, classes)`, as far as known."""
        self.kept = np.concatenate([self.kept, samples])
        count = max(0, 1 + (len(self.kept) - self.config.samples) // self.step)
        starts = self.step * np.arange(count)
        windows = [self.kept[start : start + self.config.samples] for start in starts]
        times = (self.start + starts + self.config.samples / 2) / self.config.sample_rate
        self.kept, self.start = self.kept[count * self.step :], self.start + count * self.step
        if not count:
            return times, np.zeros((0, self.model.output_shape[-1]), np.float32)
        return times, self.model.predict_on_batch(np.stack(windows))


class CarriedState:
    """Computes every frame once: what the convolutions and the recurrent layers need of the past is carried on."""

    def __init__(self, config: Config, model: keras.Model):
        self.config, self.num_classes = config, model.output_shape[-1]
        self.streamer = build_streamer(config, model.get_layer("network"))
        self.memory = zero_memory(config)
        self.frames_per_posterior = frames_per_output(config)
        self.seconds_per_posterior = self.frames_per_posterior * config.hop_length / config.sample_rate
        self.fft_length = self.streamer.get_layer("log_mel").fft_length
        self.kept, self.pushed = np.zeros(self.fft_length // 2, np.float32), 0  # a frame is centred on its time

    def push(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `SlidingWindow.push`; a posterior's time is that of its last frame."""
        self.kept = np.concatenate([self.kept, samples])
        frames = max(0, 1 + (len(self.kept) - self.fft_length) // self.config.hop_length)
        count = frames // self.frames_per_posterior
        times = (self.pushed + np.arange(count)) * self.seconds_per_posterior
        if not count:
            return times, np.zeros((0, self.num_classes), np.float32)
        frames = count * self.frames_per_posterior
        used = (frames - 1) * self.config.hop_length + self.fft_length
        outputs = self.streamer.predict_on_batch({"waveform": self.kept[None, :used], "memory": self.memory})
        self.memory, self.pushed = outputs["memory"], self.pushed + count
        self.kept = self.kept[frames * self.config.hop_length :]
        return times, outputs["probabilities"][0]


class Detector:
    """From posteriors to commands."""

    def __init__(self, class_names: tuple[str, ...], seconds_per_posterior: float, threshold: float):
        self.class_names, self.threshold = class_names, threshold
        self.commands = _commands(class_names)
        self.recent = deque(maxlen=max(1, round(SMOOTHING / seconds_per_posterior)))
        self.quiet_until = -np.inf
        self.active = None  # the command detected last, until it falls below the threshold

    def push(self, times: np.ndarray, posteriors: np.ndarray) -> Iterator[Event]:
        """The commands in posteriors that follow those before, see `SlidingWindow.push`."""
        for seconds, posterior in zip(times, posteriors, strict=True):
            self.recent.append(posterior)
            smoothed = np.mean(self.recent, axis=0)
            if self.active is not None and smoothed[self.active] < self.threshold:
                self.active = None
            best = max(self.commands, key=lambda row: smoothed[row])
            if smoothed[best] >= self.threshold and seconds >= self.quiet_until and best != self.active:
                self.quiet_until, self.active = seconds + HOLD_OFF, best
                yield Event(float(seconds), self.class_names[best], float(smoothed[best]))


class Track(NamedTuple):
    """A long recording `(samples,)`, and which word is spoken in it from when to when, in seconds."""

    waveform: np.ndarray
    spoken: list[tuple[str, float, float]]


class Detections(NamedTuple):
    """What a threshold gives on a track."""

    commands: int
    hits: int
    false_accepts: int


def make_track(clips: Clips, config: Config, seconds: float, with_commands: bool = True) -> Track:
    """Clips in random order, each once, with gaps between them, and the clips called _silence_ as noise under all of it.

    It ends where no clip is left, or where the next one would end after `seconds`. Without commands, the clips are
    those of _unknown_ and _silence_.
    """
    rng = np.random.default_rng(config.training.seed)
    is_silence, is_command = _silences(clips), np.isin(clips.labels, _commands(clips.class_names))
    places, now = [], rng.uniform(*GAPS)
    for row in rng.permutation(np.flatnonzero(~is_silence if with_commands else ~is_command)):
        if now + config.clip_seconds > seconds:
            break
        places.append((row, now))
        now += config.clip_seconds + rng.uniform(*GAPS)
    waveform, loudness = np.zeros(int(now * config.sample_rate), np.float32), []
    for row, start in places:
        first = int(start * config.sample_rate)
        waveform[first : first + config.samples] = audio.to_float(clips.waveforms[row])
        loudness.append(waveform[first : first + config.samples].std())
    spoken = [(clips.class_names[clips.labels[row]], start, start + config.clip_seconds) for row, start in places]
    if not is_silence.any() or not places:
        return Track(waveform, spoken)
    rows = rng.choice(np.flatnonzero(is_silence), -(-len(waveform) // config.samples))
    noise = audio.to_float(clips.waveforms[rows]).ravel()[: len(waveform)]
    noise *= np.mean(loudness) / max(noise.std(), 1e-6) * 10 ** (-TRACK_SNR / 20)
    return Track(waveform + noise, spoken)


def score(events: list[Event], spoken: list[tuple[str, float, float]]) -> tuple[int, int]:
    """How many commands were detected in time, and how many events were none (false accepts)."""
    left, hits = list(events), 0
    for word, start, end in spoken:
        found = next((e for e in left if e.word == word and start - TOLERANCE <= e.seconds <= end + TOLERANCE), None)
        if found:
            left.remove(found)
            hits += 1
    return hits, len(left)


def poisson_interval(count: int) -> tuple[float, float]:
    """Exact 95 % interval of the mean of a Poisson distribution that gave `count` (Garwood, 1936)."""
    low = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    return float(low), float(chi2.ppf(0.975, 2 * count + 2) / 2)


def evaluate(config: Config, model: keras.Model, validation: Clips, test: Clips) -> dict:
    """Slide a window over tracks made of the test clips, at the threshold that was best (F1) on one of validation clips.

    Returns:
        Commands, hits and false accepts per hour, with their 95 % interval, on a track with commands; as "command_free" the
        false accepts on one that holds none, or None where there are no clips to make it of.
    """
    pushed = PushedTrack(config, model, make_track(validation, config, TRACK_SECONDS), validation)
    threshold = float(max(np.linspace(0.1, 0.95, 18), key=pushed.f1))
    pushed = PushedTrack(config, model, make_track(test, config, TRACK_SECONDS), test)
    found = pushed.detections(threshold)
    result = {"threshold": threshold, "commands": found.commands, "hits": found.hits, "command_free": None}
    result |= _false_accepts(found, pushed.hours) | {"times_real_time": pushed.times_real_time}
    command_free = make_track(test, config, COMMAND_FREE_SECONDS, with_commands=False)
    if command_free.spoken:
        pushed = PushedTrack(config, model, command_free, test)
        result["command_free"] = _false_accepts(pushed.detections(threshold), pushed.hours)
    return result


class PushedTrack:
    """The posteriors of a track, computed once, to be looked at with any threshold."""

    def __init__(self, config: Config, model: keras.Model, track: Track, clips: Clips):
        self.spoken, self.class_names = track.spoken, clips.class_names
        source, started = make_source(config, model), time.monotonic()
        blocks = np.array_split(track.waveform, -(-len(track.waveform) // (10 * config.sample_rate)))
        outputs = [source.push(block) for block in blocks]
        self.times, self.posteriors = (np.concatenate(part) for part in zip(*outputs, strict=True))
        seconds = len(track.waveform) / config.sample_rate
        self.seconds_per_posterior, self.hours = source.seconds_per_posterior, seconds / 3600
        self.times_real_time = seconds / (time.monotonic() - started)

    def detections(self, threshold: float) -> Detections:
        detector = Detector(self.class_names, self.seconds_per_posterior, threshold)
        events = list(detector.push(self.times, self.posteriors))
        commands = sum(word not in (UNKNOWN, SILENCE) for word, _, _ in self.spoken)
        return Detections(commands, *score(events, self.spoken))

    def f1(self, threshold: float) -> float:
        commands, hits, false_accepts = self.detections(threshold)
        return 2 * hits / max(hits + false_accepts + commands, 1)


def _false_accepts(detections: Detections, hours: float) -> dict[str, float]:
    low, high = poisson_interval(detections.false_accepts)
    return {
        "minutes": hours * 60,
        "false_accepts": detections.false_accepts,
        "false_accepts_per_hour": detections.false_accepts / hours,
        "false_accepts_per_hour_low": low / hours,
        "false_accepts_per_hour_high": high / hours,
    }


def _commands(class_names: tuple[str, ...]) -> list[int]:
    """The classes that are commands."""
    return [row for row, name in enumerate(class_names) if name not in (UNKNOWN, SILENCE)]


def _silences(clips: Clips) -> np.ndarray:
    """Which clips are silence `(n,)`; none where the class is not there."""
    return np.array([name == SILENCE for name in clips.class_names])[clips.labels]
