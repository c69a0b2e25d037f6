"""What is drawn while the network trains, and of the epoch that is kept: its recurrence from inside, its answers."""

import re
from pathlib import Path

import numpy as np
from keras import ops

from apps.textgen import characters
from apps.textgen.answers import Surprise
from apps.textgen.config import Config
from apps.textgen.model import zero_states
from shared import context
from shared.states import ROWS, States
from shared.tensorboard import EpochPictures
from shared.through_time import GradientThroughTime, last_step_cross_entropy

CHARACTERS_DRAWN = 100


def callbacks(config: Config, experiment, folder: Path) -> list[EpochPictures]:
    """For `fit`; afterwards, `write_plots` of each draws the kept epoch."""
    return [
        _states(config, experiment, folder),
        _gradient_through_time(experiment, folder),
        _loss_by_context(config, experiment, folder),
        Surprise(config, experiment, folder),
    ]


def _states(config: Config, experiment, folder: Path) -> States:
    """Of the start of validation, in rows of 100 characters that start from a state of zeros."""
    text = experiment.data.validation.characters
    length = min(CHARACTERS_DRAWN, len(text))
    rows = min(ROWS, len(text) // length)
    ids = text[: rows * length].reshape(rows, length).astype("int32")
    texts = [characters.decode(row, experiment.vocabulary) for row in ids]
    inputs = {"ids": ids, "states": zero_states(config, rows)}
    return States(inputs, [*texts[0].replace("\n", "↵")], features(texts), folder, experiment.generator)


def features(texts: list[str]) -> dict[str, np.ndarray]:
    """What units may follow, after each character of equally long texts: `(rows, characters)` by name, NaN where not known."""
    named = {
        "characters since the start of the line": since_line_start,
        "characters since the start of the word": since_word_start,
        "a capital letter": lambda so_far: so_far[-1:].isupper(),
        "first line of a paragraph": in_first_line,
        "inside quotation marks or brackets": is_enclosed,
    }
    so_far = [[text[: number + 1] for number in range(len(text))] for text in texts]
    return {name: np.array([[of(part) for part in row] for row in so_far], float) for name, of in named.items()}


def since_line_start(so_far: str) -> float:
    """How many characters stand behind the last newline; NaN before the first."""
    return len(so_far.rpartition("\n")[2]) if "\n" in so_far else np.nan


def since_word_start(so_far: str) -> float:
    """How many letters (digits, underscores) stand at the end; NaN as long as there is nothing else."""
    letters = len(re.search(r"\w*\Z", so_far)[0])
    return letters if letters < len(so_far) else np.nan


def in_first_line(so_far: str) -> float:
    """Whether the line follows a blank one, as the name of a speaker does in a play; NaN before the first newline."""
    before, newline, _ = so_far.rpartition("\n")
    return before.endswith("\n") if newline and before else np.nan


def is_enclosed(so_far: str) -> float:
    """Whether a quotation mark or bracket of this line is open; NaN before the first newline."""
    _, newline, line = so_far.rpartition("\n")
    opened, closed = (sum(map(line.count, marks)) for marks in ("([{“«", ")]}”»"))
    return opened > closed or line.count('"') % 2 if newline else np.nan


def _gradient_through_time(experiment, folder: Path) -> GradientThroughTime:
    """The gradient of the last step's loss in the first batch; streams that end before it have weight 0."""
    inputs, targets, weights = next(iter(experiment.batches(0)))

    def last_loss(targets, logits):
        return last_step_cross_entropy(targets, logits) * weights[:, -1]

    return GradientThroughTime(inputs, targets, last_loss, folder)


def _loss_by_context(config: Config, experiment, folder: Path) -> context.LossByContext:
    """Of windows from all of validation, each of 256 characters, which start from a state of zeros."""
    text = experiment.data.validation.characters
    length = min(context.LONGEST, len(text) - 1)
    starts = np.linspace(0, len(text) - 1 - length, context.ROWS // 8).astype(int)
    windows = text[starts[:, None] + np.arange(length + 1)].astype("int32")
    inputs = {"ids": windows[:, :-1], "states": zero_states(config, len(windows))}

    def loss(targets, outputs):
        return ops.sparse_categorical_crossentropy(targets, outputs["logits"], from_logits=True)

    return context.LossByContext(inputs, windows[:, 1:], loss, length, folder, experiment.generator)
