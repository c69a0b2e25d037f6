"""Which kernel a recurrent layer runs as, and why not cuDNN's: Keras falls back in silence."""

from typing import Literal, NamedTuple

import keras
from keras import layers


class Kernel(NamedTuple):
    """Which implementation of a recurrent layer will run, and the first reason why it is not cuDNN's."""

    name: Literal["cuDNN", "XLA", "plain loop"]
    reason: str | None

    def __str__(self) -> str:
        return self.name if self.reason is None else f"{self.name} (not cuDNN: {self.reason})"


def explain_kernel(layer: keras.layers.Layer, jit_compile: bool = False) -> Kernel:
    """Name the kernel of a recurrent layer. Keras falls back from cuDNN without a message.

    Args:
        layer: a SimpleRNN, GRU or LSTM, or a Bidirectional around one.
        jit_compile: whether the model is compiled with XLA.
    """
    layer = layer.forward_layer if isinstance(layer, layers.Bidirectional) else layer
    reason = _why_not_cudnn(layer) or ("jit_compile=True" if jit_compile else None)
    if reason is None:
        return Kernel("cuDNN", None)
    return Kernel("XLA" if jit_compile else "plain loop", reason)


def explain_kernels(model: keras.Model, jit_compile: bool | None = None) -> dict[str, Kernel]:
    """`explain_kernel` for every recurrent layer of a model, by the layer's name, and that of the model it is in.

    Args:
        model: functional.
        jit_compile: whether it runs through XLA; None: as it was compiled.
    """
    jit_compile = model.jit_compile if jit_compile is None else jit_compile
    kernels = {}
    for layer in model.layers:
        if isinstance(layer, (layers.RNN, layers.Bidirectional)):
            kernels[layer.name] = explain_kernel(layer, jit_compile)
        elif isinstance(layer, keras.Model):
            inner = explain_kernels(layer, jit_compile)
            kernels |= {f"{layer.name}/{name}": kernel for name, kernel in inner.items()}
    return kernels


def _why_not_cudnn(layer) -> str | None:
    """The conditions of Keras's GRU and LSTM, in the order in which a user would fix them."""
    if not isinstance(layer, (layers.GRU, layers.LSTM)):
        return f"Keras has cuDNN for LSTM and GRU alone, this is a {type(layer).__name__}"
    checks = [
        (layer.use_cudnn in ("auto", True), "use_cudnn=False"),
        (layer.recurrent_dropout == 0, f"recurrent_dropout={layer.recurrent_dropout}, it needs 0"),
        (layer.activation is keras.activations.tanh, f"activation={layer.activation.__name__}, it needs tanh"),
        (
            layer.recurrent_activation is keras.activations.sigmoid,
            f"recurrent_activation={layer.recurrent_activation.__name__}, it needs sigmoid",
        ),
        (layer.use_bias, "use_bias=False"),
        (not layer.unroll, "unroll=True"),
        (getattr(layer, "reset_after", True), "reset_after=False"),
        (bool(keras.distribution.list_devices("gpu")), "no GPU"),
    ]
    return next((reason for holds, reason in checks if not holds), None)


def print_kernels(model: keras.Model) -> None:
    """Print the kernel of each recurrent layer of a compiled model."""
    for layer, kernel in explain_kernels(model).items():
        print(f"{layer} runs as {kernel}")
