"""From a review's text to ids: Keras layers, used for training and saved inside the final model.

    "Not bad!<br />Really"  ->  not bad ! really  ->  12 84 7 95

0 is padding, 1 a word that is not in the vocabulary. The words in order are the "sequence" that the recurrence reads; with
`--ngrams` each review also has a "bag", the set of its words, pairs and triples, see ngrams.py. words.py does the same without
TensorFlow, for predictions.
"""

from collections.abc import Iterable, Iterator

import keras
import numpy as np
import pandas as pd
import tensorflow as tf  # strings: the one thing that keras.ops does not have
from keras import layers, ops

from apps.sentiment.words import CHUNK, EMPTY, MAX_WORDS, PADDING, RULES, in_chunks, normalize
from shared.cli import UserError

MIN_REVIEWS = 2  # a word or n-gram counts only if it stands in so many training reviews


@keras.saving.register_keras_serializable("apps.sentiment")
def standardize(texts):
    """Lower case, no markup; words keep their apostrophe (isn't) and their combining marks, ratings their slash (7/10).

    `!`, `?` and every emoji are words of their own.
    """
    texts = tf.strings.lower(texts, encoding="utf-8")
    for pattern, replacement in RULES:
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    return tf.where(tf.strings.regex_full_match(texts, r"\s*"), EMPTY, tf.strings.strip(texts))


def split_words(texts: list[str]) -> list[list[str]]:
    """The words of raw texts, as the vectorizer finds them."""
    chunks = (normalize(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK))
    return [line.decode().split() for chunk in chunks for line in standardize(chunk).numpy()]


def learn_words(texts: list[str], size: int) -> layers.TextVectorization:
    """The layer from texts `(batch,)` to word ids `(batch, words)`, with the `size` most frequent words of the training texts.

    Raises:
        UserError: if no word stands in two of the reviews.
    """
    vocabulary = frequent(_words_once_each(texts), size)
    if not vocabulary:
        raise UserError(f"No word stands in {MIN_REVIEWS} of the {len(texts)} training reviews: give more of them.")
    return layers.TextVectorization(standardize=standardize, vocabulary=vocabulary, name="words")


def build_vectorizer(lookup: layers.TextVectorization, ngrams: keras.Model | None, sequence_length: int) -> keras.Model:
    """The model from texts `(batch,)` to a dict of ids: "sequence" `(batch, time)` and, with `ngrams`, "bag" `(batch, any)`."""
    text = keras.Input((), dtype="string", name="text")
    words = first_and_last(ops.cast(lookup(text), "int32"), MAX_WORDS)
    outputs = {"sequence": first_and_last(words, sequence_length)}
    if ngrams:
        outputs["bag"] = ngrams(words)
    return keras.Model(text, outputs, name="vectorizer")


def vectorize(vectorizer: keras.Model, texts: list[str]) -> dict[str, tf.RaggedTensor]:
    """The ids of many raw texts, without the padding: by the vectorizer's outputs, ragged `(n, None)`."""
    found, rows = {name: [] for name in vectorizer.output}, []
    for chosen, chunk in in_chunks(texts):
        rows.append(chosen)
        for name, ids in vectorizer(tf.constant(chunk)).items():
            found[name].append(tf.ragged.boolean_mask(ids, ids > PADDING))
    back = np.argsort(np.concatenate(rows))
    return {name: tf.gather(tf.concat(ids, axis=0), back) for name, ids in found.items()}


def _words_once_each(texts: list[str]) -> Iterator[list[str]]:
    """For each chunk, the words of its texts; one that stands in a text several times counts as once."""
    for _, chunk in in_chunks(texts):
        yield [word.decode() for line in standardize(chunk).numpy() for word in set(line.split())]


def frequent(chunks: Iterable, most: int) -> list:
    """The `most` frequent items that come twice or more; of equally frequent ones, the smaller."""
    parts = []
    for items in chunks:
        parts.append(pd.Series(items).value_counts())
        if sum(map(len, parts)) > 2 * len(parts[0]):  # added up now and then: the total of all chunks would not fit memory
            parts = [pd.concat(parts).groupby(level=0).sum()]
    counts = pd.concat(parts).groupby(level=0).sum()
    return counts[counts >= MIN_REVIEWS].sort_index().sort_values(ascending=False, kind="stable").index[:most].tolist()


def first_and_last(ids, length: int):
    """Of a review longer than `length`: the first quarter of `length` and the last three; verdicts stand at the end."""
    present = ops.cast(ids > PADDING, "int32")
    surplus = ops.maximum(ops.sum(present, axis=1, keepdims=True) - length, 0)
    position = ops.cumsum(ops.ones_like(present), axis=1)[:, :length] - 1
    # Not position + surplus: of (8, 8) and (8, 1), keras.ops.add takes the second for a bias, (8,), where sizes are known.
    source = ops.where(position < length // 4, position, surplus + position)
    return ops.take_along_axis(ids, source, axis=1)
