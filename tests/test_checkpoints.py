"""Training that is killed or stopped, and goes on: on a small net with dropout, so that every kind of state matters."""

import json
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
from shared import checkpoints, gradients, rnn, training
from shared.settings import Training

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
    x = rnn.recurrent_stack(x, cell="rnn", units=8, dropout=0.3, mask=ids > 0, return_sequences=False)
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
    settings = Training(epochs=epochs, patience=patience, resume=resume)
    callbacks, state = training.make_callbacks(folder, "val_accuracy", settings)
    batches = batching.batches_by_length(rows, ROWS % 2, 8, seed=3, first_epoch=state.first_epoch)
    validation, _ = batching.batches_in_order(rows, ROWS % 2, 32)
    fit = {
        "epochs": state.last_epoch(epochs),
        "initial_epoch": state.first_epoch,
        "steps_per_epoch": batching.count_batches(len(ROWS), 8),
        "shuffle": False,
        "verbose": 0,
    }
    model.fit(batches, validation_data=validation, callbacks=[*callbacks, *extra], **fit)
    return model, state


def read_history(folder):
    """But for what was timed."""
    return pd.read_csv(folder / "history.csv").drop(columns="examples_per_second")


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
    histories = [read_history(tmp_path / name) for name in ("whole", "killed")]
    pd.testing.assert_frame_equal(*histories)
    best = [tmp_path / name / "best.weights.npz" for name in ("whole", "killed")]
    for model, file in zip((whole, resumed), best, strict=True):
        checkpoints.load_weights(model, file)
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


FULL_DISK = """
import resource, sys
sys.path[:0] = ["tests", "."]
from pathlib import Path
from shared import checkpoints, cli
import keras
model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(300)])
file = Path(sys.argv[1])
checkpoints.save_weights(model, file)
before = file.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
def write():
    try:
        checkpoints.save_weights(model, file)
    finally:
        assert file.read_bytes() == before
        assert list(file.parent.iterdir()) == [file]
cli.run(write)
"""


def test_a_disk_that_fills_up_while_the_weights_are_written_leaves_the_last_ones(tmp_path):
    """A limit on a file's size stands for the end of the disk."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "best.weights.npz")]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert answer.returncode == 2
    assert "File too large. Free some space" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("monitor", "values", "kept"),
    [
        ("val_accuracy", [(0.5, 0.9), (0.5, 0.7), (0.5, 0.8)], 1),
        ("val_accuracy", [(0.5, 0.1), (0.6, 0.9)], 1),
        ("val_bleu", [(5, 0.1), (9, 0.1), (7, 0.1)], 1),
        ("val_entity_f1", [(0.5, 0.1), (0.4, 0.1)], 0),
        ("val_word_error_rate", [(0.5, 0.1), (0.4, 0.1), (0.6, 0.1)], 1),
        ("val_word_error_rate", [(1, 0.9), (1, 0.7), (1, 0.8)], 1),
    ],
)
def test_the_best_epoch_is_kept_and_equal_ones_are_told_apart_by_the_loss(tmp_path, monitor, values, kept):
    best = checkpoints.BestWeights(tmp_path, monitor)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    best.set_model(model)
    for epoch, (value, loss) in enumerate(values):
        model.set_weights([np.full((1, 1), epoch), np.zeros(1)])
        best.on_epoch_end(epoch, {monitor: value, "val_loss": loss})
    checkpoints.restore_best(model, tmp_path)
    assert model.get_weights()[0].item() == kept


class KillInBatch(keras.callbacks.Callback):
    def __init__(self, batch):
        super().__init__()
        self.left = batch

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise Killed


def test_a_run_killed_within_an_epoch_goes_on_in_the_middle_of_it(tmp_path, monkeypatch):
    """To the last bit, figures of the epoch included."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, _ = train(tmp_path / "whole", epochs=3)
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", 0)
    with pytest.raises(Killed):
        train(tmp_path / "killed", epochs=3, extra=[KillInBatch(12 + 5)])
    with np.load(tmp_path / "killed" / "state.npz") as saved:
        about = json.loads(str(saved["about"]))
    assert (about["epochs"], about["batches"]) == (1, 4)
    resumed, _ = train(tmp_path / "killed", epochs=3, resume=True)
    for one, two in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    histories = [read_history(tmp_path / name) for name in ("whole", "killed")]
    pd.testing.assert_frame_equal(*histories)


def test_best_epoch_is_restored(tmp_path):
    model, _ = train(tmp_path, epochs=3)
    best = keras.models.clone_model(model)
    checkpoints.load_weights(best, tmp_path / "best.weights.npz")
    model.set_weights([w * 0 for w in model.get_weights()])
    checkpoints.restore_best(model, tmp_path)
    for one, two in zip(model.get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv", "logs", "best.weights.npz", "state.npz"}
