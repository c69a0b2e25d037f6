"""The sentiment app as a user meets it: train, resume, predict, and everything that can go wrong on the way."""

import errno
import io
import json
import os
import re
import shutil
import signal
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax
from sklearn.metrics import f1_score, log_loss, precision_score, recall_score, roc_auc_score

from apps.sentiment import __main__ as commands
from apps.sentiment import data, embeddings, model, predict, pretraining, report, train
from apps.sentiment.config import PRESETS
from shared import classification, cli, runs, training
from shared.cli import UserError

WATCHED = DRAWN = True

SMOKE = PRESETS["smoke"]
TINY = replace(
    SMOKE,
    dataset="sample",
    limit=120,
    sequence_length=20,
    embedding_dim=8,
    pooling=("max",),
    recurrent=replace(SMOKE.recurrent, units=4),
    training=replace(SMOKE.training, epochs=2),
)
FULL = replace(TINY, pretraining_epochs=1, pooling=("attention",), positive="negative")
PATHS = ("recurrent path alone", "n-gram path alone")
METRICS = ("accuracy", "auc", "average_precision", "macro_f1", "log_loss", "calibration_error")


def run(config, **settings):
    """Train; `settings` replace those of the training."""
    config = replace(config, training=replace(config.training, **settings))
    return train.train(config, data.load(config))


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """One tiny run with all that a run can have, trained once for all tests that only look at it."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("work"))
    try:
        yield run(FULL).resolve()
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
        *("report.md", "logs", "plots", "model.onnx", "vocabulary.zip"),
    }
    plots = {path.stem for path in (finished_run / "plots").iterdir()}
    recurrence = {"states", "gates", "gradient_through_time", "loss_by_context"}  # and units, if some follow anything
    quality = {"confusion_matrix", "precision_recall", "reliability", "roc", "answer"}
    assert plots - {"units"} == quality | recurrence | {"training"}
    assert runs.read_json(finished_run / "config.json") == json.loads(json.dumps(asdict(FULL)))


def test_metrics_keep_the_contract(finished_run):
    metrics = runs.read_json(finished_run / "metrics.json")
    expected = {"app", "preset", "dataset", "split", "seed", "parameters", "epochs", "train_seconds", "interrupted"}
    expected |= {"metric", "higher_is_better", "beats_baseline", "lead", "validation", "test"}
    assert expected <= set(metrics)
    assert set(metrics["validation"]) == {"network"}
    assert set(metrics["test"]) == {"network", "baseline", *PATHS}
    assert all(set(found) == set(METRICS) for part in ("validation", "test") for found in metrics[part].values())
    assert (metrics["app"], metrics["dataset"], metrics["split"]) == ("sentiment", "sample", "test")
    accuracy = {who: found["accuracy"] for who, found in metrics["test"].items()}
    assert metrics["beats_baseline"] == (metrics["lead"]["verdict"] == "better")
    assert metrics["lead"]["mean"] == pytest.approx(accuracy["network"] - accuracy["baseline"])
    assert np.mean([of["f1"] for of in metrics["per_class"].values()]) == pytest.approx(metrics["test"]["network"]["macro_f1"])
    splits = data.load(TINY)
    assert len(pd.read_csv(finished_run / "mistakes.csv")) == round((1 - accuracy["network"]) * len(splits.test.texts))
    environment = runs.read_json(finished_run / "environment.json")
    assert environment["data"] == "sample"
    assert environment["data_fingerprint"] == splits.fingerprint


def test_the_sample_is_named_in_the_report_so_that_nobody_takes_it_for_imdb(finished_run):
    assert "sentiment on sample" in (finished_run / "report.md").read_text()


def test_history_has_the_gradients(finished_run):
    history = pd.read_csv(finished_run / "history.csv")
    assert len(history) == FULL.training.epochs
    assert {"val_accuracy", "gradient_norm", "gradient_norm_max", "clipped_fraction", "clip_threshold"} <= set(history)
    assert (history["gradient_norm/recurrent_bidirectional_gru_1"] > 0).all()


def test_tensorboard_has_scalars_plots_mistakes_and_embeddings(finished_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags = {}
    for part in ("train", "validation", "report"):
        accumulator = EventAccumulator(str(finished_run / "logs" / part))
        accumulator.Reload()
        tags[part] = set(accumulator.Tags()["tensors"])
    gradients = {f"4_gradients/{name}" for name in ("gradient_norm", "clipped_fraction", "batch_gradient_norm_max")}
    assert gradients | {"2_loss/log_loss"} <= tags["train"]
    assert "1_quality/accuracy" in tags["validation"]
    assert "1_quality/answer" in tags["train"]
    assert {"1_quality/negative/pr_curves", "1_quality/positive/pr_curves"} <= tags["report"]
    quality = {f"1_quality/{name}" for name in ("confusion_matrix", "reliability", "roc")}
    assert quality | {"2_loss/training", "confident mistakes"} <= tags["report"]
    [text] = accumulator.Tensors("confident mistakes")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    assert all(re.match(r"- \*\*\S+\*\*, predicted \S+ [01]\.\d{4}: ", line) for line in lines[::2]), lines
    assert all(re.match(r"    - '.+' [+-]0\.\d{3}", line) for line in lines[1::2]), lines


def test_the_loss_of_the_answer_is_that_of_the_mean_over_the_paths():
    """Against scikit-learn; `loss` is the sum over the paths."""
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 3, 20), rng.normal(size=(20, 2, 3)).astype("float32")
    expected = log_loss(labels, softmax(logits.mean(axis=1), axis=1), labels=range(3))
    assert np.mean(model.log_loss(labels, logits)) == pytest.approx(expected, rel=1e-5)


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


def asked(saved, texts):
    """Probabilities of raw texts by the model in a run folder."""
    return np.asarray(saved(np.array(texts, dtype=object)))


@pytest.fixture(scope="module")
def answers(finished_run):
    """The saved model's probabilities on test."""
    saved = keras.models.load_model(finished_run / "model.keras", compile=False)
    return asked(saved, data.load(TINY).test.texts)


def test_saved_model_takes_raw_text_and_answers_as_the_run_did(finished_run, answers):
    labels = data.load(TINY).test.labels
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)
    metrics = runs.read_json(finished_run / "metrics.json")["test"]["network"]
    assert metrics["accuracy"] == pytest.approx(np.mean(answers.argmax(axis=1) == labels))
    assert metrics["log_loss"] == pytest.approx(log_loss(labels, answers), rel=1e-4)
    assert metrics["auc"] == pytest.approx(roc_auc_score(labels, answers[:, 1]), rel=1e-4)


def test_threshold_of_the_positive_class_is_in_metrics_and_report(finished_run, answers):
    metrics = runs.read_json(finished_run / "metrics.json")
    positive, names = metrics["positive"], metrics["class_names"]
    is_negative = data.load(TINY).test.labels == names.index("negative")
    found = predict.choose(answers, names, positive) == names.index("negative")
    assert positive["class"] == "negative"
    assert positive["precision"] == pytest.approx(precision_score(is_negative, found, zero_division=0))
    assert positive["recall"] == pytest.approx(recall_score(is_negative, found))
    assert positive["f1"] == pytest.approx(f1_score(is_negative, found))
    assert f"'negative' from a probability of {positive['threshold']:.3f} on" in (finished_run / "report.md").read_text()


def test_from_its_threshold_on_the_positive_class_is_chosen():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.2, 0.3], [0.1, 0.8, 0.1], [0.35, 0.29, 0.36]])
    names = ["bad", "spam", "good"]
    assert predict.choose(probabilities, names, None).tolist() == [0, 0, 1, 2]
    assert predict.choose(probabilities, names, {"class": "spam", "threshold": 0.3}).tolist() == [1, 0, 1, 2]
    assert predict.choose(probabilities, names, {"class": "spam", "threshold": 0.9}).tolist() == [0, 0, 0, 2]


@pytest.mark.parametrize("digits", [8, 1])  # with one digit, many rows tie
def test_no_threshold_has_a_better_f1_than_the_one_that_is_chosen(digits):
    rng = np.random.default_rng(digits)
    positive = rng.random(300) < 0.2
    probability = np.clip(rng.normal(0.3 + 0.2 * positive, 0.2), 0, 1).round(digits)
    threshold = classification.best_threshold(positive, probability)
    scores = {candidate: f1_score(positive, probability >= candidate) for candidate in np.unique(probability)}
    assert scores[threshold] == pytest.approx(max(scores.values()))
    found = classification.measure_at(positive, probability, threshold)
    assert found["f1"] == pytest.approx(max(scores.values()))
    assert found["precision"] == pytest.approx(np.mean(positive[probability >= threshold]))
    assert found["recall"] == pytest.approx(np.mean(probability[positive] >= threshold))


def test_loss_and_accuracy_are_those_of_numpy():
    """The loss is the sum over the paths; the answer, whose accuracy counts, is their mean."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 2, 3)).astype("float32"), rng.integers(0, 3, 50)
    of_paths = -log_softmax(logits, axis=2)[np.arange(50), :, labels]
    np.testing.assert_allclose(model.cross_entropy(labels, logits), of_paths.sum(axis=1), rtol=1e-5)
    right = softmax(logits.mean(axis=1), axis=1).argmax(axis=1) == labels
    np.testing.assert_array_equal(model.accuracy(labels, logits), right)
    np.testing.assert_array_equal(model.accuracy(labels[:, None], logits), right)  # as Keras hands labels on


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


def test_most_confident_mistakes_come_first():
    test = data.Reviews(["a", "b", "c", "d"], np.array([0, 0, 1, 1]), ("neg", "pos"))
    probabilities = np.array([[0.4, 0.6], [0.9, 0.1], [0.2, 0.8], [0.99, 0.01]])
    table = report.table_of_mistakes(test, probabilities)
    assert table["review"].tolist() == ["d", "a"]
    assert table["predicted"].tolist() == ["neg", "pos"]


class CountsGood:
    """Stands for a Predictor: the probability of class 1 grows with the number of times "good" comes up."""

    def probabilities(self, texts):
        good = np.array([text.split().count("good") for text in texts], float) / 10
        return np.stack([1 - good, good], axis=1)


def test_pushes_are_what_leaving_a_word_out_costs():
    assert predict.pushes(CountsGood(), "a good and good film", label=1) == [
        ("a", 0.0),
        ("good", pytest.approx(0.1)),
        ("and", 0.0),
        ("good", pytest.approx(0.1)),
        ("film", 0.0),
    ]
    assert predict.pushes(CountsGood(), "good", label=0) == [("good", pytest.approx(-0.1))]
    long = predict.pushes(CountsGood(), "word " * 300 + "good", label=1)
    assert len(long) <= predict.MAX_PIECES
    assert " ".join(piece for piece, _ in long).split() == ["word"] * 300 + ["good"]


def ask(monkeypatch, *args, stdin=""):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode("utf-8") if isinstance(stdin, str) else stdin)))
    commands.predict([*args])


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


def test_an_empty_cell_of_a_table_has_no_answer(beside_the_run, tmp_path, monkeypatch):
    (tmp_path / "reviews.csv").write_text(
        "id,text\n1,not bad at all\n2,\n3,' '\n4,dull\n".replace("' '", '" "'), encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"2 of 4 rows could not be answered; .*out\.csv says why, in the column 'problem'"):
        ask(monkeypatch, "--file", str(tmp_path / "reviews.csv"), "--output", str(tmp_path / "out.csv"))
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["label"].isna().tolist() == [False, True, True, False]
    assert table["problem"].dropna().tolist() == ["No text to judge."] * 2


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
        (["--file", "."], "--file .: the name ends in one of"),
        (["--shard", "0/2", "x"], "--shard is for --file"),
        (["--file", "gone.txt", "--shard", "2/2"], "--shard is K/N"),
        (["--file", "gone.txt", "beside"], "not both; got 1 beside gone.txt"),
        (["--run", "runs/gone", "x"], "there is no such folder"),
        ([], "No text to judge"),
    ],
)
def test_predict_bad_input(args, message, beside_the_run, monkeypatch):
    with pytest.raises(UserError, match=message):
        ask(monkeypatch, *args)


TWO_DEVICES = """
from test_sentiment_app import TINY, run
print(run(TINY, multi_gpu=True, precision="mixed_bfloat16"))
"""


@pytest.mark.slow
def test_one_flag_each_for_several_gpus_and_mixed_precision(on_two_devices):
    folder = on_two_devices(TWO_DEVICES)
    saved = keras.models.load_model(folder / "model.keras", compile=False)
    assert saved.get_layer("network").get_layer("recurrent_bidirectional_gru_1").compute_dtype == "bfloat16"
    test = data.load(TINY).test
    probabilities = asked(saved, test.texts)
    np.testing.assert_allclose(predict.Predictor(folder).probabilities(test.texts), probabilities, atol=0.02)
    metrics = runs.read_json(folder / "metrics.json")["test"]["network"]
    assert metrics["log_loss"] == pytest.approx(log_loss(test.labels, probabilities), rel=1e-2)
    assert pd.read_csv(folder / "history.csv")["gradient_norm"].gt(0).all()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--activation", "relu"], "--activation relu is for --cell rnn"),
        (["--preset", "best", "--num-layers", "2"], "--pretraining-epochs 5 needs --num-layers 1; got 2"),
        (["--units", "0"], "--units is 1 or more; got 0"),
        (["--limit", "0"], "--limit is 1 or more; got 0"),
        (["--dropout", "1"], "--dropout is a fraction, 0 or more and below 1; got 1"),
        (["--validation-split", "0"], "--validation-split lies between 0 and 1; got 0"),
        (["--word-dropout", "1"], "--word-dropout is a fraction, 0 or more and below 1; got 1"),
        (["--clip-threshold", "0"], "--clip-threshold is above 0"),
        (["--cell", "elman"], "invalid choice"),
        (["--resume", "--limit", "100"], "--resume found no unfinished run"),
    ],
)
def test_wrong_flags_end_with_status_2_and_nothing_written(args, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.run_command("", {"train": commands.train}, ["train", "--dataset", "sample", *args])
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not runs.ROOT.exists()


def test_bad_data_leaves_no_run_folder_behind():
    Path("mine.csv").write_text("text,label\nfine,pos\n")
    with pytest.raises(UserError):
        commands.train(["--data", "mine.csv"])
    assert not runs.ROOT.exists()


@pytest.mark.slow
def test_disk_full_at_save_time_keeps_the_training_which_resume_finishes(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save", full)
        with pytest.raises(SystemExit) as stop:
            cli.run(lambda: run(TINY))
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "No space left on device. Free some space" in said
    assert "is not finished. To go on with it: make sentiment ARGS=--resume" in said
    (unfinished,) = (runs.ROOT / "sentiment").iterdir()
    assert unfinished.name.endswith(".unfinished")
    with pytest.raises(UserError, match="--cell: was gru, now lstm"):
        run(replace(TINY, recurrent=replace(TINY.recurrent, cell="lstm")), resume=True)
    path = run(TINY, resume=True)
    assert path.name == unfinished.name.removesuffix(".unfinished")
    assert runs.read_json(path / "metrics.json")["epochs"] == TINY.training.epochs


class PressCtrlC(keras.callbacks.Callback):
    """In the first batch of the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (1, 0):
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_still_evaluates_and_saves_and_no_ngrams_leaves_their_path_out(monkeypatch, capsys):
    make = training.make_callbacks

    def with_ctrl_c(*args):
        callbacks, resume = make(*args)
        return [PressCtrlC(), *callbacks], resume

    with monkeypatch.context() as patch:
        patch.setattr(training, "make_callbacks", with_ctrl_c)
        patch.setattr(pretraining, "read_progress", lambda _: SimpleNamespace(first_epoch=0, seconds=1_000.0))
        folder = run(replace(TINY, ngrams=False), epochs=50)
    metrics = runs.read_json(folder / "metrics.json")
    assert 1_000 < metrics["train_seconds"] < 2_000  # with those of pretraining
    assert metrics["interrupted"]
    assert metrics["epochs"] == 2
    assert "Ctrl-C: finishing this batch" in capsys.readouterr().out
    assert runs.find("sentiment") == folder
    assert set(metrics["test"]) == {"network", "baseline"}
    saved = keras.models.load_model(folder / "model.keras", compile=False)
    assert set(saved.get_layer("vectorizer").output) == {"sequence"}
    assert saved.get_layer("network").output.shape == (None, 1, 2)
    commands.predict(["The plot was not in any way dull."])
    assert capsys.readouterr().out.split()[0] in ("negative", "positive")
