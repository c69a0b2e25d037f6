"""Commands in a long recording, while it is heard: posteriors, smoothed, held against a threshold, and not told twice.

There are two ways to get posteriors. A bidirectional network, or one that looks at a clip as a whole (`top_db`, `deltas`, a
pooling other than "last"), is shown a window that slides over the sound. Any other hears each frame once and carries its state
on.
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np

from apps.speech import audio
from apps.speech.config import Config
from apps.speech.data import SILENCE, UNKNOWN, Clips
from apps.speech.model import build_streamer, frames_per_output, zero_memory

WINDOW_STEP = 0.1  # seconds from one window to the next
SMOOTHING = 0.3  # seconds that posteriors are averaged over
HOLD_OFF = 0.8  # seconds after a command in which no other is told; the same one not before it has fallen silent
TOLERANCE = 0.5  # seconds that a command may be told before it begins or after it ends
TRACK_SECONDS = 600.0  # at most
GAPS = (0.5, 2.5)  # seconds between two words of a track
TRACK_SNR = 15.0  # of a track's noise, in decibels below the words


class Event(NamedTuple):
    seconds: float
    word: str
    probability: float


def carries_state(config: Config) -> bool:
    """Whether a network of this config can hear a stream frame by frame."""
    return not config.bidirectional and config.top_db is None and not config.deltas and config.pooling == "last"


def make_ear(config: Config, model: keras.Model) -> "SlidingWindow | FrameByFrame":
    """What turns sound into posteriors, piece by piece; `model` is the one in a run folder."""
    return FrameByFrame(config, model) if carries_state(config) else SlidingWindow(config, model)


class SlidingWindow:
    """Shows the network a clip's length at a time. A posterior's time is the middle of its window.

    Half a window of silence stands before the sound, so that its first word comes to the middle of one, too.
    """

    def __init__(self, config: Config, model: keras.Model):
        self.config, self.model = config, model
        self.step = round(WINDOW_STEP * config.sample_rate)
        self.seconds_per_posterior = self.step / config.sample_rate
        self.kept = np.zeros(config.samples // 2, np.float32)
        self.start = -len(self.kept)

    def hear(self, sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Samples `(n,)` that follow those before: times in seconds `(m,)` and posteriors `(m, classes)`, as far as known."""
        self.kept = np.concatenate([self.kept, sound])
        count = max(0, 1 + (len(self.kept) - self.config.samples) // self.step)
        starts = self.step * np.arange(count)
        windows = [self.kept[start : start + self.config.samples] for start in starts]
        times = (self.start + starts + self.config.samples / 2) / self.config.sample_rate
        self.kept, self.start = self.kept[count * self.step :], self.start + count * self.step
        if not count:
            return times, np.zeros((0, self.model.output_shape[-1]), np.float32)
        return times, self.model.predict_on_batch(np.stack(windows))


class FrameByFrame:
    """Hears every frame once: what the convolutions and the recurrent layers need of the past is carried on."""

    def __init__(self, config: Config, model: keras.Model):
        self.config, self.num_classes = config, model.output_shape[-1]
        self.streamer = build_streamer(config, model.get_layer("network"))
        self.memory = zero_memory(config)
        self.frames_per_posterior = frames_per_output(config)
        self.seconds_per_posterior = self.frames_per_posterior * config.hop_length / config.sample_rate
        self.fft_length = self.streamer.get_layer("log_mel").fft_length
        self.kept, self.told = np.zeros(self.fft_length // 2, np.float32), 0  # a frame is centred on its time

    def hear(self, sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `SlidingWindow.hear`; a posterior's time is that of its last frame."""
        self.kept = np.concatenate([self.kept, sound])
        frames = max(0, 1 + (len(self.kept) - self.fft_length) // self.config.hop_length)
        count = frames // self.frames_per_posterior
        times = (self.told + np.arange(count)) * self.seconds_per_posterior
        if not count:
            return times, np.zeros((0, self.num_classes), np.float32)
        frames = count * self.frames_per_posterior
        used = (frames - 1) * self.config.hop_length + self.fft_length
        heard = self.streamer.predict_on_batch({"waveform": self.kept[None, :used], "memory": self.memory})
        self.memory, self.told = heard["memory"], self.told + count
        self.kept = self.kept[frames * self.config.hop_length :]
        return times, heard["probabilities"][0]


class Detector:
    """From posteriors to commands."""

    def __init__(self, class_names: tuple[str, ...], seconds_per_posterior: float, threshold: float):
        self.class_names, self.threshold = class_names, threshold
        self.commands = [row for row, name in enumerate(class_names) if name not in (UNKNOWN, SILENCE)]
        self.recent = deque(maxlen=max(1, round(SMOOTHING / seconds_per_posterior)))
        self.quiet_until = -np.inf
        self.told = None  # the command that was told last, as long as it is heard

    def hear(self, times: np.ndarray, posteriors: np.ndarray) -> Iterator[Event]:
        """The commands in posteriors that follow those before; see `SlidingWindow.hear`."""
        for seconds, posterior in zip(times, posteriors, strict=True):
            self.recent.append(posterior)
            smoothed = np.mean(self.recent, axis=0)
            if self.told is not None and smoothed[self.told] < self.threshold:
                self.told = None
            best = max(self.commands, key=lambda row: smoothed[row])
            if smoothed[best] >= self.threshold and seconds >= self.quiet_until and best != self.told:
                self.quiet_until, self.told = seconds + HOLD_OFF, best
                yield Event(float(seconds), self.class_names[best], float(smoothed[best]))


class Track(NamedTuple):
    """A long recording `(samples,)`, and what is said in it from when to when, in seconds."""

    waveform: np.ndarray
    said: list[tuple[str, float, float]]


def make_track(clips: Clips, config: Config, seconds: float) -> Track:
    """Clips in random order with gaps between them, and the clips called _silence_ as noise under all of it.

    It ends where no clip is left, or where the next one would not be over after `seconds`.
    """
    rng = np.random.default_rng(config.seed)
    is_silence = np.array([name == SILENCE for name in clips.class_names])[clips.labels]
    places, now = [], rng.uniform(*GAPS)
    for row in rng.permutation(np.flatnonzero(~is_silence)):
        if now + config.clip_seconds > seconds:
            break
        places.append((row, now))
        now += config.clip_seconds + rng.uniform(*GAPS)
    waveform, loudness = np.zeros(int(now * config.sample_rate), np.float32), []
    for row, start in places:
        first = int(start * config.sample_rate)
        waveform[first : first + config.samples] = audio.to_float(clips.waveforms[row])
        loudness.append(waveform[first : first + config.samples].std())
    said = [(clips.class_names[clips.labels[row]], start, start + config.clip_seconds) for row, start in places]
    if not is_silence.any():
        return Track(waveform, said)
    rows = rng.choice(np.flatnonzero(is_silence), -(-len(waveform) // config.samples))
    noise = audio.to_float(clips.waveforms[rows]).ravel()[: len(waveform)]
    noise *= np.mean(loudness) / max(noise.std(), 1e-6) * 10 ** (-TRACK_SNR / 20)
    return Track(waveform + noise, said)


def score(events: list[Event], said: list[tuple[str, float, float]]) -> tuple[int, int]:
    """How many commands were told in time, and how many events were none (false accepts)."""
    left, hits = list(events), 0
    for word, start, end in said:
        found = next((e for e in left if e.word == word and start - TOLERANCE <= e.seconds <= end + TOLERANCE), None)
        if found:
            left.remove(found)
            hits += 1
    return hits, len(left)


def evaluate(config: Config, model: keras.Model, validation: Clips, test: Clips) -> dict[str, float]:
    """Listen to a track made of the test clips, with the threshold that was best (F1) on one made of the validation clips."""
    parts = {"validation": validation, "test": test}
    heard, tracks = {}, {name: make_track(clips, config, TRACK_SECONDS) for name, clips in parts.items()}
    for name, track in tracks.items():
        ear, started = make_ear(config, model), time.monotonic()
        pieces = np.array_split(track.waveform, -(-len(track.waveform) // (10 * config.sample_rate)))
        heard[name] = [np.concatenate(parts) for parts in zip(*map(ear.hear, pieces), strict=True)]
        elapsed = time.monotonic() - started

    def result(name: str, threshold: float) -> tuple[int, int, int]:
        said = tracks[name].said
        detector = Detector(validation.class_names, ear.seconds_per_posterior, threshold)
        commands = sum(word not in (UNKNOWN, SILENCE) for word, _, _ in said)
        return *score(list(detector.hear(*heard[name])), said), commands

    def f1(threshold: float) -> float:
        hits, false_accepts, commands = result("validation", threshold)
        return 2 * hits / (hits + false_accepts + commands)

    threshold = max(np.linspace(0.1, 0.95, 18), key=f1)
    hits, false_accepts, commands = result("test", threshold)
    seconds = len(tracks["test"].waveform) / config.sample_rate
    return {
        "minutes": seconds / 60,
        "threshold": float(threshold),
        "commands": commands,
        "hits": hits,
        "false_accepts_per_hour": false_accepts * 3600 / seconds,
        "times_real_time": seconds / elapsed,
    }
