"""What every training has in common: seeds, devices, the optimizer, the standard callbacks, the time per step."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from shared import gradients
from shared.callbacks import HistoryFile, ProgressLine, Speed, StopOnInterrupt
from shared.checkpoints import BestWeights, Resume
from shared.cli import UserError
from shared.data import Splits
from shared.environment import describe_device
from shared.gradient_monitor import GradientMonitor, UpdateMonitor
from shared.settings import Training
from shared.tensorboard import BatchScalars, EpochScalars

WARM_UP = 0.05  # fraction of all steps


@dataclass(frozen=True)
class Experiment:
    """All that there is before the first step: what an app's `prepare` returns. Apps add fields of their own."""

    data: Splits
    network: keras.Model  # compiled
    batches: Callable[[int], tf.data.Dataset]  # from the number of the first epoch to batches without end
    steps: int  # batches per epoch
    validation_batches: tf.data.Dataset | None


def setup(settings: Training) -> tf.distribute.Strategy:
    """Seed Python, NumPy and Keras, and choose how numbers are computed. Call it before anything is built.

    Returns:
        The strategy in whose `scope()` the network is built and compiled; with `--multi-gpu` it copies the network to all
        GPUs of this machine, and each gets its part of every batch.

    Raises:
        UserError: `multi_gpu` with fewer than two GPUs, or with a batch that cannot be split evenly; another backend than
            TensorFlow (JAX keeps the variables outside the model while it trains: what is saved to resume from, the carried
            state and the measured gradients would be wrong without a message).
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(f"Training needs Keras's TensorFlow backend; got {keras.backend.backend()}. Unset KERAS_BACKEND.")
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(settings.precision)
    if not settings.multi_gpu:
        return tf.distribute.get_strategy()
    gpus = list_gpus()
    if len(gpus) < 2:
        raise UserError(f"--multi-gpu needs two GPUs or more, TensorFlow sees {len(gpus)}. Leave it out.")
    if settings.batch_size % len(gpus):
        raise UserError(
            f"--batch-size {settings.batch_size} cannot be split evenly over {len(gpus)} GPUs. Give a multiple of {len(gpus)}, "
            f"for example {-(-settings.batch_size // len(gpus)) * len(gpus)}."
        )
    return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])


def list_gpus() -> list:
    """TensorFlow's devices that a model can be copied to."""
    return tf.config.list_logical_devices("GPU")


def make_optimizer(settings: Training, steps: int) -> gradients.Adam:
    """Adam that clips and measures, with the schedule of `warmup_cosine` over all epochs of `steps` batches each."""
    return gradients.Adam(
        warmup_cosine(settings.learning_rate, settings.epochs * steps, WARM_UP),
        weight_decay=settings.weight_decay or None,
        clipping=settings.clipping,
        clip_threshold=settings.clip_threshold,
    )


def warmup_cosine(peak: float, steps: int, warmup: float, floor: float = 0.0) -> keras.optimizers.schedules.CosineDecay:
    """The learning rate of a whole training: linear warm-up from 0, then half a cosine that ends with the last step.

    (Keras counts `decay_steps` from the end of the warm-up: with the number of all steps, the floor is never reached.)

    Args:
        peak: learning rate at the end of the warm-up.
        steps: of the whole training.
        warmup: fraction of the steps that the warm-up takes.
        floor: learning rate of the last step, as a fraction of `peak`.
    """
    warmup_steps = max(1, int(warmup * steps))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=peak,
        warmup_steps=warmup_steps,
        decay_steps=max(1, steps - 1 - warmup_steps),
        alpha=floor,
    )


def make_callbacks(
    folder: Path, monitor: str, settings: Training, baseline: dict[str, float] | None = None
) -> tuple[list[keras.callbacks.Callback], Resume]:
    """The standard callbacks, in the order in which they have to stand, and the one of them that knows the epochs done.

    Args:
        folder: the run folder; gets `history.csv`, `logs/` (TensorBoard), `best.weights.npz` (the best epoch, which
            `checkpoints.restore_best` reads) and `state.npz` (what `Resume` goes on from).
        monitor: what the best epoch is chosen by, for example "val_loss"; see `checkpoints.MAXIMISED`.
        settings: `patience`, and with `resume` the state that an earlier process left in `folder` is read.
        baseline: what TensorBoard shows beside the network's figures, see `shared.tensorboard.EpochScalars`.
    """
    best = BestWeights(folder, monitor)
    early_stopping = keras.callbacks.EarlyStopping(monitor=monitor, mode=best.mode, patience=settings.patience)
    resume = Resume(folder, {"best": best, "early_stopping": early_stopping}, restore=settings.resume)
    callbacks = [
        ProgressLine(monitor),  # before the monitor, whose many figures would not fit a line
        GradientMonitor(),  # this and the next two before those that write the logs
        UpdateMonitor(),
        Speed(settings.batch_size),
        best,
        early_stopping,
        HistoryFile(folder / "history.csv"),
        EpochScalars(folder, best, baseline or {}),
        BatchScalars(folder / "logs" / "train"),
        StopOnInterrupt(),
        resume,
    ]
    return callbacks, resume


def describe(app: str, config: Any, experiment: Experiment, resume: Resume) -> dict[str, Any]:
    """The entries of metrics.json that every app has, but for those about quality, which its `evaluate` returns."""
    return {
        "app": app,
        "preset": config.preset,
        "dataset": experiment.data.name,
        "split": "test",
        "seed": config.training.seed,
        "parameters": experiment.network.count_params(),
        "epochs": resume.epochs,
        "train_seconds": resume.seconds,
        "interrupted": experiment.network.interrupted,
        "device": describe_device(),
    }


class StepTimes(keras.callbacks.Callback):
    """Measure the steps of a `fit`, and end it after 20 measured ones and three seconds, or after thirty seconds."""

    WARM_UP = 3  # steps that are not counted: graphs are traced in them
    STEPS, MIN_SECONDS, MAX_SECONDS = 20, 3.0, 30.0

    def on_train_begin(self, logs=None):
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(time.perf_counter())
        counted = self.ends[self.WARM_UP :]
        seconds = counted[-1] - counted[0] if counted else 0.0
        enough = self.MIN_SECONDS if len(counted) > self.STEPS else self.MAX_SECONDS
        self.model.stop_training = seconds > enough

    def milliseconds(self) -> float:
        """The median step after the warm-up; the fastest step of a `fit` that ended within it."""
        steps = np.diff(self.ends)
        return 1000 * float(np.median(steps[self.WARM_UP - 1 :]) if len(steps) >= self.WARM_UP else steps.min())


def time_steps(experiment: Experiment) -> float:
    """Milliseconds per training step, measured in an ordinary short `fit`. Do not use the network afterwards."""
    times = StepTimes()
    experiment.network.fit(
        experiment.batches(0),
        steps_per_epoch=max(experiment.steps, 2),
        shuffle=False,
        callbacks=[GradientMonitor(), times],
        verbose=0,
    )
    return times.milliseconds()


def verbosity() -> int:
    """For `fit`: a progress bar in a terminal, a line per epoch in a file."""
    return 1 if sys.stdout.isatty() else 2
