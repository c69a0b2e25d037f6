"""The network: embedding -> recurrent stack -> a logit for each character. Built twice from the same layers."""

import keras
from keras import layers, ops

from apps.textgen.config import Config
from shared import rnn


def build_model(config: Config, num_ids: int) -> keras.Model:
    """Build the network to train: it keeps its state from batch to batch, so every batch has the same shape.

    Args:
        config: the settings.
        num_ids: size of the vocabulary, with padding and the unknown character.

    Returns:
        Uncompiled model from ids `(batch_size, sequence_length)` to logits `(batch_size, sequence_length, num_ids)`.
    """
    ids = keras.Input(batch_shape=(config.training.batch_size, config.sequence_length), dtype="int32", name="ids")
    logits, _ = _layers(config, num_ids, ids, stateful=True)
    return keras.Model(ids, logits, name="network")


def build_generator(config: Config, num_ids: int) -> keras.Model:
    """Build the same network with its state passed in and handed back, to evaluate and to generate with.

    Returns:
        Model from a dict of "ids" `(batch, time)` and "states", see `zero_states`, to a dict of "logits"
        `(batch, time, num_ids)` and "states", those after the last step. Takes the weights of `build_model` as they are.
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    states = [
        [
            keras.Input((config.recurrent.units,), name=f"state_{n}_{k}")
            for k in range(rnn.STATES_PER_LAYER[config.recurrent.cell])
        ]
        for n in range(config.recurrent.num_layers)
    ]
    logits, new_states = _layers(config, num_ids, ids, initial_state=states)
    new_states = [[ops.cast(state, "float32") for state in of_layer] for of_layer in new_states]
    return keras.Model({"ids": ids, "states": states}, {"logits": logits, "states": new_states}, name="network")


def zero_states(config: Config, batch_size: int) -> list[list]:
    """The state before the first character: one list per layer, of `(batch, units)` tensors."""
    one = ops.zeros((batch_size, config.recurrent.units))
    return [[one] * rnn.STATES_PER_LAYER[config.recurrent.cell]] * config.recurrent.num_layers


def build_servable(config: Config, vocabulary: list[str], generator: keras.Model) -> keras.Model:
    """What is saved: text `(batch,)` in, the probabilities `(batch, num_ids)` of its next character out.

    The vocabulary ("characters") and the generator ("network") lie inside, for those who carry the state themselves.
    """
    text = keras.Input((), dtype="string", name="text")
    lookup = layers.TextVectorization(standardize=None, split="character", vocabulary=vocabulary, name="characters")
    ids = lookup(text)
    zeros = ops.zeros_like(ops.cast(ids[:, :1], "float32")) + ops.zeros((1, config.recurrent.units))
    states = [[zeros] * rnn.STATES_PER_LAYER[config.recurrent.cell]] * config.recurrent.num_layers
    logits = generator({"ids": ops.cast(ids, "int32"), "states": states})["logits"]
    return keras.Model(
        text, layers.Softmax(dtype="float32", name="probabilities")(rnn.pool(logits, "last", ids > 0)), name="servable"
    )


def _layers(config: Config, num_ids: int, ids, **state):
    """Logits `(batch, time, num_ids)` and the states after the last step."""
    x = layers.Embedding(num_ids, config.embedding_dim, name="embedding")(ids)
    x, states = rnn.recurrent_stack(x, **vars(config.recurrent), return_state=True, **state)
    return ops.cast(layers.Dense(num_ids, name="logits")(x), "float32"), states
