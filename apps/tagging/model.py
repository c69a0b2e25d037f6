"""The network: words and their characters, a recurrent stack in both directions, a score for each tag of each word, a CRF."""

import keras
from keras import layers, ops

from apps.tagging.config import Config
from apps.tagging.schemes import split
from apps.tagging.words import MAX_CHARACTERS, PADDING, UNKNOWN
from shared import rnn
from shared.crf import CRF, CRFLoss

CHARACTER_DIM = 32
CHARACTER_WIDTH = 3  # characters that a filter sees at a time
PADDED = -1  # in place of a tag


def build_model(config: Config, num_words: int, num_characters: int, tag_names: tuple[str, ...]) -> keras.Model:
    """Build the network, from ids to emissions.

    Returns:
        Uncompiled model from "words" `(batch, time)` and "characters" `(batch, time, MAX_CHARACTERS)`, see `words.Vocabulary`,
        to the score of each tag of each word by itself, `(batch, time, tags)`, 0 behind a sentence. With `config.crf` its last
        layer, "crf", holds the scores of pairs of tags.
    """
    words = keras.Input((None,), dtype="int32", name="words")
    characters = keras.Input((None, MAX_CHARACTERS), dtype="int32", name="characters")
    mask = words > PADDING
    vectors = layers.Embedding(num_words, config.embedding_dim, name="embedding")(words)
    known = ops.cast(words > UNKNOWN, vectors.dtype)[..., None]  # zeros for an unknown word: as word dropout leaves a known one
    parts = [layers.Dropout(config.word_dropout, noise_shape=(None, None, 1), name="word_dropout")(vectors * known)]
    if config.character_filters:
        parts.append(_spelling(characters, num_characters, config.character_filters))
    x = layers.Concatenate(name="tokens")(parts) if len(parts) > 1 else parts[0]
    x = rnn.recurrent_stack(x, **vars(config.recurrent), mask=mask)
    emissions = layers.Dense(len(tag_names), dtype="float32", name="emissions")(x)
    emissions = ops.where(mask[..., None], emissions, 0.0)
    if config.crf:
        emissions = CRF(allowed(tag_names), dtype="float32", name="crf")(emissions)
    return keras.Model({"words": words, "characters": characters}, emissions, name="network")


def _spelling(characters, num_characters: int, filters: int):
    """From the characters of each word to the strongest answer of each filter, `(batch, time, filters)` (Ma and Hovy, 2016)."""
    x = layers.Embedding(num_characters, CHARACTER_DIM, name="character_embedding")(characters)
    x = layers.Conv2D(filters, (1, CHARACTER_WIDTH), padding="same", activation="relu", name="spelling")(x)
    return ops.max(x * ops.cast(characters > PADDING, x.dtype)[..., None], axis=2)


def allowed(tag_names: tuple[str, ...]):
    """Which tag may follow which, see `shared.crf.CRF`: an I only its own type; None if no tags name spans."""
    parts = [split(tag) for tag in (*tag_names, "O")]  # the last one stands for the start, or the end
    if not any(kind for _, kind in parts):
        return None
    return [[prefix != "I" or kind == before for prefix, kind in parts] for _, before in parts]


def loss_of(network: keras.Model) -> keras.losses.Loss:
    """What the network is trained with, of tags `(batch, time)`, `PADDED` behind a sentence, and emissions: nats per word."""
    layer = network.layers[-1]
    return CRFLoss(layer) if isinstance(layer, CRF) else TagLoss()


class TagLoss(keras.losses.Loss):
    """Cross-entropy of every word's tag by itself: the mean over the words."""

    def __init__(self):
        super().__init__(name="tag_loss")

    def call(self, tags, emissions):
        """`(batch,)`, each sentence's part, as in `shared.crf.CRFLoss`."""
        shown = ops.cast(tags > PADDED, "float32")
        nats = ops.sparse_categorical_crossentropy(ops.maximum(tags, 0), emissions, from_logits=True)
        return ops.sum(nats * shown, axis=1) / ops.mean(ops.sum(shown, axis=1))
