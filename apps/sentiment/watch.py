"""What is watched while the network trains, and drawn of the epoch that is kept: its state and gates on an example."""

from pathlib import Path

from apps.sentiment import text
from shared.states import ROWS, States
from shared.tensorboard import EpochPictures

WORDS_DRAWN = 60


def callbacks(experiment, folder: Path) -> list[EpochPictures]:
    """For `fit`; afterwards, `write_plots` of each draws the kept epoch."""
    return [_states(experiment, folder)]


def _states(experiment, folder: Path) -> States:
    """Of the first validation reviews, their first 60 words."""
    texts = [" ".join(review.split()[:WORDS_DRAWN]) for review in experiment.data.validation.texts[:ROWS]]
    inputs = {name: ids.to_tensor() for name, ids in text.vectorize(experiment.vectorizer, texts).items()}
    words = experiment.vectorizer.get_layer("words").get_vocabulary()
    return States(inputs, [words[number] for number in inputs["sequence"][0]], folder)
