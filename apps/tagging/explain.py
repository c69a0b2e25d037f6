"""Why a word got its tag: what each word of the sentence adds to the tag's probability, by integrated gradients.

(shared/attribution.py.) Explained is what the network says of the word by itself, before the conditional random field. The line
starts where all vectors of words and characters are zero.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from apps.tagging import model  # noqa: F401  registers what the saved model is made of
from apps.tagging.words import Vocabulary
from shared.attribution import IntegratedGradients, cut
from shared.explaining import Pieces, strongest
from shared.export import load_saved


class Explainer:
    """Explains the answers of a run.

    Args:
        network: the saved model.
        vocabulary: that of the run.
    """

    def __init__(self, network: keras.Model, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        names = [layer.name for layer in network.layers if isinstance(layer, layers.Embedding)]
        probabilities = ops.softmax(network.output, axis=-1)
        flat = keras.Model(network.input, layers.Reshape((-1,))(probabilities))
        self.vectors_of, behind = cut(flat, names)
        self.gradients = IntegratedGradients(behind)

    def __call__(self, tokens: list[str], place: int, tag: str) -> Pieces:
        """What each token adds to the probability that the one at `place` has this tag."""
        ids = self.vocabulary.encode([tokens])
        vectors = {name: np.asarray(found) for name, found in self.vectors_of(ids).items()}
        zeros = {name: np.zeros_like(one) for name, one in vectors.items()}
        number = place * len(self.vocabulary.tags) + self.vocabulary.tags.index(tag)
        found = self.gradients(ids | vectors, zeros, number)
        parts = sum(part.reshape(len(tokens), -1).sum(axis=1) for part in found.parts.values())
        return [*zip(tokens, parts.tolist(), strict=True)]

    def lines(self, answer: dict) -> list[str]:
        """Of each span that a `Predictor` found, the words that matter most for the tag of its first word."""
        return [
            f"{span['label']} '{span['text']}': "
            + strongest(self(answer["tokens"], span["first"], answer["tags"][span["first"]]))
            for span in answer["spans"]
        ]


def load(folder: Path, vocabulary: Vocabulary) -> Explainer:
    """For the run in a folder; takes some seconds."""
    return Explainer(load_saved(folder), vocabulary)
