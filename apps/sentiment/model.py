"""The network: a wide path that counts n-grams and a recurrent path that reads the words in order, summed."""

import keras
import numpy as np
from keras import layers, ops

from apps.sentiment.config import Config
from shared import rnn


def build_model(config: Config, log_ratios: np.ndarray) -> keras.Model:
    """Build the network, from ids to logits.

    Args:
        config: the knobs.
        log_ratios: `(num_ids, classes)`, see `naive_bayes_log_ratios`.

    Returns:
        Uncompiled model from the vectorizer's "sequence" `(batch, time, ngram_order)` and "bag" `(batch, any)` to
        `(batch, classes)` logits.
    """
    sequence = keras.Input((None, config.ngram_order), dtype="int32", name="sequence")
    bag = keras.Input((None,), dtype="int32", name="bag")
    ratios = layers.Embedding(*log_ratios.shape, trainable=False, name="log_ratios")
    wide = ops.sum(layers.Embedding(*log_ratios.shape, embeddings_initializer="ones", name="wide")(bag) * ratios(bag), axis=1)
    logits = wide * 0.05 + _recurrent_path(config, sequence, ratios, log_ratios.shape[1])
    model = keras.Model({"sequence": sequence, "bag": bag}, logits, name="sentiment")
    ratios.set_weights([log_ratios])
    return model


def _recurrent_path(config, sequence, ratios, classes):
    words = sequence[:, :, 0]
    mask = words > 0
    x = layers.Embedding(config.vocabulary_size + 2, config.embedding_dim, name="word_embedding")(words)
    each = layers.Reshape((-1, config.ngram_order * classes))(ratios(sequence))
    x = ops.concatenate([x, each], axis=-1)
    x = layers.Dropout(config.word_dropout, noise_shape=(None, None, 1), name="word_dropout")(x)
    x = rnn.recurrent_stack(
        x,
        cell=config.cell,
        units=config.units,
        num_layers=config.num_layers,
        bidirectional=config.bidirectional,
        dropout=config.dropout,
        residual=config.residual,
        normalization=config.normalization,
        activation=config.activation,
        mask=mask,
    )
    pooled = [rnn.pool(x, how, mask, config.bidirectional) for how in config.pooling]
    x = layers.Dropout(0.5, name="head_dropout")(ops.concatenate(pooled, axis=-1))
    return layers.Dense(classes, dtype="float32", name="recurrent")(x)


def naive_bayes_log_ratios(bags, labels: np.ndarray, num_ids: int, smoothing: float = 1.0) -> np.ndarray:
    """How much more often an id stands in reviews of a class than in the others, as a logarithm (Wang and Manning, 2012).

    Args:
        bags: ragged `(n, None)`, each review's ids once.
        labels: `(n,)`.
        num_ids: number of ids.
        smoothing: added to every count.

    Returns:
        `(num_ids, classes)`; 0 for padding and unknown words.
    """
    of_row = labels[bags.value_rowids().numpy()]
    counts = np.stack(
        [np.bincount(bags.values.numpy()[of_row == k], minlength=num_ids) for k in range(labels.max() + 1)], axis=1
    )
    rest = counts.sum(axis=1, keepdims=True) - counts + smoothing
    counts = counts + smoothing
    ratios = np.log(counts / counts.sum(axis=0)) - np.log(rest / rest.sum(axis=0))
    ratios[:2] = 0
    return ratios.astype("float32")


def build_servable(vectorizer: keras.Model, network: keras.Model) -> keras.Model:
    """What is saved: raw text `(batch,)` in, probabilities `(batch, classes)` out, the vocabulary inside."""
    uncompiled = keras.Model(network.input, network.output, name="network")  # else the optimizer would be saved, too
    text = keras.Input((), dtype="string", name="text")
    return keras.Model(text, layers.Softmax(name="probabilities")(uncompiled(vectorizer(text))), name="sentiment")
