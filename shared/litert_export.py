"""From a Keras model to LiteRT (TensorFlow Lite) for phones and microcontrollers, with built-in operations only.

A recurrence over time becomes a loop there, which a microcontroller may not have. Of a model whose state goes in and comes out,
`one_step` makes a model of a single step, without any loop: whoever calls it carries the state.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from shared.cli import UserError
from shared.onnx_export import named


class Step(layers.Layer):
    """A recurrent layer's cell, for sequences that are one step long."""

    def __init__(self, layer: layers.RNN):
        super().__init__(dtype=layer.dtype_policy)
        self.cell = layer.cell

    def call(self, x, initial_state):
        output, states = self.cell(x[:, 0], initial_state, training=False)
        return [output[:, None], *states]


def one_step(model: keras.Model) -> keras.Model:
    """The same model, reading one step at a time. Its recurrent layers get an initial state and return the final one."""

    def call(layer, *args, **kwargs):
        if not isinstance(layer, layers.RNN):
            return layer(*args, **kwargs)
        return Step(layer)(args[0], initial_state=kwargs["initial_state"])

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def write_litert(model: keras.Model, file: Path, shapes: dict[str, tuple[int, ...]], int8: bool = False) -> None:
    """Convert a functional model whose inputs all have a fixed size. Inputs and outputs are called as in ONNX.

    Args:
        model: see there.
        file: to write.
        shapes: of the inputs, by name.
        int8: round the weights to 8 bits, a quarter of the size; what is computed from them stays float.

    Raises:
        UserError: if the converter fails; its last line says why.
    """
    inputs, outputs = named(model.input, model.inputs[0].name), named(model.output, model.output_names[0])

    def run(*tensors):
        found = keras.tree.flatten(model(keras.tree.pack_sequence_as(model.input, tensors)))
        return {f"new_{name}" if name in inputs else name: tensor for name, tensor in zip(outputs, found, strict=True)}

    module = tf.Module()
    module.model, module.run = model, tf.function(run)
    signature = [tf.TensorSpec(shapes[name], tensor.dtype, name) for name, tensor in inputs.items()]
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, {"serving_default": module.run.get_concrete_function(*signature)})
        # In a process of its own: the converter can end in a segmentation fault.
        command = [sys.executable, "-c", CONVERT, folder, str(file), "int8" if int8 else ""]
        answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        reason = (answer.stderr.strip() or f"exit status {answer.returncode}").splitlines()[-1]
        raise UserError(f"{model.name} does not convert to LiteRT: {reason}")


CONVERT = """
import sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
converter = tf.lite.TFLiteConverter.from_concrete_functions([model.signatures["serving_default"]], model)
if sys.argv[3]:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
converted = converter.convert()
with open(sys.argv[2], "wb") as opened:
    opened.write(converted)
"""


class LiteRtModel:
    """A LiteRT file, loaded; to be called as `shared.inference.OnnxModel` is."""

    def __init__(self, file: Path, threads: int = 1):
        self.interpreter = Interpreter(str(file), num_threads=threads)  # kept: the runner computes in its memory
        self.runner = self.interpreter.get_signature_runner()
        details = self.runner.get_input_details()
        self.inputs = {name: tf.TensorSpec(one["shape"], one["dtype"], name) for name, one in details.items()}

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        return self.runner(**inputs)
