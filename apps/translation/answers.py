"""Attention as it forms, epoch after epoch: where the decoder looks for each token of a right target."""

from pathlib import Path

import keras
import numpy as np

from apps.translation import heatmap
from apps.translation.data import Pairs
from apps.translation.predict import END_SHOWN
from apps.translation.tokens import START, Vocabulary
from shared.tensorboard import QUALITY, EpochPictures

TOKENS_DRAWN = 12


class AnswerByEpoch(EpochPictures):
    """A picture, `answer.png`, of attention in one validation pair, see `EpochPictures`.

    Args:
        vocabulary: of both sides.
        validation: the pair whose source is nearest to 12 tokens is drawn.
        folder: the run folder.
    """

    group = QUALITY

    def __init__(self, vocabulary: Vocabulary, validation: Pairs, folder: Path):
        super().__init__(folder)
        lengths = [len(vocabulary.source.encode(source)) for source in validation.sources]
        row = int(np.argmin(np.abs(np.array(lengths) - TOKENS_DRAWN)))
        self.vocabulary = vocabulary
        self.pair = validation.sources[row], vocabulary.target.encode(validation.targets[row])

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `answer.png`."""
        picture = folder / "answer.png"
        heatmap.save(picture, *attend(self.model, self.vocabulary, *self.pair), f"{title}: a validation pair, its right target")
        return [picture], {}


def attend(
    network: keras.Model, vocabulary: Vocabulary, source: str, target: list[int]
) -> tuple[np.ndarray, list[str], list[str]]:
    """Where the decoder looks while it writes a target.

    Args:
        network: with attention.
        vocabulary: of both sides.
        source: a text.
        target: ids, without an end.

    Returns:
        Weights `(target tokens, source tokens)` and both sides' tokens, the end the last of the target's.
    """
    ids = vocabulary.source.encode(source)
    looking = keras.Model(network.input, network.get_layer("attention").output[1])
    [weights] = np.asarray(looking({"source": np.array([ids]), "target": np.array([[START, *target]])}))
    return weights, vocabulary.source.pieces(ids), [*vocabulary.target.pieces(target), END_SHOWN]
