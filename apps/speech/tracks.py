"""How good is a network on a stream? Tracks made of clips: commands detected, and false accepts per hour."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

from apps.speech import audio, stream
from apps.speech.config import SILENCE, UNKNOWN, Config
from apps.speech.data import Clips

TOLERANCE = 0.5  # seconds before a command begins, or after it ends, in which its detection still counts
TRACK_SECONDS = 600.0  # at most
COMMAND_FREE_SECONDS = 3_600.0  # at most; each clip is used once, so that few clips give less
GAPS = (0.5, 2.5)  # seconds between two clips of a track
TRACK_SNR = 15.0  # decibels from the noise of a track up to its clips
THRESHOLDS = np.linspace(0.1, 0.98, 45)
DETECTED = 0.8  # fraction of the commands at which false accepts are compared

MakeSource = Callable[[], stream.SlidingWindow | stream.CarriedState]


class Track(NamedTuple):
    """A long recording `(samples,)`, and which word is spoken in it from when to when, in seconds."""

    waveform: np.ndarray
    spoken: list[tuple[str, float, float]]
    class_names: tuple[str, ...]
    sample_rate: int


class Detections(NamedTuple):
    """What a threshold gives on a track."""

    commands: int
    hits: int
    false_accepts: int

    @property
    def detected(self) -> float:
        """Fraction of the commands; 0 where there is none."""
        return self.hits / max(self.commands, 1)


def make_track(clips: Clips, config: Config, seconds: float, with_commands: bool = True) -> Track:
    """Clips in random order, each once, with gaps between them, and the clips called _silence_ as noise under all of it.

    It ends where no clip is left, or where the next one would end after `seconds`. Without commands, the clips are
    those of _unknown_ and _silence_.
    """
    rng = np.random.default_rng(config.training.seed)
    is_silence, is_command = _silences(clips), np.isin(clips.labels, stream.commands(clips.class_names))
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
        return Track(waveform, spoken, clips.class_names, config.sample_rate)
    rows = rng.choice(np.flatnonzero(is_silence), -(-len(waveform) // config.samples))
    noise = audio.to_float(clips.waveforms[rows]).ravel()[: len(waveform)]
    noise *= np.mean(loudness) / max(noise.std(), 1e-6) * 10 ** (-TRACK_SNR / 20)
    return Track(waveform + noise, spoken, clips.class_names, config.sample_rate)


def score(events: list[stream.Event], spoken: list[tuple[str, float, float]]) -> tuple[int, int]:
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


def evaluate(config: Config, sources: dict[str, MakeSource], validation: Clips, test: Clips) -> dict[str, dict]:
    """How good each mode of reading a stream is, on tracks made of the test clips.

    Args:
        config: of the run.
        sources: by mode, see `apps.speech.stream.sources`.
        validation, test: clips.

    Returns:
        By mode: the threshold that was best (F1) on a track of validation clips; at it, on a track of test clips,
        commands, hits and false accepts per hour, with their 95 % interval; the same for all thresholds as "curve", and the
        fewest false accepts per hour at which it detects `DETECTED` of the commands or more, None if it never does; as
        "command_free" the false accepts on a track that holds no command, or None where there are no clips to make it of.
    """
    to_choose, to_test = (make_track(clips, config, TRACK_SECONDS) for clips in (validation, test))
    command_free = make_track(test, config, COMMAND_FREE_SECONDS, with_commands=False)
    return {mode: _evaluate(make, to_choose, to_test, command_free) for mode, make in sources.items()}


def _evaluate(make_source: MakeSource, to_choose: Track, to_test: Track, command_free: Track) -> dict:
    threshold = float(max(THRESHOLDS, key=PushedTrack(make_source, to_choose).f1))
    pushed = PushedTrack(make_source, to_test)
    found, all_found = pushed.detections(threshold), [pushed.detections(one) for one in THRESHOLDS]
    enough = [one.false_accepts for one in all_found if one.detected >= DETECTED]
    result = {"threshold": threshold, "commands": found.commands, "hits": found.hits, "command_free": None}
    result |= _false_accepts(found, pushed.hours) | {"times_real_time": pushed.times_real_time}
    result["curve"] = [
        {"threshold": float(threshold), "detected": one.detected, "per_hour": one.false_accepts / pushed.hours}
        for threshold, one in zip(THRESHOLDS, all_found, strict=True)
    ]
    result["false_accepts_per_hour_at_80_percent"] = min(enough) / pushed.hours if enough else None
    if command_free.spoken:
        pushed = PushedTrack(make_source, command_free)
        result["command_free"] = _false_accepts(pushed.detections(threshold), pushed.hours)
    return result


class PushedTrack:
    """The posteriors of a track, computed once, to be looked at with any threshold."""

    def __init__(self, make_source: MakeSource, track: Track):
        source, started = make_source(), time.monotonic()
        self.spoken, self.class_names = track.spoken, track.class_names
        blocks = np.array_split(track.waveform, -(-len(track.waveform) // (10 * track.sample_rate)))
        outputs = [source.push(block) for block in blocks]
        self.times, self.posteriors = (np.concatenate(part) for part in zip(*outputs, strict=True))
        seconds = len(track.waveform) / track.sample_rate
        self.seconds_per_posterior, self.hours = source.seconds_per_posterior, seconds / 3600
        self.times_real_time = seconds / (time.monotonic() - started)

    def detections(self, threshold: float) -> Detections:
        detector = stream.Detector(self.class_names, self.seconds_per_posterior, threshold)
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


def _silences(clips: Clips) -> np.ndarray:
    """Which clips are silence `(n,)`; none where the class is not there."""
    return np.array([name == SILENCE for name in clips.class_names])[clips.labels]
