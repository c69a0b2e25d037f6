"""What every app has to do, whatever it is about, and what all code keeps to; a copied app is found and tested by itself.

Each is trained by command, on its generated sample with the smoke preset; what can be asked of the run folder is asked of that.
"""

import ast
import contextlib
import dataclasses
import importlib
import inspect
import io
import itertools
import json
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import keras
import numpy as np
import onnx
import pandas as pd
import pytest
import tensorflow as tf
from fastapi.testclient import TestClient

from shared import cli, export, runs, serve, settings, training
from shared.inference import ONNX
from tools import list_apps

WATCHED = True  # the run of `trained`, not those of the tests
pytestmark = pytest.mark.usefixtures("unwatched")

REPOSITORY = Path(__file__).parent.parent
FILES = (
    "README.md",
    "__main__.py",
    "answers.py",
    "baseline.py",
    "check.py",
    "config.py",
    "data.py",
    "explain.py",
    "export.py",
    "model.py",
    "predict.py",
    "report.py",
    "serve.py",
    "train.py",
    "watch.py",
)
FUNCTIONS = {
    "data": ("load",),
    "model": ("build_model",),
    "train": ("prepare", "train", "evaluate"),
    "predict": ("predict", "Predictor"),
    "export": ("export_run", "exportable", "write"),
    "serve": ("serve_run", "add_routes"),
    "check": ("check", "look"),
    "report": ("write",),
    "watch": ("callbacks",),
    "explain": ("Explainer", "load"),
    "__main__": ("train", "check", "predict", "export", "serve"),
}
CHANGES = "## To make it yours, change these places"
MAX_SETTINGS = 16  # of an app's own, beside those of shared/settings.py
MAX_FUNCTION, MAX_FILE = 50, 350  # lines; of a function, those below its docstring
SMOKE = ("--preset", "smoke", "--data", "None", "--dataset", "sample")  # an app that was made one's own has data of its own
METRICS = {  # metrics.json of every app, whatever else it holds
    "app": str,
    "preset": str,
    "dataset": str,
    "split": str,
    "seed": int,
    "parameters": int,
    "epochs": int,
    "train_seconds": float,
    "interrupted": bool,
    "device": str,
    "metric": str,
    "higher_is_better": bool,
    "beats_baseline": bool,
    "lead": dict,
    "validation": dict,
    "test": dict,
}


class App:
    """One app's modules, and its smoke config and flags, on half as much of the sample and for two epochs."""

    def __init__(self, name: str):
        self.name = name
        self.folder = REPOSITORY / "apps" / name
        self.presets = self.module("config").PRESETS
        limit = self.presets["smoke"].limit // 2
        settings = replace(self.presets["smoke"].training, epochs=2)
        self.config = replace(self.presets["smoke"], data=None, dataset="sample", limit=limit, training=settings)
        self.smoke = (*SMOKE, "--limit", str(limit), "--epochs", "2")
        self.commands = self.module("__main__")

    def module(self, name: str):
        return importlib.import_module(f"apps.{self.name}.{name}")

    def load(self, config=None):
        return self.module("data").load(config or self.config)


@pytest.fixture(scope="module", params=list_apps(REPOSITORY))
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
            shutil.copytree(runs.ROOT, self.folder / runs.ROOT, symlinks=True)


@pytest.fixture(scope="module")
def trained(app, tmp_path_factory):
    """The run folder that the smoke command leaves, what it printed, and the snapshot taken on the way."""
    here, snapshot = tmp_path_factory.mktemp(app.name), Snapshot(tmp_path_factory.mktemp(f"{app.name}_cut"))
    make = training.make_callbacks

    def with_snapshot(*args):
        callbacks, resume = make(*args)
        return [snapshot, *callbacks], resume

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(here)
        patch.setattr(training, "make_callbacks", with_snapshot)
        app.commands.train([*app.smoke])
    [folder] = (here / "runs" / app.name).iterdir()
    return folder, printed.getvalue(), snapshot


def test_files_and_functions_have_the_same_names(app):
    assert {path.name for path in app.folder.iterdir()} >= set(FILES)
    for module, functions in FUNCTIONS.items():
        for function in functions:
            found = getattr(app.module(module), function)
            assert inspect.getdoc(found), f"{found} has no docstring"
    assert CHANGES in (app.folder / "README.md").read_text()


def test_presets_are_complete(app):
    assert {"smoke", "default"} <= set(app.presets)
    for name, preset in app.presets.items():
        assert preset.preset == name
        assert {"data", "dataset"} <= set(dataclasses.asdict(preset))
        assert isinstance(preset.recurrent, settings.Recurrent)
        assert isinstance(preset.training, settings.Training)


def test_an_app_has_few_settings_of_its_own(app):
    own = {field.name for field in dataclasses.fields(app.config)} - {"preset", "recurrent", "training"}
    assert len(own) <= MAX_SETTINGS, own
    common = {field.name for group in (settings.Recurrent, settings.Training) for field in dataclasses.fields(group)}
    assert not common & own  # flags are flat


def explanations(source: Path, kind: type) -> dict[str, str]:
    """What a dataclass's source says below each of its fields, but for those that are groups of settings."""
    [found] = [
        node for node in ast.parse(source.read_text()).body if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    ]
    below = {
        node.target.id: text.value.value
        for node, text in itertools.pairwise(found.body)
        if isinstance(node, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
    assert below.keys() >= {field.name for field in dataclasses.fields(kind)} - {"recurrent", "training", "preset"}
    return below


def squeezed(text: str) -> str:
    """Without spaces and the lines that --help draws around it."""
    return re.sub(r"[\s│|]", "", text)


HELP = """
import contextlib, io, runpy, sys
for command in COMMANDS:
    sys.argv = ["python -m", command, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
    print(sorted({"tensorflow", "keras", "sklearn"} & set(sys.modules)))
    print(printed.getvalue(), end=END)
"""
END = "\f"


def test_help_explains_every_setting_and_is_answered_before_tensorflow_is_imported(app):
    own, common = app.folder / "config.py", REPOSITORY / "shared" / "settings.py"
    training_groups = [(own, type(app.config)), (common, settings.Recurrent), (common, settings.Training)]
    groups = {
        "train": training_groups,
        "check": training_groups,
        "predict": [(own, app.module("config").Request)],
        "export": [(common, settings.ExportRequest)],
        "serve": [(common, settings.ServeRequest)],
    }
    code = HELP.replace("COMMANDS", repr([*groups])).replace("MODULE", repr(f"apps.{app.name}")).replace("END", repr(END))
    answer = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert answer.stderr == ""
    for (command, kinds), printed in zip(groups.items(), answer.stdout.split(END)[:-1], strict=True):
        imported, *lines = printed.splitlines()
        assert imported == "[]", command
        assert f"python -m apps.{app.name} {command}" in lines[0]
        for source, kind in kinds:
            for name, text in explanations(source, kind).items():
                assert squeezed(text) in squeezed(printed), (command, name)


def test_prepare_makes_an_experiment(app, monkeypatch):
    """Everything before the first step, from data that was loaded before, and nothing on disk."""
    splits = app.load()
    assert splits.name == "sample"
    assert re.fullmatch("[0-9a-f]{16}", splits.fingerprint)
    experiment = app.module("train").prepare(app.config, splits)
    assert isinstance(experiment, training.Experiment)
    assert experiment.network.compiled
    assert experiment.steps >= 1
    first, again = (next(iter(experiment.batches(0)))[0] for _ in range(2))
    keras.tree.map_structure(np.testing.assert_array_equal, first, again)  # an epoch's batches depend on its number alone
    assert len(next(iter(experiment.validation_batches))) >= 2
    assert not runs.ROOT.exists()


def test_the_smoke_command_leaves_a_whole_run_that_says_it_was_the_sample(app, trained):
    folder, printed, _ = trained
    assert {path.name for path in folder.iterdir()} >= {*runs.REQUIRED, ONNX, "history.csv", "report.md", "logs", "plots"}
    assert not [*folder.glob(runs.TRAINING_STATE), *folder.glob(runs.LOCK)]
    assert f"{app.name} on sample" in printed
    report = (folder / "report.md").read_text()
    assert f"{app.name} on sample" in report
    shown = re.findall(r"!\[.*\]\((.*)\)", report)
    assert {"plots/training.png", "plots/states.png", "plots/gates.png"} <= set(shown)
    assert all((folder / picture).exists() for picture in shown)
    assert f"make {app.name}-predict" in printed
    assert runs.read_config(folder, type(app.config)) == app.config


def test_metrics_keep_the_contract(app, trained):
    metrics = json.loads((trained[0] / "metrics.json").read_text())
    for key, kind in METRICS.items():
        assert type(metrics[key]) is kind, key
    assert (metrics["app"], metrics["preset"], metrics["dataset"]) == (app.name, "smoke", "sample")
    assert (metrics["seed"], metrics["epochs"]) == (app.config.training.seed, app.config.training.epochs)
    assert not metrics["interrupted"]

    metric, lead = metrics["metric"], metrics["lead"]
    assert {"network", "baseline"} <= set(metrics["test"])
    assert "network" in metrics["validation"]
    for part in ("validation", "test"):
        for who, scores in metrics[part].items():
            assert np.isfinite(scores[metric]), (part, who)
            assert scores.keys() <= metrics["test"]["network"].keys()
    assert set(lead) == {"metric", "baseline", "mean", "low", "high", "verdict"}
    assert lead["low"] <= lead["mean"] <= lead["high"]
    assert lead["verdict"] == ("better" if lead["low"] > 0 else "worse" if lead["high"] < 0 else "draw")
    leads = [lead, *metrics.get("other_leads", ())]
    assert metrics["beats_baseline"] == all(one["verdict"] == "better" for one in leads)
    if lead["metric"] == metric:
        ahead = metrics["test"]["network"][metric] - metrics["test"]["baseline"][metric]
        assert lead["mean"] == pytest.approx(ahead if metrics["higher_is_better"] else -ahead, rel=1e-3, abs=1e-5)
    assert np.isfinite([value for value in metrics.values() if isinstance(value, float)]).all()


def test_losses_and_gradients_are_finite(app, trained):
    history = pd.read_csv(trained[0] / "history.csv")
    assert len(history) == app.config.training.epochs
    assert np.isfinite(history[["loss", "val_loss", "gradient_norm"]]).all(axis=None)
    assert (history["gradient_norm"] > 0).all()


EXPECTED_TAGS = {
    *("2_loss/loss", "2_loss/training", "3_recurrence/states", "3_recurrence/gates", "3_recurrence/gradient_through_time"),
    *("4_gradients/gradient_norm", "4_gradients/batch_gradient_norm_max", "4_gradients/learning_rate"),
    "5_speed/examples_per_second",
}


def plugins_by_tag(logs: Path) -> dict[str, set[str]]:
    """What TensorBoard shows under each tag, in all of a run's folders of logs."""
    found = {}
    for file in logs.glob("*/events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                if value.HasField("metadata") and (plugin := value.metadata.plugin_data.plugin_name):
                    found.setdefault(value.tag, set()).add(plugin)
    return found


def test_a_tag_in_tensorboard_is_of_one_kind_and_stands_there_under_one_name(trained):
    """(A sound and an image under one tag: the AUDIO tab gets the image.)"""
    plugins = plugins_by_tag(trained[0] / "logs")
    assert plugins.keys() >= EXPECTED_TAGS
    assert {tag: kinds for tag, kinds in plugins.items() if len(kinds) > 1} == {}
    names = [re.sub(r"[\W_]", "", tag).lower() for tag in plugins]
    assert len(set(names)) == len(names), sorted(plugins)


@pytest.fixture(scope="module")
def no_test_of_its_own(app):
    """Asked for before `trained`, which is then not made in vain."""
    if (own := Path(__file__).with_name(f"test_{app.name}_export.py")).exists():
        pytest.skip(f"{own.name} asks more of it")


@pytest.mark.slow
def test_every_export_is_compared_with_the_keras_model(app, no_test_of_its_own, trained, monkeypatch, capsys):
    folder, _, _ = trained
    monkeypatch.chdir(folder.parent.parent.parent)
    splits = app.load()  # the sample, also for an app that was made one's own and has data of its own
    monkeypatch.setattr(app.module("data"), "load", lambda config: splits)
    app.commands.export(["--run", str(folder)])
    printed, report = capsys.readouterr().out, (folder / "export" / "report.md").read_text()
    for name in ("Keras", "ONNX", "SavedModel"):
        assert f" {name} " in printed
        assert f"| {name} |" in report
    assert {path.name for path in (folder / "export").iterdir()} >= {"report.md", "saved_model"}
    assert not {node.op_type for node in onnx.load(folder / ONNX).graph.node} & {"PyFunc", "If"}


def test_predictions_need_no_tensorflow(app):
    name = f"apps.{app.name}"
    code = f"import sys, {name}.predict, {name}.serve; print(sorted({{'tensorflow', 'keras', 'sklearn'}} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_a_predictor_answers_after_being_pickled(app, trained):
    predictor = app.module("predict").Predictor(trained[0])
    network = pickle.loads(pickle.dumps(predictor)).network
    assert network.outputs == predictor.network.outputs


def test_the_server_says_what_it_can_be_asked(app, trained):
    predictor = app.module("predict").Predictor(trained[0])
    application = serve.make_app(app.name, predictor, app.module("serve").add_routes, settings.ServeRequest())
    with TestClient(application) as client:
        assert client.get("/readyz").json() == {"status": "ready", "run": str(trained[0])}
        paths = client.get("/openapi.json").json()["paths"]
        assert {"/predict", "/healthz", "/readyz", "/metrics"} <= set(paths)
        for body in (b"", b"{}", b"[]", b"no json", b"\xff", b'{"texts": 1}', b'{"rows": [[1]]}', b"null"):
            answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
            assert 400 <= answer.status_code < 500
            assert isinstance(answer.json()["detail"], str)


def some_values(given: keras.KerasTensor) -> np.ndarray:
    """Three rows of what a model takes: texts, ids, five where the length is free, or numbers."""
    shape = (3, *(size or 5 for size in given.shape[1:]))
    if given.dtype == "string":
        return np.array(["good and bad", "and so on", "the end"], dtype=object)
    if given.dtype == "int32":
        return np.random.default_rng(0).integers(1, 5, shape)
    return np.random.default_rng(0).normal(size=shape).astype(given.dtype)


def test_a_model_saved_again_answers_the_same(app, trained, tmp_path):
    app.module("train")  # registers what the saved model is made of
    model = keras.models.load_model(trained[0] / "model.keras", compile=False)
    model.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras", compile=False)
    raw = keras.tree.map_structure(some_values, model.input)
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
    monkeypatch.setattr(export, "write_after_training", lambda *_: None)  # the numbers are compared
    app.commands.train([*app.smoke, "--resume"])
    [resumed] = runs.finished(app.name)
    assert resumed.name == folder.name
    assert_same(*(runs.read_json(path / "metrics.json") for path in (resumed, folder)))


def assert_same(one, other):
    """But for what was timed."""
    assert one.keys() == other.keys()
    for key, value in other.items():
        if isinstance(value, dict):
            assert_same(one[key], value)
        elif "second" not in key and "real_time" not in key:
            assert one[key] == (pytest.approx(value, rel=1e-4, abs=1e-4) if isinstance(value, float) else value), key


@pytest.mark.usefixtures("offline")
def test_without_network_the_sample_stands_in(app, capsys):
    assert app.load(replace(app.config, dataset="auto")).name == "sample"
    has_public = len(get_args(get_type_hints(type(app.config))["dataset"])) > 2  # beside auto and sample
    printed = capsys.readouterr().out
    assert "SAMPLE" in printed
    assert not has_public or re.search(r"no route to host \(test\)|is not installed", printed)


def test_check_tells_what_the_data_holds_and_how_long_training_takes(app, monkeypatch, capsys):
    monkeypatch.setattr(training, "time_steps", lambda experiment: 12.5)
    app.commands.check([*SMOKE])
    printed = capsys.readouterr().out
    assert "sample: " in printed
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]
    [(milliseconds, steps, epochs, minutes, _)] = [cells for name, *cells in rows if name == "training"]
    assert (milliseconds, epochs) == ("12.5", f"{app.presets['smoke'].training.epochs}")
    expected = 12.5 * int(steps.replace(",", "")) * int(epochs) / 60_000
    assert float(minutes) == pytest.approx(expected, abs=0.05)
    assert "cannot be trained on" not in printed
    assert {path.suffix for path in (runs.ROOT / app.name / "check").iterdir()} == {".png"}


@pytest.mark.parametrize("command", ["train", "check"])
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
def test_a_users_mistake_ends_with_status_2_and_nothing_written(app, command, args, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: getattr(app.commands, command)(args))
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not runs.ROOT.exists()


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))


@pytest.mark.parametrize(
    ("folder", "never"), [("shared", {"apps", "tools"}), ("apps", {"tools", "tests"}), ("tools", {"tests"})]
)
def test_imports_go_one_way(folder, never):
    for file in python_files(folder):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & never, file
        if folder == "shared":
            assert "importlib.import_module" not in file.read_text(), file


def test_an_app_imports_no_other_app(app):
    for file in python_files(f"apps/{app.name}"):
        modules = [node.module for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
        assert {module.split(".")[1] for module in modules if module.startswith("apps.")} <= {app.name}, file


@pytest.mark.parametrize("file", python_files("apps", "shared", "tools"), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_and_functions_are_short_and_explained(file):
    tree = ast.parse(file.read_text())
    assert ast.get_docstring(tree) or not tree.body
    assert len(file.read_text().splitlines()) <= MAX_FILE
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            code = node.body[1:] if ast.get_docstring(node) else node.body
            assert not code or node.end_lineno - code[0].lineno + 1 <= MAX_FUNCTION, node.name
