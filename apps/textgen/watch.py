"""What is watched while the network trains, and drawn of the epoch that is kept: state, gates, gradient through time."""

from pathlib import Path

from apps.textgen import characters
from apps.textgen.config import Config
from apps.textgen.model import zero_states
from shared.states import ROWS, States
from shared.tensorboard import EpochPictures
from shared.through_time import GradientThroughTime, last_step_cross_entropy

CHARACTERS_DRAWN = 100


def callbacks(config: Config, experiment, folder: Path) -> list[EpochPictures]:
    """For `fit`; afterwards, `write_plots` of each draws the kept epoch."""
    return [_states(config, experiment, folder), _gradient_through_time(experiment, folder)]


def _states(config: Config, experiment, folder: Path) -> States:
    """Of the start of validation, in rows of 100 characters that start from a state of zeros."""
    text = experiment.data.validation.characters
    length = min(CHARACTERS_DRAWN, len(text))
    rows = min(ROWS, len(text) // length)
    ids = text[: rows * length].reshape(rows, length).astype("int32")
    labels = [characters.decode([number], experiment.vocabulary).replace("\n", "↵") for number in ids[0]]
    return States({"ids": ids, "states": zero_states(config, rows)}, labels, folder, experiment.generator)


def _gradient_through_time(experiment, folder: Path) -> GradientThroughTime:
    """The gradient of the last step's loss in the first batch; streams that end before it have weight 0."""
    inputs, targets, weights = next(iter(experiment.batches(0)))

    def last_loss(targets, logits):
        return last_step_cross_entropy(targets, logits) * weights[:, -1]

    return GradientThroughTime(inputs, targets, last_loss, folder)
