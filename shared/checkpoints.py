"""Weights on the disk: the best epoch's, and all that a training needs to go on after a kill."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np

from shared.bptt import stateful_layers

MAXIMISED = ("accuracy", "f1", "bleu")  # what has one of these in its name is better when larger; all else when smaller
SAVE_EVERY = 600  # seconds between two states that are saved within an epoch: what a kill loses at most


class BestWeights(keras.callbacks.Callback):
    """Keep the weights of the epoch with the best `monitor` in `best.weights.npz`; of equal ones, that with the lowest loss.

    (Small validation sets have few different accuracies, and the first epoch to reach the best one is the least trained.
    Keras's ModelCheckpoint writes over the last best weights, which a full disk or a kill then takes along.)
    """

    def __init__(self, folder: Path, monitor: str):
        super().__init__()
        self.file = Path(folder) / "best.weights.npz"
        self.monitor = monitor
        self.mode = "max" if any(name in monitor for name in MAXIMISED) else "min"
        self.best = self.best_loss = self.best_epoch = None

    def on_epoch_end(self, epoch, logs=None):
        value = float(logs[self.monitor])
        loss = float(logs["val_loss"])
        sign = -1 if self.mode == "max" else 1
        if self.best is None or (sign * value, loss) < (sign * self.best, self.best_loss):
            save_weights(self.model, self.file)
            self.best, self.best_loss, self.best_epoch = value, loss, epoch


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
            with self.model.distribute_strategy.scope():
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


def _plain(value) -> float | int | None:
    """NumPy's scalars as Python's, which JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value
