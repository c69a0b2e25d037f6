"""From a review's text to ids: one Keras model, used for training and saved inside the final model.

    "Not bad!<br />Really"  ->  not bad ! really

    words      12   84    7   95        Each position has the id of the word that stands there, of the pair and of the
    pairs    4091 4055    0    0        triple that start there. All ids share one numbering. 0: padding, or an n-gram
    triples  9070    0    0    0        that is not in the vocabulary; 1: a word that is not.

The first row, in order, is the "sequence" that the recurrence reads; all of them, as a set, are the "bag".
"""

import unicodedata
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import pandas as pd
import tensorflow as tf  # strings: the one thing that keras.ops does not have
from keras import layers, ops

from apps.sentiment.config import Config
from shared.cli import UserError

PADDING, UNKNOWN = 0, 1
CHUNK = 500  # texts turned into ids at a time, if they hold,
CHUNK_CHARACTERS = 2_000_000  # padded to the longest, no more than this
MAX_WORDS = 10_000  # of a longer text, its head and tail are read
PICTURE = r"\p{So}[\p{M}\x{1F3FB}-\x{1F3FF}]*"  # an emoji, with its variant or skin tone


def normalize(texts: list[str]) -> list[str]:
    """Raw texts as the saved model expects them: accents composed (NFC), no half surrogates. TensorFlow can do neither."""
    return [unicodedata.normalize("NFC", one.encode(errors="replace").decode()) for one in texts]


@keras.saving.register_keras_serializable("apps.sentiment")
def standardize(texts):
    """Lower case, no markup; words keep their apostrophe (isn't) and their combining marks, ratings their slash (7/10).

    `!`, `?` and every emoji are words of their own.
    """
    texts = tf.strings.lower(texts, encoding="utf-8")
    for pattern, replacement in (
        (r"</?[a-z][^<>]*>", " "),  # HTML breaks and other tags
        (r"[\x{2018}\x{2019}\x{02BC}\x{FF07}]", "'"),
        (r"([^0-9])/+|/+([^0-9])", r"\1 \2"),
        (r"[^\p{L}\p{M}\p{N}\p{So}\x{1F3FB}-\x{1F3FF}\x{200C}\x{200D}'/!?]+", " "),  # joiners stand inside words, too
        (rf"[\x{{1F1E6}}-\x{{1F1FF}}]{{2}}|{PICTURE}(?:\x{{200D}}{PICTURE})*", r" \0 "),  # a flag is two letters
        (r"(^|[ !?])'+|'+([ !?]|$)", r"\1 \2"),  # quotation marks, not apostrophes
        (r"([!?])", r" \1 "),
        (r"(^| )[\p{M}\x{200C}\x{200D}]+", r"\1"),  # marks that have lost their letter
    ):
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    # A row without any word would be all padding, which no recurrent kernel takes: it becomes one unknown word.
    return tf.where(tf.strings.regex_full_match(texts, r"\s*"), "(empty)", tf.strings.strip(texts))


def split_words(texts: list[str]) -> list[list[str]]:
    """The words of raw texts, as the vectorizer finds them."""
    chunks = (normalize(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK))
    return [line.decode().split() for chunk in chunks for line in standardize(chunk).numpy()]


def build_vectorizer(texts: list[str], config: Config) -> tuple[keras.Model, int]:
    """Learn the vocabularies from the training texts and build the model that turns texts into ids.

    Args:
        texts: of the training split alone.
        config: the sizes of the vocabularies, and how much of a review is read.

    Returns:
        The model, from `(batch,)` strings to a dict of "sequence" `(batch, time)`, the words of the review's head and
        tail, and "bag" `(batch, any)`, every id of the whole review once; and the number of ids.
    """
    vocabulary = _frequent(_words_once_each(texts), config.vocabulary_size, config.min_reviews)
    if not vocabulary:
        raise UserError(f"No word stands in {config.min_reviews} training reviews: give more of them, or lower --min-reviews.")
    lookup = layers.TextVectorization(standardize=standardize, vocabulary=vocabulary, name="words")
    samples = [lookup(tf.constant(chunk)).numpy().astype("int32") for _, chunk in in_chunks(texts)]

    word_ids = keras.Input((None,), dtype="int64", name="word_ids")
    previous = kept = _head_and_tail(word_ids, MAX_WORDS)
    levels, num_ids = [kept], len(vocabulary) + 2
    for order in range(2, config.ngram_order + 1):
        keys = _ngram_keys(previous, kept, order)
        counter = keras.Model(word_ids, _each_once(keys))
        seen = (found[found > 0] for found in (counter(sample.astype("int64")).numpy() for sample in samples))
        frequent = _frequent(seen, config.ngram_vocabulary_size, config.min_reviews)
        # A key that never comes up stands for the vocabulary of a text in which no n-gram comes back.
        previous = layers.IntegerLookup(vocabulary=frequent or [-2], mask_token=0, name=f"ngrams_{order}")(keys)
        # All ids share one numbering, which leaves no number to the unknown n-gram.
        levels.append(ops.where(previous > UNKNOWN, previous + num_ids, 0))
        num_ids += len(frequent) + 2
    outputs = {
        "sequence": _head_and_tail(ops.cast(word_ids, "int32"), config.sequence_length),
        "bag": _each_once(ops.cast(ops.concatenate(levels, axis=1), "int32")),
    }

    text = keras.Input((), dtype="string", name="text")
    return keras.Model(text, keras.Model(word_ids, outputs, name="ngrams")(lookup(text)), name="vectorizer"), num_ids


def words(vectorizer: keras.Model) -> list[str]:
    """The word of each id, from 0 on; the ids of n-grams come behind."""
    return vectorizer.get_layer("words").get_vocabulary()


def vectorize(vectorizer: keras.Model, texts: list[str]) -> dict[str, tf.RaggedTensor]:
    """The ids of many raw texts, without the padding: ragged "sequence" and "bag", both `(n, None)`."""
    found, rows = {"sequence": [], "bag": []}, []
    for chosen, chunk in in_chunks(texts):
        rows.append(chosen)
        for name, ids in vectorizer(tf.constant(chunk)).items():
            found[name].append(tf.ragged.boolean_mask(ids, ids > PADDING))
    back = np.argsort(np.concatenate(rows))
    return {name: tf.gather(tf.concat(ids, axis=0), back) for name, ids in found.items()}


def in_chunks(texts: list[str], most: int = CHUNK) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Rows, the shortest texts first, and their texts, normalised: a long one is never padded to by many short ones."""
    lengths = np.array([len(one) for one in texts])
    order = np.argsort(lengths, kind="stable")
    while order.size:
        padded = lengths[order[:most]] * np.arange(1, len(order[:most]) + 1)
        fit = max(1, np.searchsorted(padded, CHUNK_CHARACTERS, side="right"))
        yield order[:fit], normalize([texts[row] for row in order[:fit]])
        order = order[fit:]


def _words_once_each(texts: list[str]) -> Iterator[list[str]]:
    """For each chunk, the words of its texts; one that stands in a text several times counts as once."""
    for _, chunk in in_chunks(texts):
        yield [word.decode() for line in standardize(chunk).numpy() for word in set(line.split())]


def _frequent(chunks: Iterable, most: int, min_reviews: int) -> list:
    """The `most` frequent items that come `min_reviews` times or more; of equally frequent ones, the smaller."""
    parts = []
    for items in chunks:
        parts.append(pd.Series(items).value_counts())
        if sum(map(len, parts)) > 2 * len(parts[0]):  # added up now and then: the total of all chunks would not fit memory
            parts = [pd.concat(parts).groupby(level=0).sum()]
    counts = pd.concat(parts).groupby(level=0).sum()
    return counts[counts >= min_reviews].sort_index().sort_values(ascending=False, kind="stable").index[:most].tolist()


def _ngram_keys(previous, words, order: int):
    """One number for each n-gram: the id of its first `order - 1` words and that of its last; 0 if either is unknown."""
    last = ops.pad(words, [[0, 0], [0, order - 1]])[:, order - 1 :]
    known = ops.logical_and(previous > UNKNOWN, last > UNKNOWN)
    return ops.where(known, previous * 2**20 + last, 0)


def _head_and_tail(ids, length: int):
    """Of a review longer than `length`: the first quarter of `length` and the last three; verdicts stand at the end."""
    present = ops.cast(ids > PADDING, "int32")
    surplus = ops.maximum(ops.sum(present, axis=1, keepdims=True) - length, 0)
    position = ops.cumsum(ops.ones_like(present), axis=1)[:, :length] - 1
    source = ops.where(position < length // 4, position, position + surplus)
    return ops.take_along_axis(ids, source, axis=1)


def _each_once(ids):
    """The set of a review's ids: sorted, and where one equals its neighbour, 0."""
    ids = ops.sort(ids, axis=1)
    before = ops.pad(ids, [[0, 0], [1, 0]])[:, :-1]
    return ops.where(ops.equal(ids, before), 0, ids)
