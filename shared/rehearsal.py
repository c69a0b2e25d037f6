"""A training that stops after a few steps and keeps nothing: which kernels run, and how many minutes it would take."""

import contextlib
import io
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from shared import runs

WARM_UP = 2  # steps that are not counted: graphs are traced in them
STEPS = 12  # counted at least, and for so many seconds at least,
LEAST_SECONDS, MOST_SECONDS = 3.0, 30.0  # and at most


class Rehearsal(NamedTuple):
    network: keras.Model
    milliseconds: float  # a training step, the median
    seconds: float  # what the whole training would take, with what comes before it; without validation and test


class Enough(Exception):
    """Raised inside `fit` when a rehearsal has seen what it wants."""


class Pace(keras.callbacks.Callback):
    """Measure the steps of one `fit` after the other, and cut each short."""

    def __init__(self, jit_compile: bool):
        super().__init__()
        self.jit_compile = jit_compile
        self.spared = 0.0  # seconds that cut fits would still have taken
        self.is_last = False

    def on_train_begin(self, logs=None):
        if self.jit_compile:
            self.model.jit_compile = True
            self.model.make_train_function(force=True)
        self.times = [time.monotonic()]

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.monotonic())
        done, total = len(self.times) - 1, self.params["steps"] * self.params["epochs"]
        counted = self.times[min(WARM_UP, total - 1) :]
        steps, seconds = len(counted) - 1, counted[-1] - counted[0] if counted else 0.0
        enough = seconds > LEAST_SECONDS if steps >= STEPS else seconds > MOST_SECONDS
        if not enough and done < total:
            return
        self.milliseconds = 1000 * float(np.median(np.diff(counted)))
        self.spared += seconds / steps * (total - done)
        self.model.stop_training = True
        if self.is_last:
            raise Enough


_pace: Pace | None = None  # of the rehearsal that is going on


def callbacks(is_last: bool = False) -> list[Pace]:
    """For every `fit` of a training: nothing, or, in a rehearsal, what cuts it short.

    Args:
        is_last: the training has no further `fit`.
    """
    if _pace is None:
        return []
    _pace.is_last = is_last
    return [_pace]


def rehearse(train: Callable, config: object, jit_compile: bool = False) -> Rehearsal:
    """Begin a training as `train(config)` does, with its data, its model and its optimizer; stop after a few steps.

    Nothing is printed and no run folder stays.

    Args:
        train: an app's; has to take its callbacks from `shared.training.make_callbacks`.
        config: the app's.
        jit_compile: through XLA.
    """
    global _pace
    started = time.monotonic()
    _pace, root, on_interrupt = Pace(jit_compile), runs.ROOT, signal.getsignal(signal.SIGINT)
    try:
        with contextlib.ExitStack() as stack:
            runs.ROOT = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                stack.enter_context(redirect(io.StringIO()))
            try:
                train(config)
            except Enough:
                seconds = time.monotonic() - started + _pace.spared
                return Rehearsal(_pace.model, _pace.milliseconds, seconds)
            raise AssertionError("the training ended without a step of its last fit")
    finally:
        _pace, runs.ROOT = None, root
        signal.signal(signal.SIGINT, on_interrupt)  # the callback that catches Ctrl-C has had no chance to
