"""Commands in a stream: posteriors are smoothed and compared with a threshold, and a command is not detected twice.

    samples (n,) -> SlidingWindow.push -> times (m,), posteriors (m, classes) -> Detector.push -> events

`SlidingWindow` takes any network. `CarriedState` computes each frame once and carries the state on; a network is trained for it
with `--lead-seconds`, as the preset `streaming` is: without, it never saw a state older than its clip. Neither needs Keras.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from apps.speech import audio
from apps.speech.config import SILENCE, UNKNOWN, Config
from shared.inference import OnnxModel

WINDOW_STEP = 0.1  # seconds from one window to the next
SMOOTHING = 0.3  # seconds that posteriors are averaged over
HOLD_OFF = 0.8  # seconds after a command in which no other is detected
RESET_STEP = 0.1  # seconds after which the state is set to 0 where the network's answer is silence


class Event(NamedTuple):
    seconds: float
    word: str
    probability: float


def sources(config: Config, class_names, network: Callable[[np.ndarray], np.ndarray], streamer: OnnxModel | None) -> dict:
    """The modes in which a stream can be read, see `apps.speech.config.Mode`: for each, a function that makes a source.

    Args:
        config: of the run.
        class_names: the words it knows, with _unknown_ and _silence_.
        network: from windows `(n, samples)` to posteriors `(n, classes)`.
        streamer: see `CarriedState`; None for a network that has to see a whole clip.
    """
    count = len(class_names)
    found = {"window": lambda: SlidingWindow(config, count, network)}
    if streamer:
        found["carried"] = lambda: CarriedState(config, count, streamer)
    if streamer and SILENCE in class_names:
        found["reset"] = lambda: CarriedState(config, count, streamer, class_names.index(SILENCE))
    return found


class SlidingWindow:
    """Shows the network a clip's length at a time. A posterior's time is the middle of its window.

    Half a window of silence stands before the first sample, so that a word there comes to the middle of a window, too.

    Args:
        config: of the run.
        num_classes: how many words it knows, with _unknown_ and _silence_.
        network: from windows `(n, samples)` to posteriors `(n, classes)`.
    """

    def __init__(self, config: Config, num_classes: int, network: Callable[[np.ndarray], np.ndarray]):
        self.config, self.num_classes, self.network = config, num_classes, network
        self.step = min(round(WINDOW_STEP * config.sample_rate), config.samples)
        self.seconds_per_posterior = self.step / config.sample_rate
        self.kept = np.zeros(config.samples // 2, np.float32)
        self.start = -len(self.kept)

    def push(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Samples `(n,)` that follow those before: times in seconds `(m,)` and posteriors `(m, classes)`, as far as known."""
        self.kept = np.concatenate([self.kept, samples], dtype=np.float32)
        count = max(0, 1 + (len(self.kept) - self.config.samples) // self.step)
        starts = self.step * np.arange(count)
        windows = [self.kept[start : start + self.config.samples] for start in starts]
        times = (self.start + starts + self.config.samples / 2) / self.config.sample_rate
        self.kept, self.start = self.kept[count * self.step :], self.start + count * self.step
        if not count:
            return times, np.zeros((0, self.num_classes), np.float32)
        return times, self.network(np.stack(windows))


class CarriedState:
    """Computes every frame once: what the convolutions and the recurrent layers need of the past is carried on.

    Args:
        config: of the run.
        num_classes: how many words it knows, with _unknown_ and _silence_.
        streamer: the ONNX file made of `apps.speech.model.build_streamer`. Its inputs are "waveform" and memory, its outputs
            "probabilities" and the new memory.
        silence: the class at which everything is forgotten; None: nothing is ever.
    """

    def __init__(self, config: Config, num_classes: int, streamer: OnnxModel, silence: int | None = None):
        self.config, self.num_classes, self.streamer, self.silence = config, num_classes, streamer, silence
        memory = {name: one.shape[1:] for name, one in streamer.inputs.items() if name != "waveform"}
        self.no_memory = self.memory = {name: np.zeros((1, *shape), np.float32) for name, shape in memory.items()}
        self.frames_per_posterior = config.frames_per_output
        self.seconds_per_posterior = self.frames_per_posterior * config.hop_length / config.sample_rate
        self.fft_length = audio.fft_length(config.window_length)
        self.kept, self.pushed = np.zeros(self.fft_length // 2, np.float32), 0  # a frame is centred on its time

    def push(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `SlidingWindow.push`; a posterior's time is that of its last frame."""
        self.kept = np.concatenate([self.kept, samples], dtype=np.float32)
        frames = max(0, 1 + (len(self.kept) - self.fft_length) // self.config.hop_length)
        count = frames // self.frames_per_posterior
        times = (self.pushed + np.arange(count)) * self.seconds_per_posterior
        step = max(1, count if self.silence is None else round(RESET_STEP / self.seconds_per_posterior))
        parts = [self._read(min(step, count - done)) for done in range(0, count, step)]
        return times, np.concatenate([np.zeros((0, self.num_classes), np.float32), *parts])

    def _read(self, count: int) -> np.ndarray:
        """The next posteriors `(count, classes)`; what is remembered moves on."""
        frames = count * self.frames_per_posterior
        used = (frames - 1) * self.config.hop_length + self.fft_length
        outputs = self.streamer(waveform=self.kept[None, :used], **self.memory)
        self.memory, self.pushed = {name: outputs[f"new_{name}"] for name in self.memory}, self.pushed + count
        self.kept = self.kept[frames * self.config.hop_length :]
        posteriors = outputs["probabilities"][0]
        if posteriors[-1].argmax() == self.silence:
            self.memory = self.no_memory
        return posteriors


class Detector:
    """From posteriors to commands."""

    def __init__(self, class_names: tuple[str, ...], seconds_per_posterior: float, threshold: float):
        self.class_names, self.threshold = class_names, threshold
        self.commands = commands(class_names)
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


def commands(class_names: tuple[str, ...]) -> list[int]:
    """The classes that are commands."""
    return [row for row, name in enumerate(class_names) if name not in (UNKNOWN, SILENCE)]
