"""What leaves the training machine: text rules in plain Python, ONNX, SavedModel, predictions without TensorFlow."""

import pickle
import random
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps.sentiment import __main__ as commands
from apps.sentiment import data, ngrams, predict, sample, text, words
from apps.sentiment.config import PRESETS
from shared import runs
from shared.cli import UserError

REPOSITORY = Path(__file__).parent.parent
ODD = (
    *("", " ", "\0", "a\0b", "!?", "\u0130STANBUL \u0391\u03a3", "isn\u2019t", "e\u0301 \u00e9", "\u65e5\u672c\u8a9e \u30c6"),
    *("\u0938\u094d\u0935\u0930", "<br />x</p> a<b", "7/10 and/or //", "\ud800x", "\u200d\u0301x", "\u00df \u0149 \u0390"),
    *("\U0001f44d\U0001f3fd\U0001f468\u200d\U0001f469 \U0001f1e9\U0001f1ea\U0001f1eb", "''quoted'' 'tis"),
    *("long " * 200_000, "x" * 1_000_000),
)
RANGES = (
    (0, 0x7F),
    (0, 0x7FF),
    (0x300, 0x36F),
    (0x2000, 0x2BFF),
    (0, 0xFFFF),
    (0x1F1E0, 0x1FAFF),
    (0x200C, 0x200D),
    (0x21, 0x2F),
)


def odd_strings(count):
    """The ones above, and others of random characters that Unicode 14, the oldest version in use here, has."""
    rng = random.Random(0)

    def character():
        found = chr(rng.randint(*rng.choice(RANGES)))
        return found if unicodedata.ucd_3_2_0.category(found) != "Cn" else " "

    return [*ODD, *("".join(character() for _ in range(rng.randint(1, 40))) for _ in range(count - len(ODD)))]


def built(texts, sequence_length=8):
    """TensorFlow's vectorizer and the plain Python vocabulary of the same words and n-grams."""
    lookup = text.learn_words(texts, 500)
    ids = [lookup(tf.constant(chunk)).numpy().astype("int32") for _, chunk in words.in_chunks(texts)]
    bags, _ = ngrams.learn_ngrams(ids, lookup.vocabulary_size())
    vectorizer = text.build_vectorizer(lookup, bags, sequence_length)
    keys = [np.array(bags.get_layer(f"ngrams_{order}").get_vocabulary()[2:]) for order in (2, 3)]
    return vectorizer, words.Vocabulary(lookup.get_vocabulary(), keys, sequence_length)


def test_plain_python_gives_the_ids_of_training(tmp_path):
    reviews, _ = sample.make_reviews(300, seed=0)
    texts = [*reviews, *(one for pair in zip(odd_strings(1000), odd_strings(1000), strict=True) for one in pair)]
    vectorizer, vocabulary = built(texts)
    vocabulary.save(tmp_path / "vocabulary.npz")
    vocabulary = words.Vocabulary.load(tmp_path / "vocabulary.npz")
    expected = text.vectorize(vectorizer, texts)
    for number, one in enumerate(words.normalize(texts)):
        for name, [row] in vocabulary.encode([one]).items():
            assert row.tolist() == expected[name][number].numpy().tolist(), (name, one[:80])


def test_a_chunk_is_padded_on_the_right():
    _, vocabulary = built(["a b", "a b", "c", "c"])
    ids = vocabulary.encode(["a b a", "c"])["sequence"]
    np.testing.assert_array_equal(ids != words.PADDING, [[True, True, True], [True, False, False]])


TINY = replace(PRESETS["smoke"], dataset="sample", limit=200, embedding_dim=4, sequence_length=8, vocabulary_size=200)
TINY = replace(TINY, recurrent=replace(TINY.recurrent, units=3), training=replace(TINY.training, epochs=1))


@pytest.fixture(scope="module", params=[True, False], ids=["ngrams", "no ngrams"])
def run(request, tmp_path_factory):
    from apps.sentiment.train import train

    config = replace(TINY, ngrams=request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("exported"))
        return train(config, data.load(config)).absolute()


def test_the_predictor_answers_as_the_keras_model(run):
    texts = [*data.load(TINY).test.texts[:8], *ODD[3:13]]
    saved = keras.models.load_model(run / "model.keras", compile=False)
    expected = np.stack([np.asarray(saved(np.array(words.normalize([one]), dtype=object)))[0] for one in texts])
    predictor = predict.Predictor(run)
    np.testing.assert_allclose(predictor.probabilities(texts), expected, atol=1e-6)
    for answer, row in zip(predictor(texts), expected, strict=True):
        assert answer["label"] == ["negative", "positive"][row.argmax()]
        assert answer["probability"] == pytest.approx(row.max(), abs=1e-6)
        assert list(answer["probabilities"].values()) == pytest.approx(row.tolist(), abs=1e-6)
    assert pickle.loads(pickle.dumps(predictor))(texts[:3]) == predictor(texts[:3])


PREDICT = """
import sys
from apps.sentiment import __main__ as commands
commands.predict(["Not bad at all.", "--run", sys.argv[1]])
print(sorted({"tensorflow", "keras", "sklearn", "matplotlib"} & set(sys.modules)))
"""


def test_the_command_imports_neither_tensorflow_nor_keras(run):
    command = [sys.executable, "-c", PREDICT, str(run)]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "[]", answer.stderr


@pytest.mark.slow
def test_export_compares_every_format_and_shows_what_it_found(run, monkeypatch, capsys):
    monkeypatch.chdir(run.parent.parent.parent)
    before = predict.Predictor(run).probabilities(["not bad at all"])
    (run / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"has no model\.onnx\. Write it: make sentiment-export ARGS='--run "):
        commands.predict(["fine"])
    commands.export([])
    printed = capsys.readouterr().out
    report = (run / "export" / "report.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in report.splitlines() if "|" in line}
    assert rows["format"] == ["MB", "difference", "same answer", "accuracy", "ms per example"]
    for name in ("Keras", "ONNX", "SavedModel", "LiteRT"):
        assert name in printed
        assert float(rows[name][1]) < 1e-4
    assert ("LiteRT, int8" in rows) == (run / "export" / "model_int8.tflite").exists()
    for name in ("Keras", "ONNX", "SavedModel"):
        assert float(rows[name][2]) == 1
        assert rows[name][3] == rows["Keras"][3]
    assert "`text`, string (None,)" in report
    signature = tf.saved_model.load(str(run / "export" / "saved_model")).signatures["serving_default"]
    [served] = signature(text=tf.constant(["not bad at all"])).values()
    for answer in (served, predict.Predictor(run).probabilities(["not bad at all"])):
        np.testing.assert_allclose(answer, before, atol=1e-6)
    assert not [*run.glob("*.part")]
    assert runs.find("sentiment") == run.relative_to(Path.cwd())


def test_a_run_that_is_not_there_cannot_be_exported():
    with pytest.raises(UserError, match=r"No finished run in runs/sentiment"):
        commands.export([])
