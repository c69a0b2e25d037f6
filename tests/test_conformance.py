"""What every app has to do, whatever it is about; a copied app is found and tested by itself.

Each is trained by command, on its generated sample with the smoke preset; what can be asked of the run folder is asked of that.
"""

import contextlib
import dataclasses
import importlib
import inspect
import io
import json
import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from shared import cli, new, rehearsal, runs, training

REPOSITORY = Path(__file__).parent.parent
FILES = (
    "README.md",
    "baseline.py",
    "check.py",
    "config.py",
    "data.py",
    "model.py",
    "predict.py",
    "report.py",
    "sample.py",
    "train.py",
)
FUNCTIONS = {
    "data": "load",
    "model": "build_model",
    "train": "train",
    "predict": "predict",
    "check": "check",
    "report": "write",
}
SMOKE = ("--preset", "smoke", "--data", "None", "--dataset", "sample")  # an app that was made one's own has data of its own
METRICS = ("app", "preset", "dataset", "seed", "parameters", "epochs", "train_seconds", "beats_baseline")


class App:
    """One app's modules, and its smoke config on the sample."""

    def __init__(self, name: str):
        self.name = name
        self.folder = REPOSITORY / "apps" / name
        self.presets = self.module("config").PRESETS
        self.config = replace(self.presets["smoke"], data=None, dataset="sample")

    def module(self, name: str):
        return importlib.import_module(f"apps.{self.name}.{name}")


@pytest.fixture(scope="module", params=new.apps(REPOSITORY))
def app(request):
    return App(request.param)


class Snapshot(keras.callbacks.Callback):
    """Remember the weights before the first and the second epoch, and copy what a power cut between the two would leave."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder, self.weights = folder, []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch < 2:
            self.weights.append({weight.path: weight.numpy() for weight in self.model.trainable_weights})
        if epoch == 1:
            shutil.copytree(runs.ROOT, self.folder / runs.ROOT)


@pytest.fixture(scope="module")
def trained(app, tmp_path_factory):
    """The run folder that the smoke command leaves, what it printed, and the snapshot taken on the way."""
    here, snapshot = tmp_path_factory.mktemp(app.name), Snapshot(tmp_path_factory.mktemp(f"{app.name}_cut"))
    make = training.make_callbacks
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(here)
        patch.setattr(training, "make_callbacks", lambda *args: [snapshot, *make(*args)])
        patch.setattr(sys, "argv", ["train", *SMOKE])
        runpy.run_path(str(app.folder / "train.py"), run_name="__main__")  # as the command does
    [folder] = (here / "runs" / app.name).iterdir()
    return folder, printed.getvalue(), snapshot


def test_files_and_functions_have_the_same_names(app):
    assert {file for file in FILES if (app.folder / file).exists()} >= set(FILES) - {"sample.py"}
    for module, function in FUNCTIONS.items():
        found = getattr(app.module(module), function)
        assert inspect.getdoc(found), f"{found} has no docstring"
    assert {"smoke", "default"} <= set(app.presets)
    assert new.CHANGES in (app.folder / "README.md").read_text()
    for name, preset in app.presets.items():
        assert preset.preset == name
        assert {"data", "dataset", "seed", "epochs", "patience", "deterministic", "resume"} <= set(dataclasses.asdict(preset))


def test_every_knob_is_explained(app, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "--help"])
    with pytest.raises(SystemExit) as stop:
        app.module("train").main()
    assert stop.value.code == 0
    text = capsys.readouterr().out
    lines = (app.folder / "config.py").read_text().splitlines()
    for field in dataclasses.fields(app.config):
        assert cli.flag(field.name) in text
        row = next(number for number, line in enumerate(lines) if line.startswith(f"    {field.name}: "))
        assert lines[row + 1].startswith('    """'), f"{field.name} has no comment below it"


def test_the_smoke_command_leaves_a_whole_run_that_says_it_was_the_sample(app, trained):
    folder, printed, _ = trained
    assert {path.name for path in folder.iterdir()} >= {*runs.REQUIRED, "history.csv", "report.md", "logs", "plots"}
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(METRICS) <= set(metrics)
    assert (metrics["app"], metrics["preset"], metrics["dataset"]) == (app.name, "smoke", "sample")
    metric = next(key for key in metrics if key.startswith("baseline_")).removeprefix("baseline_")
    assert np.isfinite([metrics[f"{part}_{metric}"] for part in ("validation", "test", "baseline")]).all()
    assert np.isfinite([value for value in metrics.values() if isinstance(value, float)]).all()
    assert f"{app.name} on sample" in printed
    assert f"{app.name} on sample" in (folder / "report.md").read_text()
    assert f"make {app.name}-predict" in printed
    saved = dataclasses.asdict(runs.read_config(folder, type(app.config)))
    for setting, value in dataclasses.asdict(app.config).items():
        assert saved[setting] == value or value is None, setting  # None may have been made a number by the data


def test_losses_and_gradients_are_finite(app, trained):
    history = pd.read_csv(trained[0] / "history.csv")
    assert len(history) == app.config.epochs
    assert np.isfinite(history[["loss", "val_loss", "gradient_norm"]]).all(axis=None)
    assert (history["gradient_norm"] > 0).all()


def test_a_model_saved_again_answers_the_same(app, trained, tmp_path):
    for file in app.folder.glob("[a-z]*.py"):
        app.module(file.stem)  # registers what the saved model is made of
    model = keras.models.load_model(trained[0] / "model.keras", compile=False)
    model.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras", compile=False)
    [given] = model.inputs
    if given.dtype == "string":
        raw = np.array(["good and bad", "and so on", "the end"], dtype=object)
    else:
        raw = np.random.default_rng(0).normal(size=(3, *given.shape[1:])).astype(given.dtype)
    answers = [np.asarray(one(raw)) for one in (model, again)]
    assert np.isfinite(answers[0]).all()
    np.testing.assert_array_equal(*answers)


def test_an_epoch_moves_every_weight(trained):
    before, after = trained[2].weights
    for path, weight in before.items():
        assert np.any(after[path] != weight), f"{path} did not move"


def test_a_run_cut_off_and_resumed_ends_as_an_uninterrupted_one(app, trained, monkeypatch):
    folder, _, snapshot = trained
    monkeypatch.chdir(snapshot.folder)
    resumed = app.module("train").train(replace(app.config, resume=True))
    assert resumed.name == folder.name
    one, other = (runs.read_json(path / "metrics.json") for path in (resumed, folder))
    for key, value in other.items():
        if "second" not in key and "real_time" not in key:
            assert one[key] == (pytest.approx(value, rel=1e-4, abs=1e-4) if isinstance(value, float) else value), key


@pytest.mark.usefixtures("offline")
def test_without_network_the_sample_stands_in(app, capsys):
    loaded = app.module("data").load(replace(app.config, dataset="auto"))
    splits = loaded if hasattr(loaded, "name") else loaded[0]
    assert splits.name == "sample"
    assert "no route to host (test)" in capsys.readouterr().out


def test_check_tells_what_the_data_holds_and_how_long_training_takes(app, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["check", *SMOKE])
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    monkeypatch.setattr(rehearsal, "rehearse", lambda train, config: rehearsal.Rehearsal(network, 12.5, config.epochs * 60.0))
    app.module("check").main()
    printed = capsys.readouterr().out
    assert "sample: " in printed
    for name, preset in app.presets.items():
        assert re.search(rf"{name} +│ +12.5 │ +{preset.epochs}.0 │ +8 │", printed), printed
    assert "cannot be trained on" not in printed
    assert {path.suffix for path in (runs.ROOT / app.name / "check").iterdir()} == {".png"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data", "nowhere"], "--data nowhere: there is no such file or folder"),
        (["--epochs", "0"], "--epochs is 1 or more; got 0"),
        (["--seed", "-1"], "--seed is 0 or more"),
        (["--data", "mine", "--dataset", "sample"], "--data mine and --dataset sample are two sources"),
        (["--cell", "elman"], "invalid choice"),
    ],
)
def test_a_users_mistake_ends_with_status_2_and_nothing_written(app, args, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", *args])
    with pytest.raises(SystemExit) as stop:
        cli.run(app.module("train").main)
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not runs.ROOT.exists()
