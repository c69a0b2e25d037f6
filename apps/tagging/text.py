"""Training sentences as ids."""

import numpy as np
import tensorflow as tf

from apps.tagging.data import Sentences
from apps.tagging.words import Vocabulary


def vectorise(vocabulary: Vocabulary, sentences: list[list[str]]) -> dict[str, tf.RaggedTensor]:
    """Ids without the padding: "words" `(n, None)` and "characters" `(n, None, MAX_CHARACTERS)`, of each sentence by itself."""
    lengths = [len(tokens) for tokens in sentences]
    flat = vocabulary.encode([[token] for tokens in sentences for token in tokens])
    return {name: tf.RaggedTensor.from_row_lengths(ids[:, 0], lengths) for name, ids in flat.items()}


def tag_ids(sentences: Sentences) -> tf.RaggedTensor:
    """The number of each tag, `(n, None)`."""
    numbers = {tag: number for number, tag in enumerate(sentences.tag_names)}
    flat = np.array([numbers[tag] for tags in sentences.tags for tag in tags], np.int32)
    return tf.RaggedTensor.from_row_lengths(flat, [len(tags) for tags in sentences.tags])
