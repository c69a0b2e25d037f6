"""Why a token was written: what each token of the source adds to its log-probability, by integrated gradients.

(shared/attribution.py.) Unlike a weight of attention, which says where the decoder looked, this says what the answer hangs on;
the two need not agree. The line starts where all vectors of the source are zero; what was written before stays as it is.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers

from apps.translation import model  # noqa: F401  registers what the saved model is made of
from apps.translation.tokens import END, START, Vocabulary
from shared.attribution import IntegratedGradients, cut
from shared.explaining import Pieces, strongest
from shared.export import load_saved

EMBEDDED = "source_vectors"
NUM_SHOWN = 40  # tokens of an answer, at most


class Explainer:
    """Explains the answers of a run.

    Args:
        network: the saved model, see `apps.translation.model.build_model`.
        vocabulary: that of the run.
    """

    def __init__(self, network: keras.Model, vocabulary: Vocabulary):
        self.vocabulary, self.size = vocabulary, network.output.shape[-1]
        log_probabilities = layers.Activation("log_softmax", name="log_probabilities")(network.output)
        flat = keras.Model(network.input, layers.Reshape((-1,), name="flat")(log_probabilities))
        self.vectors_of, behind = cut(flat, [EMBEDDED])
        self.gradients = IntegratedGradients(behind)

    def __call__(self, source: str, target: list[int], place: int) -> Pieces:
        """What each token of the source adds to the log-probability of the id at `place` of the target, or of its end."""
        read = self.vocabulary.source.encode(source)
        ids = {"source": np.array([read], np.int32), "target": np.array([[START, *target]], np.int32)}
        vectors = {name: np.asarray(found) for name, found in self.vectors_of(ids).items()}
        zeros = {name: np.zeros_like(one) for name, one in vectors.items()}
        number = place * self.size + [*target, END][place]
        parts = self.gradients(ids | vectors, zeros, number).parts[EMBEDDED]
        pieces = self.vocabulary.source.pieces(read)
        return [*zip(pieces, parts.sum(axis=1).tolist(), strict=True)]

    def lines(self, answer: dict) -> list[str]:
        """Of each token that a `Predictor` wrote, the tokens of the source that matter most."""
        ids = answer["hypotheses"][0]["tokens"]
        pieces = self.vocabulary.target.pieces(ids)[:NUM_SHOWN]
        return [f"{piece!r}: " + strongest(self(answer["source"], ids, place)) for place, piece in enumerate(pieces)]


def load(folder: Path, vocabulary: Vocabulary) -> Explainer:
    """For the run in a folder; takes some seconds."""
    return Explainer(load_saved(folder), vocabulary)
