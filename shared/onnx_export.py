"""From a Keras model to an ONNX file in which LSTM, GRU and SimpleRNN stay what they are.

tf2onnx turns a GRU, a SimpleRNN and whatever has a mask into ONNX's Loop, which is many times as slow at batch size 1. Here
each recurrent layer becomes one node, both directions together, and a mask becomes its `sequence_lens`; tf2onnx does the rest.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from keras import layers, ops
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2  # has no public name

from shared.checkpoints import write_whole

OPSET = 18
NODES = {layers.SimpleRNN: "RNN", layers.GRU: "GRU", layers.LSTM: "LSTM"}
GATES = {"RNN": [0], "GRU": [0, 1, 2], "LSTM": [0, 3, 1, 2]}  # where ONNX's gates stand in Keras's arrays
ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu"}
PLACEHOLDER = "PyFunc"  # TensorFlow's name for what `NativeRecurrent` leaves in the graph


def write_onnx(model: keras.Model, file: Path, replace: Callable[[layers.Layer], layers.Layer] = lambda layer: layer) -> None:
    """Write a functional model to `file`, which is replaced as a whole; the batch size stays free.

    An input or output that stands alone has the name of its layer; several have that of their place, for example
    "states_0_1". An output with the name of an input is called "new_...".

    Args:
        model: its masks must hide steps at the end alone, and no row as a whole.
        file: where to write.
        replace: gives the layer that stands for a layer in the exported model, itself or another with the same weights.
    """
    recurrent = {}

    def call(layer, *args, **kwargs):
        if not isinstance(layer, (*NODES, layers.Bidirectional)):
            return layer(*args, **kwargs)
        native = NativeRecurrent(layer, f"recurrent_{len(recurrent)}")
        recurrent[native.name] = native
        return native(*args, **kwargs)

    def make_node(_graph, placeholder, name, _args):
        native = recurrent[name.split("/")[-1]]
        placeholder.type = native.node
        for attribute in list(placeholder.attr):
            del placeholder.attr[attribute]
        for attribute, value in native.attributes().items():
            placeholder.set_attr(attribute, value)

    native = keras.models.clone_model(model, clone_function=replace, call_function=call, recursive=True)
    inputs, outputs = named(model.input, model.inputs[0].name), named(model.output, model.output_names[0])

    def run(*tensors):
        found = keras.tree.flatten(native(keras.tree.pack_sequence_as(native.input, tensors)))
        return {f"new_{name}" if name in inputs else name: tensor for name, tensor in zip(outputs, found, strict=True)}

    signature = [tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in inputs.items()]
    handlers = {PLACEHOLDER: (make_node, [])}
    with _quiet("tf2onnx"), _quiet("tensorflow"):
        graph, tensors = _frozen(tf.function(run).get_concrete_function(*signature))
        converted, _ = tf2onnx.convert.from_graph_def(graph, **tensors, opset=OPSET, custom_op_handlers=handlers)
    write_whole(file, lambda opened: opened.write(converted.SerializeToString()))


def named(tensors, alone: str) -> dict[str, keras.KerasTensor]:
    """A model's inputs or outputs by their names in ONNX; `alone` is that of a single one."""
    return {"_".join(map(str, path)) or alone: tensor for path, tensor in keras.tree.flatten_with_path(tensors)}


def _frozen(traced) -> tuple[tf.compat.v1.GraphDef, dict]:
    """A trace as a graph without variables, and how tf2onnx is to find its inputs and outputs and to call them.

    tf2onnx.convert.from_function would ask for the constants of a trace, a Normalization's mean for one, as further inputs.
    """
    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=False, aggressive_inlining=True)
    inputs, outputs = [tensor.name for tensor in frozen.inputs], [tensor.name for tensor in frozen.outputs]
    names = {name: name.removesuffix(":0") for name in inputs}
    names |= {tensor.name: name for name, tensor in traced.structured_outputs.items()}
    graph = frozen.graph.as_graph_def(add_shapes=True)
    return graph, {"input_names": inputs, "output_names": outputs, "tensors_to_rename": names}


def in_float32(model: keras.Model) -> keras.Model:
    """The same model, computing in float32 what `--precision` lets it compute in 16 bits, which ONNX on a CPU lacks."""

    def computes_in_16_bits(layer) -> bool:
        if isinstance(layer, keras.Model):
            return any(map(computes_in_16_bits, layer.layers))
        return isinstance(layer, keras.Layer) and layer.compute_dtype in ("bfloat16", "float16")

    def clone(layer):
        if not computes_in_16_bits(layer):
            return layer
        return type(layer).from_config(with_float32(layer.get_config()))

    def with_float32(config):  # a Bidirectional's holds that of the layer within
        if not isinstance(config, dict):
            return config
        return {name: "float32" if name == "dtype" else with_float32(value) for name, value in config.items()}

    if not computes_in_16_bits(model):
        return model
    found = keras.models.clone_model(model, clone_function=clone, recursive=True)
    found.set_weights(model.get_weights())
    return found


class NativeRecurrent(layers.Layer):
    """A recurrent layer, or a Bidirectional around one, as a placeholder with the inputs and outputs of ONNX's node."""

    def __init__(self, layer: layers.Layer, name: str):
        super().__init__(name=name, dtype="float32")
        self.supports_masking = True
        self.layer = layer
        both = isinstance(layer, layers.Bidirectional)
        self.directions = [layer.forward_layer, layer.backward_layer] if both else [layer]
        self.node = NODES[type(self.directions[0])]
        self.units = self.directions[0].units
        self.arrays = [np.stack(arrays) for arrays in zip(*map(self._weights, self.directions), strict=True)]

    def compute_output_spec(self, x, mask=None, initial_state=None):
        return self.layer.compute_output_spec(x, initial_state=initial_state)

    def call(self, x, mask=None, initial_state=None):
        directions, num_memories = len(self.directions), 2 if self.node == "LSTM" else 1  # h and, in an LSTM, c
        batch, time, _ = ops.shape(x)
        lengths = ops.full((batch,), time, "int32") if mask is None else ops.sum(ops.cast(mask, "int32"), axis=1)
        states = initial_state or [ops.zeros((batch, self.units))] * (directions * num_memories)
        memories = [ops.stack(states[n::num_memories]) for n in range(num_memories)]  # (directions, batch, units) each
        inputs = [ops.transpose(x, (1, 0, 2)), *self.arrays, lengths, *memories]
        sequence, *memories = tf.numpy_function(_never_run, inputs, ["float32"] * (1 + num_memories), name=self.name)
        sequence = tf.ensure_shape(sequence, (x.shape[1], directions, x.shape[0], self.units))
        memories = [tf.ensure_shape(memory, (directions, x.shape[0], self.units)) for memory in memories]
        sequence = ops.reshape(ops.transpose(sequence, (2, 0, 1, 3)), (batch, time, directions * self.units))
        output = sequence if self.layer.return_sequences else ops.concatenate(ops.unstack(memories[0], directions), axis=-1)
        states = [memory[n] for n in range(directions) for memory in memories]
        return [output, *states] if self.layer.return_state else output

    def attributes(self) -> dict:
        """Those of ONNX's node."""
        layer, directions = self.directions[0], len(self.directions)
        direction = "bidirectional" if directions == 2 else "reverse" if layer.go_backwards else "forward"
        attributes = {"hidden_size": self.units, "direction": direction}
        if self.node == "GRU":
            attributes["linear_before_reset"] = int(layer.reset_after)
        if self.node == "RNN":
            attributes["activations"] = [ACTIVATIONS[layer.activation.__name__]] * directions
        return attributes

    def _weights(self, layer: layers.Layer) -> list[np.ndarray]:
        """Kernel, recurrent kernel and biases, gates in ONNX's order."""
        kernel, recurrent_kernel, bias = layer.get_weights()
        bias = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])  # of the input, of the state
        return [self._in_order(kernel).T, self._in_order(recurrent_kernel).T, self._in_order(bias).ravel()]

    def _in_order(self, weights: np.ndarray) -> np.ndarray:
        return np.reshape(weights, (len(weights), -1, self.units))[:, GATES[self.node]].reshape(len(weights), -1)


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Errors alone are logged: what is written is loaded again and compared in any case."""
    logger = logging.getLogger(logger)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _never_run(*_):
    raise AssertionError("a placeholder was computed: it stands in a graph that is to be exported")
