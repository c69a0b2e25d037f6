"""The tagging app as a user meets it: scores, the network's masks, a run, what is asked of it."""

import itertools
import json
import random
import re
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from fastapi.testclient import TestClient
from sklearn.metrics import accuracy_score

from apps.tagging import __main__ as commands
from apps.tagging import data, demo, explain, model, report, scores, serve, train, watch
from apps.tagging.baseline import Baseline
from apps.tagging.config import PRESETS
from apps.tagging.predict import Predictor
from apps.tagging.schemes import spans_of
from apps.tagging.validation import decode
from apps.tagging.words import MAX_CHARACTERS, MAX_TOKENS
from shared import cli, runs, settings
from shared.cli import UserError
from shared.data import Splits
from shared.export import load_saved
from shared.serve import make_app

WATCHED = DRAWN = True

SMOKE = PRESETS["smoke"]
TINY = replace(
    SMOKE,
    dataset="sample",
    limit=300,
    embedding_dim=8,
    character_filters=8,
    recurrent=replace(SMOKE.recurrent, units=8),
    training=replace(SMOKE.training, epochs=2, batch_size=8, learning_rate=2e-2),
)


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


def random_tags(rng: random.Random, length: int) -> list[str]:
    """Any tags, also I that continue nothing."""
    return [rng.choice(["O", "O", "B-a", "I-a", "B-b", "I-b"]) for _ in range(length)]


def conlleval(expected: list[list[str]], found: list[list[str]]) -> tuple[int, int, int]:
    """Right, found and expected spans, as the Perl program counts: in one pass over all words, with start and end of chunks."""
    right = guesses = truths = 0
    for one, other in zip(expected, found, strict=True):
        in_correct, before = False, [("O", ""), ("O", "")]
        for tags in [*zip(one, other, strict=True), ("O", "O")]:
            now = [tuple(tag.partition("-")[::2]) for tag in tags]
            starts = [t != "O" and (t == "B" or p == "O" or k != pk) for (t, k), (p, pk) in zip(now, before, strict=True)]
            ends = [p != "O" and (t in ("B", "O") or k != pk) for (t, k), (p, pk) in zip(now, before, strict=True)]
            if in_correct and ends == [True, True]:
                in_correct, right = False, right + 1
            elif in_correct and (ends[0] != ends[1] or now[0][1] != now[1][1]):
                in_correct = False
            if starts == [True, True] and now[0][1] == now[1][1]:
                in_correct = True
            truths, guesses, before = truths + starts[0], guesses + starts[1], now
    return right, guesses, truths


def test_spans_are_counted_as_conlleval_does():
    rng = random.Random(0)
    lengths = [rng.randint(1, 12) for _ in range(500)]
    expected, found = ([random_tags(rng, length) for length in lengths] for _ in range(2))
    total = scores.counts(expected, found).sum()
    right, guesses, truths = conlleval(expected, found)
    assert (total.right, total.found, total.expected) == (right, guesses, truths)
    figures = scores.measure(expected, found, has_spans=True)
    precision, recall = right / guesses, right / truths
    assert figures["entity_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert (figures["entity_precision"], figures["entity_recall"]) == pytest.approx((precision, recall))
    assert figures["token_accuracy"] == accuracy_score([*itertools.chain(*expected)], [*itertools.chain(*found)])
    right = scores.words_right(expected, found).sum(axis=0)
    assert right[0] / right[1] == pytest.approx(figures["token_accuracy"])
    table = scores.per_type(expected, found)
    assert table["spans"].sum() == truths
    of_a = (
        [[tag if tag.endswith("a") else "O" for tag in tags] for tags in expected],
        [[tag if tag.endswith("a") else "O" for tag in tags] for tags in found],
    )
    right, guesses, truths = conlleval(*of_a)
    assert table.loc["a", ["precision", "recall", "spans"]].tolist() == pytest.approx([right / guesses, right / truths, truths])


def test_a_sentence_is_right_if_all_its_tags_are_and_nothing_is_no_division_by_zero():
    figures = scores.measure([["O", "B-a"], ["O"]], [["O", "B-a"], ["B-a"]], has_spans=True)
    assert figures["sentence_accuracy"] == 0.5
    assert scores.measure([["O"]], [["O"]], has_spans=True)["entity_f1"] == 0
    assert scores.measure([["NN"]], [["NN"]], has_spans=False) == {"token_accuracy": 1, "sentence_accuracy": 1}


def build(config=TINY, tags=("O", "B-a", "I-a", "B-b", "I-b")) -> keras.Model:
    network = model.build_model(config, 20, 10, tags)
    network.compile(loss=model.loss_of(network))
    return network


@pytest.mark.parametrize("crf", [True, False])
def test_padding_changes_neither_answers_nor_loss(crf):
    network = build(replace(TINY, crf=crf))
    rng = np.random.default_rng(0)
    lengths = [5, 1, 3]
    words = np.where(np.arange(5) < np.array(lengths)[:, None], rng.integers(1, 20, (3, 5)), 0)
    characters = np.where(words[..., None] > 0, rng.integers(0, 10, (3, 5, MAX_CHARACTERS)), 0)
    tags = np.where(words > 0, rng.integers(0, 5, (3, 5)), model.PADDED)
    whole = network.predict_on_batch({"words": words, "characters": characters})
    assert not whole[words == 0].any()
    loss, alone = model.loss_of(network), []
    for row, length in enumerate(lengths):
        cut = {"words": words[row : row + 1, :length], "characters": characters[row : row + 1, :length]}
        emissions = network.predict_on_batch(cut)
        np.testing.assert_allclose(whole[row, :length], emissions[0], atol=1e-6)
        alone.append(float(loss(tags[row : row + 1, :length], emissions)))
    assert float(loss(tags, whole)) == pytest.approx(np.average(alone, weights=lengths), rel=1e-5)
    given = {"words": words, "characters": characters}
    assert network.evaluate(given, tags, verbose=0) == pytest.approx(float(loss(tags, whole)), rel=1e-5)


def test_without_a_crf_the_loss_is_the_cross_entropy_of_each_word():
    rng = np.random.default_rng(0)
    emissions, tags = rng.normal(size=(2, 3, 4)).astype("float32"), np.array([[0, 3, model.PADDED], [1, 2, 2]])
    log_probabilities = emissions - np.log(np.exp(emissions).sum(axis=2, keepdims=True))
    expected = -np.mean([log_probabilities[row, step, tags[row, step]] for row, step in np.argwhere(tags >= 0)])
    assert float(model.TagLoss()(tags, emissions)) == pytest.approx(expected, rel=1e-5)


def test_only_what_can_follow_is_allowed():
    tags = ("O", "B-a", "I-a", "B-b", "I-b", "(start or end)")
    allowed = model.allowed(tags[:-1])
    forbidden = {(tags[row], tags[column]) for row, column in np.argwhere(~np.array(allowed))}
    assert forbidden == {
        *(("O", "I-a"), ("O", "I-b"), ("B-a", "I-b"), ("I-a", "I-b"), ("B-b", "I-a"), ("I-b", "I-a")),
        *(("(start or end)", "I-a"), ("(start or end)", "I-b")),
    }
    assert model.allowed(("DT", "NN")) is None


def test_an_unknown_word_is_what_word_dropout_leaves_of_a_known_one():
    """Zeros: with --character-filters 0 nothing else comes in."""
    network = build(replace(TINY, character_filters=0))
    inside = keras.Model(network.input, network.get_layer("word_dropout").output)
    words = {"words": np.array([[1, 5]]), "characters": np.zeros((1, 2, MAX_CHARACTERS), int)}
    unknown, known = inside.predict_on_batch(words)[0]
    assert not unknown.any()
    assert known.all()


def test_the_baseline_learns_the_words_around():
    sentences = [["from", name, "to", other] for name, other in itertools.permutations("abcdef", 2)]
    train_part = data.Sentences(sentences, [["O", "B-f", "O", "B-t"]] * len(sentences), ("O", "B-f", "I-f", "B-t", "I-t"))
    baseline = Baseline(train_part)
    assert baseline([["from", "z", "to", "y"], ["to", "z", "from", "y"]]) == [
        ["O", "B-f", "O", "B-t"],
        ["O", "B-t", "O", "B-f"],
    ]


def test_run_folder_is_whole(finished_run):
    assert {path.name for path in finished_run.iterdir()} == {
        *("config.json", "environment.json", "metrics.json", "history.csv", "mistakes.csv", "model.keras"),
        *("report.md", "logs", "plots", "model.onnx", "vocabulary.json", "transitions.zip"),
    }
    metrics = runs.read_json(finished_run / "metrics.json")
    assert metrics["metric"] == "entity_f1"
    assert sum(of["spans"] for of in metrics["per_type"].values()) == sum(
        len(spans_of(tags)) for tags in data.load(TINY).test.tags
    )
    text = (finished_run / "report.md").read_text()
    assert "## Each type" in text
    mistakes = re.search(r"## The \d+ most confident of (\d+) mistakes", text)
    wrong = 1 - metrics["test"]["network"]["sentence_accuracy"]
    assert int(mistakes[1]) == round(wrong * len(data.load(TINY).test.tokens)) > 0


def test_the_predictor_answers_as_the_keras_model_for_all_test_sentences(finished_run):
    splits = data.load(TINY)
    experiment_network = load_saved(finished_run)
    predictor = Predictor(finished_run)
    ids = train.text.vectorise(predictor.vocabulary, splits.test.tokens)
    expected = decode(experiment_network, ids, splits.test.tag_names)
    answers = predictor(splits.test.tokens)
    assert [answer["tags"] for answer in answers] == expected.tags
    figures = scores.measure(splits.test.tags, expected.tags, has_spans=True)
    metrics = runs.read_json(finished_run / "metrics.json")
    assert metrics["test"]["network"] == pytest.approx(figures)
    for answer, tokens, probability in zip(answers, splits.test.tokens, expected.probabilities, strict=True):
        assert answer["tokens"] == tokens
        assert all(probability <= span["probability"] * (1 + 1e-6) for span in answer["spans"])  # a part of the whole
        assert [span["label"] for span in answer["spans"]] == [span.type for span in spans_of(answer["tags"])]
    one_by_one = [predictor([tokens])[0]["tags"] for tokens in splits.test.tokens[:20]]
    assert one_by_one == expected.tags[:20]


@pytest.mark.usefixtures("unwatched")
def test_no_crf_and_plain_tags_train_and_are_judged_by_words(tmp_path):
    """Parts of speech: no tag names a span."""
    sentences = [(["the", "dog", "runs"], ["DT", "NN", "VB"]), (["a", "cat"], ["DT", "NN"]), (["dogs", "run"], ["NN", "VB"])]
    lines = [
        f"{token}\t{tag}\n"
        for number in range(40)
        for tokens, tags in sentences
        for token, tag in zip([f"{one}{number}" for one in tokens], tags, strict=True)
    ]
    file = tmp_path / "mine.conll"
    file.write_text("".join(line + ("\n" if line.endswith(("VB\n", "NN\n")) else "") for line in lines))
    config = replace(TINY, data=str(file), dataset="auto", crf=False, limit=None)
    folder = train.train(config, data.load(config))
    metrics = runs.read_json(folder / "metrics.json")
    assert metrics["metric"] == "token_accuracy"
    assert set(metrics["test"]["network"]) == {"token_accuracy", "sentence_accuracy"}
    [answer] = Predictor(folder)([["the7", "dog7"]])
    assert len(answer["tags"]) == 2
    assert answer["spans"] == []
    assert demo.highlighted(answer) == [("the7 ", answer["tags"][0]), ("dog7 ", answer["tags"][1])]


def ask(*args: str) -> None:
    commands.predict([*args])


def test_predict_prints_spans_and_probabilities(beside_the_run, capsys):
    ask("book a train from marlo to kalos")
    printed = capsys.readouterr().out
    assert re.search(r"\[\w+ [01]\.\d\d\]", printed)
    assert re.sub(r"\[\w+ [01]\.\d\d\]", "", printed).split() == ["book", "a", "train", "from", "marlo", "to", "kalos"]


def test_predict_files_of_every_kind(beside_the_run, tmp_path, capsys):
    texts = ["book a train from marlo to kalos", "coming back, kalos then marlo"]
    (tmp_path / "in.txt").write_text("\n\n".join(texts))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "in.conll").write_text("book\na\ntrain\n\nback\tO\n")
    ask("--file", str(tmp_path / "in.txt"), "--output", str(tmp_path / "a.conll"))
    ask("--file", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "b.jsonl"))
    ask("--file", str(tmp_path / "in.conll"), "--output", str(tmp_path / "c.conll"))
    blocks = (tmp_path / "a.conll").read_text().strip().split("\n\n")
    found = [[line.split("\t") for line in block.split("\n")] for block in blocks]
    assert [" ".join(token for token, _ in block) for block in found] == [texts[0], "coming back , kalos then marlo"]
    rows = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == texts
    for row, block in zip(rows, found, strict=True):
        spans = spans_of([tag for _, tag in block])
        assert [(span["label"], row["text"][span["start"] : span["end"]].split()[0]) for span in row["spans"]] == [
            (span.type, block[span.first][0]) for span in spans
        ]
    assert [line.split("\t")[0] for line in (tmp_path / "c.conll").read_text().split("\n")[:5]] == [
        "book",
        "a",
        "train",
        "",
        "back",
    ]
    # What was written can be trained on.
    assert len(data.reading.read(tmp_path / "b.jsonl", 0, -1)) == 2
    assert not [*tmp_path.glob("*.part")]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--file", "in.pdf"], "--file in.pdf: the name ends in one of"),
        (["--file", "in.txt", "--output", "out.csv"], "--output out.csv: the name ends in one of .conll, .jsonl"),
        (["--file", "in.txt", "--output", "in.txt"], "--output in.txt exists already"),
        (["--output", "out.conll", "a text"], "--output is for --file; got out.conll without one"),
        (["--file", "nowhere.txt"], "--file nowhere.txt: there is no such file"),
        (["--file", "empty.txt"], "--file empty.txt holds no sentence"),
        (["--file", "bad.jsonl"], "bad.jsonl does not parse: line 1: expected a string under"),
        (["--file", "in.txt", "a text"], "Give sentences as arguments or with --file, not both"),
        (["  "], "No sentence to tag"),
        (["a " * (MAX_TOKENS + 1)], "Sentence 1: a sentence of 1,001 tokens"),
    ],
)
def test_a_users_mistake_in_predict_is_status_2(beside_the_run, args, message, tmp_path, monkeypatch, capsys):
    for name, text in (("in.pdf", "a"), ("in.txt", "a b"), ("bad.jsonl", '{"texts": 1}'), ("empty.txt", "\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: ask(*args, "--run", str(beside_the_run)))
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert {path.name for path in tmp_path.iterdir()} == {"in.pdf", "in.txt", "bad.jsonl", "empty.txt"}


@pytest.mark.parametrize("tokens", [[], ["a", ""], ["a\tb"], ["a\nb"], [" "]])
def test_what_is_no_token_is_refused_and_a_no_break_space_is_not(finished_run, tokens):
    predictor = Predictor(finished_run)
    with pytest.raises(UserError, match="Sentence 2"):
        predictor([["new\u00a0york"], tokens])
    assert predictor([["new\u00a0york"]])[0]["tokens"] == ["new\u00a0york"]


def emissions_of_nothing(folder, ids: dict, embeddings) -> np.ndarray:
    """What the saved network says of ids if its embeddings hold zeros."""
    network = load_saved(folder)
    for name in embeddings:
        layer = network.get_layer(name)
        layer.set_weights([np.zeros(layer.embeddings.shape)])
    return network.predict_on_batch(ids)


def test_an_explanation_adds_up_to_what_the_sentence_changes(finished_run):
    predictor = Predictor(finished_run)
    explainer = explain.load(finished_run, predictor.vocabulary)
    tokens = ["coming", "back", "with", "a", "large", "dog", ",", "kalos", "then", "marlo"]
    [answer] = predictor([tokens])
    place = tokens.index("kalos")
    pieces = explainer(tokens, place, "B-to_city")
    assert [token for token, _ in pieces] == tokens
    ids, number = predictor.vocabulary.encode([tokens]), predictor.vocabulary.tags.index("B-to_city")
    nothing = emissions_of_nothing(finished_run, ids, explainer.vectors_of(ids))
    before, after = (
        np.exp(emissions - np.logaddexp.reduce(emissions))[number]
        for emissions in (nothing[0, place], predictor.emissions([tokens])[0, place])
    )
    assert sum(part for _, part in pieces) == pytest.approx(after - before, abs=float(0.011 * abs(after - before) + 1e-6))
    lines = explainer.lines(answer)
    assert len(lines) == len(answer["spans"])


def test_the_server_answers_as_the_predictor(finished_run):
    predictor = Predictor(finished_run)
    application = make_app("tagging", predictor, serve.add_routes, settings.ServeRequest())
    text = "Book a train, from marlo to kalos!"
    with TestClient(application) as client:
        found = client.post("/predict", json={"texts": [text, "to kalos"]})
        assert found.status_code == 200
        [first, _] = found.json()
        [expected] = predictor([["Book", "a", "train", ",", "from", "marlo", "to", "kalos", "!"]])
        assert first["tags"] == expected["tags"]
        assert [span["probability"] for span in first["spans"]] == pytest.approx(
            [span["probability"] for span in expected["spans"]], abs=1e-5
        )
        for texts in ([""], [" \n"], ["a " * 1001], []):
            answer = client.post("/predict", json={"texts": texts})
            assert answer.status_code == 422
            assert isinstance(answer.json()["detail"], str)


def test_mistakes_are_shown_in_brackets():
    tokens = ["to", "new", "york", "at", "seven"]
    assert report.in_brackets(tokens, ["O", "B-city", "I-city", "O", "B-time"]) == "to [new york city] at [seven time]"
    assert report.in_brackets(tokens[:2], ["TO", "NN"]) == "[to TO] [new NN]"
    assert report.in_brackets(tokens[1:3], ["B-city", "B-city"]) == "[new city] [york city]"


def test_features_of_words_are_counted_by_hand():
    pairs = [(["to", "new", "york", "at"], ["O", "B-city", "I-city", "O"]), (["go"], ["O"])]
    found = watch.features(pairs)
    assert found["inside a span"][0].tolist() == [0, 1, 1, 0]
    assert found["words to come"][0].tolist() == [3, 2, 1, 0]
    assert found["letters of the word"][0].tolist() == [2, 3, 4, 2]
    np.testing.assert_array_equal(found["words since the last span"][0], [np.nan, 0, 0, 1])
    assert all(np.isnan(values[1, 1:]).all() for values in found.values())


@pytest.mark.slow
def test_an_export_keeps_the_words_of_the_run_where_the_data_has_changed(finished_run, tmp_path, monkeypatch, capsys):
    """And is compared on what there is now; tags that the run does not know are wrong in any case."""
    folder = shutil.copytree(finished_run, tmp_path / "runs" / "tagging" / finished_run.name)
    before = (folder / "vocabulary.json").read_text()
    sentences = [["completely", "other", f"words{number}"] for number in range(20)]
    part = data.Sentences(sentences, [["O", "B-new", "I-new"]] * 20, ("O", "B-new", "I-new"))
    monkeypatch.setattr(data, "load", lambda _: Splits(part, part, part, "other", "0"))
    commands.export(["--run", str(folder)])
    assert (folder / "vocabulary.json").read_text() == before
    assert "is not the data that this run was trained on" in capsys.readouterr().out
    assert "| ONNX |" in (folder / "export" / "report.md").read_text()
