"""What is drawn while the network trains, and of the epoch that is kept: its recurrence from inside, its answers."""

from pathlib import Path

import numpy as np

from apps.speech import audio
from apps.speech.answers import AnswerOverTime, ConfusionByEpoch
from apps.speech.config import SILENCE, Config
from shared import context, through_time
from shared.states import ROWS, States
from shared.tensorboard import EpochPictures

LOUD = 20  # dB below a clip's loudest step, down to which it is taken for the word


def callbacks(config: Config, experiment, folder: Path) -> list[EpochPictures]:
    """For `fit`; afterwards, `write_plots` of each draws the kept epoch."""
    return [
        _states(config, experiment, folder),
        AnswerOverTime(config, experiment, folder),
        ConfusionByEpoch(experiment.confusion, experiment.data.validation.class_names, folder),
        _gradient_through_time(experiment, folder),
        _loss_by_context(config, experiment, folder),
    ]


def _states(config: Config, experiment, folder: Path) -> States:
    """Of some validation clips that hold a word, at random; seconds along the axis."""
    clips = experiment.data.validation
    words = np.flatnonzero(np.array(clips.class_names)[clips.labels] != SILENCE)
    rows = np.random.default_rng(0).permutation(words)[:ROWS]  # those of a class may stand together
    chosen = audio.to_float(clips.waveforms[rows])
    mel = np.asarray(experiment.features(chosen)["mel"])[:, :: config.frames_per_output]
    step = config.frames_per_output * config.hop_length / config.sample_rate
    return States(chosen, [f"{step * number:.2f}" for number in range(mel.shape[1])], features(mel, step), folder)


def features(mel: np.ndarray, step: float) -> dict[str, np.ndarray]:
    """What units may follow, at each step of decibels `(clips, steps, mels)`: `(clips, steps)` by name.

    The word is where a clip is at most 20 dB below its loudest step.

    Args:
        mel: at the steps of the recurrence.
        step: seconds from one to the next.
    """
    loudness, third = mel.mean(axis=2), -(-mel.shape[2] // 3)
    loud = loudness > loudness.max(axis=1, keepdims=True) - LOUD
    has_begun, is_over = np.maximum.accumulate(loud, axis=1), ~np.maximum.accumulate(loud[:, ::-1], axis=1)[:, ::-1]
    return {
        "seconds": np.tile(step * np.arange(mel.shape[1]), (len(mel), 1)),
        "loudness, dB": loudness,
        "hiss: highest third of the bands above the lowest, dB": (mel[..., -third:] - mel[..., :third]).mean(axis=2),
        "seconds since the word's start": has_begun.cumsum(axis=1) * step,
        "seconds since the word's end": is_over.cumsum(axis=1) * step,
    }


def _gradient_through_time(experiment, folder: Path) -> through_time.GradientThroughTime:
    """Unless the answer is the last step's, the gradient of the loss enters at each step."""
    loss = through_time.last_step_cross_entropy
    return through_time.GradientThroughTime(*_clips(experiment, through_time.ROWS), loss, folder)


def _loss_by_context(config: Config, experiment, folder: Path) -> context.LossByContext:
    """The convolutions go on seeing across a reset."""
    waveforms, labels = _clips(experiment, context.ROWS)
    steps = -(-experiment.features(waveforms[:1])["mfcc"].shape[1] // config.frames_per_output)
    return context.LossByContext(waveforms, labels, through_time.last_step_cross_entropy, steps, folder)


def _clips(experiment, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms and labels of some validation clips, evenly from all."""
    clips = experiment.data.validation
    chosen = slice(None, None, max(1, len(clips.labels) // rows))
    return audio.to_float(clips.waveforms[chosen][:rows]), clips.labels[chosen][:rows]
