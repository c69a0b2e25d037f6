"""A training that stops after a few steps and keeps nothing: which kernels run, and how many minutes it would take."""

import contextlib
import io
import logging
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
MIN_SECONDS, MAX_SECONDS = 3.0, 30.0  # and at most


class Rehearsal(NamedTuple):
    network: keras.Model
    milliseconds: float  # a training step, the median
    seconds: float  # what the whole training would take, with what comes before it; without validation and test


class Enough(Exception):
    """Raised inside `fit` when a rehearsal has seen what it wants."""


class _Pace(keras.callbacks.Callback):
    """Measure the steps of a `fit`, and cut it short."""

    def __init__(self, is_last: bool):
        super().__init__()
        self.is_last = is_last

    def on_train_begin(self, logs=None):
        if _jit_compile:
            self.model.jit_compile = True
            self.model.make_train_function(force=True)
        self.times = [time.monotonic()]

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.monotonic())
        done, total = len(self.times) - 1, self.params["steps"] * self.params["epochs"]
        counted = self.times[min(WARM_UP, total - 1) :]
        steps, seconds = len(counted) - 1, counted[-1] - counted[0] if counted else 0.0
        enough = seconds > MIN_SECONDS if steps >= STEPS else seconds > MAX_SECONDS
        if not enough and done < total:
            return
        self.milliseconds = 1000 * float(np.median(np.diff(counted)))
        self.seconds_spared = seconds / steps * (total - done)
        self.model.stop_training = True
        if self.is_last:
            raise Enough


_paces: list[_Pace] | None = None  # of the rehearsal that is going on
_jit_compile = False


def callbacks(is_last: bool = False) -> list[_Pace]:
    """For every `fit` of a training: nothing, or, in a rehearsal, what cuts it short.

    Args:
        is_last: the training has no further `fit`.
    """
    if _paces is None:
        return []
    _paces.append(_Pace(is_last))
    return [_paces[-1]]


def rehearse(train: Callable, config: object, jit_compile: bool = False) -> Rehearsal:
    """Begin a training as `train(config)` does, with its data, its model and its optimizer; stop after a few steps.

    Nothing is printed and no run folder stays.

    Args:
        train: an app's; has to take its callbacks from `shared.training.make_callbacks`.
        config: the app's.
        jit_compile: through XLA.
    """
    global _paces, _jit_compile
    started = time.monotonic()
    _paces, _jit_compile = [], jit_compile
    root, logger = runs.ROOT, logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)  # after some networks in one process TensorFlow warns that it traces graphs again
    try:
        with contextlib.ExitStack() as stack:
            runs.ROOT = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                stack.enter_context(redirect(io.StringIO()))
            try:
                train(config)
            except Enough:
                [last] = [pace for pace in _paces if pace.is_last]
                seconds = time.monotonic() - started + sum(pace.seconds_spared for pace in _paces)
                return Rehearsal(last.model, last.milliseconds, seconds)
            raise AssertionError("the training ended without a step of its last fit")
    finally:
        _paces, _jit_compile, runs.ROOT = None, False, root
        logger.setLevel(level)
