"""Training pairs as ids."""

import tensorflow as tf

from apps.translation.data import Pairs
from apps.translation.tokens import END, START, Vocabulary


def vectorise(vocabulary: Vocabulary, pairs: Pairs) -> tuple[dict[str, tf.RaggedTensor], tf.RaggedTensor]:
    """What the network is given, "source" and "target" `(n, None)`, and what it has to write, `(n, None)`.

    to write    S T EY SH AH N <end>
    "target"    <start> S T EY SH AH N
    """
    targets = [vocabulary.target.encode(text) for text in pairs.targets]
    features = {
        "source": ragged([vocabulary.source.encode(text) for text in pairs.sources]),
        "target": ragged([[START, *ids] for ids in targets]),
    }
    return features, ragged([[*ids, END] for ids in targets])


def ragged(rows: list[list[int]]) -> tf.RaggedTensor:
    """Ids of each row, `(n, None)`."""
    flat = tf.constant([number for row in rows for number in row], tf.int32)
    return tf.RaggedTensor.from_row_lengths(flat, [len(row) for row in rows])
