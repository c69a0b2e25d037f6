"""Callbacks of every training: the progress line, history.csv, the speed, and Ctrl-C."""

import os
import shutil
import signal
import time
from pathlib import Path

import keras
import pandas as pd


class ProgressLine(keras.callbacks.ProgbarLogger):
    """Keras's progress bar with as many figures as fit the terminal's line: one that wraps can't be overwritten.

    Args:
        monitor: the figure to show in any case; the others stand in history.csv.
    """

    AROUND = 40  # characters of the bar and the times, beside the number of steps

    def __init__(self, monitor: str):
        super().__init__()
        self.monitor = monitor

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, self._that_fit(logs or {}))

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, self._that_fit(logs or {}))

    def _that_fit(self, logs: dict[str, float]) -> dict[str, float]:
        if self.verbose != 1:  # a line per epoch, in a file
            return logs
        room = shutil.get_terminal_size().columns - self.AROUND - 2 * len(str(self.target))
        room -= len(f" - {self.monitor}: 0.0000")
        shown = {}
        for name, figure in logs.items():
            needed = len(f" - {name}: {figure:.4f}") if name != self.monitor else 0
            if needed <= room:
                shown[name] = figure
                room -= needed
        return shown


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


class Speed(keras.callbacks.Callback):
    """Add to the epoch's logs `learning_rate`, that of its last step, and `examples_per_second`.

    The first step is not timed: the graph is traced in it.

    Args:
        batch_size: examples in a batch.
    """

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.before = self._steps()
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        if self._steps() > self.before:  # not one that `checkpoints.Resume` passes over
            self.ends.append(time.perf_counter())

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        if len(self.ends) > 1:
            logs["examples_per_second"] = self.batch_size * (len(self.ends) - 1) / (self.ends[-1] - self.ends[0])

    def _steps(self) -> int:
        return int(self.model.optimizer.iterations.numpy())


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
