"""What is drawn while the network trains, and of the epoch that is kept: its recurrence from inside, its attention."""

from pathlib import Path

import numpy as np

from apps.translation import text
from apps.translation.answers import AnswerByEpoch
from apps.translation.config import Config
from apps.translation.data import Pairs
from apps.translation.model import PADDED, nats, split
from shared import through_time
from shared.states import ROWS, States
from shared.tensorboard import EpochPictures

TOKENS_DRAWN = 30


def callbacks(config: Config, experiment, folder: Path) -> list[EpochPictures]:
    """For `fit`; afterwards, `write_plots` of each draws the kept epoch."""
    pictures = [_states(config, experiment, folder), _gradient_through_time(experiment, folder)]
    if config.attention != "none":
        pictures.append(AnswerByEpoch(experiment.vocabulary, experiment.data.validation, folder))
    return pictures


def _states(config: Config, experiment, folder: Path) -> States:
    """Of validation sources of at most 30 tokens, as the encoder reads them; the longest is drawn."""
    encode, validation = experiment.vocabulary.source.encode, experiment.data.validation
    rows = [row for row, source in enumerate(validation.sources) if len(encode(source)) <= TOKENS_DRAWN] or [0]
    rows = sorted(rows[:ROWS], key=lambda row: -len(encode(validation.sources[row])))
    inputs, _ = _batch(experiment, _pick(validation, rows))
    source = inputs["source"]
    encoder, _ = split(config, experiment.network)
    return States({"source": source}, experiment.vocabulary.source.pieces(source[0]), features(source > 0), folder, encoder)


def features(shown: np.ndarray) -> dict[str, np.ndarray]:
    """What units may follow, at each token of sources: `(sources, tokens)` by name, NaN behind a source.

    Args:
        shown: `(sources, tokens)`, where there is a token.
    """
    so_far = np.cumsum(shown, axis=1, dtype=float)
    found = {"tokens so far": so_far, "tokens to come": shown.sum(axis=1, keepdims=True) - so_far}
    return {name: np.where(shown, values, np.nan) for name, values in found.items()}


def _gradient_through_time(experiment, folder: Path) -> through_time.GradientThroughTime:
    """Every token of the target has a loss, so the gradient enters at each step of the decoder."""
    inputs, targets = _batch(experiment, _pick(experiment.data.validation, range(through_time.ROWS)))
    return through_time.GradientThroughTime(inputs, targets, nats, folder)


def _pick(pairs: Pairs, rows) -> Pairs:
    return Pairs(*([part[row] for row in rows if row < len(part)] for part in pairs))


def _batch(experiment, pairs: Pairs) -> tuple[dict[str, np.ndarray], np.ndarray]:
    features, targets = text.vectorise(experiment.vocabulary, pairs)
    return {name: rows.to_tensor().numpy() for name, rows in features.items()}, targets.to_tensor(PADDED).numpy()
