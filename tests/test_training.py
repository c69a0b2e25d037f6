"""Seeds, devices, the optimizer's schedule, the callbacks' files, and the time per step."""

import re
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from shared import callbacks, gradients, training
from shared.batches import prepared_ahead
from shared.cli import UserError
from shared.data import Splits
from shared.settings import Training

REPOSITORY = Path(__file__).parent.parent


def test_several_gpus_where_there_are_none_is_refused():
    with pytest.raises(UserError, match="--multi-gpu needs two GPUs or more, TensorFlow sees 0"):
        training.setup(Training(multi_gpu=True))


def test_a_batch_that_cannot_be_split_evenly_is_refused(monkeypatch):
    monkeypatch.setattr(training, "list_gpus", lambda: tf.config.list_logical_devices("CPU"))
    with pytest.raises(UserError, match=r"--batch-size 5 cannot be split .* 2 GPUs. Give a multiple of 2, for example 6"):
        training.setup(Training(multi_gpu=True, batch_size=5))


REPLICAS = """
import os, sys
sys.path[:0] = ["."]
from shared import batches, training
from shared.settings import Training
import keras, numpy as np, tensorflow as tf
count = int(sys.argv[1])
devices = [tf.config.LogicalDeviceConfiguration()] * count
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
training.list_gpus = lambda: tf.config.list_logical_devices("CPU")
strategy = training.setup(Training(multi_gpu=True, batch_size=6))
rows = {"ids": tf.ragged.constant([[1] * (1 + n % 4) for n in range(19)])}
labels = np.arange(19) % 2
with strategy.scope():
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.GRU(4)(keras.layers.Embedding(9, 4)(ids))
    model = keras.Model({"ids": ids}, keras.layers.Dense(2)(x))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
seed = next(s for s in range(99) if len(batches.indices_by_length(np.ones(19), 6, np.random.default_rng([s, 0]))[0]) == 1)
train, steps = batches.batches_by_length(rows, labels, 6, seed, replicas=count), batches.count_batches(19, 6, count)
validation, _ = batches.batches_in_order({"ids": rows["ids"][:5]}, labels[:5], 6, replicas=count)
history = model.fit(train, steps_per_epoch=steps, validation_data=validation, shuffle=False, verbose=0).history
print(steps, np.isfinite([history["loss"], history["val_loss"]]).all())
"""


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3])
def test_a_remainder_and_a_small_validation_set_are_trained_on_by_several_replicas(devices):
    """In a process of its own: the number of devices can't be changed again. The seed puts the remainder first."""
    command = [sys.executable, "-c", REPLICAS, str(devices)]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert answer.stdout == "4 True\n", answer.stderr[-2000:]


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UserError, match="needs Keras's TensorFlow backend; got jax"):
        training.setup(Training())


def test_precision_is_what_layers_compute_in():
    training.setup(Training(precision="mixed_bfloat16"))
    try:
        layer = keras.layers.Dense(1)
        assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")
    finally:
        keras.config.set_dtype_policy("float32")


DETERMINISTIC = """
import hashlib, sys, tempfile, pathlib
sys.path[:0] = ["tests", "."]
from shared import training
from shared.settings import Training
import test_checkpoints
training.setup(Training(deterministic=True))
model, _ = test_checkpoints.train(pathlib.Path(tempfile.mkdtemp()), epochs=2)
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


def test_the_optimizer_is_what_the_settings_ask_for():
    """Its rate at the last of 2 * 30 steps is zero; clipping by value at 0.5; with weight decay it steps as Keras's AdamW."""
    settings = Training(epochs=2, learning_rate=0.1, weight_decay=0.3, clipping="value", clip_threshold=0.5)
    ours = training.make_optimizer(settings, steps=30)
    theirs = keras.optimizers.AdamW(training.warmup_cosine(0.1, 60, 0.05), weight_decay=0.3, clipvalue=0.5)
    variables = [keras.Variable([1.0, -2.0]) for _ in range(2)]
    for optimizer, variable in zip((ours, theirs), variables, strict=True):
        for gradient in ([3.0, -0.1], [0.2, 0.4], [-1.0, 0.0]):
            optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    np.testing.assert_allclose(*(variable.numpy() for variable in variables), rtol=1e-6)
    assert float(ours.learning_rate) == pytest.approx(0.1)  # the peak, after a twentieth of the 60 steps
    ours.iterations.assign(59)
    assert float(ours.learning_rate) == pytest.approx(0, abs=1e-9)
    assert training.make_optimizer(Training(weight_decay=0), 30).weight_decay is None


def network():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(gradients.Adam(), "mse", jit_compile=False)
    return model


@pytest.mark.parametrize("columns", [80, 200])
def test_an_epochs_progress_fits_a_line_of_the_terminal_and_shows_what_is_monitored(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    names = ("accuracy", "log_loss", "loss")
    for monitor in ("val_accuracy", "val_loss", "val_nats_per_character"):
        progress = callbacks.ProgressLine(monitor)
        progress.set_params({"verbose": 1, "epochs": 3, "steps": 157})
        progress.on_train_begin()
        progress.on_epoch_begin(0)
        for batch in range(157):
            progress.on_train_batch_end(batch, dict.fromkeys(names, 0.5))
        figures = [f"{part}{name}" for part in ("", "val_") for name in names]
        progress.on_epoch_end(0, dict.fromkeys((*figures, monitor), 0.5))
        lines = re.sub(r"\x1b\[[0-9;]*m|[\b]", "", capsys.readouterr().out).splitlines()  # also at a carriage return
        assert max(map(len, lines)) <= columns
        assert f"157/157 {'━' * 20}" in lines[-1]
        assert f"{monitor}: 0.5000" in lines[-1]
        assert columns == 80 or all(f" {name}: 0.5000" in lines[-1] for name in figures)


def slow_experiment(seconds, steps, taken):
    """Batches without end, of which each takes so long; `taken` grows by one with each."""

    def make():
        while True:
            taken.append(time.sleep(seconds))
            yield np.ones((4, 3), "float32"), np.ones((4, 1), "float32")

    def batches(_first_epoch):
        return prepared_ahead(make, (tf.TensorSpec((4, 3)), tf.TensorSpec((4, 1))), tf.data.INFINITE_CARDINALITY)

    return training.Experiment(Splits(None, None, None, "toy", "0"), network(), batches, steps, None)


def test_the_time_per_step_is_that_of_the_slowest_part():
    taken = []
    before = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.StepTimes, "MIN_SECONDS", 0.0)
        milliseconds = training.time_steps(slow_experiment(0.05, 1_000, taken))
    assert 50 <= milliseconds < 100
    assert training.StepTimes.WARM_UP + training.StepTimes.STEPS <= len(taken) < 40
    assert time.monotonic() - before < 1_000 * 0.05 / 2


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_short_training_is_timed_by_the_steps_it_has(steps):
    taken = []
    milliseconds = training.time_steps(slow_experiment(0.05, steps, taken))
    assert 0 < milliseconds < 250  # less than 50 where batches were made while the first step was traced
    assert max(steps, 2) <= len(taken) <= max(steps, 2) + 6  # and what is prepared ahead


def timed(monkeypatch, durations):
    """Milliseconds, and the number of steps, that `StepTimes` finds where steps take so many seconds."""
    now, times = 0.0, training.StepTimes()
    times.set_model(keras.Sequential())
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    times.on_train_begin()
    for count, duration in enumerate(durations, start=1):
        now += duration
        times.on_train_batch_end(count - 1)
        if times.model.stop_training:
            break
    return times.milliseconds(), count


def test_the_median_step_counts_and_the_first_three_do_not(monkeypatch):
    assert timed(monkeypatch, [9.0, 5.0, 4.0, *[0.1] * 6, *[0.2] * 5]) == (pytest.approx(100), 14)
    assert timed(monkeypatch, [9.0, 0.5, 0.4]) == (pytest.approx(400), 3)  # too short: the fastest


def test_timing_ends_after_enough_steps_and_seconds(monkeypatch):
    assert timed(monkeypatch, [9.0] * 3 + [1.0] * 99) == (pytest.approx(1000), 4 + 20)  # 20 steps are enough
    assert timed(monkeypatch, [9.0] * 3 + [0.01] * 999)[1] == pytest.approx(4 + 300, abs=1)  # 3 seconds
    assert timed(monkeypatch, [9.0] * 3 + [20.0] * 99) == (pytest.approx(20_000), 4 + 2)  # more than 30 seconds
