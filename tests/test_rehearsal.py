"""A rehearsal measures what a training would take, does a part of it, and leaves nothing."""

import signal
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from shared import rehearsal, runs, training
from shared.batches import prepared_ahead
from shared.gradients import Adam

SECONDS_A_STEP = {"first": 0.03, "last": 0.05}


def slow_batches(seconds: float, taken: list):
    """Batches of which each takes so long, for ever; `taken` grows by one with each."""

    def make():
        while True:
            taken.append(time.sleep(seconds))
            yield np.ones((4, 3), "float32"), np.ones((4, 1), "float32")

    signature = tf.TensorSpec((4, 3)), tf.TensorSpec((4, 1))
    return prepared_ahead(make, signature, tf.data.INFINITE_CARDINALITY)


class TwoFits:
    """A training that fits one network, then another, and counts the batches that it takes."""

    def __init__(self, steps: int):
        self.steps = steps
        self.taken = {"first": [], "last": []}

    def __call__(self, epochs: int):
        self.root = runs.ROOT
        print("Training ...")
        folder = runs.ROOT / "app" / "now"
        folder.mkdir(parents=True)
        standard = training.make_callbacks(folder, "loss", patience=3)
        for name, callbacks in (("first", rehearsal.callbacks()), ("last", standard)):
            self.network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)], name=name)
            self.network.compile(Adam(), "mse", jit_compile=False)
            batches = slow_batches(SECONDS_A_STEP[name], self.taken[name])
            self.network.fit(batches, epochs=epochs, steps_per_epoch=self.steps, shuffle=False, callbacks=callbacks, verbose=0)
        self.whole = True


def test_expected_seconds_are_those_of_all_steps_of_all_fits(monkeypatch, capsys):
    monkeypatch.setattr(rehearsal, "MIN_SECONDS", 0.0)
    train, started = TwoFits(steps=300), time.monotonic()
    before = signal.getsignal(signal.SIGINT)
    found = rehearsal.rehearse(train, 10)
    took = time.monotonic() - started
    assert found.network is train.network
    assert 1000 * SECONDS_A_STEP["last"] <= found.milliseconds < 1300 * SECONDS_A_STEP["last"]
    assert found.seconds == pytest.approx(3_000 * sum(SECONDS_A_STEP.values()), rel=0.2)
    assert took < found.seconds / 10
    assert all(rehearsal.STEPS <= len(taken) < 100 for taken in train.taken.values())
    assert not hasattr(train, "whole")
    assert not train.root.exists()
    assert Path("runs") == runs.ROOT
    assert not runs.ROOT.exists()
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr().out == ""


def test_ctrl_c_ends_it_at_once():
    def train(config):
        made = training.make_callbacks(runs.ROOT, "loss", patience=3)
        assert not any(isinstance(callback, training.StopOnInterrupt) for callback in made)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # another test may have left its own
    try:
        with pytest.raises(KeyboardInterrupt):
            rehearsal.rehearse(train, None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert rehearsal.callbacks() == []


def test_a_short_training_is_measured_by_the_steps_it_has():
    train = TwoFits(steps=2)
    found = rehearsal.rehearse(train, 2)
    assert [len(taken) >= 4 for taken in train.taken.values()] == [True, True]
    assert found.milliseconds < 1300 * SECONDS_A_STEP["last"]


def test_through_xla_on_request_and_no_more_afterwards():
    train = TwoFits(steps=2)
    assert rehearsal.rehearse(train, 2, jit_compile=True).network.jit_compile
    assert not rehearsal.rehearse(train, 2).network.jit_compile
    assert rehearsal.callbacks() == []


def test_an_error_in_the_training_is_passed_on_and_all_is_as_before():
    def train(config):
        raise ValueError(config)

    with pytest.raises(ValueError, match="broken"):
        rehearsal.rehearse(train, "broken")
    assert rehearsal.callbacks() == []
    assert Path("runs") == runs.ROOT
