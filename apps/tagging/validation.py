"""Tags that a network gives, and how good they are on validation after each epoch."""

from typing import NamedTuple

import keras
import numpy as np

from apps.tagging.data import Sentences
from apps.tagging.scores import measure
from apps.tagging.words import PADDING
from shared.batches import batches_in_order
from shared.chain import Scores, marginals, viterbi
from shared.crf import CRF

BATCH = 128
SHOWN = ("entity_f1", "token_accuracy", "sentence_accuracy")


class ScoreValidation(keras.callbacks.Callback):
    """Adds F1 and accuracies of the decoded tags to the epoch's logs: `val_entity_f1` and so on. Stands before what reads them.

    Args:
        ids: of the validation sentences, ragged, see `apps.tagging.text`.
        validation: the sentences.
    """

    def __init__(self, ids: dict, validation: Sentences):
        super().__init__()
        self.ids, self.validation = ids, validation

    def on_epoch_end(self, epoch, logs=None):
        found = decode(self.model, self.ids, self.validation.tag_names)
        figures = measure(self.validation.tags, found.tags, self.validation.has_spans)
        logs |= {f"val_{name}": figures[name] for name in SHOWN if name in figures}


class Decoded(NamedTuple):
    """Of each sentence the likeliest tags as a whole, and their probability."""

    tags: list[list[str]]
    probabilities: list[float]


def decode(network: keras.Model, ids: dict, tag_names: tuple[str, ...]) -> Decoded:
    """What a network says of sentences, ragged `ids` (see `apps.tagging.text`), in their order."""
    batches, order = batches_in_order(ids, np.zeros(ids["words"].nrows()), BATCH)
    scores, tags, probabilities = scores_of(network), [], []
    for inputs, _ in batches:
        emissions, lengths = network.predict_on_batch(inputs), np.sum(inputs["words"] > PADDING, axis=1)
        found = marginals(emissions, lengths, scores)
        numbers = [row[:length] for row, length in zip(viterbi(emissions, lengths, scores), lengths, strict=True)]
        tags += [[tag_names[number] for number in row] for row in numbers]
        probabilities += [found.of_span(place, 0, row) for place, row in enumerate(numbers)]
    return Decoded(*([part[row] for row in np.argsort(order)] for part in (tags, probabilities)))


def scores_of(network: keras.Model) -> Scores:
    """What the network has learned about pairs of tags; zeros without a conditional random field."""
    layer = network.layers[-1]
    if isinstance(layer, CRF):
        return Scores(*(np.asarray(part) for part in layer.scores()))
    return Scores.zeros(network.output.shape[-1])
