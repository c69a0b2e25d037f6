"""What every training run shares: seeds, precision, devices, the standard callbacks, resume, Ctrl-C."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from shared import rehearsal
from shared.bptt import stateful_layers
from shared.cli import UserError
from shared.gradients import LOOK_EVERY, GradientMonitor

SAVE_EVERY = 600  # seconds between two states that are saved within an epoch: what a kill loses at most


def setup(
    seed: int, deterministic: bool = False, precision: str = "float32", multi_gpu: bool = False, batch_size: int | None = None
):
    """Seed every generator and choose how numbers are computed. Call it before anything is built.

    Args:
        seed: for Python, NumPy and Keras.
        deterministic: choose only operations whose result is the same to the last bit in every run (slower on a GPU).
        precision: a Keras dtype policy: "float32" or "mixed_bfloat16".
        multi_gpu: copy the model to all GPUs of this machine; each gets its part of every batch.
        batch_size: with `multi_gpu`; what all GPUs together get in a step.

    Returns:
        A context (`tf.distribute.Strategy.scope()`'s owner) to build and compile the model in.

    Raises:
        UserError: `multi_gpu` with fewer than two GPUs, or with a batch that they can't share evenly; another backend than
            TensorFlow (JAX keeps the variables outside the model while it trains: what is saved to resume from, the carried
            state and the measured gradients would be wrong without a word).
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(f"Training needs Keras's TensorFlow backend; got {keras.backend.backend()}. Unset KERAS_BACKEND.")
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(precision)
    if not multi_gpu:
        return tf.distribute.get_strategy()
    gpus = list_gpus()
    if len(gpus) < 2:
        raise UserError(f"--multi-gpu needs two GPUs or more, TensorFlow sees {len(gpus)}. Leave it out.")
    if batch_size and batch_size % len(gpus):
        raise UserError(
            f"--batch-size {batch_size} can't be shared evenly by {len(gpus)} GPUs. Give a multiple of {len(gpus)}, "
            f"for example {-(-batch_size // len(gpus)) * len(gpus)}."
        )
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

    `best.weights.npz` holds the best epoch (`restore_best` reads it), `state.npz` what `Resume` goes on from;
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
    """Keep the weights of the epoch with the best `monitor` in `best.weights.npz`; of equal accuracies, the lowest loss wins.

    (Small validation sets have few different accuracies, and the first epoch to reach the best one is the least trained.
    Keras's ModelCheckpoint writes over the last best weights, which a full disk or a kill then takes along.)
    """

    def __init__(self, folder: Path, monitor: str):
        super().__init__()
        self.file = Path(folder) / "best.weights.npz"
        self.monitor = monitor
        self.mode = "max" if "accuracy" in monitor else "min"
        self.best = self.best_loss = None

    def on_epoch_end(self, epoch, logs=None):
        value = float(logs[self.monitor])
        loss = float(logs["val_loss"]) if self.mode == "max" else 0.0  # losses hardly ever tie
        sign = -1 if self.mode == "max" else 1
        if self.best is None or (sign * value, loss) < (sign * self.best, self.best_loss):
            save_weights(self.model, self.file)
            self.best, self.best_loss = value, loss


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
    """Save all that the next batch depends on, after each epoch and every ten minutes within one; go on from there.

    That is: weights, recurrent states, the state of the seed generators (dropout; Keras's own weight files leave it out), the
    optimizer's variables, the epoch's metrics so far, the state of early stopping and best checkpoint, and the seconds spent.
    The order of the data is not saved but computed from the number of the epoch, see `shared.batches.batches_by_length`. Of an
    epoch that was cut, the batches that were done are read again and passed over.

    Args:
        folder: holds `state.npz`, which is replaced as a whole.
        followed: callbacks by name whose counters are part of the state. They must stand before this one.
        restore: read the state from `folder`.
        name: of the file, where a run has several trainings.

    Attributes:
        first_epoch: pass it to `fit` as `initial_epoch`: 0, or the number of whole epochs done before.
        epochs: epochs done, in this process and those before; one cut short counts.
        seconds: time spent in `fit`, in this process and those before.
    """

    COUNTERS = ("best", "best_loss", "wait", "best_epoch", "stopped_epoch")

    def __init__(self, folder: Path, followed: dict[str, keras.callbacks.Callback], restore: bool, name: str = "state.npz"):
        super().__init__()
        self.file = Path(folder) / name
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
        self.started = self.saved_at = time.monotonic()
        self._build_optimizer()
        if self.saved:
            self._restore()
            self._pass_over(self.saved["batches"])

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.saved and batch < self.saved["batches"]:
            return  # passed over
        if getattr(self.model, "epoch_was_cut", False) or time.monotonic() - self.saved_at > SAVE_EVERY:
            self._save(self.epoch, batches=batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        self.saved = None
        self.epochs = epoch + 1
        if not getattr(self.model, "epoch_was_cut", False):  # else its last batch saved the state
            self._save(epoch + 1)

    def _ended(self) -> bool:
        """Whether training ends here by itself: by early stopping, not by Ctrl-C."""
        return bool(self.model.stop_training) and not getattr(self.model, "interrupted", False)

    def _variables(self) -> dict[str, Any]:
        model = self.model
        parts = {"model": model.variables, "optimizer": model.optimizer.variables, "metrics": model.metrics_variables}
        parts["states"] = [state for layer in stateful_layers(model) for state in layer.states]
        return {f"{part}/{n}": variable for part, variables in parts.items() for n, variable in enumerate(variables)}

    def _save(self, epochs: int, batches: int = 0) -> None:
        """Save that `epochs` whole epochs and `batches` batches of the next one are done."""
        self.saved_at = time.monotonic()
        self.seconds = self.seconds_before + self.saved_at - self.started
        counters = {
            name: {key: _plain(getattr(callback, key)) for key in self.COUNTERS if hasattr(callback, key)}
            for name, callback in self.followed.items()
        }
        about = {"epochs": epochs, "batches": batches, "seconds": self.seconds, "stopped": self._ended(), "counters": counters}
        arrays = {name: variable.numpy() for name, variable in self._variables().items()}
        write_whole(self.file, lambda opened: np.savez(opened, about=json.dumps(about), **arrays))

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
        for name, variable in self._variables().items():
            if name in self.saved:
                variable.assign(self.saved[name])
        for name, counters in self.saved["counters"].items():
            for key, value in counters.items():
                setattr(self.followed[name], key, value)

    def _pass_over(self, batches: int) -> None:
        """Let the first batches of the epoch go by without training, then restore what other callbacks set meanwhile."""
        train_step, left = self.model.train_function, iter(range(batches - 1, -1, -1))

        def pass_over(iterator):
            if next(left):
                next(iterator)
            else:
                train_step(iterator)  # creates the metrics' variables; all else that it does is undone
                self._restore()
                self.model.train_function = train_step
            return {}

        if batches:
            self.model.train_function = pass_over


class StopOnInterrupt(keras.callbacks.Callback):
    """Ctrl-C ends training after the running batch, so that the run can still be evaluated and saved; twice: at once.

    Sets `model.interrupted`, and `model.epoch_was_cut` where it came before the epoch's end.

    Args:
        then: what comes after this training.
    """

    def __init__(self, then: str = "evaluating and saving"):
        super().__init__()
        self.then = then

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
        print(f"\nCtrl-C: finishing this batch, then {self.then}. Press it again to stop at once.")


def verbosity() -> int:
    """For `fit`: a progress bar in a terminal, a line an epoch in a file."""
    return 1 if sys.stdout.isatty() else 2


def write_whole(file: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file whole: `write` gets one beside it, which is then renamed. A failed write leaves `file` as it was."""
    beside = file.with_name(f"{file.name}.part")
    try:
        with open(beside, "wb") as opened:
            write(opened)
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def save_weights(model: keras.Model, file: Path) -> None:
    """Write a model's weights to an `.npz` file. (On a full disk, HDF5, in which Keras writes them, may crash.)"""
    weights = {f"{number}": weight for number, weight in enumerate(model.get_weights())}
    write_whole(file, lambda opened: np.savez(opened, **weights))


def load_weights(model: keras.Model, file: Path) -> None:
    """Read what `save_weights` wrote."""
    with np.load(file) as saved:
        model.set_weights([saved[name] for name in saved.files])


def restore_best(model: keras.Model, folder: Path) -> None:
    """Put the weights of the best epoch back."""
    load_weights(model, folder / "best.weights.npz")


def remove_training_state(folder: Path) -> None:
    """Remove what only `--resume` needs; the last step before a run is finished."""
    for name in ("pretraining.npz", "pretrained.npz", "best.weights.npz", "state.npz"):
        (folder / name).unlink(missing_ok=True)


def _plain(value) -> float | int | None:
    """NumPy's scalars as Python's, which JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value
