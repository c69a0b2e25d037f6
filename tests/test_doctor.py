"""make doctor: what it finds, against other ways to find it; and that it says so where something is amiss."""

import importlib.metadata
import subprocess
import sys

import keras
import pytest

from shared import doctor, new, rehearsal, rnn
from shared.cli import UserError


def small_network(units=4):
    inputs = keras.Input((5, 3))
    network = keras.Model(inputs, rnn.recurrent_stack(inputs, cell="gru", units=units, return_sequences=False))
    network.compile("adam", "mse", jit_compile=False)
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
    answer = doctor.tensorboard()
    assert answer.startswith("starts, and answers after ")
    assert answer.endswith("with status 200")


def test_tensorboard_that_says_nothing_is_ended(monkeypatch):
    popen = subprocess.Popen
    silent = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: popen(silent, **options))
    assert doctor.tensorboard(seconds=1.0) == "does not start: it says nothing"


def test_tensorboard_that_does_not_start_is_told(monkeypatch):
    popen = subprocess.Popen
    broken = [sys.executable, "-c", "raise SystemExit('no such module')"]
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: popen(broken, **options))
    assert doctor.tensorboard() == "does not start: no such module"


def test_an_apps_kernel_and_its_step_with_and_without_xla(monkeypatch):
    [app, *_] = new.apps()
    network = small_network()

    def rehearse(train, config, jit_compile):
        assert (train.__module__, config.preset, config.dataset) == (f"apps.{app}.train", "default", "sample")
        return rehearsal.Rehearsal(network, 30.0 if jit_compile else 12.0, 100.0)

    monkeypatch.setattr(rehearsal, "rehearse", rehearse)
    assert doctor.diagnose(app) == {
        "kernel": "plain loop (not cuDNN: no GPU)",
        "ms a step": "12",
        "with XLA": "30",
        "XLA is": "2.5 times as slow",
    }


def test_what_is_amiss_is_told_at_the_end_of_all(monkeypatch):
    def rehearse(train, config, jit_compile):
        raise ValueError(f"broken {train.__module__}")

    monkeypatch.setattr(rehearsal, "rehearse", rehearse)
    monkeypatch.setattr(doctor, "tensorboard", lambda: "does not start: no such module")
    with pytest.raises(UserError) as error:
        doctor.main()
    lines = str(error.value).splitlines()
    assert lines[0] == "TensorBoard does not start: no such module"
    assert lines[1:] == [f"{app} does not train: ValueError: broken apps.{app}.train" for app in new.apps()]
