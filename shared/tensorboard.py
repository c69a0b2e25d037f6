"""What TensorBoard shows of a run: figures of epochs and batches, pictures, settings and results."""

import json
import math
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.hparams import api as hparams

from shared.checkpoints import BestWeights
from shared.gradient_monitor import LOOK_EVERY
from shared.gradients import read_scalar

# Groups of TensorBoard's tags, in the order in which they are read.
QUALITY, LOSS, RECURRENCE, GRADIENTS, SPEED = "1_quality", "2_loss", "3_recurrence", "4_gradients", "5_speed"
GROUPS = {name: LOSS for name in ("loss", "log_loss")}
GROUPS |= {name: GRADIENTS for name in ("gradient_norm", "gradient_norm_max", "clipped_fraction", "clip_threshold")}
GROUPS |= {name: GRADIENTS for name in ("update_ratio", "weight_norm", "learning_rate")}
GROUPS |= {"examples_per_second": SPEED}
PLOTS = {"training": LOSS}
PLOTS |= {name: RECURRENCE for name in ("states", "gates", "units", "gradient_through_time", "loss_by_context")}
# What is named in neither is about quality.


def tag(name: str) -> str:
    """Under which of TensorBoard's groups one of the figures in an epoch's logs is found."""
    return f"{GROUPS.get(name.split('/')[0], QUALITY)}/{name}"


class EpochScalars(keras.callbacks.Callback):
    """Write each epoch's figures, those of validation beside those of training, and the baseline as a constant line.

    (Keras's own callback has no groups.) And, at the start, charts that show all layers at once (CUSTOM SCALARS tab);
    at the end, under `kept`, a point at the epoch that is kept.

    Args:
        folder: the run folder.
        best: stands before this callback; what the epochs are compared by.
        baseline: its figures on validation, named as those of the network in the logs: {"accuracy": 0.87}.
    """

    def __init__(self, folder: Path, best: BestWeights, baseline: dict[str, float]):
        super().__init__()
        self.folder = folder
        self.best = best
        self.baseline = baseline

    def on_train_begin(self, logs=None):
        parts = ("train", "validation", "kept", *(["baseline"] if self.baseline else []))
        self.writers = {part: tf.summary.create_file_writer(str(self.folder / "logs" / part)) for part in parts}
        with self.writers["train"].as_default(step=0):
            tf.summary.experimental.write_raw_pb(custom_scalar.pb(layout()).SerializeToString(), step=0)

    def on_epoch_end(self, epoch, logs=None):
        for name, figure in (logs or {}).items():
            self._write("validation" if name.startswith("val_") else "train", epoch, name.removeprefix("val_"), figure)
        for name, figure in self.baseline.items():
            self._write("baseline", epoch, name, figure)

    def on_train_end(self, logs=None):
        if self.best.best_epoch is not None:
            self._write("kept", self.best.best_epoch, self.best.monitor.removeprefix("val_"), self.best.best)
        for writer in self.writers.values():
            writer.close()

    def _write(self, part: str, epoch: int, name: str, figure: float) -> None:
        with self.writers[part].as_default(step=epoch):
            tf.summary.scalar(tag(name), figure)


def layout() -> layout_pb2.Layout:
    """Charts of what belongs together, all layers' curves on one."""

    def category(title: str, **charts: str) -> layout_pb2.Category:
        lines = {name: layout_pb2.MultilineChartContent(tag=[pattern]) for name, pattern in charts.items()}
        charts = [layout_pb2.Chart(title=name.replace("_", " "), multiline=content) for name, content in lines.items()]
        return layout_pb2.Category(title=title, chart=charts)

    return layout_pb2.Layout(
        category=[
            category("Quality and loss", quality=f"^{QUALITY}/[a-z_]+$", loss=f"^{LOSS}/.*"),
            category(
                "Gradients, by layer",
                gradient_norm=f"^{GRADIENTS}/gradient_norm/.*",
                update_as_a_fraction_of_the_weights=f"^{GRADIENTS}/update_ratio/.*",
                weight_norm=f"^{GRADIENTS}/weight_norm/.*",
            ),
            category(
                "Recurrence",
                steps_until_1_percent_of_the_gradient_is_left=f"^{RECURRENCE}/steps_to_1_percent/.*",
                fraction_of_steps_at_which_gates_are_shut=f"^{RECURRENCE}/gate_shut/.*",
                fraction_of_steps_at_which_gates_are_open=f"^{RECURRENCE}/gate_open/.*",
            ),
        ]
    )


class BatchScalars(keras.callbacks.Callback):
    """Write the largest gradient norm since the last point, and its logarithm, every tenth batch: a mean hides the spikes."""

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
                tf.summary.scalar(f"{GRADIENTS}/batch_gradient_norm_max", largest)
                tf.summary.scalar(f"{GRADIENTS}/batch_gradient_norm_max_log10", math.log10(largest))
        optimizer.recent_norm_max.assign(0.0)


class EpochPictures(keras.callbacks.Callback):
    """Pictures of what a network has learned: every few epochs for TensorBoard, of the kept epoch for the run's `plots/`.

    A subclass draws them in `look`.

    Args:
        folder: the run folder.
        every: epochs from one picture to the next; None: only the kept epoch is drawn.
    """

    group = RECURRENCE

    def __init__(self, folder: Path, every: int | None = 4):
        super().__init__()
        self.folder = folder
        self.every = every

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw the network as it is now into files of `folder`. Returns them, and figures by TensorBoard's name."""
        raise NotImplementedError

    def on_epoch_end(self, epoch, logs=None):
        if self.every is None or epoch % self.every:
            return
        logs_folder = self.folder / "logs" / "train"
        pictures, figures = self.look(logs_folder, f"After epoch {epoch + 1}")
        with tf.summary.create_file_writer(str(logs_folder)).as_default(step=epoch):
            for picture in pictures:
                tf.summary.image(f"{self.group}/{picture.stem}", _pixels(picture))
                picture.unlink()
            for name, figure in figures.items():
                tf.summary.scalar(f"{self.group}/{name}", figure)

    def write_plots(self) -> None:
        """Into the run's `plots/`, the figures into its logs; call it when the network has the weights that are kept."""
        _, figures = self.look(self.folder / "plots", "The kept epoch")
        with tf.summary.create_file_writer(str(self.folder / "logs" / "report")).as_default(step=0):
            for name, figure in figures.items():
                tf.summary.scalar(f"{self.group}/{name}", figure)


def hparams_to_tensorboard(folder: Path, metrics: dict[str, Any]) -> None:
    """Show the run's settings beside its result in the HPARAMS tab: what it is judged by, its minutes and parameters.

    The settings stand in the TEXT tab, too.

    Args:
        folder: the run folder, with config.json.
        metrics: what goes into metrics.json.
    """
    text = (folder / "config.json").read_text(encoding="utf-8")
    config = json.loads(text)
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
        tf.summary.text("settings", f"```\n{text}\n```")
        for name, figure in result.items():
            tf.summary.scalar(f"result/{name}", figure)


def _hparam(content) -> str | bool | int | float:
    """A setting as the HPARAMS tab takes it."""
    if isinstance(content, list):
        return " ".join(map(str, content))
    return "none" if content is None else content


def plots_of_recurrence(folder: Path) -> list[str]:
    """The names of a run's plots of its recurrence, for report.md. (A SimpleRNN has no gates.)"""
    names = [name for name, group in PLOTS.items() if group == RECURRENCE]
    return [name for name in names if (folder / "plots" / f"{name}.png").exists()]


def plots_to_tensorboard(folder: Path) -> None:
    """Show the run's plots in the IMAGES tab. (The writer's folder is logs/report.)"""
    with tf.summary.create_file_writer(str(folder / "logs" / "report")).as_default():
        for plot in sorted((folder / "plots").glob("*.png")):
            group = PLOTS.get(plot.stem, QUALITY)
            tf.summary.image(f"{group}/{plot.stem}", _pixels(plot), step=0)


def _pixels(picture: Path) -> tf.Tensor:
    """A PNG file as TensorBoard's images are, `(1, height, width, 4)`."""
    return tf.image.decode_png(picture.read_bytes(), channels=4)[None]
