"""The sentiment app as a user meets it: train, resume, predict, and everything that can go wrong on the way."""

import errno
import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from apps.sentiment import data, embeddings, model, predict, report, train
from apps.sentiment.config import PRESETS
from shared import cli, new, runs, training
from shared.cli import UserError

REPOSITORY = Path(__file__).parent.parent
TINY = replace(PRESETS["smoke"], dataset="sample", limit=120, sequence_length=20, embedding_dim=8, units=4)
TINY = replace(TINY, min_reviews=1, pooling=("max",))
PRETRAINED = replace(TINY, epochs=2, pretraining_epochs=1, pooling=("attention",))
METRICS = ("accuracy", "auc", "average_precision", "macro_f1", "log_loss", "calibration_error")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """One tiny run with all that a run can have, trained once for all tests that only look at it."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("work"))
    try:
        yield train.train(PRETRAINED).resolve()
    finally:
        os.chdir(before)


@pytest.fixture
def beside_the_run(finished_run, monkeypatch):
    monkeypatch.chdir(finished_run.parent.parent.parent)
    return finished_run


def test_run_folder_is_whole(finished_run):
    names = {path.name for path in finished_run.iterdir()}
    assert names == {
        *("config.json", "environment.json", "metrics.json", "history.csv", "mistakes.csv", "model.keras"),
        *("report.md", "logs", "plots"),
    }
    plots = {path.name for path in (finished_run / "plots").iterdir()}
    assert plots == {"confusion_matrix.png", "precision_recall.png", "reliability.png", "roc.png", "training.png"}
    assert runs.read_json(finished_run / "config.json") == json.loads(json.dumps(asdict(PRETRAINED)))


def test_metrics_are_flat_and_complete(finished_run):
    metrics = json.loads((finished_run / "metrics.json").read_text())
    expected = {
        "app",
        "preset",
        "dataset",
        "seed",
        "parameters",
        "train_seconds",
        "epochs",
        "validation_accuracy",
        "beats_baseline",
    }
    assert expected | {f"{part}_{name}" for part in ("test", "baseline") for name in METRICS} <= set(metrics)
    assert metrics["dataset"] == "sample"
    assert metrics["beats_baseline"] == (metrics["lead"]["verdict"] == "better")
    assert metrics["lead"]["mean"] == pytest.approx(metrics["test_accuracy"] - metrics["baseline_accuracy"])
    assert np.mean([of["f1"] for of in metrics["per_class"].values()]) == pytest.approx(metrics["test_macro_f1"])
    assert len(pd.read_csv(finished_run / "mistakes.csv")) == round(
        (1 - metrics["test_accuracy"]) * len(data.load(TINY).test.texts)
    )
    environment = json.loads((finished_run / "environment.json").read_text())
    assert environment["data"] == "sample"
    assert environment["data_fingerprint"] == data.load(TINY).fingerprint


def test_the_sample_is_named_in_the_report_so_that_nobody_takes_it_for_imdb(finished_run):
    assert "sentiment on sample" in (finished_run / "report.md").read_text()


def test_history_has_the_gradients(finished_run):
    history = pd.read_csv(finished_run / "history.csv")
    assert len(history) == PRETRAINED.epochs
    assert {"val_answer_accuracy", "gradient_norm", "gradient_norm_max", "clipped_share", "clip_threshold"} <= set(history)
    assert (history["gradient_norm/recurrent_1_bidirectional_gru_1"] > 0).all()


def test_tensorboard_has_scalars_plots_mistakes_and_embeddings(finished_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags = {}
    for part in ("train", "validation", "report"):
        accumulator = EventAccumulator(str(finished_run / "logs" / part))
        accumulator.Reload()
        tags[part] = set(accumulator.Tags()["tensors"])
    assert {"epoch_gradient_norm", "epoch_clipped_share", "batch_gradient_norm", "epoch_learning_rate"} <= tags["train"]
    assert "epoch_answer_accuracy" in tags["validation"]
    assert {"confusion_matrix", "reliability", "roc", "training", "confident mistakes"} <= tags["report"]
    assert tags["train"].isdisjoint({"batch_loss"})


def test_projector_finds_the_embeddings(finished_run):
    """Through TensorBoard's own plug-in, as `make tensorboard` starts it: it passes over folders without event files."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(finished_run.parent.parent))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(finished_run.parent.parent))
    plugin = ProjectorPlugin(TBContext(logdir=str(finished_run.parent.parent), data_provider=provider, multiplexer=multiplexer))
    plugin._update_configs()
    assert any(run.endswith("logs/report") for run in plugin._configs)
    folder = finished_run / "logs" / "report"
    words = (folder / "words.tsv").read_text().splitlines()
    vectors = pd.read_csv(folder / "word_embedding.tsv", sep="\t", header=None)
    assert vectors.shape == (len(words), TINY.embedding_dim)


def test_no_array_is_saved_as_text(finished_run):
    with zipfile.ZipFile(finished_run / "model.keras") as archive:
        assert archive.getinfo("config.json").file_size < 1_000_000


def test_saved_model_takes_raw_text_and_answers_as_the_run_did(finished_run):
    saved = keras.models.load_model(finished_run / "model.keras", compile=False)
    test = data.load(TINY).test
    probabilities = predict.probabilities_of(saved, test.texts)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert metrics["test_accuracy"] == pytest.approx(np.mean(probabilities.argmax(axis=1) == test.labels))
    assert metrics["test_log_loss"] == pytest.approx(log_loss(test.labels, probabilities), rel=1e-4)
    assert metrics["test_auc"] == pytest.approx(roc_auc_score(test.labels, probabilities[:, 1]), rel=1e-4)


def test_cooccurrence_of_words_that_only_meet_each_other():
    """Two topics that never share a review: embeddings of one topic point one way, across topics they are orthogonal."""
    rng = np.random.default_rng(0)
    rows = [rng.choice([2, 3, 4] if n % 2 else [5, 6, 7], 30).tolist() for n in range(200)]
    vectors = embeddings.cooccurrence_embeddings(tf.ragged.constant(rows), 8, dim=2, seed=0)
    unit = vectors[2:] / np.linalg.norm(vectors[2:], axis=1, keepdims=True)
    cosines = unit @ unit.T
    assert cosines[:3, :3].min() > 0.95
    assert np.abs(cosines[:3, 3:]).max() < 0.05
    np.testing.assert_allclose(vectors[:2], 0, atol=1e-12)


def test_votes_solve_the_equations_of_a_penalised_logistic_regression():
    """For two classes: the gradient of the log likelihood, in the differences of the logits, is that of the normal prior."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    logits = {name: rng.normal(size=(500, 2)) for name in ("ngrams", "recurrent_1")}
    for strength, values in zip((2.0, 0.7), logits.values(), strict=True):
        values[np.arange(500), labels] += strength
    votes = model.fit_votes({model.ANSWER: rng.normal(size=(500, 2)), **logits}, labels)[:, 0]
    differences = np.stack([values[:, 1] - values[:, 0] for values in logits.values()], axis=1)
    likelihood = differences.T @ (labels - expit(differences @ votes))
    np.testing.assert_allclose(likelihood, (votes - 0.5) / model.VOTES_DEVIATION**2, atol=0.02)
    unpenalised = LogisticRegression(C=np.inf, fit_intercept=False).fit(differences, labels).coef_[0]
    assert np.all(np.abs(votes - 0.5) < np.abs(unpenalised - 0.5))


def test_few_reviews_leave_the_votes_about_equal():
    """16 that every path has right would make an unpenalised weight grow without end."""
    labels = np.arange(16) % 2
    logits = np.eye(2)[labels]
    votes = model.fit_votes({"ngrams": logits, "recurrent_1": 1.1 * logits}, labels)
    assert np.all((votes > 0.4) & (votes < 1.5))


def test_a_path_that_knows_nothing_gets_no_vote():
    labels = np.arange(100) % 2
    good, useless = np.eye(2)[labels] + 0.1, np.eye(2)[1 - labels]
    votes = model.fit_votes({"ngrams": useless, "recurrent_1": good}, labels)
    assert votes[0, 0] == 0


def test_most_confident_mistakes_come_first():
    test = data.Reviews(["a", "b", "c", "d"], np.array([0, 0, 1, 1]), ("neg", "pos"))
    probabilities = np.array([[0.4, 0.6], [0.9, 0.1], [0.2, 0.8], [0.99, 0.01]])
    table = report.table_of_mistakes(test, probabilities)
    assert table["review"].tolist() == ["d", "a"]
    assert table["predicted"].tolist() == ["neg", "pos"]


def toy_model(batch):
    """Probability of class 1 grows with the number of times "good" comes up."""
    good = np.array([text.split().count("good") for text in batch], float) / 10
    return np.stack([1 - good, good], axis=1)


def test_pushes_are_what_leaving_a_word_out_costs():
    assert predict.pushes(toy_model, "a good and good film", label=1) == [
        ("a", 0.0),
        ("good", pytest.approx(0.1)),
        ("and", 0.0),
        ("good", pytest.approx(0.1)),
        ("film", 0.0),
    ]
    assert predict.pushes(toy_model, "good", label=0) == [("good", pytest.approx(-0.1))]
    long = predict.pushes(toy_model, "word " * 300 + "good", label=1)
    assert len(long) <= predict.MAX_PIECES
    assert " ".join(piece for piece, _ in long).split() == ["word"] * 300 + ["good"]


def ask(monkeypatch, *args, stdin=""):
    monkeypatch.setattr(sys, "argv", ["predict", *args])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode("utf-8") if isinstance(stdin, str) else stdin)))
    predict.main()


def test_predict_arguments_and_standard_input(beside_the_run, monkeypatch, capsys):
    ask(monkeypatch, "A slow start, but what an ending.", "Dull.")
    answer = capsys.readouterr().out
    assert answer.count("positive 0.") + answer.count("negative 0.") == 2
    ask(monkeypatch, "--run", str(beside_the_run), stdin="one\n\ntwo\n")
    answer = capsys.readouterr().out
    assert answer.count("positive 0.") + answer.count("negative 0.") == 2


def test_predict_file_to_csv_and_nothing_is_overwritten(beside_the_run, tmp_path, monkeypatch):
    (tmp_path / "reviews.txt").write_text("not bad at all\n\ndull, alas\n", encoding="utf-8")
    files = ["--file", str(tmp_path / "reviews.txt"), "--output", str(tmp_path / "out.csv")]
    ask(monkeypatch, *files)
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["text"].tolist() == ["not bad at all", "dull, alas"]
    assert table[["probability_negative", "probability_positive"]].sum(axis=1).tolist() == pytest.approx([1, 1])
    before = (tmp_path / "out.csv").read_bytes()
    with pytest.raises(UserError, match="exists already; nothing was overwritten"):
        ask(monkeypatch, *files)
    assert (tmp_path / "out.csv").read_bytes() == before


def test_predict_standard_input_that_is_not_utf_8(beside_the_run, monkeypatch):
    with pytest.raises(UserError, match=r"Standard input is not UTF-8 \(byte 3\)"):
        ask(monkeypatch, stdin=b"caf\xe9")


def test_predict_output_into_a_missing_folder(beside_the_run, tmp_path, monkeypatch):
    (tmp_path / "in.txt").write_text("fine\n")
    with pytest.raises(UserError, match="the folder nowhere does not exist"):
        ask(monkeypatch, "--file", str(tmp_path / "in.txt"), "--output", "nowhere/out.csv")


def test_predict_run_of_another_app(beside_the_run, tmp_path, monkeypatch):
    other = shutil.copytree(beside_the_run, tmp_path / "other")
    metrics = json.loads((other / "metrics.json").read_text())
    (other / "metrics.json").write_text(json.dumps(metrics | {"app": "weather"}))
    with pytest.raises(UserError, match="is a run of weather, not of sentiment"):
        ask(monkeypatch, "--run", str(other), "fine")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--file", "gone.txt"], "--file gone.txt can't be read: No such file"),
        (["--file", "."], "--file . can't be read: Is a directory"),
        (["--file", "gone.txt", "beside"], "not both; got 1 beside gone.txt"),
        (["--run", "runs/gone", "x"], "there is no such folder"),
        ([], "No text to judge"),
    ],
)
def test_predict_bad_input(args, message, beside_the_run, monkeypatch):
    with pytest.raises(UserError, match=message):
        ask(monkeypatch, *args)


TWO_DEVICES = """
import sys
import zipfile
from dataclasses import asdict, replace
sys.path[:0] = {path!r}
from conftest import tf  # two logical processors
from apps.sentiment import train
from shared import training
from test_sentiment_app import TINY
training.list_gpus = lambda: tf.config.list_logical_devices("CPU")  # stand in for GPUs
print(train.train(replace(TINY, multi_gpu=True, precision="mixed_bfloat16")))
"""


@pytest.mark.slow
def test_one_flag_each_for_several_gpus_and_mixed_precision(tmp_path):
    """On two processors, in a process of its own: two MirroredStrategies of one process get into each other's way."""
    script = TWO_DEVICES.format(path=[str(REPOSITORY), str(REPOSITORY / "tests")])
    answer = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    folder = tmp_path / answer.stdout.split()[-1]
    saved = keras.models.load_model(folder / "model.keras", compile=False)
    assert saved.get_layer("network").get_layer("recurrent_1_bidirectional_gru_1").compute_dtype == "bfloat16"
    test = data.load(TINY).test
    probabilities = predict.probabilities_of(saved, test.texts)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test_log_loss"] == pytest.approx(log_loss(test.labels, probabilities), rel=1e-2)
    assert pd.read_csv(folder / "history.csv")["gradient_norm"].gt(0).all()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--activation", "relu"], "--activation relu is for --cell rnn"),
        (["--preset", "best", "--num-layers", "2"], "--pretraining-epochs 5 needs --num-layers 1; got 2"),
        (["--units", "0"], "--units is 1 or more; got 0"),
        (["--limit", "0"], "--limit is 1 or more; got 0"),
        (["--dropout", "1"], "--dropout is a share, 0 or more and below 1; got 1"),
        (["--validation-share", "0"], "--validation-share lies between 0 and 1; got 0"),
        (["--clip-threshold", "0"], "--clip-threshold is above 0"),
        (["--cell", "elman"], "invalid choice"),
        (["--resume", "--limit", "100"], "--resume found no unfinished run"),
    ],
)
def test_wrong_flags_end_with_status_2_and_nothing_written(args, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", "--dataset", "sample", *args])
    with pytest.raises(SystemExit) as stop:
        cli.run(train.main)
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not runs.ROOT.exists()


def test_bad_data_leaves_no_run_folder_behind():
    Path("mine.csv").write_text("text,label\nfine,pos\n")
    with pytest.raises(UserError):
        train.train(replace(TINY, data="mine.csv", dataset="auto"))
    assert not runs.ROOT.exists()


def let_go() -> None:
    """Release the runs that this process still holds, as its end would."""
    for thing in gc.get_objects():
        if isinstance(thing, runs.Run):
            thing.release()


@pytest.mark.slow
def test_disk_full_at_save_time_keeps_the_training_which_resume_finishes(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save", full)
        with pytest.raises(SystemExit) as stop:
            cli.run(lambda: train.train(TINY))
    assert stop.value.code == 2
    assert "No space left on device. Free some space" in capsys.readouterr().err
    let_go()
    (unfinished,) = (runs.ROOT / "sentiment").iterdir()
    assert unfinished.name.endswith(".unfinished")
    with pytest.raises(UserError, match="--cell: was gru, now lstm"):
        train.train(replace(TINY, resume=True, cell="lstm"))
    path = train.train(replace(TINY, resume=True))
    assert path.name == unfinished.name.removesuffix(".unfinished")
    assert json.loads((path / "metrics.json").read_text())["epochs"] == TINY.epochs


class Killed(Exception):
    """Stands for the power going out."""


class AtEpoch(keras.callbacks.Callback):
    """Do something in the first batch of an epoch."""

    def __init__(self, epoch, action):
        super().__init__()
        self.number, self.action = epoch, action

    def on_epoch_begin(self, epoch, logs=None):
        self.here = epoch == self.number

    def on_train_batch_begin(self, batch, logs=None):
        if self.here and batch == 0:
            self.action()


def add_callback(patch, callback):
    make = training.make_callbacks
    patch.setattr(training, "make_callbacks", lambda *args: [callback, *make(*args)])


@pytest.mark.slow
def test_a_killed_run_that_is_resumed_ends_as_an_uninterrupted_one(finished_run, monkeypatch):
    """With pretraining, whose weights are kept, and attention."""
    whole = runs.read_json(finished_run / "metrics.json")

    def kill():
        raise Killed

    with monkeypatch.context() as patch:
        add_callback(patch, AtEpoch(1, kill))
        with pytest.raises(Killed):
            train.train(PRETRAINED)
    let_go()
    resumed = runs.read_json(train.train(replace(PRETRAINED, resume=True)) / "metrics.json")
    assert resumed["epochs"] == 2
    for key, value in whole.items():
        if "seconds" not in key:
            assert resumed[key] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value), key


def test_ctrl_c_still_evaluates_and_saves(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        add_callback(patch, AtEpoch(1, lambda: os.kill(os.getpid(), signal.SIGINT)))
        folder = train.train(replace(TINY, epochs=50))
    metrics = runs.read_json(folder / "metrics.json")
    assert metrics["interrupted"]
    assert metrics["epochs"] == 2
    assert "Ctrl-C: finishing this batch" in capsys.readouterr().out
    assert runs.find("sentiment") == folder


@pytest.mark.slow
def test_a_copied_app_with_data_of_its_own(tmp_path):
    """What make new does, made tiny: copy, train on three classes, ask."""
    for part in ("apps", "shared"):
        shutil.copytree(REPOSITORY / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    new.copy("copied_for_this_test", "sentiment", tmp_path)
    rows = [(f"{word} number {n}", label) for n in range(30) for word, label in (("fine", "a"), ("poor", "b"), ("odd", "c"))]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "mine.csv", index=False)

    def command(module, *args):
        line = [sys.executable, "-m", f"apps.copied_for_this_test.{module}", *args]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    tiny = ["--preset", "smoke", "--units", "4", "--embedding-dim", "8", "--epochs", "1"]
    trained = command("train", *tiny, "--data", "mine.csv", "--cell", "lstm", "--normalization", "layer", "--num-layers", "2")
    assert trained.returncode == 0, trained.stderr
    assert "copied_for_this_test on mine.csv" in trained.stdout
    assert "not cuDNN: no GPU" in trained.stdout
    answer = command("predict", "odd number 7")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split()[0] in "abc"
    assert "Loading runs/copied_for_this_test/" in answer.stderr
