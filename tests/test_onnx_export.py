"""ONNX files answer as the Keras models that they were made of, and their recurrence is ONNX's own."""

import time

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
import tf2onnx
from keras import layers, ops

from shared import rnn
from shared.inference import OnnxModel
from shared.onnx_export import NODES, write_onnx

UNITS, FEATURES, BATCH, TIME = 6, 3, 4, 9
LENGTHS = (9, 1, 4, 7)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.onnx"


def with_random_weights(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(scale=0.5, size=weight.shape))
    return model


def recurrent_nodes(file):
    types = [node.op_type for node in onnx.load(file).graph.node]
    assert not {"Loop", "Scan", "If"} & set(types)
    return [kind for kind in types if kind in NODES.values()]


def random(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_two_layers_of_any_cell_answer_as_keras(cell, bidirectional, masked, file):
    inputs = {"x": keras.Input((None, FEATURES), name="x")}
    if masked:
        inputs["mask"] = keras.Input((None,), dtype="bool", name="mask")
    mask = inputs.get("mask")
    options = {"cell": cell, "units": UNITS, "num_layers": 2, "bidirectional": bidirectional, "mask": mask}
    sequence = rnn.recurrent_stack(inputs["x"], **options)
    pooled = [rnn.pool(sequence, how, mask, bidirectional) for how in ("last", "max", "mean")]
    model = with_random_weights(keras.Model(inputs, layers.Dense(2)(ops.concatenate(pooled, axis=-1))))
    write_onnx(model, file)
    answer = OnnxModel(file)

    def given(rows, steps):
        mask = np.arange(steps) < np.array(LENGTHS)[rows, None]
        return {"x": random(BATCH, TIME, FEATURES)[rows, :steps]} | ({"mask": mask} if masked else {})

    everything = slice(None)
    expected = np.asarray(model(given(everything, TIME)))
    [found] = answer(**given(everything, TIME)).values()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert recurrent_nodes(file) == [NODES[rnn.CELLS[cell]]] * 2
    # Another batch size and length are answered too; with a mask, what comes after a sequence's end changes nothing.
    [alone] = answer(**given([2], LENGTHS[2])).values()
    np.testing.assert_allclose(alone, model(given([2], LENGTHS[2])), atol=1e-5)
    if masked:
        np.testing.assert_allclose(alone[0], found[2], atol=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_states_go_in_and_come_out(cell, bidirectional, file):
    x = keras.Input((None, FEATURES), name="x")
    count = rnn.STATES_PER_LAYER[cell] * (2 if bidirectional else 1)
    states = [[keras.Input((UNITS,)) for _ in range(count)] for _ in range(2)]
    sequence, new = rnn.recurrent_stack(
        x, cell=cell, units=UNITS, num_layers=2, bidirectional=bidirectional, return_state=True, initial_state=states
    )
    model = with_random_weights(keras.Model({"x": x, "states": states}, {"y": sequence, "states": new}))
    write_onnx(model, file)
    given = {f"states_{layer}_{n}": random(BATCH, UNITS) * (layer - n) for layer in range(2) for n in range(count)}
    nested = [[given[f"states_{layer}_{n}"] for n in range(count)] for layer in range(2)]
    expected = model({"x": random(BATCH, TIME, FEATURES), "states": nested})
    found = OnnxModel(file)(x=random(BATCH, TIME, FEATURES), **given)
    np.testing.assert_allclose(found.pop("y"), expected["y"], atol=1e-5)
    for layer in range(2):
        for n in range(count):
            np.testing.assert_allclose(found.pop(f"new_states_{layer}_{n}"), expected["states"][layer][n], atol=1e-5)
    assert not found


@pytest.mark.parametrize("layer", [
    layers.SimpleRNN(UNITS, activation="relu"),
    layers.GRU(UNITS),
    layers.LSTM(UNITS, go_backwards=True),
    layers.Bidirectional(layers.LSTM(UNITS)),
], ids=["relu", "last output", "backwards", "both last outputs"])  # fmt: skip
def test_single_layers(layer, file):
    x = keras.Input((TIME, FEATURES), name="x")
    model = with_random_weights(keras.Model(x, layer(x)))
    write_onnx(model, file)
    [found] = OnnxModel(file)(x=random(BATCH, TIME, FEATURES)).values()
    np.testing.assert_allclose(found, model(random(BATCH, TIME, FEATURES)), atol=1e-5)


def test_a_gru_equals_its_equations(file):
    """Cho et al. (2014) with Keras's reset_after, in NumPy, a step at a time."""
    x = keras.Input((TIME, FEATURES), name="x")
    model = with_random_weights(keras.Model(x, layers.GRU(UNITS)(x)))
    write_onnx(model, file)
    kernel, recurrent, (bias, recurrent_bias) = model.get_weights()

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    inputs, h = random(1, TIME, FEATURES), np.zeros(UNITS)
    for step in inputs[0]:
        of_x, of_h = np.split(step @ kernel + bias, 3), np.split(h @ recurrent + recurrent_bias, 3)
        z, r = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
        h = z * h + (1 - z) * np.tanh(of_x[2] + r * of_h[2])
    [found] = OnnxModel(file)(x=inputs).values()
    np.testing.assert_allclose(found[0], h, atol=1e-5)


def test_a_layer_can_be_replaced(file):
    x = keras.Input((FEATURES,), name="x")
    model = keras.Model(x, layers.Rescaling(2.0, name="twice")(x))
    write_onnx(model, file, replace=lambda layer: layers.Rescaling(3.0) if layer.name == "twice" else layer)
    [found] = OnnxModel(file)(x=np.ones((1, FEATURES), "float32")).values()
    np.testing.assert_allclose(found, 3)


def test_traced_on_a_gpu_machine_it_is_the_same_file(gpu_in_name, file):
    """The recurrence never reaches the trace, so that cuDNN's operations, which ONNX does not know, cannot stand in it."""
    x = keras.Input((TIME, FEATURES), name="x")
    model = keras.Model(x, layers.GRU(UNITS)(x))
    write_onnx(model, file)
    assert recurrent_nodes(file) == ["GRU"]


@pytest.mark.speed
@pytest.mark.parametrize(("cell", "masked"), [("gru", False), ("lstm", True)])
def test_four_times_as_fast_as_the_loop_that_tf2onnx_makes(cell, masked, tmp_path):
    """One sequence of 100 steps at a time, 64 units as in sentiment's preset default, one thread."""
    x = keras.Input((100, 64), name="x")
    mask = ops.any(x != 0, axis=-1) if masked else None
    model = keras.Model(x, rnn.recurrent_stack(x, cell=cell, units=64, mask=mask, return_sequences=False))
    write_onnx(model, tmp_path / "native.onnx")
    signature = [tf.TensorSpec((None, 100, 64), "float32", "x")]
    tf2onnx.convert.from_function(tf.function(model), signature, opset=18, output_path=str(tmp_path / "loop.onnx"))
    assert "Loop" in {node.op_type for node in onnx.load(tmp_path / "loop.onnx").graph.node}
    answers = {name: OnnxModel(tmp_path / f"{name}.onnx", threads=1) for name in ("native", "loop")}
    given, times = random(1, 100, 64), {"native": [], "loop": []}
    for answer in answers.values():
        [found] = answer(x=given).values()
        np.testing.assert_allclose(found, model(given), atol=1e-5)
    for _ in range(100):
        for name, answer in answers.items():
            started = time.perf_counter()
            answer(x=given)
            times[name].append(time.perf_counter() - started)
    native, loop = (1000 * np.median(times[name]) for name in ("native", "loop"))
    print(f"{cell}, masked {masked}: {native:.2f} ms, as a Loop {loop:.2f} ms: {loop / native:.1f} times as fast")
    assert loop > 4 * native
