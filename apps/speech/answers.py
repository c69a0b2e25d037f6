"""The answer as it forms: class probabilities as a clip goes on, and after each epoch what is taken for what."""

from pathlib import Path

import keras
import numpy as np
from keras import ops
from scipy.special import softmax

from apps.speech import audio
from apps.speech.config import SILENCE, UNKNOWN, Config
from shared.classification import draw_counts
from shared.plots import plt, save_figure
from shared.tensorboard import QUALITY, EpochPictures

SCORES = "pooling_attention_scores"  # layer that the attention's weights come from, see `shared.rnn.pool`


class ConfusionMatrix(keras.metrics.Metric):
    """Counts what each class is taken for, in `counts` `(classes, classes)`, a row for each label; given to `compile`.

    Its result, for the epoch's logs, is the accuracy on an average class: each counts alike, however many clips it has.
    """

    def __init__(self, classes: int, name: str = "balanced_accuracy"):
        super().__init__(name=name)
        self.counts = self.add_variable((classes, classes), "zeros", name="counts")

    def update_state(self, labels, logits, sample_weight=None):
        """Labels, one-hot, and logits, both `(batch, classes)`."""
        predicted = ops.one_hot(ops.argmax(logits, axis=1), logits.shape[1], dtype=self.dtype)
        self.counts.assign_add(ops.matmul(ops.transpose(ops.cast(labels, self.dtype)), predicted))

    def result(self):
        of_class = ops.sum(self.counts, axis=1)
        recall = ops.diagonal(self.counts) / ops.maximum(of_class, 1)
        return ops.sum(recall) / ops.maximum(ops.sum(ops.cast(of_class > 0, self.dtype)), 1)


class ConfusionByEpoch(EpochPictures):
    """A picture of what an epoch's validation counted: no second pass is made.

    Args:
        confusion: the network is compiled with it.
        class_names: of the classes.
        folder: the run folder.
    """

    group = QUALITY

    def __init__(self, confusion: ConfusionMatrix, class_names, folder: Path):
        super().__init__(folder)
        self.confusion = confusion
        self.class_names = class_names

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `confusion_matrix.png`."""
        picture = folder / "confusion_matrix.png"
        counts = np.asarray(self.confusion.counts).astype(int)
        save_figure(draw_counts(counts, self.class_names), picture, f"{title}: validation")
        return [picture], {}

    def write_plots(self) -> None:
        """Nothing: the counts are those of the last epoch, and the report has the matrix on test."""


class AnswerOverTime(EpochPictures):
    """A picture, `answer.png`, of the probabilities as the first validation clip of a command goes on, see `EpochPictures`.

    Args:
        config: the settings.
        experiment: its data and features.
        folder: the run folder.
    """

    group = QUALITY

    def __init__(self, config: Config, experiment, folder: Path):
        super().__init__(folder)
        clips = experiment.data.validation
        names = [clips.class_names[label] for label in clips.labels]
        row = next((row for row, name in enumerate(names) if name not in (UNKNOWN, SILENCE)), 0)
        self.class_names, self.label = clips.class_names, names[row]
        waveform = audio.to_float(clips.waveforms[row : row + 1])
        self.mel = np.asarray(experiment.features(waveform)["mel"])[0]
        self.prefixes = prefixes(waveform[0], config.hop_length * config.frames_per_output)
        self.seconds = config.clip_seconds

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `answer.png`."""
        probabilities = softmax(np.asarray(self.model(self.prefixes, training=False)), axis=1)
        weights = attention_weights(self.model, self.prefixes[-1:])
        picture, title = folder / "answer.png", f"{title}: a validation clip of '{self.label}'"
        draw(picture, self.mel, probabilities, weights, self.class_names, self.seconds, title)
        return [picture], {}


def prefixes(waveform: np.ndarray, hop: int) -> np.ndarray:
    """The first `hop` samples of a waveform `(samples,)`, twice as many and so on, silence after them: `(steps, samples)`."""
    samples = np.arange(len(waveform))
    ends = hop * np.arange(1, 1 + -(-len(waveform) // hop))
    return np.where(samples < ends[:, None], waveform, 0).astype(waveform.dtype)


def attention_weights(network: keras.Model, waveforms: np.ndarray) -> np.ndarray | None:
    """How much each step of the first of `waveforms` counts when they are pooled, `(steps,)`; None without attention."""
    if SCORES not in [layer.name for layer in network.layers]:
        return None
    scores = keras.Model(network.input, network.get_layer(SCORES).output)(waveforms, training=False)
    return softmax(np.asarray(scores, np.float32)[0, :, 0])


def draw(file: Path, mel: np.ndarray, probabilities: np.ndarray, weights, class_names, seconds: float, title: str) -> None:
    """Three panels over time: the clip, the weights of the pooling, and the probabilities after each step.

    Args:
        file: to write to.
        mel: decibels `(frames, mels)`.
        probabilities: `(steps, classes)`, of the clip up to then.
        weights: `(steps,)`, of the whole clip; None: no such panel.
        class_names: of the classes.
        seconds: length of the clip.
        title: what was drawn.
    """
    heights = [2, *([] if weights is None else [1]), 0.4 + 0.2 * len(class_names)]
    size = {"figsize": (9, 2 + sum(heights)), "height_ratios": heights, "width_ratios": [50, 1]}
    figure, axes = plt.subplots(len(heights), 2, sharex="col", **size)
    time = {"extent": (0, seconds, -0.5, mel.shape[1] - 0.5), "aspect": "auto", "origin": "lower"}
    axes[0, 0].imshow(mel.T, cmap="magma", **time)
    axes[0, 0].set(ylabel="mel band")
    if weights is not None:
        axes[1, 0].stairs(weights, np.linspace(0, seconds, len(weights) + 1), fill=True)
        axes[1, 0].set(ylabel="weight in\nthe pooling")
    time |= {"extent": (0, seconds, len(class_names) - 0.5, -0.5), "origin": "upper", "interpolation": "nearest"}
    image = axes[-1, 0].imshow(probabilities.T, vmin=0, vmax=1, **time)
    axes[-1, 0].set_yticks(range(len(class_names)), class_names)
    axes[-1, 0].set(xlabel="seconds; the probabilities are of the clip up to then, followed by silence")
    figure.colorbar(image, cax=axes[-1, 1], label="probability")
    for axis in axes[:-1, 1]:
        axis.axis("off")
    save_figure(figure, file, title)
