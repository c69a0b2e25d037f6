"""Resume, Ctrl-C, seeds: on a small net with dropout, so that every kind of state matters."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from shared import batches as batching
from shared import gradients, rnn, training
from shared.cli import UserError

REPOSITORY = Path(__file__).parent.parent
ROWS = np.random.default_rng(0).integers(1, 20, 96)


class Killed(Exception):
    """Stands for the power going out."""


class KillAfter(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epochs:
            raise Killed


def make_model():
    keras.utils.set_random_seed(1)
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.Embedding(20, 8, name="embedding")(ids)
    x = rnn.recurrent_stack(x, cell="gru", units=8, dropout=0.3, mask=ids > 0, return_sequences=False)
    model = keras.Model({"ids": ids}, keras.layers.Dense(2, name="outputs")(x))
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 48)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        gradients.Adam(schedule, clipping="adaptive"),
        loss,
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )
    return model


def train(folder, epochs=4, resume=False, extra=(), patience=10):
    rows = {"ids": tf.ragged.constant([[n] * n for n in ROWS.tolist()])}
    model = make_model()
    callbacks = training.make_callbacks(folder, "val_accuracy", patience, resume)
    state = callbacks[-1]
    batches, steps = batching.batches_by_length(rows, ROWS % 2, 8, seed=3, first_epoch=state.first_epoch)
    validation, _ = batching.batches_in_order(rows, ROWS % 2, 32)
    fit = {
        "epochs": state.last_epoch(epochs),
        "initial_epoch": state.first_epoch,
        "steps_per_epoch": steps,
        "shuffle": False,
        "verbose": 0,
    }
    model.fit(batches, validation_data=validation, callbacks=[*callbacks, *extra], **fit)
    return model, state


def test_resumed_training_ends_with_the_same_weights(tmp_path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "killed", extra=[KillAfter(2)])
    resumed, state = train(tmp_path / "killed", resume=True)
    assert (state.first_epoch, state.epochs) == (2, 4)
    for one, two in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    for one, two in zip(whole.optimizer.variables, resumed.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    histories = [pd.read_csv(tmp_path / name / "history.csv") for name in ("whole", "killed")]
    pd.testing.assert_frame_equal(*histories)
    best = [tmp_path / name / "best.weights.h5" for name in ("whole", "killed")]
    for model, file in zip((whole, resumed), best, strict=True):
        model.load_weights(file)
    for one, two in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_kill_in_the_first_epoch_starts_from_the_beginning(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, extra=[KillAfter(0)])
    _, state = train(tmp_path, epochs=1, resume=True)
    assert (state.first_epoch, state.epochs) == (0, 1)


def test_a_kill_between_history_and_state_repeats_no_row(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, extra=[KillAfter(2)])
    with open(tmp_path / "history.csv", "a") as file:  # the row of an epoch whose state was never saved
        file.write(pd.read_csv(tmp_path / "history.csv").tail(1).assign(epoch=2).to_csv(index=False, header=False))
    train(tmp_path, resume=True)
    assert pd.read_csv(tmp_path / "history.csv")["epoch"].tolist() == [0, 1, 2, 3]


def test_early_stopping_counts_on_after_a_resume(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, epochs=30, extra=[KillAfter(2)], patience=3)
    _, state = train(tmp_path, epochs=30, resume=True, patience=3)
    accuracies = pd.read_csv(tmp_path / "history.csv")["val_accuracy"]
    assert state.epochs == min(30, accuracies.idxmax() + 1 + 3)


class PressCtrlC(keras.callbacks.Callback):
    """Once in the fourth batch of the second epoch; `times` in a row."""

    def __init__(self, times=1):
        super().__init__()
        self.times, self.batches = times, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.batches += 1
        if self.batches == 12 + 4:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_finishes_the_batch_and_leaves_the_last_whole_epoch_to_resume_from(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    press = PressCtrlC()
    model, state = train(tmp_path, extra=[press])
    assert press.batches == 16
    assert model.interrupted
    assert state.epochs == 2  # the second one was cut short, validated, and may be the best
    assert len(pd.read_csv(tmp_path / "history.csv")) == 2
    assert signal.getsignal(signal.SIGINT) == before
    _, resumed = train(tmp_path, resume=True)
    assert (resumed.first_epoch, resumed.epochs) == (1, 4)


def test_ctrl_c_twice_stops_at_once(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, extra=[PressCtrlC(times=2)])
    assert signal.getsignal(signal.SIGINT) == before


class PressCtrlCInValidation(keras.callbacks.Callback):
    def on_test_begin(self, logs=None):
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_in_validation_keeps_the_whole_epoch(tmp_path):
    model, state = train(tmp_path, extra=[PressCtrlCInValidation()])
    assert model.interrupted
    assert state.epochs == 1
    _, resumed = train(tmp_path, resume=True)
    assert (resumed.first_epoch, resumed.epochs) == (1, 4)


def test_training_that_stopped_early_is_not_gone_on_with(tmp_path):
    model, state = train(tmp_path, epochs=30, patience=2)
    assert state.epochs < 30
    again, resumed = train(tmp_path, epochs=30, patience=2, resume=True)
    assert resumed.last_epoch(30) == resumed.first_epoch == state.epochs
    for one, two in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_disk_that_fills_up_while_the_best_weights_are_written_leaves_the_last_ones(tmp_path, monkeypatch):
    train(tmp_path, epochs=1)
    before = (tmp_path / "best.weights.h5").read_bytes()

    def full(self, path, *_, **__):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save_weights", full)
    with pytest.raises(OSError, match="No space left"):
        train(tmp_path, epochs=1)
    assert (tmp_path / "best.weights.h5").read_bytes() == before


def test_best_epoch_is_restored_and_training_state_removed(tmp_path):
    model, _ = train(tmp_path, epochs=3)
    best = keras.models.clone_model(model)
    best.load_weights(tmp_path / "best.weights.h5")
    model.set_weights([w * 0 for w in model.get_weights()])
    training.restore_best(model, tmp_path)
    for one, two in zip(model.get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    training.remove_training_state(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv", "logs"}


def test_several_gpus_where_there_are_none_is_refused():
    with pytest.raises(UserError, match="--multi-gpu needs two GPUs or more, TensorFlow sees 0"):
        training.setup(seed=0, multi_gpu=True)


def test_precision_is_what_layers_compute_in():
    training.setup(seed=0, precision="mixed_bfloat16")
    try:
        layer = keras.layers.Dense(1)
        assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")
    finally:
        keras.config.set_dtype_policy("float32")


DETERMINISTIC = """
import hashlib, sys, tempfile, pathlib
sys.path[:0] = ["tests", "."]
from shared import training
import test_training
training.setup(seed=0, deterministic=True)
model, _ = test_training.train(pathlib.Path(tempfile.mkdtemp()), epochs=2)
print(hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest())
"""


@pytest.mark.slow
def test_deterministic_runs_agree_to_the_last_bit():
    """In processes of their own: determinism can't be switched off again."""
    command = [sys.executable, "-c", DETERMINISTIC]
    answers = [subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(answers[0].strip()) == 64


def test_the_learning_rate_reaches_its_floor_with_the_last_step():
    steps, peak, floor = 200, 3e-3, 0.1
    schedule = training.warmup_cosine(peak, steps, warmup=0.1, floor=floor)
    rates = np.array([float(schedule(step)) for step in range(steps)])
    expected = np.concatenate(
        [peak * np.arange(20) / 20, peak * (floor + (1 - floor) * (1 + np.cos(np.pi * np.arange(180) / 179)) / 2)]
    )
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert rates[-1] == pytest.approx(floor * peak)
