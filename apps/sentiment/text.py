"""From a review's text to ids: one Keras model, used for training and saved inside the final model.

    "Not bad!<br />Really"  ->  not bad ! really

    words      12   84    7   95        Each position has the id of the word that stands there, of the pair and of the
    pairs    4091 4055    0    0        triple that start there. All ids share one numbering. 0: padding, or an n-gram
    triples  9070    0    0    0        that is not in the vocabulary; 1: a word that is not.

The first row, in order, is the "sequence" that the recurrence reads; all of them, as a set, are the "bag".
"""

from collections import Counter

import keras
import tensorflow as tf  # strings: the one thing that keras.ops does not have
from keras import layers, ops

from apps.sentiment.config import Config
from shared.cli import UserError

PADDING, UNKNOWN = 0, 1
CHUNK = 500  # texts turned into ids at a time


@keras.saving.register_keras_serializable("apps.sentiment")
def standardize(texts):
    """Lower case, no markup; words keep their apostrophe (isn't), marks keep ! and ?, ratings their slash (7/10)."""
    texts = tf.strings.lower(texts, encoding="utf-8")
    for pattern, replacement in (
        (r"</?[a-z][^<>]*>", " "),  # HTML breaks and other tags
        (r"([^0-9])/+|/+([^0-9])", r"\1 \2"),
        (r"[^\p{L}\p{N}'/!?]+", " "),
        (r"(^|[ !?])'+|'+([ !?]|$)", r"\1 \2"),  # quotation marks, not apostrophes
        (r"([!?])", r" \1 "),
    ):
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    # A row without any word would be all padding, which no recurrent kernel takes: it becomes one unknown word.
    return tf.where(tf.strings.regex_full_match(texts, r"\s*"), "(empty)", tf.strings.strip(texts))


def build_vectorizer(texts: list[str], config: Config) -> tuple[keras.Model, int]:
    """Learn the vocabularies from the training texts and build the model that turns texts into ids.

    Args:
        texts: of the training split alone.
        config: the sizes of the vocabularies, and how much of a review is read.

    Returns:
        The model, from `(batch,)` strings to a dict of "sequence" `(batch, time)`, the words of the review's head and
        tail, and "bag" `(batch, any)`, every id of the whole review once; and the number of ids.
    """
    split = (line.split() for line in standardize(texts).numpy())
    vocabulary = [word.decode() for word in _frequent(split, config.vocabulary_size, config.min_reviews)]
    if not vocabulary:
        raise UserError(f"No word stands in {config.min_reviews} training reviews: give more of them, or lower --min-reviews.")
    lookup = layers.TextVectorization(standardize=standardize, vocabulary=vocabulary, name="words")
    samples = [lookup(tf.constant(texts[start : start + CHUNK])) for start in range(0, len(texts), CHUNK)]

    word_ids = keras.Input((None,), dtype="int64", name="word_ids")
    levels, num_ids = [word_ids], len(vocabulary) + 2
    previous = word_ids
    for order in range(2, config.ngram_order + 1):
        keys = _ngram_keys(previous, word_ids, order)
        counter = keras.Model(word_ids, keys)
        seen = (row[row > 0].tolist() for sample in samples for row in counter(sample).numpy())
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
    """The ids of many texts, without the padding: ragged "sequence" and "bag", both `(n, None)`."""
    chunks = [vectorizer(tf.constant(texts[start : start + CHUNK])) for start in range(0, len(texts), CHUNK)]
    return {
        name: tf.concat([tf.ragged.boolean_mask(ids[name], ids[name] > PADDING) for ids in chunks], axis=0)
        for name in ("sequence", "bag")
    }


def _frequent(reviews, most: int, min_reviews: int) -> list:
    """The `most` frequent items that stand in `min_reviews` of the reviews or more; of equally frequent ones, the smaller."""
    counts = Counter()
    for items in reviews:
        counts.update(set(items))
    return [item for _, item in sorted((-count, item) for item, count in counts.items() if count >= min_reviews)[:most]]


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
