"""The network: a recurrent path that reads the words in order and, beside it, the n-grams of ngrams.py."""

import keras
import numpy as np
from keras import layers, ops

from apps.sentiment.config import Config
from apps.sentiment.ngrams import ngram_path
from shared import rnn

HEAD_DROPOUT = 0.5


def build_model(config: Config, num_classes: int, embeddings: np.ndarray, log_ratios: np.ndarray | None) -> keras.Model:
    """Build the network, from ids to logits.

    Args:
        config: the settings.
        num_classes: how many classes.
        embeddings: `(num_words, dim)`, where the word embeddings start.
        log_ratios: `(num_ids, classes)`, see `apps.sentiment.ngrams.naive_bayes_log_ratios`; None: no n-grams.

    Returns:
        Uncompiled model from the vectorizer's "sequence" `(batch, time)` and "bag" `(batch, any)` to logits `(batch, paths,
        classes)`: of the recurrent path, then of the n-grams. Their mean is the answer.
    """
    inputs = {"sequence": keras.Input((None,), dtype="int32", name="sequence")}
    paths = [_recurrent_path(config, inputs["sequence"], num_classes, embeddings)]
    if log_ratios is not None:
        inputs["bag"] = keras.Input((None,), dtype="int32", name="bag")
        paths.append(ngram_path(inputs["bag"], log_ratios))
    return keras.Model(inputs, ops.stack(paths, axis=1), name="network")


def _recurrent_path(config: Config, sequence, num_classes: int, embeddings: np.ndarray):
    mask = sequence > 0
    embedding = layers.Embedding(*embeddings.shape, name="embedding")
    x = layers.Dropout(config.word_dropout, noise_shape=(None, None, 1), name="word_dropout")(embedding(sequence))
    embedding.set_weights([embeddings])
    x = rnn.recurrent_stack(x, **vars(config.recurrent), mask=mask)
    x = layers.Identity(name="steps")(x)  # what pretraining predicts the next word from
    pooled = [rnn.pool(x, how, mask, config.recurrent.bidirectional) for how in config.pooling]
    x = layers.Dropout(HEAD_DROPOUT, name="head_dropout")(ops.concatenate(pooled, axis=-1))
    return layers.Dense(num_classes, dtype="float32", name="logits")(x)


def cross_entropy(labels, logits):
    """Labels `(batch,)` and logits `(batch, paths, classes)` to the losses `(batch,)`, the sum over the paths.

    Each path has a loss of its own, so that the one that learns faster does not take all the gradient.
    """
    labels = ops.broadcast_to(ops.reshape(labels, (-1, 1)), ops.shape(logits)[:2])
    return ops.sum(ops.sparse_categorical_crossentropy(labels, logits, from_logits=True), axis=1)


def accuracy(labels, logits):
    """Whether the answer, the mean over the paths, is right: `(batch,)`."""
    answer = ops.argmax(ops.mean(logits, axis=1), axis=-1)
    return ops.cast(ops.equal(ops.cast(ops.reshape(labels, (-1,)), answer.dtype), answer), "float32")


def log_loss(labels, logits):
    """Cross-entropy of the answer, `(batch,)`: what the paths say together, where `cross_entropy` judges each of them."""
    return ops.sparse_categorical_crossentropy(ops.reshape(labels, (-1,)), ops.mean(logits, axis=1), from_logits=True)


def build_servable(vectorizer: keras.Model, network: keras.Model) -> keras.Model:
    """What is saved: raw text `(batch,)` in, probabilities `(batch, classes)` out, the vocabulary inside."""
    text = keras.Input((), dtype="string", name="text")
    uncompiled = keras.Model(network.input, network.output, name="network")  # leaves the optimizer behind
    softmax = layers.Softmax(dtype="float32", name="probabilities")
    return keras.Model(text, softmax(ops.mean(uncompiled(vectorizer(text)), axis=1)), name="servable")
