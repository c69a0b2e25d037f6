"""The textgen app has to reach its numbers. Minutes: make test-all.

Those on Tiny Shakespeare are skipped where it does not lie prepared (TFDS_DATA_DIR).
"""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from apps.textgen import data, generate, train
from apps.textgen.config import DEFAULT, TRAINING
from apps.textgen.model import build_generator
from apps.textgen.sampling import Sampling
from shared import runs

pytestmark = pytest.mark.slow
PREPARED = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
needs_shakespeare = pytest.mark.skipif(
    not (PREPARED / "tiny_shakespeare").exists(), reason=f"Tiny Shakespeare does not lie prepared in {PREPARED}"
)


@needs_shakespeare
def test_an_epoch_of_the_default_preset_of_textgen_on_tiny_shakespeare():
    """A tenth of the training (measured: 2.057 nats per character, n-grams 1.669)."""
    config = replace(DEFAULT, split="90/10", training=replace(TRAINING, epochs=1))
    metrics = runs.read_json(train.train(config, data.load(config)) / "metrics.json")
    assert (metrics["dataset"], metrics["split"]) == ("tiny_shakespeare", "validation")
    assert metrics["test"]["baseline"]["nats_per_character"] < 1.68
    assert metrics["test"]["network"]["nats_per_character"] < 2.15


@pytest.mark.speed
def test_sampling_is_fifty_times_as_fast_as_a_predict_for_each_character():
    """The public way (https://keras.io/examples/generative/lstm_character_level_text_generation): predict, draw, append."""
    config = DEFAULT
    network = build_generator(config, 66)
    sampler = generate.Sampler(config, network, Sampling())

    def characters_per_second(samples, length):
        started = time.perf_counter()
        made = sum(ids.size for ids, _ in sampler.generate(np.array([2, 3], "int32"), samples, length, seed=0))
        return made / (time.perf_counter() - started)

    one, many = (np.median([characters_per_second(samples, 960) for _ in range(4)][1:]) for samples in (1, 64))

    inputs = keras.Input((40,), dtype="int32")
    x = keras.layers.GRU(config.recurrent.units)(keras.layers.Embedding(66, config.embedding_dim)(inputs))
    example = keras.Model(inputs, keras.layers.Dense(66, activation="softmax")(x))
    text = [2] * 40
    started = time.perf_counter()
    for _ in range(50):
        text.append(int(np.argmax(example.predict(np.array([text[-40:]]), verbose=0)[0])))
    theirs = 50 / (time.perf_counter() - started)
    print(f"characters per second: {one:.0f}; 64 texts side by side {many:.0f}; predict for each {theirs:.1f}")
    assert one > 50 * theirs
    assert many > 4 * one


LOOPS = """
import os, pathlib, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import keras, numpy as np
from apps.textgen import config, export, generate, model, predict
network = model.build_generator(config.DEFAULT, 66)
export.write(config.DEFAULT, model.build_servable(config.DEFAULT, [*map(chr, range(32, 96))], network), pathlib.Path())
predictor = predict.Predictor(pathlib.Path(), threads=1)
sampler = generate.Sampler(config.DEFAULT, network, predict.SAMPLING)

def seconds(chunks):
    started = time.perf_counter()
    list(chunks)
    return time.perf_counter() - started

for _ in range(41):
    ours = seconds(predictor.stream(["A"], length=128))
    print(ours, seconds(sampler.generate(np.array([35], "int32"), samples=1, length=128, seed=0)))
"""


@pytest.mark.speed
def test_onnx_runtime_step_by_step_is_as_fast_as_the_compiled_loop_on_one_core():
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    lines = subprocess.run([sys.executable, "-c", LOOPS], env=environment, check=True, capture_output=True, text=True).stdout
    ours, theirs = np.array([line.split() for line in lines.splitlines()], float)[1:].T  # the first turn traces
    ratio = theirs.min() / ours.min()
    print(
        f"characters per second: ONNX Runtime {128 / ours.min():.0f}, compiled loop {128 / theirs.min():.0f}; {ratio:.2f} times"
    )
    assert ratio > 0.9
