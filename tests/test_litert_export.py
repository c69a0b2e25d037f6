"""LiteRT files answer as the Keras models that they were made of; of one step, without a loop."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from shared import rnn
from shared.cli import UserError
from shared.litert_export import LiteRtModel, one_step, write_litert

UNITS, FEATURES, TIME = 6, 3, 5
pytestmark = pytest.mark.slow  # a conversion starts a process that imports TensorFlow


def with_state(cell):
    """A model that takes states and hands them back; random weights."""
    x, count = keras.Input((None, FEATURES), name="x"), rnn.STATES_PER_LAYER[cell]
    states = [[keras.Input((UNITS,)) for _ in range(count)] for _ in range(2)]
    options = {"cell": cell, "units": UNITS, "num_layers": 2, "dropout": 0.3}
    sequence, new = rnn.recurrent_stack(x, **options, return_state=True, initial_state=states)
    model = keras.Model({"x": x, "states": states}, {"y": layers.Dense(2)(sequence), "states": new})
    for weight in model.weights:
        weight.assign(np.random.default_rng(0).normal(scale=0.5, size=weight.shape))
    return model, states


@pytest.mark.parametrize(("cell", "int8"), [("rnn", False), ("gru", False), ("lstm", False), ("gru", True)])
def test_one_step_after_the_other_equals_the_sequence(cell, int8, tmp_path):
    model, states = with_state(cell)
    zeros = {f"states_{layer}_{n}": np.zeros((1, UNITS), "float32") for layer in range(2) for n in range(len(states[0]))}
    shapes = {"x": (1, 1, FEATURES)} | {name: zero.shape for name, zero in zeros.items()}
    write_litert(one_step(model), tmp_path / "step.tflite", shapes, int8)
    step, memory, found = LiteRtModel(tmp_path / "step.tflite"), zeros, []
    sequence = np.random.default_rng(1).normal(size=(1, TIME, FEATURES)).astype("float32")
    for number in range(TIME):
        answer = step(x=sequence[:, number : number + 1], **memory)
        found.append(answer["y"][0, 0])
        memory = {name: answer[f"new_{name}"] for name in memory}
    nested = keras.tree.map_structure(lambda tensor: np.zeros((1, UNITS), "float32"), states)
    expected = model({"x": sequence, "states": nested})["y"][0]
    np.testing.assert_allclose(found, expected, atol=0.1 if int8 else 1e-5)


def test_no_loop_and_no_operation_of_tensorflow_is_left(tmp_path):
    model, _ = with_state("gru")
    shapes = {"x": (1, 1, FEATURES), "states_0_0": (1, UNITS), "states_1_0": (1, UNITS)}
    write_litert(one_step(model), tmp_path / "step.tflite", shapes)
    kinds = {details["op_name"] for details in Interpreter(str(tmp_path / "step.tflite"))._get_ops_details()}
    assert "FULLY_CONNECTED" in kinds or "DELEGATE" in kinds
    assert not {kind for kind in kinds if kind.startswith("Flex") or kind in ("WHILE", "IF")}


def test_int8_is_smaller(tmp_path):
    x = keras.Input((64,), name="x")
    model = keras.Model(x, layers.Dense(512)(x))
    for int8 in (False, True):
        write_litert(model, tmp_path / str(int8), {"x": (1, 64)}, int8)
    assert (tmp_path / "True").stat().st_size < 0.4 * (tmp_path / "False").stat().st_size


def test_what_does_not_convert_is_said(tmp_path):
    x = keras.Input((), dtype="string", name="text")
    model = keras.Model(x, layers.TextVectorization(vocabulary=["a"])(x), name="words")
    with pytest.raises(UserError, match="words does not convert to LiteRT: "):
        write_litert(model, tmp_path / "words.tflite", {"text": (1,)})
    assert not (tmp_path / "words.tflite").exists()
