"""The text generation app by its commands, made tiny; sampling against NumPy."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from apps.textgen import __main__ as commands
from apps.textgen import characters, data, predict, report, train
from apps.textgen.config import DEFAULT, RECURRENT, TRAINING
from apps.textgen.data import Text, block_size, count_targets
from apps.textgen.generate import Sampler, choose, nats_by_block
from apps.textgen.model import build_generator, build_model, zero_states
from apps.textgen.sampling import Sampling
from shared import runs
from shared.cli import UserError
from tools import runs as table_of_runs

WATCHED = DRAWN = True

REPOSITORY = Path(__file__).parent.parent
TEXT = "".join(f"{n} green bottles hanging on the wall, and if one should fall: {n - 1}.\n" for n in range(60, 0, -1))
TINY = replace(
    DEFAULT,
    preset="smoke",
    data="own.txt",
    embedding_dim=8,
    sequence_length=20,
    recurrent=replace(RECURRENT, units=16),
    training=replace(TRAINING, epochs=2, batch_size=4),
)


def with_stack(config, **settings):
    return replace(config, recurrent=replace(config.recurrent, **settings))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A finished run on the tiny text, made where no other test works."""
    here = tmp_path_factory.mktemp("textgen")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        Path("own.txt").write_text(TEXT)
        return here / train.train(TINY, data.load(TINY))


def test_run_folder_is_whole(run_folder):
    names = {path.name for path in run_folder.iterdir()}
    assert names == {
        "config.json",
        "environment.json",
        "metrics.json",
        "history.csv",
        "model.keras",
        "model.onnx",
        "characters.json",
        "logs",
        "plots",
        "report.md",
        "sample.txt",
    }
    metrics = runs.read_json(run_folder / "metrics.json")
    expected = {"app", "preset", "dataset", "split", "seed", "parameters", "epochs", "train_seconds", "interrupted"}
    expected |= {"metric", "higher_is_better", "beats_baseline", "lead", "validation", "test"}
    assert expected <= set(metrics)
    assert (metrics["app"], metrics["dataset"], metrics["split"], metrics["epochs"]) == ("textgen", "own.txt", "test", 2)
    network, baseline = metrics["test"]["network"], metrics["test"]["baseline"]
    nats, lead = network["nats_per_character"], metrics["lead"]
    assert lead["metric"] == metrics["metric"] == "nats_per_character"
    assert lead["mean"] == pytest.approx(baseline["nats_per_character"] - nats)
    assert lead["low"] <= lead["mean"] <= lead["high"]
    assert metrics["beats_baseline"] == (lead["low"] > 0)
    assert network["bits_per_character"] == pytest.approx(nats / 0.6931472)
    assert network["perplexity"] == pytest.approx(np.exp(nats))
    assert nats < np.log(metrics["characters"])  # better than guessing
    history = pd.read_csv(run_folder / "history.csv")
    validation = metrics["validation"]["network"]["nats_per_character"]
    assert validation == pytest.approx(history["val_nats_per_character"].iloc[-1], rel=0.1)


def test_run_stands_in_the_table_of_runs(run_folder, capsys, monkeypatch):
    monkeypatch.chdir(run_folder.parent.parent.parent)
    table_of_runs.main()
    row = next(line for line in capsys.readouterr().out.splitlines() if run_folder.name in line)
    metrics = runs.read_json(run_folder / "metrics.json")
    assert "nats_per_character" in row
    found = metrics["validation"]["network"], metrics["test"]["network"], metrics["test"]["baseline"]
    assert all(f"{of['nats_per_character']:.4f}" in row for of in found)


def test_saved_model_gives_the_distribution_of_the_next_character(run_folder):
    model = keras.models.load_model(run_folder / "model.keras", compile=False)
    probabilities = np.asarray(model(np.array(["10 green bottles", "on"], dtype=object)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    lookup, network = model.get_layer("characters"), model.get_layer("network")
    ids = np.asarray(lookup(np.array(["on"], dtype=object)), "int32")
    logits = network({"ids": tf.constant(ids), "states": zero_states(TINY, 1)})["logits"][0, -1]
    np.testing.assert_allclose(probabilities[1], keras.ops.softmax(logits), atol=1e-6)


def test_saved_model_numbers_characters_as_training_did(run_folder):
    lookup = keras.models.load_model(run_folder / "model.keras", compile=False).get_layer("characters")
    text = "10 green bottles \N{GRINNING FACE}, 7 Äpfel\n"
    codes = Text(np.array([ord(character) for character in text]), np.array([len(text)]))
    ids = characters.encode(codes, lookup.get_vocabulary()[2:]).characters
    assert characters.UNKNOWN in ids
    np.testing.assert_array_equal(lookup(np.array([text], dtype=object))[0], ids)


@pytest.mark.usefixtures("unwatched")
def test_settings_compose():
    Path("own.txt").write_text(TEXT)
    settings = {"epochs": 1, "precision": "mixed_bfloat16", "weight_decay": 0.01, "clipping": "adaptive"}
    config = with_stack(TINY, cell="lstm", num_layers=2, residual=True, normalization="layer")
    config = replace(config, training=replace(config.training, **settings))
    assert (train.train(config, data.load(config)) / "model.onnx").exists()


def test_the_run_shows_samples_and_the_gradient_through_time(run_folder):
    tags = {
        value.tag
        for file in (run_folder / "logs" / "train").glob("events*")
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    assert tags >= {
        "1_quality/samples",
        "1_quality/answer",
        "3_recurrence/gradient_through_time",
        "3_recurrence/steps_to_1_percent/recurrent_gru_1",
        "4_gradients/batch_gradient_norm_max",
    }


def test_too_short_a_text_leaves_no_run_folder():
    Path("own.txt").write_text("short")
    with pytest.raises(UserError, match="are needed"):
        commands.train(["--data", "own.txt"])
    assert not Path("runs").exists()


def test_a_baseline_of_a_part_of_the_text_says_so():
    metrics = {"ngram_order": 5, "ngram_characters": 5_000_000, "train_characters": 90_000_000}
    metrics["test"] = {"network": {"nats_per_character": 1.0}, "baseline": {"nats_per_character": 2.0}}
    table = report.scores(metrics)
    assert table.index.tolist() == ["network", "baseline, 5-grams of the last 5,000,000 characters"]
    assert table["nats_per_character"].tolist() == [1.0, 2.0]
    assert "baseline, 5-grams" in report.scores(metrics | {"train_characters": 5_000_000}).index


def ask(run_folder, **request):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        predict.predict(predict.Request(run=str(run_folder), **request))
    return said.getvalue()


@pytest.fixture(scope="module")
def answer(run_folder):
    """The network's text of 200 characters after "10 green", to compare others with."""
    return ask(run_folder, prompt="10 green", length=200)


def test_predict_goes_on_from_the_prompt(run_folder, answer):
    assert answer.startswith("10 green")
    assert len(answer) == len("10 green") + 200 + 1
    assert ask(run_folder, prompt="10 green", length=50) == answer[: len("10 green") + 50] + "\n"
    assert not answer.startswith(ask(run_folder, prompt="10 green", length=50, seed=1)[:-1])


def test_predict_several_samples_side_by_side(run_folder):
    answer = ask(run_folder, prompt="on", length=40, samples=3, temperature=1.5)
    texts = re.split(r"--- \d ---\n", answer)[1:]
    assert len(texts) == len(set(texts)) == 3
    assert all(text.startswith("on") for text in texts)


def test_predict_ends_at_the_stop_string(run_folder, answer):
    free = answer.removeprefix("10 green")
    stop = free[30:34]  # the loop hands out 32 characters at a time: half of it comes in the first lot, half in the second
    assert ask(run_folder, prompt="10 green", length=200, stop=stop) == "10 green" + free.split(stop)[0] + "\n"


def test_what_may_be_the_beginning_of_the_stop_string_is_held_back(capsys):
    text = predict.Text(stop="END")
    for piece, shown in (("some E", "some"), ("N", " "), ("T E", "ENT"), ("ND of it", " ")):
        text.add(piece, [1.0] * len(piece))
        text.show()
        assert capsys.readouterr().out == shown
    assert text.stopped
    text.show(whole=True)
    assert capsys.readouterr().out == ""


def test_predict_shows_probabilities_without_changing_the_text(run_folder, answer, monkeypatch):
    assert ask(run_folder, prompt="10 green", length=200, show_probabilities=True) == answer  # no terminal, no colour
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = ask(run_folder, prompt="10 green", length=200, show_probabilities=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == answer
    assert "\x1b[" in coloured


def test_colours_say_how_sure_the_network_was(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = predict.Text(coloured=True)
    text.add("a\tb", [0.9, 0.3, 0.01])
    text.show()
    assert capsys.readouterr().out == "\x1b[32ma\x1b[0m\x1b[33m\t\x1b[0m\x1b[1;31mb\x1b[0m"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"prompt": "10 ä ö"}, "never seen: 'ä' 'ö'.*--on-unknown skip"),
        ({"prompt": "ä", "on_unknown": "skip"}, "no character that the network knows"),
        ({"prompt": ""}, "--prompt is empty"),
        ({"seed": 2**31}, "--seed is 0 or more and below"),
        ({"temperature": -1.0}, "--temperature is 0 or more.*got -1.0"),
        ({"temperature": float("nan")}, "--temperature is 0 or more.*got nan"),
        ({"temperature": float("inf")}, "--temperature is 0 or more.*got inf"),
        ({"top_k": 0}, "--top-k is 1 or more"),
        ({"top_p": 0.0}, "--top-p lies above 0"),
        ({"length": 0}, "--length is 1 or more"),
    ],
)
def test_wrong_requests_are_told(run_folder, request_, message):
    with pytest.raises(UserError, match=message):
        predict.predict(predict.Request(run=str(run_folder), **request_))


def test_unknown_characters_can_be_skipped(run_folder):
    assert ask(run_folder, prompt="1ä0 ö", on_unknown="skip", length=5).startswith("10 ")


def test_a_run_of_another_app_is_refused(run_folder, tmp_path):
    other = shutil.copytree(run_folder, tmp_path / "other")
    metrics = json.loads((other / "metrics.json").read_text()) | {"app": "sentiment"}
    (other / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError, match="a run of sentiment, not of textgen"):
        predict.predict(predict.Request(run=str(other)))


@pytest.fixture
def generator():
    """A network of random weights, large enough that its text wanders."""
    keras.utils.set_random_seed(0)
    config = with_stack(replace(DEFAULT, embedding_dim=6), cell="lstm", units=8, num_layers=2, dropout=0.5)
    network = build_generator(config, 12)
    network.set_weights([weight * 3 for weight in network.get_weights()])
    return config, network


def test_the_loop_writes_what_one_would_reading_on_step_by_step(generator):
    config, network = generator
    prompt = np.array([2, 5, 7], "int32")
    chunks = list(Sampler(config, network, Sampling(temperature=0)).generate(prompt, samples=2, length=70, seed=0))
    ids, probabilities = (np.concatenate(parts, axis=1) for parts in zip(*chunks, strict=True))
    assert ids.shape == probabilities.shape == (2, 70)
    whole = np.concatenate([prompt, ids[0]])
    logits = network({"ids": tf.constant(whole[None]), "states": zero_states(config, 1)})["logits"].numpy()[0]
    allowed = np.where(np.arange(12) > 1, logits, -np.inf)
    np.testing.assert_array_equal(ids[0], allowed.argmax(axis=1)[2:-1])
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities[0], softmax[np.arange(2, 72), ids[0]], rtol=1e-4)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_loop_is_compiled_by_xla_only_without_cudnn(cell, gpu_in_name):
    """XLA has no kernel for cuDNN's operation: on a GPU, the sampling loop would die."""
    config = with_stack(TINY, cell=cell, num_layers=2)
    network = build_generator(config, 12)
    logits, states, seed = tf.zeros((1, 12)), zero_states(config, 1), tf.constant([0, 0])
    traced = Sampler(config, network, Sampling()).loop.get_concrete_function(logits, states, seed)
    graph = traced.graph.as_graph_def()
    on_cudnn = any(node.op == "CudnnRNNV3" for function in graph.library.function for node in function.node_def)
    compiled = "_XlaMustCompile" in traced.function_def.attr and traced.function_def.attr["_XlaMustCompile"].b
    assert (on_cudnn, compiled) == ((False, True) if cell == "rnn" else (True, False))


def frequencies(sampling, logits, draws=20_000):
    ids = choose(keras.ops.convert_to_tensor(np.tile(logits, (draws, 1))), sampling, np.array([0, 0]))
    return np.bincount(ids, minlength=len(logits)) / draws


LOGITS = np.log(np.array([0.2, 0.1, 0.3, 0.2, 0.12, 0.06, 0.02], "float32"))  # the first two are never chosen


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), np.array([0, 0, 0.3, 0.2, 0.12, 0.06, 0.02])),
        (Sampling(temperature=0.5), np.array([0, 0, 0.3, 0.2, 0.12, 0.06, 0.02]) ** 2),
        (Sampling(temperature=0), np.array([0, 0, 1, 0, 0, 0, 0])),
        (Sampling(temperature=1e-40), np.array([0, 0, 1, 0, 0, 0, 0])),
        (Sampling(temperature=1e30), np.array([0, 0, 1, 1, 1, 1, 1])),
        (Sampling(top_k=1_000), np.array([0, 0, 0.3, 0.2, 0.12, 0.06, 0.02])),
        (Sampling(top_k=2), np.array([0, 0, 0.3, 0.2, 0, 0, 0])),
        (Sampling(top_p=0.8), np.array([0, 0, 0.3, 0.2, 0.12, 0, 0])),
        (Sampling(top_p=0.01), np.array([0, 0, 1, 0, 0, 0, 0])),
    ],
)
def test_characters_are_drawn_as_often_as_they_should(sampling, expected):
    np.testing.assert_allclose(frequencies(sampling, LOGITS), expected / expected.sum(), atol=0.012)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_generator_is_the_trained_network_with_its_state_outside(cell):
    config = with_stack(TINY, cell=cell, num_layers=2, normalization="layer", residual=True)
    network, outside = build_model(config, 9), build_generator(config, 9)
    outside.set_weights(network.get_weights())
    ids = np.random.default_rng(0).integers(0, 9, (4, 60))
    states = zero_states(config, 4)
    for start in (0, 20, 40):
        piece = ids[:, start : start + 20]
        after = outside({"ids": tf.constant(piece), "states": states})
        np.testing.assert_allclose(network(piece), after["logits"], atol=1e-5)
        states = after["states"]


def nats_of(config, network, ids):
    """Of one long pass, from a state of zeros: a number for each character but the first."""
    logits = network.predict_on_batch({"ids": ids[None, :-1], "states": zero_states(config, 1)})["logits"]
    return keras.ops.sparse_categorical_crossentropy(ids[None, 1:], logits, from_logits=True).numpy()[0]


@pytest.mark.parametrize("documents", [[1500], [700, 1, 1200]])
def test_nats_per_character_is_that_of_one_long_pass_for_each_document(documents):
    config = with_stack(TINY, cell="lstm")
    network = build_generator(config, 9)
    network.set_weights([weight * 3 for weight in network.get_weights()])  # a state that matters
    ids = np.random.default_rng(0).integers(2, 9, sum(documents))
    parts = np.split(ids, np.cumsum(documents)[:-1])
    expected = np.concatenate([nats_of(config, network, part) for part in parts if len(part) > 1])
    text = Text(ids, np.array(documents))
    assert nats_by_block(config, network, text).sum() / count_targets(text) == pytest.approx(expected.mean(), abs=1e-5)
    by_character = np.concatenate([np.pad(nats_of(config, network, part), (1, 0)) if len(part) > 1 else [0] for part in parts])
    size = block_size(text)
    by_hand = [by_character[at : at + size].sum() for at in range(0, len(ids), size)]
    np.testing.assert_allclose(nats_by_block(config, network, text), by_hand, atol=1e-3)


def test_nats_per_character_of_a_long_text_in_streams():
    config = with_stack(TINY, cell="rnn", units=4)
    network = build_generator(config, 9)
    network.set_weights([weight * 3 for weight in network.get_weights()])
    ids = np.random.default_rng(0).integers(2, 9, 20_481)  # 80 windows of 256, 40 for each of two streams
    halves = np.concatenate([nats_of(config, network, part) for part in (ids[:10_241], ids[10_240:])])
    nats = nats_by_block(config, network, Text(ids, np.array([20_481])))
    assert nats.sum() / 20_480 == pytest.approx(halves.mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--units", "0"], "--units is 1 or more; got 0"),
        (["--activation", "relu"], "relu is for --cell rnn"),
        (["--bidirectional"], "cannot be read before it is written"),
        (["--multi-gpu"], "--multi-gpu does not work here"),
    ],
)
def test_wrong_settings_are_told_before_any_work(args, message):
    with pytest.raises(UserError, match=message):
        commands.train(args)
    assert not Path("runs").exists()


@pytest.mark.slow
def test_the_commands_of_the_readme(capsys):
    Path("my.txt").write_text(TEXT.replace("\n", " "))  # no line ends: predict begins with another character
    settings = "--units 8 --embedding-dim 4 --batch-size 4 --sequence-length 20 --epochs 1"
    commands.train(["--data", "my.txt", *settings.split()])
    said = capsys.readouterr().out
    assert re.search(r"Only \d+ updates in all", said)
    commands.predict(["--length", "5", "--temperature", "0"])
    assert len(capsys.readouterr().out) == 1 + 5 + 1


def test_a_wrong_path_is_answered_without_tensorflow():
    code = (
        "import sys; from apps.textgen import __main__ as commands\n"
        "for command in (commands.train, commands.check):\n"
        "    try: command(['--data', 'nowhere'])\n"
        "    except Exception as error: print(error, 'tensorflow' in sys.modules, 'keras' in sys.modules, sep='|')"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    lines = answer.stdout.splitlines()
    assert len(lines) == 2, answer.stderr
    for line in lines:
        assert line.startswith("--data nowhere: there is no such file or folder")
        assert line.endswith("|False|False")
    assert not Path("runs").exists()
