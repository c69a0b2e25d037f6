"""What every training run shares: seeds, precision, devices, the standard callbacks, resume, Ctrl-C."""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from shared import rehearsal
from shared.cli import UserError
from shared.gradients import LOOK_EVERY, GradientMonitor


def setup(seed: int, deterministic: bool = False, precision: str = "float32", multi_gpu: bool = False):
    """Seed every generator and choose how numbers are computed. Call it before anything is built.

    Args:
        seed: for Python, NumPy and Keras.
        deterministic: choose only operations whose result is the same to the last bit in every run (slower on a GPU).
        precision: a Keras dtype policy: "float32" or "mixed_bfloat16".
        multi_gpu: copy the model to all GPUs of this machine; each gets its share of every batch.

    Returns:
        A context (`tf.distribute.Strategy.scope()`'s owner) to build and compile the model in.

    Raises:
        UserError: `multi_gpu` with fewer than two GPUs.
    """
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(precision)
    if not multi_gpu:
        return tf.distribute.get_strategy()
    gpus = list_gpus()
    if len(gpus) < 2:
        raise UserError(f"--multi-gpu needs two GPUs or more, TensorFlow sees {len(gpus)}. Leave it out.")
    return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])


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


def list_gpus() -> list:
    """TensorFlow's devices that a model can be copied to."""
    return tf.config.list_logical_devices("GPU")


def make_callbacks(folder: Path, monitor: str, patience: int, resume: bool = False) -> list[keras.callbacks.Callback]:
    """The standard callbacks, in the order in which they have to stand; the last one is `Resume`.

    Args:
        folder: the run folder; gets `history.csv`, `logs/` (TensorBoard) and the two files below.
        monitor: what the best epoch is chosen by, for example "val_loss"; accuracies are maximised, the rest minimised.
        patience: epochs without a better `monitor` after which training stops.
        resume: go on from the state that an earlier process left in `folder`.

    `best.weights.h5` holds the best epoch (`restore_best` reads it), `state.npz` the last whole one (see `Resume`);
    `remove_training_state` takes both away when the run is finished.
    """
    best = BestWeights(folder, monitor)
    early_stopping = keras.callbacks.EarlyStopping(monitor=monitor, mode=best.mode, patience=patience)
    pace = rehearsal.callbacks(is_last=True)
    return [
        *pace,
        keras.callbacks.ProgbarLogger(),  # before the monitor, whose many figures would not fit a line
        GradientMonitor(),  # before those that write the logs
        best,
        early_stopping,
        HistoryFile(folder / "history.csv"),
        keras.callbacks.TensorBoard(folder / "logs", write_graph=False),
        BatchScalars(folder / "logs" / "train"),
        *([] if pace else [StopOnInterrupt()]),  # a rehearsal has nothing to save
        Resume(folder, {"best": best, "early_stopping": early_stopping}, restore=resume),
    ]


class BestWeights(keras.callbacks.Callback):
    """Keep the weights of the epoch with the best `monitor` in `best.weights.h5`.

    (Keras's ModelCheckpoint writes over the last best weights, which a full disk or a kill then takes along.)
    """

    def __init__(self, folder: Path, monitor: str):
        super().__init__()
        self.file = Path(folder) / "best.weights.h5"
        self.monitor = monitor
        self.mode = "max" if "accuracy" in monitor else "min"
        self.best = None

    def on_epoch_end(self, epoch, logs=None):
        value = float(logs[self.monitor])
        if self.best is None or (value > self.best if self.mode == "max" else value < self.best):
            save_weights(self.model, self.file)
            self.best = value


class BatchScalars(keras.callbacks.Callback):
    """Write the gradient norm of every tenth batch to TensorBoard: an epoch's mean hides the spikes.

    (Keras's TensorBoard has `update_freq` for this; with a number, version 3.15 writes no scalars at all.)
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs=None):
        self.writer = tf.summary.create_file_writer(str(self.folder))

    def on_train_batch_end(self, batch, logs=None):
        if batch % LOOK_EVERY == 0:
            with self.writer.as_default(step=int(self.model.optimizer.iterations.numpy())):
                tf.summary.scalar("batch_gradient_norm", logs["gradient_norm"])

    def on_train_end(self, logs=None):
        self.writer.close()


class HistoryFile(keras.callbacks.Callback):
    """Write each epoch's logs to a CSV file. An epoch that is done again replaces its row.

    (Keras's CSVLogger would double that row, and leaves the file open after an error.)
    """

    def __init__(self, file: Path):
        super().__init__()
        self.file = Path(file)

    def on_epoch_end(self, epoch, logs=None):
        rows = pd.DataFrame([{"epoch": epoch, **(logs or {})}])
        if epoch and self.file.exists():
            before = pd.read_csv(self.file)
            rows = pd.concat([before[before["epoch"] < epoch], rows])
        beside = self.file.with_name("history.part.csv")
        rows.to_csv(beside, index=False)
        os.replace(beside, self.file)


class Resume(keras.callbacks.Callback):
    """Save after each epoch all that the next one depends on, and go on from there after a kill.

    That is: weights, the state of the seed generators (dropout; Keras's own weight files leave it out), the optimizer's
    variables, the state of early stopping and best checkpoint, and the seconds spent. The order of the data is not
    saved but computed from the number of the epoch, see `shared.batches.batches_by_length`.

    Args:
        folder: holds `state.npz`, which is replaced as a whole.
        followed: callbacks by name whose counters are part of the state. They must stand before this one.
        restore: read the state from `folder`.

    Attributes:
        first_epoch: pass it to `fit` as `initial_epoch`: 0, or the number of whole epochs done before.
        epochs: epochs done, in this process and those before; one cut short counts.
        seconds: time spent in `fit`, in this process and those before.
    """

    COUNTERS = ("best", "wait", "best_epoch", "stopped_epoch")

    def __init__(self, folder: Path, followed: dict[str, keras.callbacks.Callback], restore: bool):
        super().__init__()
        self.file = Path(folder) / "state.npz"
        self.followed = followed
        self.saved = self._read() if restore else None
        self.first_epoch = self.saved["epochs"] if self.saved else 0
        self.epochs = self.first_epoch
        self.stopped = bool(self.saved and self.saved["stopped"])
        self.seconds_before = self.saved["seconds"] if self.saved else 0.0
        self.seconds = self.seconds_before

    def last_epoch(self, epochs: int) -> int:
        """What to pass to `fit` as `epochs`: none is left if training had ended by itself before."""
        return self.first_epoch if self.stopped else epochs

    def on_train_begin(self, logs=None):
        self.started = time.monotonic()
        self._build_optimizer()
        if self.saved:
            self._restore()
            self.saved = None

    def on_epoch_end(self, epoch, logs=None):
        self.epochs = epoch + 1
        self.seconds = self.seconds_before + time.monotonic() - self.started
        if not getattr(self.model, "epoch_was_cut", False):  # else it is done again
            self._save(epoch + 1)

    def _ended(self) -> bool:
        """Whether training ends here by itself: by early stopping, not by Ctrl-C."""
        return bool(self.model.stop_training) and not getattr(self.model, "interrupted", False)

    def _save(self, epochs: int) -> None:
        arrays = {f"model/{n}": v.numpy() for n, v in enumerate(self.model.variables)}
        arrays |= {f"optimizer/{n}": v.numpy() for n, v in enumerate(self.model.optimizer.variables)}
        counters = {
            name: {key: _plain(getattr(callback, key)) for key in self.COUNTERS if hasattr(callback, key)}
            for name, callback in self.followed.items()
        }
        about = {"epochs": epochs, "seconds": self.seconds, "stopped": self._ended(), "counters": counters}
        beside = self.file.with_name("state.part.npz")
        np.savez(beside, about=json.dumps(about), **arrays)
        os.replace(beside, self.file)

    def _read(self) -> dict[str, Any] | None:
        if not self.file.exists():
            return None  # killed in the first epoch: start from the beginning
        with np.load(self.file) as file:
            saved = {name: file[name] for name in file.files}
        return saved | json.loads(str(saved.pop("about")))

    def _build_optimizer(self) -> None:
        """Create its variables, so that they can be restored (and TensorFlow need not trace the step twice to create them)."""
        optimizer = self.model.optimizer
        if not optimizer.built:
            strategy = getattr(self.model, "distribute_strategy", None)  # TensorFlow's alone
            with strategy.scope() if strategy else contextlib.nullcontext():
                optimizer.build(self.model.trainable_variables)

    def _restore(self) -> None:
        for part, variables in (("model", self.model.variables), ("optimizer", self.model.optimizer.variables)):
            for number, variable in enumerate(variables):
                variable.assign(self.saved[f"{part}/{number}"])
        for name, counters in self.saved["counters"].items():
            for key, value in counters.items():
                setattr(self.followed[name], key, value)


class StopOnInterrupt(keras.callbacks.Callback):
    """Ctrl-C ends training after the running batch, so that the run can still be evaluated and saved; twice: at once.

    Sets `model.interrupted`, and `model.epoch_was_cut` where it came before the epoch's end.
    """

    def on_train_begin(self, logs=None):
        self.model.interrupted = self.model.epoch_was_cut = False
        self.before = signal.signal(signal.SIGINT, self._on_interrupt)

    def on_train_batch_end(self, batch, logs=None):
        if self.model.interrupted:
            self.model.stop_training = self.model.epoch_was_cut = True

    def on_epoch_end(self, epoch, logs=None):
        if self.model.interrupted:  # during validation
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        signal.signal(signal.SIGINT, self.before)

    def _on_interrupt(self, *_):
        if self.model.interrupted:
            signal.signal(signal.SIGINT, self.before)
            raise KeyboardInterrupt
        self.model.interrupted = True
        print("\nCtrl-C: finishing this batch, then evaluating and saving. Press it again to stop at once.")


def verbosity() -> int:
    """For `fit`: a progress bar in a terminal, a line an epoch in a file."""
    return 1 if sys.stdout.isatty() else 2


def save_weights(model: keras.Model, file: Path) -> None:
    """Write a `.weights.h5` file whole: first beside, then renamed into place."""
    beside = file.with_name("part.weights.h5")
    model.save_weights(beside)
    os.replace(beside, file)


def restore_best(model: keras.Model, folder: Path) -> None:
    """Put the weights of the best epoch back."""
    model.load_weights(folder / "best.weights.h5")


def remove_training_state(folder: Path) -> None:
    """Remove what only `--resume` needs; the last step before a run is finished."""
    for name in ("pretrained.weights.h5", "best.weights.h5", "state.npz"):
        (folder / name).unlink(missing_ok=True)


def _plain(value) -> float | int | None:
    """NumPy's scalars as Python's, which JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value
