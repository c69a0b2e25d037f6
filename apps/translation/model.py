"""The network: an encoder reads the source, a decoder writes the target, attention looks back at each step.

    source  s t a t i o n           target, one step late   <start> S T EY SH AH
            | | | | | | |                                      |    | | |  |  |
            encoder, both directions                           decoder, left to right
            memory, one vector per token -----> attention <--- its state at each step
                                                    |
                                     S T EY SH AH N <end>     what is to be written

(Sutskever et al., 2014; Bahdanau et al., 2015; Luong et al., 2015: attention behind the decoder's recurrence, which so reads a
whole target in one go while it is trained.)
"""

from dataclasses import replace

import keras
from keras import layers, ops

from apps.translation.config import Config
from apps.translation.tokens import END, PADDING
from shared import rnn
from shared.attention import Attention

PADDED = -1  # in place of a token to write, behind the end
EMBEDDING_DEVIATION = 0.3  # of the first weights; with Keras's 0.03, 300 steps of sentences reach what 100 do
FORBIDDEN = -1e9  # logit of what is never written: padding, the unknown token, the start


def build_model(config: Config, num_source: int, num_target: int, shared: bool = False) -> keras.Model:
    """Build the network to train.

    Args:
        config: the settings.
        num_source, num_target: sizes of the vocabularies.
        shared: whether the two vocabularies are one; so are then the embeddings.

    Returns:
        Uncompiled model from "source" `(batch, source_time)` and "target" `(batch, time)`, what was written before each step
        (teacher forcing), both ids padded with 0, to a logit for each token that may be written, `(batch, time, num_target)`.
    """
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    written = layers.ReversibleEmbedding(num_target, **_embedding(config), name="target_embedding")
    read = written if shared else layers.Embedding(num_source, **_embedding(config), name="source_embedding")
    vectors = layers.Identity(name="source_vectors")(read(source))
    memory, states = _encode(config, vectors, source > PADDING)
    hidden = rnn.recurrent_stack(written(target), **vars(_one_way(config)), initial_state=states, name="decoder")
    logits = _write(config, hidden, memory, source > PADDING, written)
    return keras.Model({"source": source, "target": target}, logits, name="network")


def split(config: Config, network: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The two parts that translate, made of the network's own layers: the encoder runs once, the decoder for each token.

    Returns:
        The encoder, from "source" to "memory" `(batch, source_time, width)` and "states", a list for each layer of the decoder.
        The decoder, from "tokens" `(batch, 1)`, "source", which tells what is padding, "memory" and "states" to
        "log_probabilities" `(batch, num_target)`, "attention" `(batch, source_time)` and "states". Without attention there are
        neither "memory" nor "attention", and the decoder takes no "source".
    """
    numbers, kinds = range(1, config.recurrent.num_layers + 1), range(1, rnn.STATES_PER_LAYER[config.recurrent.cell] + 1)
    before = [[network.get_layer(f"bridge_{number}_{kind}").output for kind in kinds] for number in numbers]
    after = [network.get_layer(f"decoder_{config.recurrent.cell}_{number}").output[1:] for number in numbers]
    encoded, given = {"states": before}, {"tokens": network.input["target"], "states": before}
    written = {"logits": network.output, "states": after}
    if config.attention != "none":
        attention = network.get_layer("attention")
        (_, memory, _), (_, weights) = attention.input, attention.output
        encoded, written = encoded | {"memory": memory}, written | {"attention": weights}
        given |= {"source": network.input["source"], "memory": memory}
    encoder = keras.Model({"source": network.input["source"]}, encoded, name="encoder")
    return encoder, _one_step(given, written)


def _one_step(given: dict, written: dict) -> keras.Model:
    """The layers between tensors of a network and others behind them, as a decoder whose inputs have the names in `given`.

    New operations stand behind a model of their own: in a network that was loaded, the names they get are taken.
    """
    inside = keras.Model(keras.tree.flatten(given), written, name="inside")
    named = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name="_".join(map(str, path)))
        for path, tensor in keras.tree.flatten_with_path(given)
    ]
    found = inside(named)
    log_probabilities = ops.log_softmax(found["logits"][:, -1], axis=-1)
    log_probabilities = ops.where(log_probabilities < FORBIDDEN / 2, -float("inf"), log_probabilities)
    outputs = {"log_probabilities": log_probabilities, "states": found["states"]}
    outputs |= {"attention": found["attention"][:, -1]} if "attention" in found else {}
    return keras.Model(keras.tree.pack_sequence_as(given, named), outputs, name="decoder")


def _embedding(config: Config) -> dict:
    """What both embeddings are made with."""
    initializer = keras.initializers.RandomNormal(stddev=EMBEDDING_DEVIATION)
    return {"output_dim": config.embedding_dim, "embeddings_initializer": initializer}


def _one_way(config: Config):
    """The decoder's recurrence: what is still to be written cannot be read."""
    return replace(config.recurrent, bidirectional=False)


def _encode(config: Config, vectors, mask):
    """The memory `(batch, source_time, width)` and the decoder's first states: the encoder's last ones, over a bridge."""
    memory, states = rnn.recurrent_stack(vectors, **vars(config.recurrent), return_state=True, mask=mask, name="encoder")
    memory = ops.where(mask[..., None], memory, 0.0)
    kinds, units = rnn.STATES_PER_LAYER[config.recurrent.cell], config.recurrent.units
    bridged = []
    for number, of_layer in enumerate(states, start=1):
        joined = [ops.concatenate(of_layer[kind::kinds], axis=-1) for kind in range(kinds)]  # of both directions
        bridged.append([layers.Dense(units, name=f"bridge_{number}_{kind}")(one) for kind, one in enumerate(joined, start=1)])
    return memory, bridged


def _write(config: Config, hidden, memory, mask, embedding):
    """Logits `(batch, time, num_target)`."""
    parts = [hidden]
    if config.attention != "none":
        contexts, _ = Attention(config.attention, config.recurrent.units, name="attention")(hidden, memory, mask)
        parts.append(contexts)
    x = layers.Concatenate(name="decoded")(parts) if len(parts) > 1 else hidden
    x = layers.Dense(config.embedding_dim, activation="tanh", name="attentional")(x)
    x = layers.SpatialDropout1D(config.recurrent.dropout, name="attentional_dropout")(x) if config.recurrent.dropout else x
    logits = ops.cast(embedding(x, reverse=True), "float32")  # tied: what writes a token is what reads it
    return TokenBias(name="bias", dtype="float32")(logits)


@keras.saving.register_keras_serializable("translation")
class TokenBias(layers.Layer):
    """How often a token is written, whatever is read; those that are never written are far below all others."""

    def build(self, logits_shape):
        self.bias = self.add_weight(shape=(logits_shape[-1],), initializer="zeros", name="bias")

    def call(self, logits):
        """`(..., num_target)` -> the same."""
        return logits + ops.where(ops.arange(logits.shape[-1]) < END, FORBIDDEN, self.bias)


@keras.saving.register_keras_serializable("translation")
class SmoothedLoss(keras.losses.Loss):
    """Cross-entropy of each token, a part of the probability spread evenly over all that may be written: the mean per token.

    (Szegedy et al., 2016.)
    """

    def __init__(self, smoothing: float = 0.0, name: str = "loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.smoothing = smoothing

    def call(self, targets, logits):
        """`(batch,)`, each row's part, of ids `(batch, time)`, `PADDED` behind the end, and logits."""
        shown = ops.cast(targets >= END, "float32")
        return ops.sum(nats(targets, logits, self.smoothing), axis=1) / ops.mean(ops.sum(shown, axis=1))

    def get_config(self):
        return super().get_config() | {"smoothing": self.smoothing}


def nats(targets, logits, smoothing: float = 0.0):
    """Cross-entropy of each token `(batch, time)`; 0 where it is padding, or unknown and so never written."""
    shown, size = ops.cast(targets >= END, "float32"), logits.shape[-1]
    evenly = ops.cast(ops.arange(size) >= END, "float32") / (size - END)
    wanted = (1 - smoothing) * ops.one_hot(ops.maximum(targets, 0), size) + smoothing * evenly
    # One fused operation: put together from log_softmax, it took half of a step with 4,000 subwords.
    return ops.categorical_crossentropy(wanted, logits, from_logits=True) * shown


def token_accuracy(targets, logits):
    """Fraction of the batch's tokens, padding and unknown ones left out, that are the likeliest behind those before them."""
    shown = ops.cast(targets >= END, "float32")
    right = ops.cast(ops.equal(ops.argmax(logits, axis=-1), ops.cast(targets, "int32")), "float32")
    return ops.sum(right * shown) / ops.maximum(ops.sum(shown), 1)
