"""The path without recurrence: words, pairs and triples, each with a weight. `--no-ngrams` leaves it out.

    words      12   84    7   95        Each position has the id of the word that stands there, of the pair and of the
    pairs    4091 4055    0    0        triple that start there. All ids share one numbering. 0: padding, or an n-gram
    triples  9070    0    0    0        that is not in the vocabulary; 1: a word that is not.

The set of a review's ids is its "bag". The weights start at a hundredth of the naive Bayes log ratios (Wang and Manning, 2012).
"""

import keras
import numpy as np
from keras import layers, ops

from apps.sentiment.text import frequent
from apps.sentiment.words import UNKNOWN

ORDER = 3  # words in the longest n-gram
VOCABULARY_SIZE = 300_000  # pairs, and as many triples


def learn_ngrams(word_ids: list[np.ndarray], num_words: int) -> tuple[keras.Model, int]:
    """Learn the vocabularies and build the model that turns words into n-grams.

    Args:
        word_ids: of the training reviews, in chunks `(reviews, words)`, padded with 0.
        num_words: number of word ids.

    Returns:
        The model, from word ids `(batch, words)` to the ids of the bag `(batch, any)`, each once; and the number of ids.
    """
    inputs = keras.Input((None,), dtype="int32", name="word_ids")
    previous = words = ops.cast(inputs, "int64")
    levels, num_ids = [words], num_words
    for order in range(2, ORDER + 1):
        keys = _keys(previous, words, order)
        counter = keras.Model(inputs, _each_once(keys))
        seen = (found[found > 0] for found in (counter(chunk).numpy() for chunk in word_ids))
        vocabulary = frequent(seen, VOCABULARY_SIZE) or [-2]  # a key that never comes up, where no n-gram comes back
        previous = layers.IntegerLookup(vocabulary=vocabulary, mask_token=0, name=f"ngrams_{order}")(keys)
        # All ids share one numbering, which leaves no number to the unknown n-gram.
        levels.append(ops.where(previous > UNKNOWN, previous + num_ids, 0))
        num_ids += len(vocabulary) + 2
    bag = _each_once(ops.cast(ops.concatenate(levels, axis=1), "int32"))
    return keras.Model(inputs, bag, name="ngrams"), num_ids


def ngram_path(bag, log_ratios: np.ndarray):
    """Logits `(batch, classes)` from ids `(batch, any)`: the sum of the n-grams' log ratios, each times a weight of its own.

    Args:
        bag: ids.
        log_ratios: `(num_ids, classes)`, see `naive_bayes_log_ratios`.
    """
    ratios = layers.Embedding(*log_ratios.shape, trainable=False, name="log_ratios")
    weights = layers.Embedding(len(log_ratios), 1, embeddings_initializer="zeros", name="ngram_weights")
    logits = ops.cast(ops.sum((weights(bag) + 0.01) * ratios(bag), axis=1), "float32")
    ratios.set_weights([log_ratios])  # not given as an initializer: those are saved inside the model, as text
    return logits


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


def _keys(previous, words, order: int):
    """One number for each n-gram: the id of its first `order - 1` words and that of its last; 0 if either is unknown."""
    last = ops.pad(words, [[0, 0], [0, order - 1]])[:, order - 1 :]
    known = ops.logical_and(previous > UNKNOWN, last > UNKNOWN)
    return ops.where(known, previous * 2**20 + last, 0)


def _each_once(ids):
    """The set of a review's ids: sorted, and where one equals its neighbour, 0."""
    ids = ops.sort(ids, axis=1)
    before = ops.pad(ids, [[0, 0], [1, 0]])[:, :-1]
    return ops.where(ops.equal(ids, before), 0, ids)
