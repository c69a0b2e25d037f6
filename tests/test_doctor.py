"""make doctor: what it finds, against other ways to find it; and that it says so where something is amiss."""

import importlib
import importlib.metadata
import itertools
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from shared import gradients, rnn, training
from shared.cli import UserError
from shared.data import Splits
from tools import doctor, list_apps


def small_network(units=4):
    inputs = keras.Input((None, 3))
    network = keras.Model(inputs, rnn.recurrent_stack(inputs, cell="gru", units=units, return_sequences=False))
    network.compile(gradients.Adam(), "mse", jit_compile=False)
    return network


def test_this_machine():
    facts = doctor.machine()
    assert facts["Python"].startswith(sys.version.split()[0])
    assert facts["keras"] == keras.__version__ == importlib.metadata.version("keras")
    assert facts["device"].startswith("CPU, ")
    assert "no GPU is seen" in facts["cuDNN"]
    assert facts["XLA"] == "compiles"
    free, total = (float(number) for number in facts["memory"].removesuffix(" GiB free").split(" of "))
    assert 0 < free <= total


def test_data_is_found_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert [*doctor.data_places().values()] == ["nothing", "nothing"]
    for path in ("prepared/imdb_reviews/plain_text/1.0.0/dataset_info.json", "prepared/half/1.0.0/x", "keras/datasets/a.csv"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    assert [*doctor.data_places().values()] == ["imdb_reviews", "a.csv"]


@pytest.mark.slow
def test_tensorboard_starts_and_answers():
    assert re.fullmatch(r"starts, and answers after \d+ seconds", doctor.tensorboard())


def test_tensorboard_that_says_nothing_is_ended(monkeypatch):
    popen = subprocess.Popen
    silent = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: popen(silent, **options))
    assert doctor.tensorboard(seconds=1.0) == "does not start: it says nothing"


def test_tensorboard_that_does_not_start_is_told(monkeypatch):
    popen = subprocess.Popen
    broken = [sys.executable, "-c", "raise SystemExit('no such module')"]
    asked = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: asked.append(command) or popen(broken, **options))
    assert doctor.tensorboard() == "does not start: no such module"
    assert "runs/tensorboard" in asked[0]


def batches(_first_epoch):
    """Of two lengths, in turns."""
    for length in itertools.cycle((5, 7)):
        yield np.ones((2, length, 3), "float32"), np.ones((2, 4), "float32")


def experiment():
    signature = tf.TensorSpec((2, None, 3)), tf.TensorSpec((2, 4))
    data = tf.data.Dataset.from_generator(lambda: batches(0), output_signature=signature)
    return training.Experiment(Splits(*"abcde"), small_network(), lambda _first_epoch: data, 1000, data.take(1))


@pytest.fixture
def prepared(monkeypatch):
    """An app whose `prepare` makes a small network. What it and `load` were called with."""
    [app, *_] = list_apps()
    seen = []
    train, data = (importlib.import_module(f"apps.{app}.{name}") for name in ("train", "data"))
    monkeypatch.setattr(data, "load", lambda config: (config.preset, config.data, config.dataset))
    monkeypatch.setattr(train, "prepare", lambda config, splits: seen.append(splits) or experiment())
    monkeypatch.setattr(training.StepTimes, "MIN_SECONDS", 0.0)
    return app, seen


def test_an_apps_kernel_and_its_step_with_and_without_xla(prepared, monkeypatch):
    app, seen = prepared
    measured = {False: 12.0, True: 30.0}
    monkeypatch.setattr(training, "time_steps", lambda experiment: measured[experiment.network.jit_compile])
    assert doctor.diagnose(app) == {
        "app": app,
        "kernel": "plain loop (not cuDNN: no GPU)",
        "ms per step": "12",
        "with XLA": "30",
        "XLA is": "2.5 times as slow",
    }
    assert seen == 2 * [("default", None, "sample")]


@pytest.mark.slow
def test_the_steps_of_one_batch_are_measured_for_what_they_take(prepared):
    lengths = [x.shape[1] for x, _ in doctor.one_batch(experiment()).batches(0).take(10)]
    assert lengths == 10 * [5]
    row = doctor.diagnose(prepared[0])
    assert float(row["ms per step"]) < 100
    assert float(row["with XLA"]) < 100  # compiling takes longer


def test_where_cudnn_runs_xla_is_not_tried(prepared, monkeypatch):
    app, seen = prepared
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: ["gpu:0"])
    monkeypatch.setattr(training, "time_steps", lambda experiment: 3.0)
    row = doctor.diagnose(app)
    assert row == {"app": app, "kernel": "cuDNN", "ms per step": "3", "with XLA": "-", "XLA is": "-"}
    assert len(seen) == 1


def test_where_xla_does_not_compile_it_is_said_in_words(prepared, monkeypatch):
    def time_steps(experiment):
        if experiment.network.jit_compile:
            raise tf.errors.FailedPreconditionError(None, None, "no libdevice")
        return 3.0

    monkeypatch.setattr(training, "time_steps", time_steps)
    assert [*doctor.diagnose(prepared[0]).values()][2:] == ["3", "-", "not able to compile it"]
    monkeypatch.setattr(doctor, "xla_compiles", lambda: False)
    assert doctor.machine()["XLA"].startswith("does not compile: a part of CUDA that XLA needs is missing")


def test_what_is_amiss_is_told_at_the_end_of_all(monkeypatch):
    def diagnose(app):
        raise ValueError(f"broken {app}")

    monkeypatch.setattr(doctor, "diagnose", diagnose)
    monkeypatch.setattr(doctor, "tensorboard", lambda: "does not start: no such module")
    with pytest.raises(UserError) as error:
        doctor.main()
    lines = str(error.value).splitlines()
    assert lines[0] == "TensorBoard does not start: no such module"
    assert lines[1:] == [f"{app} does not train: ValueError: broken {app}" for app in list_apps()]
