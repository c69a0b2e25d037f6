"""The translation app as a user meets it: the network's masks, a run, what is asked of it."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from scipy.special import log_softmax

from apps.translation import __main__ as commands
from apps.translation import data, explain, model, predict, report, scores, serve, text, train, watch
from apps.translation.baseline import Baseline
from apps.translation.config import PRESETS, Request
from apps.translation.decoding import Translator
from apps.translation.predict import Predictor
from apps.translation.tokens import END, START, UNKNOWN, Tokenizer, Vocabulary
from shared import cli, runs, settings
from shared.cli import UserError
from shared.export import load_saved
from shared.serve import make_app

WATCHED = DRAWN = True

REPOSITORY = Path(__file__).parent.parent
SMOKE = PRESETS["smoke"]
TINY = replace(
    SMOKE,
    dataset="sample",
    limit=300,
    embedding_dim=16,
    recurrent=replace(SMOKE.recurrent, units=24),
    training=replace(SMOKE.training, epochs=2, batch_size=16, learning_rate=1e-2),
)
ATTENTIONS = ("dot", "additive", "none")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """One tiny run for all tests that only look at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield train.train(TINY, data.load(TINY)).resolve()


@pytest.fixture
def beside_the_run(finished_run, monkeypatch):
    monkeypatch.chdir(finished_run.parent.parent.parent)
    return finished_run


def build(**changes) -> tuple:
    """A config and a network of random weights, large enough that its answers wander."""
    recurrent = {name: changes.pop(name) for name in ("cell", "num_layers", "bidirectional") if name in changes}
    config = replace(TINY, recurrent=replace(TINY.recurrent, units=6, **recurrent), **changes)
    network = model.build_model(config, 12, 10)
    network.set_weights([3 * weight for weight in network.get_weights()])
    return config, network


def some_ids(rows=((5, 4), (2, 1), (3, 3))):
    """Sources and targets of these lengths, padded, and what is to be written."""
    rng = np.random.default_rng(0)
    source, target, expected = (np.zeros((len(rows), max(column))) for column in (*zip(*rows, strict=True), [4]))
    expected[:] = model.PADDED
    for row, (read, written) in enumerate(rows):
        source[row, :read], target[row, :written] = rng.integers(4, 12, read), rng.integers(4, 10, written)
        target[row, 0], expected[row, :written] = START, [*target[row, 1:written], END]
    return {"source": source.astype("int32"), "target": target.astype("int32")}, expected.astype("int32")


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_padding_changes_neither_answers_nor_loss(attention, bidirectional):
    _, network = build(attention=attention, bidirectional=bidirectional)
    inputs, expected = some_ids()
    logits, loss, alone = network.predict_on_batch(inputs), model.SmoothedLoss(0.1), []
    lengths = (expected > model.PADDED).sum(axis=1)
    for row, length in enumerate(lengths):
        read = np.count_nonzero(inputs["source"][row])
        one = {"source": inputs["source"][[row], :read], "target": inputs["target"][[row], :length]}
        found = network.predict_on_batch(one)
        np.testing.assert_allclose(logits[row, :length], found[0], atol=1e-5)
        alone.append(float(loss(expected[[row], :length], found)))
    assert float(loss(expected, logits)) == pytest.approx(np.average(alone, weights=lengths), rel=1e-5)


def test_the_loss_is_the_cross_entropy_with_smoothed_targets():
    """Against one-hot targets that give a tenth to all tokens that may be written."""
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(2, 3, 8)).astype("float32"), np.array([[END, 5, model.PADDED], [4, 7, END]])
    logits[..., :END] = model.FORBIDDEN
    smoothed = 0.9 * np.eye(8)[np.maximum(targets, 0)] + 0.1 * (np.arange(8) >= END) / (8 - END)
    nats = -(smoothed * np.where(smoothed > 0, log_softmax(logits.astype(float), axis=-1), 0)).sum(axis=-1)
    assert float(model.SmoothedLoss(0.1)(targets, logits)) == pytest.approx(nats[targets > model.PADDED].mean(), rel=1e-5)
    unknown = np.where(targets == 5, UNKNOWN, targets)  # as a token of validation that train does not hold
    assert float(model.SmoothedLoss(0.1)(unknown, logits)) == pytest.approx(nats[unknown >= END].mean(), rel=1e-5)
    right = logits.argmax(axis=-1) == targets
    assert float(model.token_accuracy(targets, logits)) == pytest.approx(right[targets > model.PADDED].mean())


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize(("cell", "num_layers"), [("lstm", 2), ("gru", 1), ("rnn", 1)])
def test_one_token_after_the_other_is_the_whole_target_at_once(attention, cell, num_layers):
    config, network = build(attention=attention, cell=cell, num_layers=num_layers)
    inputs, _ = some_ids()
    expected = log_softmax(network.predict_on_batch(inputs), axis=-1)
    encoder, decoder = model.split(config, network)
    encoded = encoder.predict_on_batch({"source": inputs["source"]})
    states = encoded["states"]
    constants = {"source": inputs["source"], "memory": encoded["memory"]} if "memory" in encoded else {}
    for step, tokens in enumerate(inputs["target"].T):
        found = decoder.predict_on_batch({"tokens": tokens[:, None], "states": states, **constants})
        np.testing.assert_allclose(found["log_probabilities"][:, END:], expected[:, step, END:], atol=1e-5)
        assert (found["log_probabilities"][:, :END] == -np.inf).all()
        states = found["states"]
        if constants:
            np.testing.assert_allclose(found["attention"].sum(axis=1), 1, atol=1e-5)
            assert not found["attention"][inputs["source"] == 0].any()


def test_padding_unknown_and_start_are_never_written():
    _, network = build()
    inputs, _ = some_ids()
    probabilities = np.exp(log_softmax(network.predict_on_batch(inputs), axis=-1))
    assert not probabilities[..., :END].any()
    np.testing.assert_allclose(probabilities[..., END:].sum(axis=-1), 1, rtol=1e-5)


def test_a_shared_vocabulary_has_one_embedding():
    config = replace(TINY, recurrent=replace(TINY.recurrent, units=6))
    shared, apart = (model.build_model(config, 50, 50, shared=shared) for shared in (True, False))
    assert apart.count_params() - shared.count_params() == 50 * config.embedding_dim
    assert [layer.name for layer in shared.layers if "embedding" in layer.name] == ["target_embedding"]


def test_ids_of_a_pair_are_one_step_apart():
    vocabulary = Vocabulary(Tokenizer("characters", ["a", "b"], True), Tokenizer("words", ["X", "Y"], False), [9])
    features, targets = text.vectorise(vocabulary, data.Pairs(["ab", "b"], ["Y X", "X"], [["Y X"], ["X"]]))
    assert features["source"].to_list() == [[4, 5], [5]]
    assert features["target"].to_list() == [[START, 5, 4], [START, 4]]
    assert targets.to_list() == [[5, 4, END], [4, END]]


def test_run_folder_is_whole(finished_run):
    assert {path.name for path in finished_run.iterdir()} == {
        *("config.json", "environment.json", "metrics.json", "history.csv", "by_length.csv", "mistakes.csv"),
        *("model.keras", "report.md", "logs", "plots", "model.onnx", "decoder.onnx", "vocabulary.json"),
    }
    metrics, test = runs.read_json(finished_run / "metrics.json"), data.load(TINY).test
    assert (metrics["metric"], metrics["higher_is_better"]) == ("word_error_rate", False)
    assert set(metrics["test"]) == {"network", "network, greedy", "baseline"}
    plots = {path.stem for path in (finished_run / "plots").iterdir()}
    assert {"training", "by_length", "answer", "states", "gates", "gradient_through_time", "attention_wrong_1"} <= plots
    mistakes = pd.read_csv(finished_run / "mistakes.csv")
    assert len(mistakes) == round(metrics["test"]["network"]["word_error_rate"] * len(test.sources)) > 0
    text = (finished_run / "report.md").read_text()
    assert "## Most frequent confusions" in text
    assert text.count("next best:") == min(report.MISTAKES_SHOWN, len(mistakes))


@pytest.mark.parametrize("beam", [1, 5])
def test_the_predictor_finds_the_n_best_of_the_keras_model(finished_run, beam):
    test, predictor = data.load(TINY).test, Predictor(finished_run)
    expected = Translator(TINY, load_saved(finished_run), predictor.vocabulary, beam)(test.sources)
    answers = predictor(test.sources, beam)
    decode = predictor.vocabulary.target.decode
    for source, answer, found in zip(test.sources, answers, expected, strict=True):
        assert answer["source"] == source
        assert [one["text"] for one in answer["hypotheses"]] == [decode(one.tokens) for one in found]
        np.testing.assert_allclose([one["score"] for one in answer["hypotheses"]], [one.score for one in found], atol=1e-4)
        assert answer["hypotheses"][0]["text"] == answer["text"]
    metrics = runs.read_json(finished_run / "metrics.json")["test"]
    figures = scores.measure("characters", [answer["text"] for answer in answers], test.references)
    assert metrics["network, greedy" if beam == 1 else "network"] == pytest.approx(figures)
    assert [answer["text"] for answer in predictor(test.sources[:3], beam)] == [answer["text"] for answer in answers[:3]]


LOADED = """
import sys
from pathlib import Path
from apps.translation import config, explain, export, model
from apps.translation.tokens import Vocabulary
from shared import runs
from shared.export import load_saved
folder = Path(sys.argv[1])
network = load_saved(folder)
model.split(runs.read_config(folder, config.Config), network)
export.servable_of(network)
explain.Explainer(network, Vocabulary.load(folder))
"""


def test_a_run_that_is_loaded_by_a_new_process_can_be_taken_apart(finished_run):
    """There the names that Keras gives to new operations are those of the saved ones."""
    answer = subprocess.run([sys.executable, "-c", LOADED, str(finished_run)], cwd=REPOSITORY, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_attention_of_the_predictor_is_that_of_the_keras_model(finished_run):
    test, predictor = data.load(TINY).test, Predictor(finished_run)
    ids = predictor.vocabulary.target.encode(test.targets[0])
    weights, source, target = predictor.attend(test.sources[0], ids)
    expected, *pieces = report.attend(load_saved(finished_run), predictor.vocabulary, test.sources[0], ids)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    assert [source, target] == pieces
    assert source == [*test.sources[0]]
    assert target == [*test.targets[0], "<end>"]


@pytest.mark.usefixtures("unwatched")
def test_without_attention_sentences_of_subwords_train_and_are_judged_by_bleu(tmp_path):
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    both = [(one, other) for one in numbers for other in numbers]
    pairs = [f"{one} and {other}\tplus {other} {one}" for one, other in both]
    pairs += [f"{one} or {other}\t{one} minus {other}" for one, other in both]
    (tmp_path / "mine.tsv").write_text("\n".join(["source\ttarget", *pairs]))
    config = replace(
        TINY, data=str(tmp_path / "mine.tsv"), dataset="auto", attention="none", vocabulary_size=80, test_split=0.2
    )
    config = replace(config, validation_split=0.2, training=replace(config.training, epochs=1))
    folder = train.train(config, data.load(config))
    metrics = runs.read_json(folder / "metrics.json")
    assert metrics["metric"] == "bleu"
    assert metrics["higher_is_better"]
    assert "version" in metrics["signatures"]["bleu"]
    predictor = Predictor(folder)
    [answer] = predictor(["one and two"])
    assert len(answer["hypotheses"]) == Request.beam
    with pytest.raises(UserError, match="--attention none: there is nothing to draw"):
        predictor.attend("one", answer["hypotheses"][0]["tokens"])


def ask(*args: str) -> None:
    commands.predict([*args])


def test_predict_prints_the_best_or_several(beside_the_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ask("the 3rd of may 1998", "--run", str(beside_the_run))
    best = capsys.readouterr().out.strip()
    ask("the 3rd of may 1998", "--best", "3", "--beam", "4", "--run", str(beside_the_run))
    assert best in capsys.readouterr().out
    ask("the 3rd of may 1998", "ж 1", "--attention", "--run", str(beside_the_run))
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == best
    assert "training did not hold 'ж'" in shown.err
    assert {path.name for path in tmp_path.iterdir()} == {"attention.png", "attention_2.png"}


def test_predict_translates_a_table(beside_the_run, tmp_path):
    rows = ["the 3rd of may 1998", "", "friday, 12 june 2020"]
    pd.DataFrame({"source": rows, "id": [7, 8, 9]}).to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(UserError, match="1 of 3 rows could not be answered"):
        ask("--file", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv"), "--run", str(beside_the_run))
    table = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    expected = Predictor(beside_the_run)([rows[0], rows[2]])
    assert table["id"].tolist() == [7, 8, 9]
    assert table["target"].tolist() == [expected[0]["text"], "", expected[1]["text"]]
    assert "is empty" in table["problem"][1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--beam", "0", "a"], "--beam is 1 or more; got 0"),
        (["--beam", "1000", "--best", "2", "a"], "--beam 1000 is wider than the vocabulary"),
        (["--beam", "2", "--best", "3", "a"], "--best 3 is more than --beam 2"),
        (["--file", "in.csv", "a"], "Give sources as arguments or with --file, not both"),
        (["--file", "in.csv", "--attention"], "are for sources given as arguments"),
        (["--file", "nowhere.csv"], "--file nowhere.csv can't be read: No such file"),
        (["  "], "No text to translate"),
        (["a" * (predict.MAX_SOURCE + 1)], "has 1,001 tokens; 1,000 are the most"),
    ],
)
def test_a_users_mistake_in_predict_is_status_2(beside_the_run, args, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "in.csv").write_text("source\na\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: ask(*args, "--run", str(beside_the_run)))
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv"}


def test_an_explanation_adds_up_to_what_the_source_changes(finished_run):
    predictor, source = Predictor(finished_run), "the 3rd of may 1998"
    explainer = explain.load(finished_run, predictor.vocabulary)
    [answer] = predictor([source])
    pieces = explainer(source, answer["hypotheses"][0]["tokens"], 0)
    assert [piece for piece, _ in pieces] == [*source]
    network = load_saved(finished_run)
    features, [[expected, *_]] = text.vectorise(predictor.vocabulary, data.Pairs([source], [answer["text"]], [[]]))
    inputs = {name: rows.to_tensor().numpy() for name, rows in features.items()}

    def log_probability() -> float:
        return float(log_softmax(network.predict_on_batch(inputs)[0, 0])[int(expected)])

    after = log_probability()
    embedding = network.get_layer("source_embedding")
    embedding.set_weights([np.zeros(embedding.embeddings.shape)])
    difference = after - log_probability()
    assert sum(part for _, part in pieces) == pytest.approx(difference, abs=0.011 * abs(difference) + 1e-5)
    assert len(explainer.lines(answer)) == len(answer["text"])


def test_the_server_answers_as_the_predictor(finished_run):
    predictor = Predictor(finished_run)
    application = make_app("translation", predictor, serve.add_routes, settings.ServeRequest())
    with TestClient(application) as client:
        found = client.post("/predict", json={"texts": ["the 3rd of may 1998", "12 june 2020"]})
        assert found.status_code == 200
        expected = predictor(["the 3rd of may 1998", "12 june 2020"])
        assert [answer["text"] for answer in found.json()] == [answer["text"] for answer in expected]
        for texts in ([""], [" \n"], ["a" * (predict.MAX_SOURCE + 1)], []):
            answer = client.post("/predict", json={"texts": texts})
            assert answer.status_code == 422
            assert isinstance(answer.json()["detail"], str)


def test_the_metric_by_length_is_that_of_the_sources_of_this_length():
    lengths = np.repeat([2, 5, 60, 8], [30, 25, 40, 5])
    references = [["a b"]] * 100
    texts = {"network": ["a b"] * 30 + ["a c"] * 25 + ["a b"] * 45, "baseline": ["x"] * 100}
    table = report.by_length("words", lengths, texts, references)
    assert table.index.tolist() == ["1 to 3", "4 to 6", "50 or more"]  # 5 sources are too few
    assert table["sources"].tolist() == [30, 25, 40]
    assert table["network"].tolist() == [0, 1, 0]
    assert table["baseline"].tolist() == [1, 1, 1]


def test_confusions_are_counted_token_by_token():
    vocabulary = Vocabulary(Tokenizer("characters", ["a"], True), Tokenizer("words", ["X", "Y", "Z"], False), [9])
    test = data.Pairs(["a", "b", "c"], ["X Y", "X Y Z", "X"], [["X Y"], ["X Y Z"], ["X"]])
    table = report.confusions(vocabulary, test, ["X Z", "X Y", "X"])
    assert {right: (row.written, row.times) for right, row in table.iterrows()} == {"`Y`": ("`Z`", 1), "`Z`": ("`-`", 1)}


def test_features_of_tokens_are_counted_by_hand():
    found = watch.features(np.array([[True, True, True], [True, False, False]]))
    np.testing.assert_array_equal(found["tokens so far"], [[1, 2, 3], [1, np.nan, np.nan]])
    np.testing.assert_array_equal(found["tokens to come"], [[2, 1, 0], [0, np.nan, np.nan]])


def test_the_baseline_of_dates_is_a_memory():
    splits = data.load(TINY)
    assert Baseline(splits.train, ("characters", "characters")).name == "a translation memory"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", splits.train.targets[0])
