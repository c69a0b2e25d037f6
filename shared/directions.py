"""A model built again from its own layers, each direction of its recurrence run in another way than Keras runs it."""

from collections.abc import Callable

import keras
from keras import layers

KINDS = (layers.SimpleRNN, layers.GRU, layers.LSTM)
MERGES = {"concat": layers.Concatenate, "sum": layers.Add, "ave": layers.Average, "mul": layers.Multiply}


def with_recurrence(model: keras.Model, run: Callable) -> keras.Model:
    """The same model, the weights shared, with `run` in place of every SimpleRNN, GRU and LSTM, also inside a `Bidirectional`.

    Other recurrent layers stay as they are. No layer is stateful in what is returned, unless `run` makes it so.

    Args:
        model: functional. Masks are arguments of its layers.
        run: called with a name (the layer's; of a `Bidirectional`, "<name>/forward" and "<name>/backward"), the layer of the
            one direction, its inputs `(batch, time, features)`, the mask `(batch, time)` or None, and the list of the states
            passed in, which may be empty. Returns the outputs `(batch, time, units)`, in the order in which the layer reads,
            and the list of the states after the last step, of which the first is the last output.

    Raises:
        ValueError: if the model has no such layer.
    """
    replaced = []

    def call(layer, *args, **options):
        if not isinstance(getattr(layer, "forward_layer", layer), KINDS):
            return layer(*args, **options)
        replaced.append(layer.name)
        sequence, *states = keras.tree.flatten(args)
        if (given := options.get("initial_state")) is not None:
            states = keras.tree.flatten(given)
        return _call(layer, run, sequence, options.get("mask"), states)

    again = rebuilt(model, call)
    if not replaced:
        raise ValueError(f"model {model.name} has no SimpleRNN, GRU or LSTM: no recurrent layer that can be looked into")
    return again


def rebuilt(model: keras.Model, call: Callable) -> keras.Model:
    """A functional model built again from its own layers and weights, each layer called by `call(layer, *args, **options)`."""
    uncompiled = keras.Model(model.input, model.output)  # else the optimizer and the loss would be cloned, too
    return keras.models.clone_model(uncompiled, clone_function=lambda layer: layer, call_function=call)


def _call(layer, run: Callable, sequence, mask, states):
    """What the layer would return: its outputs or the last one, then its states if it hands them on."""
    if isinstance(layer, layers.Bidirectional):
        half = len(states) // 2
        forward = run(f"{layer.name}/forward", layer.forward_layer, sequence, mask, states[:half])
        backward = run(f"{layer.name}/backward", layer.backward_layer, sequence, mask, states[half:])
        outputs = forward[0], keras.ops.flip(backward[0], axis=1)
        outputs = outputs if layer.return_sequences else (forward[1][0], backward[1][0])
        outputs, states = MERGES[layer.merge_mode]()(outputs), [*forward[1], *backward[1]]
    else:
        outputs, states = run(layer.name, layer, sequence, mask, states)
        outputs = outputs if layer.return_sequences else states[0]
    return (outputs, *states) if layer.return_state else outputs
