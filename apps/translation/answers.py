"""Attention as it forms, epoch after epoch: where the decoder looks for each token of a right target."""

from pathlib import Path

import keras
import numpy as np

from apps.translation import heatmap, text
from apps.translation.data import Pairs
from apps.translation.predict import END_SHOWN
from apps.translation.tokens import Vocabulary
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
        self.pair = validation.sources[row], validation.targets[row]

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `answer.png`."""
        picture = folder / "answer.png"
        heatmap.save(picture, *attend(self.model, self.vocabulary, *self.pair), f"{title}: a validation pair, its right target")
        return [picture], {}


def attend(network: keras.Model, vocabulary: Vocabulary, source: str, target: str) -> tuple[np.ndarray, list[str], list[str]]:
    """Where the decoder looks while it writes a target: weights `(target tokens, source tokens)`, and both sides' tokens."""
    features, _ = text.vectorise(vocabulary, Pairs([source], [target], [[target]]))
    looking = keras.Model(network.input, network.get_layer("attention").output[1])
    [weights] = np.asarray(looking({name: rows.to_tensor() for name, rows in features.items()}))
    ids = vocabulary.target.encode(target)
    return weights, vocabulary.source.pieces(vocabulary.source.encode(source)), [*vocabulary.target.pieces(ids), END_SHOWN]
