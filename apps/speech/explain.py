"""Why a clip got its word: what each place of its mel spectrogram adds to the word's probability, by integrated gradients.

See shared/attribution.py. The line runs from the clip's own background: every band at its quietest frame, for the whole time.
"""

from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
from keras import layers

from apps.speech import audio, model  # noqa: F401  model registers the layers that the saved model is made of
from apps.speech.config import Config
from apps.speech.data import Clips
from shared.attribution import Attribution, IntegratedGradients, cut
from shared.export import load_saved
from shared.plots import plt, save_figure

MISTAKES_DRAWN = 6
BLOCK = 4


class Explanation(NamedTuple):
    """Of one clip and one word."""

    mel: np.ndarray  # (frames, mels) in decibels
    parts: np.ndarray  # (frames, mels) what each adds to the probability
    attribution: Attribution


class Explainer:
    """Explains the answers of a run; `servable` is the saved model."""

    def __init__(self, servable: keras.Model):
        network = servable.get_layer("network")
        self.mel_of, behind = cut(keras.Model(network.input, layers.Softmax(name="probabilities")(network.output)), ["log_mel"])
        self.gradients = IntegratedGradients(behind)

    def __call__(self, waveform: np.ndarray, number: int) -> Explanation:
        """What made a waveform `(samples,)` the word of this number."""
        inputs = {"waveform": waveform[None]}
        mel = np.asarray(self.mel_of(inputs)["log_mel"])
        background = np.broadcast_to(mel.min(axis=1, keepdims=True), mel.shape)
        found = self.gradients(inputs | {"log_mel": mel}, {"log_mel": background}, number)
        return Explanation(mel[0], found.parts["log_mel"], found)


def load(folder: Path) -> Explainer:
    """For the run in a folder; takes some seconds."""
    return Explainer(load_saved(folder))


def draw(file: Path, explanations: dict[str, Explanation], config: Config) -> None:
    """A row for each clip, by its title: the mel spectrogram, and what each place of it adds."""
    figure, axes = plt.subplots(len(explanations), 2, figsize=(11, 2.7 * len(explanations) + 0.8), squeeze=False)
    extent = (0, config.clip_seconds, 0, config.mels)
    for (left, right), (title, found) in zip(axes, explanations.items(), strict=True):
        options = {"origin": "lower", "aspect": "auto", "extent": extent, "interpolation": "nearest"}
        blocks = sum_blocks(found.parts)
        limit = np.abs(blocks).max() or 1.0
        mel = left.imshow(found.mel.T, cmap="magma", **options)
        parts = right.imshow(blocks.T, cmap="RdBu_r", vmin=-limit, vmax=limit, **options)
        figure.colorbar(mel, ax=left, label="decibels")
        figure.colorbar(parts, ax=right, label="adds to the probability")
        left.set(title=title, ylabel="mel band")
        right.set(title="red speaks for it, blue against it")
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    save_figure(figure, file, "What in the sound made the answer")


def sum_blocks(parts: np.ndarray) -> np.ndarray:
    """From `(frames, mels)` to sums over 4 frames and 4 bands: single places are speckled, and one alone is no sound."""
    frames, mels = (-(-size // BLOCK) for size in parts.shape)
    padded = np.zeros((frames * BLOCK, mels * BLOCK))
    padded[: parts.shape[0], : parts.shape[1]] = parts
    return padded.reshape(frames, BLOCK, mels, BLOCK).sum(axis=(1, 3))


def draw_mistakes(file: Path, servable: keras.Model, config: Config, clips: Clips, mistakes: pd.DataFrame) -> None:
    """For report.md: the first mistakes of a table, see `apps.speech.report.table_of_mistakes`; without any, no picture."""
    explainer, explanations = Explainer(servable), {}
    for row in mistakes[:MISTAKES_DRAWN].itertuples():
        title = f"{row.Index + 1}: {row.label}, predicted {row.predicted} {row.probability:.3f}"
        waveform = audio.to_float(clips.waveforms[row.row])
        explanations[title] = explainer(waveform, clips.class_names.index(row.predicted))
    if explanations:
        draw(file, explanations, config)
