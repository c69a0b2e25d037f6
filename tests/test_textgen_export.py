"""What leaves the training machine: the ONNX file, the choice of characters in NumPy, the SavedModel; text without Keras."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from apps.textgen import __main__ as commands
from apps.textgen import data, export, generate, predict, sampling
from apps.textgen.characters import UNKNOWN, Text
from apps.textgen.config import DEFAULT, RECURRENT, TRAINING
from apps.textgen.model import build_generator, build_servable, zero_states
from apps.textgen.sampling import Sampling, probabilities_of, weights
from shared.cli import UserError

REPOSITORY = Path(__file__).parent.parent
VOCABULARY = ["\n", " ", "1", "a", "b", "c", "d", "e", "Ä", "\N{GRINNING FACE}"]
NUM_IDS = len(VOCABULARY) + 2
GREEDY = Sampling(temperature=0)
ODD = ("\0", "e\u0301 é", "日本語", "👨‍👩‍👧 🇩🇪", "\u200d\u0301x", "A\tb\r\n", "\ufffd\ufeff", "ab" * 2_000)
TINY = replace(
    DEFAULT,
    preset="smoke",
    data="own.txt",
    embedding_dim=4,
    sequence_length=10,
    recurrent=replace(RECURRENT, units=6),
    training=replace(TRAINING, epochs=1, batch_size=4),
)
TEXT = "".join(f"{n} green bottles hanging on the wall, and if one should fall: {n - 1}.\n" for n in range(30, 0, -1))


@pytest.fixture(scope="module", params=[("rnn", 1), ("gru", 1), ("lstm", 2)], ids=lambda stack: stack[0])
def exported(request, tmp_path_factory):
    """A network of random weights, large enough that its text wanders: the servable, its config, a folder that was written."""
    cell, num_layers = request.param
    config = replace(TINY, recurrent=replace(TINY.recurrent, cell=cell, num_layers=num_layers))
    keras.utils.set_random_seed(0)
    network = build_generator(config, NUM_IDS)
    network.set_weights([weight * 3 + 0.1 for weight in network.get_weights()])
    servable = build_servable(config, VOCABULARY, network)
    folder = tmp_path_factory.mktemp(cell)
    export.write(config, servable, folder)
    return config, servable, folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from apps.textgen.train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("exported"))
        Path("own.txt").write_text(TEXT)
        return train(TINY, data.load(TINY)).absolute()


def logits_by_keras(config, servable, text):
    """Those after each character of a text that begins."""
    ids = keras.ops.cast(servable.get_layer("characters")(np.array([text], dtype=object)), "int32")
    return servable.get_layer("network")({"ids": ids, "states": zero_states(config, 1)})["logits"].numpy()[0]


def test_plain_python_gives_the_ids_of_training(exported):
    _, servable, folder = exported
    predictor = predict.Predictor(folder)
    for text in (*ODD, "".join(VOCABULARY)):
        expected = servable.get_layer("characters")(np.array([text], dtype=object))
        np.testing.assert_array_equal(predictor.encode([text]), expected)


def test_the_network_reads_on_from_its_state_as_the_keras_model(exported, monkeypatch):
    config, servable, folder = exported
    predictor = predict.Predictor(folder)
    text = "a bad bee 1 face z"
    expected = logits_by_keras(config, servable, text)
    ids = predictor.encode([text])
    logits, states = predictor.read(ids[:, :5])
    np.testing.assert_allclose(logits[0], expected[4], atol=1e-5)
    monkeypatch.setattr(predict, "WINDOW", 3)  # a long prompt is read in parts
    logits, _ = predictor.read(ids[:, 5:], states)
    np.testing.assert_allclose(logits[0], expected[-1], atol=1e-5)


def test_text_is_what_one_would_choose_reading_on_step_by_step(exported):
    config, servable, folder = exported
    prompts = ["ab", "a", "ab"]
    answers = predict.Predictor(folder)(prompts, GREEDY, length=40)
    for prompt, answer in zip(prompts, answers, strict=True):
        logits = logits_by_keras(config, servable, prompt + answer["text"])[len(prompt) - 1 : -1]
        ids = logits[:, UNKNOWN + 1 :].argmax(axis=1)
        assert answer["text"] == "".join(VOCABULARY[number] for number in ids)
        by_keras = softmax(logits, axis=1)[np.arange(40), ids + UNKNOWN + 1]
        np.testing.assert_allclose(answer["probabilities"], by_keras, atol=1e-5)


def test_answers_depend_on_the_seed_and_the_place_alone(exported):
    predictor = predict.Predictor(exported[2])
    wild = Sampling(temperature=2.0)
    answers = predictor(["ab", "ab", "bad"], wild, length=70, seed=3)
    assert json.loads(json.dumps(answers)) == answers
    assert answers[0]["text"] != answers[1]["text"]
    assert predictor(["ab"], wild, length=70, seed=3)[0]["text"] == answers[0]["text"]
    assert predictor(["ab"], wild, length=40, seed=3)[0]["text"] == answers[0]["text"][:40]
    assert predictor(["ab"], wild, length=70, seed=4)[0]["text"] != answers[0]["text"]
    assert pickle.loads(pickle.dumps(predictor))(["ab", "ab", "bad"], wild, length=70, seed=3) == answers


def test_an_answer_ends_before_the_stop_string(exported):
    predictor = predict.Predictor(exported[2])
    wild = Sampling(temperature=2.0)
    [free] = predictor(["ab"], wild, length=70)
    stop = free["text"][31:34]  # half of it comes with the first 32 characters
    [stopped] = predictor(["ab"], wild, length=70, stop=stop)
    assert stopped["text"] == free["text"].split(stop)[0]
    assert stopped["probabilities"] == pytest.approx(free["probabilities"][: len(stopped["text"])])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "--temperature is 0 or more.*got -1.0"),
        ({"top_k": 0}, "--top-k is 1 or more; got 0"),
        ({"top_p": 0.0}, "--top-p lies above 0.*got 0.0"),
    ],
)
def test_settings_by_which_nothing_can_be_chosen_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Sampling(**settings)


def test_an_empty_prompt_is_told(exported):
    with pytest.raises(UserError, match="A prompt is empty; give one character or more"):
        predict.Predictor(exported[2])(["ab", ""])


LOGITS = np.log(np.array([0.2, 0.1, 0.3, 0.2, 0.12, 0.06, 0.02], "float32"))  # the first two are never chosen
SAMPLINGS = [
    Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    for temperature in (0, 1e-40, 0.5, 1.0, 3.0, 1e30)
    for top_k in (None, 1, 3, 1_000)
    for top_p in (1.0, 0.01, 0.7)
]


@pytest.mark.parametrize("settings", SAMPLINGS, ids=str)
def test_numpy_chooses_what_keras_draws(settings):
    draws = 6_000
    logits = np.tile(LOGITS, (draws, 1))
    by_keras = np.bincount(generate.choose(keras.ops.convert_to_tensor(logits), settings, np.array([0, 0])), minlength=7)
    ids = sampling.choose(logits, settings, (np.arange(draws) + 0.5) / draws)  # all uniform numbers
    found = np.bincount(ids, minlength=7)
    assert ids.dtype == "int32"
    np.testing.assert_array_equal(found > 0, by_keras > 0)
    np.testing.assert_allclose(found / draws, by_keras / draws, atol=0.025)
    if settings.temperature > sampling.MIN_TEMPERATURE:
        [expected] = weights(LOGITS[None], settings)
        np.testing.assert_allclose(found[2:] / draws, expected / expected.sum(), atol=1 / draws)


def test_the_largest_and_the_smallest_random_number_choose_possible_characters():
    rows = np.random.default_rng(0).normal(size=(500, 40)).astype("float32")
    settings = Sampling(top_k=5)
    for uniform in (0.0, np.nextafter(1, 0)):
        ids = sampling.choose(rows, settings, np.full(len(rows), uniform))
        assert (np.take_along_axis(weights(rows, settings), ids[:, None] - UNKNOWN - 1, axis=1) > 0).all()


def test_probabilities_are_those_of_the_softmax():
    logits = np.random.default_rng(0).normal(size=(2, 3, 9)).astype("float32") * 30
    ids = np.array([[0, 3, 8], [1, 1, 4]])
    expected = np.take_along_axis(softmax(logits.astype("float64"), axis=-1), ids[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(probabilities_of(ids, logits), expected, rtol=1e-5)


@pytest.mark.parametrize(("characters", "length", "count"), [(2, 1, 1), (9, 4, 5), (700, 256, 200), (5_000, 256, 200)])
def test_examples_are_pieces_of_the_text_and_what_follows_them(characters, length, count):
    codes = np.random.default_rng(0).integers(97, 123, characters)
    text = "".join(map(chr, codes))
    found, following = export.pieces(Text(codes, np.array([characters])))
    assert len(found) == len(following) == count
    assert {len(piece) for piece in found} == {length}
    assert all(piece + chr(code) in text for piece, code in zip(found, following, strict=True))
    assert text.startswith(found[0])
    assert text.endswith(found[-1] + chr(following[-1]))


def test_the_command_imports_neither_tensorflow_nor_keras(run):
    code = (
        "import sys; from apps.textgen import __main__ as commands; commands.predict(['--length', '9', '--run', sys.argv[1]]);"
        "print(sorted({'tensorflow', 'keras', 'pandas', 'requests', 'matplotlib'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(run)], cwd=REPOSITORY, capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1:] == ["[]"], answer.stderr


@pytest.mark.slow
def test_export_compares_every_format_and_shows_what_it_found(run, monkeypatch, capsys):
    monkeypatch.chdir(run.parent.parent.parent)
    (run / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"has no model\.onnx\. Write it: make textgen-export ARGS='--run "):
        commands.predict([])
    commands.export([])
    printed = capsys.readouterr().out
    report = (run / "export" / "report.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in report.splitlines() if "|" in line}
    text = data.load(TINY).validation
    examples, following = export.pieces(text)
    saved = keras.models.load_model(run / "model.keras", compile=False)
    [ids] = saved.get_layer("characters")(np.array(["".join(map(chr, following))], dtype=object)).numpy()
    nats = -np.log(np.asarray(saved(np.array(examples, dtype=object)))[np.arange(len(ids)), ids]).mean()
    for name in ("Keras", "ONNX", "SavedModel"):
        assert name in printed
        row = dict(zip(rows["format"], rows[name], strict=True))
        assert float(row["difference"]) < 1e-4
        assert float(row["same answer"]) == 1
        assert float(row["nats_per_character"]) == pytest.approx(nats, abs=1e-3)
    signature = tf.saved_model.load(str(run / "export" / "saved_model")).signatures["serving_default"]
    [served] = signature(text=tf.constant(["10 green"])).values()
    np.testing.assert_allclose(served, export.ask_onnx(run, 1)(["10 green"]), atol=1e-5)
    assert predict.Predictor(run).metrics["app"] == "textgen"


def test_a_run_that_is_not_there_cannot_be_exported():
    with pytest.raises(UserError, match=r"No finished run in runs/textgen"):
        commands.export([])
