"""Builders: recurrent stacks, pooling heads, the four shapes of the field.

Everything here is functional and made of Keras's own layers and `keras.ops`, so a saved model loads with no project code.
Masks are passed by hand: a boolean tensor `(batch, time)`, True where there is data, padding on the right.

    one-to-many        a vector  -> a sequence       build_one_to_many        captions, melodies from a seed
    many-to-one        a sequence -> a vector        build_many_to_one        sentiment, spoken words
    many-to-many       a sequence -> one as long     build_many_to_many       characters, tagging
    encoder-decoder    a sequence -> another         build_encoder_decoder    translation, forecasting
"""

from typing import Literal

import keras
from keras import layers, ops

CELLS = {"rnn": layers.SimpleRNN, "gru": layers.GRU, "lstm": layers.LSTM}
STATES_PER_LAYER = {"rnn": 1, "gru": 1, "lstm": 2}  # an LSTM carries h, its output, and c, its memory

Cell = Literal["rnn", "gru", "lstm"]
Pooling = Literal["last", "max", "mean", "attention"]
Normalization = Literal["layer", "batch"]


def recurrent_stack(
    inputs,
    *,
    cell: Cell = "lstm",
    units: int = 128,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    residual: bool = False,
    normalization: Normalization | None = None,
    activation: Literal["tanh", "relu"] = "tanh",
    stateful: bool = False,
    return_sequences: bool = True,
    return_state: bool = False,
    initial_state: list[list] | None = None,
    mask=None,
    name: str = "recurrent",
):
    """Stack recurrent layers on a sequence.

    Each layer is: normalise (between layers) -> drop -> recurrence -> add the input (`residual`). Dropout keeps one mask
    for all time steps (Gal and Ghahramani, 2016) and stands outside the layer, because Keras's `recurrent_dropout`
    would lose cuDNN.

    Args:
        inputs: `(batch, time, features)`.
        cell: "rnn", "gru" or "lstm".
        units: width of each layer; a bidirectional layer hands on `2 * units`.
        num_layers: how many layers, 1 or more.
        bidirectional: run a second copy from the end to the start, and join both outputs.
        dropout: fraction of the features dropped before the first layer and after each layer.
        residual: add a layer's input to its output where both are equally wide, so that the gradient has a path
            around the recurrence (He et al., 2016).
        normalization: "layer" or "batch" between layers; None for none.
        activation: "tanh", or "relu" for the cell "rnn", whose recurrent matrix then starts as the identity, so that
            an untrained layer neither shrinks nor grows its state (Le, Jaitly and Hinton, 2015).
        stateful: keep the state from batch to batch; `inputs` needs a fixed batch size.
        return_sequences: True for every step's output, False for the last one's (see `pool`).
        return_state: also return the final states, one list per layer: [h] or, for "lstm", [h, c]; bidirectional: those of
            the forward copy, then of the backward one.
        initial_state: where to start from, in the shape that `return_state` gives; zeros if None.
        mask: `(batch, time)`, True where there is data; None if all steps are.
        name: prefix of the layers' names.

    Returns:
        `(batch, time, width)`, or `(batch, width)` without `return_sequences`; with `return_state` a pair (that, states).

    Raises:
        ValueError: for an unknown cell or normalization, or "relu" with a gated cell.
    """
    _check_stack(cell, num_layers, normalization, activation, initial_state)
    x = layers.SpatialDropout1D(dropout, name=f"{name}_dropout_0")(inputs) if dropout else inputs
    states = []
    for number in range(1, num_layers + 1):
        layer_input = x
        if normalization and number > 1:
            x = _normalize(x, normalization, mask, f"{name}_{normalization}_normalization_{number}")
        layer = _recurrent_layer(cell, units, activation, stateful, f"{name}_{cell}_{number}")
        if bidirectional:
            layer = layers.Bidirectional(layer, name=f"{name}_bidirectional_{cell}_{number}")
        start = initial_state[number - 1] if initial_state else None
        x, *state = layer(x, mask=mask, initial_state=start)
        states.append(state)
        if residual and x.shape[-1] == layer_input.shape[-1]:
            x = layers.Add(name=f"{name}_residual_{number}")([layer_input, x])
        if dropout:
            x = layers.SpatialDropout1D(dropout, name=f"{name}_dropout_{number}")(x)
    if not return_sequences:
        x = pool(x, "last", mask, bidirectional)
    return (x, states) if return_state else x


def pool(sequence, how: Pooling, mask=None, bidirectional: bool = False, name: str = "pooling"):
    """Turn a sequence of outputs into one vector; steps that the mask hides are left out.

    Args:
        sequence: `(batch, time, features)`.
        how: "last": the last step's output; of a bidirectional stack, each direction's last: the forward half at the
            last step and the backward half at the first. "max" and "mean": over time. "attention": a mean weighted by
            a softmax of learned scores (Bahdanau et al., 2015, with a constant query).
        mask: `(batch, time)`, True where there is data; None if all steps are. No row may be all False.
        bidirectional: whether `sequence` comes from a bidirectional stack; matters to "last" alone.
        name: prefix of the layer's name that scores the steps for "attention".

    Returns:
        `(batch, features)`.
    """
    if how == "last":
        return _last(sequence, mask, bidirectional)
    shown = None if mask is None else ops.expand_dims(mask, -1)
    if how == "max":
        return ops.max(sequence if mask is None else ops.where(shown, sequence, _lowest(sequence)), axis=1)
    if how == "mean":
        weights = ops.ones_like(sequence[:, :, :1]) if mask is None else ops.cast(shown, sequence.dtype)
    elif how == "attention":
        scores = layers.Dense(1, use_bias=False, name=f"{name}_attention_scores")(sequence)
        weights = ops.softmax(scores if mask is None else ops.where(shown, scores, _lowest(scores)), axis=1)
    else:
        raise ValueError(f"pooling is one of last, max, mean, attention; got {how!r}")
    return ops.sum(sequence * weights, axis=1) / ops.sum(weights, axis=1)


def build_many_to_one(features: int, outputs: int, *, pooling: Pooling = "last", **stack) -> keras.Model:
    """A sequence in, one vector out: `(batch, time, features)` -> `(batch, outputs)`. `stack`: see `recurrent_stack`."""
    inputs = keras.Input((None, features), name="sequence")
    x = recurrent_stack(inputs, **stack)
    x = pool(x, pooling, bidirectional=stack.get("bidirectional", False))
    return keras.Model(inputs, layers.Dense(outputs, name="outputs")(x), name="many_to_one")


def build_many_to_many(features: int, outputs: int, **stack) -> keras.Model:
    """One output per step: `(batch, time, features)` -> `(batch, time, outputs)`. `stack`: see `recurrent_stack`."""
    inputs = keras.Input((None, features), name="sequence")
    x = recurrent_stack(inputs, **stack)
    return keras.Model(inputs, layers.Dense(outputs, name="outputs")(x), name="many_to_many")


def build_one_to_many(features: int, outputs: int, length: int, **stack) -> keras.Model:
    """A vector in, a sequence out: `(batch, features)` -> `(batch, length, outputs)`. `stack`: see `recurrent_stack`.

    The vector is shown to the stack at every step; what differs from step to step is the state alone.
    """
    inputs = keras.Input((features,), name="vector")
    x = recurrent_stack(layers.RepeatVector(length, name="shown_at_every_step")(inputs), **stack)
    return keras.Model(inputs, layers.Dense(outputs, name="outputs")(x), name="one_to_many")


def build_encoder_decoder(features: int, decoder_features: int, outputs: int, **stack) -> keras.Model:
    """Read one sequence, then write another: the decoder starts from the encoder's final states (Sutskever et al., 2014).

    `[(batch, time, features), (batch, decoder_time, decoder_features)]` -> `(batch, decoder_time, outputs)`. The second
    input is what the decoder is given: in training the true outputs, one step late (teacher forcing).
    `stack` (see `recurrent_stack`) is used for both, one-directional: the future can't be read while it is written.

    Raises:
        ValueError: with `bidirectional`.
    """
    if stack.get("bidirectional"):
        raise ValueError("the decoder writes from left to right: build_encoder_decoder takes no bidirectional=True")
    encoder_inputs = keras.Input((None, features), name="sequence")
    decoder_inputs = keras.Input((None, decoder_features), name="decoder_sequence")
    _, states = recurrent_stack(encoder_inputs, **stack, return_state=True, name="encoder")
    x = recurrent_stack(decoder_inputs, **stack, initial_state=states, name="decoder")
    outputs = layers.Dense(outputs, name="outputs")(x)
    return keras.Model([encoder_inputs, decoder_inputs], outputs, name="encoder_decoder")


def _check_stack(cell, num_layers, normalization, activation, initial_state) -> None:
    if cell not in CELLS:
        raise ValueError(f"cell is one of {', '.join(CELLS)}; got {cell!r}")
    if num_layers < 1:
        raise ValueError(f"num_layers is 1 or more; got {num_layers}")
    if normalization not in (None, "layer", "batch"):
        raise ValueError(f"normalization is layer, batch or None; got {normalization!r}")
    if activation == "relu" and cell != "rnn":
        raise ValueError(f"activation='relu' is for cell='rnn': a {cell} needs tanh for its gates' range and for cuDNN")
    if activation not in ("tanh", "relu"):
        raise ValueError(f"activation is tanh or relu; got {activation!r}")
    if initial_state is not None and len(initial_state) != num_layers:
        raise ValueError(f"initial_state has one list per layer, {num_layers}; got {len(initial_state)}")


def _recurrent_layer(cell, units, activation, stateful, name):
    options = {}
    if activation == "relu":
        options = {
            "activation": "relu",
            "recurrent_initializer": keras.initializers.Identity(),
            "kernel_initializer": keras.initializers.RandomNormal(stddev=0.001),  # as in the paper
        }
    return CELLS[cell](units, return_sequences=True, return_state=True, stateful=stateful, name=name, **options)


def _normalize(x, normalization, mask, name):
    if normalization == "layer":
        return layers.LayerNormalization(name=name)(x)
    return layers.BatchNormalization(name=name)(x, mask=mask)


def _last(sequence, mask, bidirectional):
    if mask is None:
        last = sequence[:, -1]
    else:
        position = ops.sum(ops.cast(mask, "int32"), axis=1) - 1
        last = ops.squeeze(ops.take_along_axis(sequence, position[:, None, None], axis=1), axis=1)
    if not bidirectional:
        return last
    units = sequence.shape[-1] // 2
    return ops.concatenate([last[:, :units], sequence[:, 0, units:]], axis=-1)


def _lowest(x) -> float:
    """Far below any output, yet a number: minus infinity would turn a masked gradient into NaN."""
    return -1e4 if x.dtype == "float16" else -1e9
