"""What TensorBoard shows beside the epochs' figures, which Keras's own callback writes."""

import json
import math
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from shared.gradient_monitor import LOOK_EVERY
from shared.gradients import read_scalar

# Groups of TensorBoard's tags, in the order in which they are read.
QUALITY, LOSS, RECURRENCE, GRADIENTS, SPEED = "1_quality", "2_loss", "3_recurrence", "4_gradients", "5_speed"


class BatchScalars(keras.callbacks.Callback):
    """Write the largest gradient norm since the last point, and its logarithm, every tenth batch: a mean hides the spikes.

    (Keras's TensorBoard has `update_freq` for this; with a number, version 3.15 writes no scalars at all.)
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs=None):
        self.writer = tf.summary.create_file_writer(str(self.folder))

    def on_train_batch_end(self, batch, logs=None):
        if batch % LOOK_EVERY == 0:
            self._write()

    def on_epoch_end(self, epoch, logs=None):
        self._write()  # of the batches after the last point

    def on_train_end(self, logs=None):
        self.writer.close()

    def _write(self) -> None:
        optimizer = self.model.optimizer
        if (largest := read_scalar(optimizer.recent_norm_max)) > 0:
            with self.writer.as_default(step=int(optimizer.iterations.numpy())):
                tf.summary.scalar("batch_gradient_norm_max", largest)
                tf.summary.scalar("batch_gradient_norm_max_log10", math.log10(largest))
        optimizer.recent_norm_max.assign(0.0)


class EpochPictures(keras.callbacks.Callback):
    """Pictures of what a network has learned: every few epochs for TensorBoard, of the kept epoch for the run's `plots/`.

    A subclass draws them in `look`.

    Args:
        folder: the run folder.
        every: epochs from one picture to the next.
    """

    group = RECURRENCE

    def __init__(self, folder: Path, every: int = 4):
        super().__init__()
        self.folder = folder
        self.every = every

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw the network as it is now into files of `folder`. Returns them, and figures by TensorBoard's name."""
        raise NotImplementedError

    def on_epoch_end(self, epoch, logs=None):
        if epoch % self.every:
            return
        logs_folder = self.folder / "logs" / "train"
        pictures, figures = self.look(logs_folder, f"After {epoch + 1} epochs")
        with tf.summary.create_file_writer(str(logs_folder)).as_default(step=epoch):
            for picture in pictures:
                tf.summary.image(f"{self.group}/{picture.stem}", _pixels(picture))
                picture.unlink()
            for name, figure in figures.items():
                tf.summary.scalar(f"{self.group}/{name}", figure)

    def write_plots(self) -> dict[str, float]:
        """Into the run's `plots/`; call it when the network has the weights that are kept. Returns the figures."""
        return self.look(self.folder / "plots", "The kept epoch")[1]


def hparams_to_tensorboard(folder: Path, metrics: dict[str, Any]) -> None:
    """Show the run's settings beside its result in the HPARAMS tab: what it is judged by, its minutes and parameters.

    Args:
        folder: the run folder, with config.json.
        metrics: what goes into metrics.json.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    groups = [content for content in config.values() if isinstance(content, dict)]
    settings = {name: content for name, content in config.items() if not isinstance(content, dict)}
    settings |= {name: content for group in groups for name, content in group.items()}
    shown = {"app": metrics["app"]} | {name: _hparam(content) for name, content in settings.items() if name != "resume"}
    metric, split = metrics["metric"], metrics["split"]
    result = {f"validation_{metric}": metrics["validation"]["network"][metric]}
    result |= {f"{split}_{metric}": metrics["test"]["network"][metric], "baseline": metrics["test"]["baseline"][metric]}
    result |= {"minutes": metrics["train_seconds"] / 60, "parameters": metrics["parameters"]}
    with tf.summary.create_file_writer(str(folder / "logs" / "report")).as_default(step=0):
        hparams.hparams(shown)
        for name, figure in result.items():
            tf.summary.scalar(f"result/{name}", figure)


def _hparam(content) -> str | bool | int | float:
    """A setting as the HPARAMS tab takes it."""
    if isinstance(content, list):
        return " ".join(map(str, content))
    return "none" if content is None else content


def plots_to_tensorboard(folder: Path) -> None:
    """Show the run's plots in the IMAGES tab. (The writer's folder is logs/report.)"""
    with tf.summary.create_file_writer(str(folder / "logs" / "report")).as_default():
        for plot in sorted((folder / "plots").glob("*.png")):
            tf.summary.image(plot.stem, _pixels(plot), step=0)


def _pixels(picture: Path) -> tf.Tensor:
    """A PNG file as TensorBoard's images are, `(1, height, width, 4)`."""
    return tf.image.decode_png(picture.read_bytes(), channels=4)[None]
