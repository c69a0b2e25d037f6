"""The answer as it forms: how much each character of a text surprises the network."""

import warnings
from pathlib import Path

import keras
import numpy as np

from apps.textgen.characters import decode
from apps.textgen.config import Config
from apps.textgen.model import zero_states
from apps.textgen.sampling import probabilities_of
from shared.plots import plt, save_figure
from shared.tensorboard import QUALITY, EpochPictures

CHARACTERS_READ = 100  # before those that are drawn: a state of zeros knows nothing
CHARACTERS_DRAWN = 240
COLUMNS = 40


class Surprise(EpochPictures):
    """A picture, `answer.png`, of validation characters coloured by their surprise, see `EpochPictures`.

    Args:
        config: the settings.
        experiment: its generator has the weights of the model that is trained.
        folder: the run folder.
    """

    group = QUALITY

    def __init__(self, config: Config, experiment, folder: Path):
        super().__init__(folder)
        self.config = config
        self.generator, self.vocabulary = experiment.generator, experiment.vocabulary
        self.ids = experiment.data.validation.characters[: CHARACTERS_READ + CHARACTERS_DRAWN].astype("int32")

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `answer.png`."""
        drawn = min(CHARACTERS_DRAWN, len(self.ids) - 1)
        nats = surprise(self.config, self.generator, self.ids)[-drawn:]
        text = decode(self.ids[-drawn:], self.vocabulary)
        picture = folder / "answer.png"
        draw(picture, text, nats, np.log(len(self.vocabulary)), f"{title}: how much validation text surprises it")
        return [picture], {}


def surprise(config: Config, generator: keras.Model, ids: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the probability that the network gave each character but the first: `(time - 1,)`, in nats.

    Args:
        config: the settings.
        generator: see `apps.textgen.model.build_generator`; it starts from a state of zeros.
        ids: `(time,)`, two or more.
    """
    logits = generator.predict_on_batch({"ids": ids[None, :-1], "states": zero_states(config, 1)})["logits"]
    return -np.log(probabilities_of(ids[1:], np.asarray(logits[0], np.float64)))


def draw(file: Path, text: str, nats: np.ndarray, guess: float, title: str) -> None:
    """Draw a text, a cell for each character, coloured by nats `(time,)`.

    Args:
        file: to write to.
        text: the characters.
        nats: the surprise of each.
        guess: nats of a guess among all characters, the end of the scale: the colours of all epochs can be compared.
        title: what was drawn.
    """
    rows = -(-len(text) // COLUMNS)
    cells = np.full(rows * COLUMNS, np.nan)
    cells[: len(text)] = nats
    figure, axes = plt.subplots(figsize=(10, 1.8 + 0.45 * rows))
    image = axes.imshow(cells.reshape(rows, COLUMNS), cmap="YlOrRd", vmin=0, vmax=guess, aspect="auto")
    for number, character in enumerate(text.replace("\n", "↵")):
        row, column = divmod(number, COLUMNS)
        colour = "white" if nats[number] > 0.6 * guess else "black"
        axes.text(column, row, character, family="monospace", fontsize=14, ha="center", va="center", color=colour)
    axes.set(xticks=[], yticks=[])
    figure.colorbar(
        image, orientation="horizontal", pad=0.04, aspect=50, label=f"surprise in nats; {guess:.1f} is a blind guess"
    )
    with warnings.catch_warnings(action="ignore"):  # the font lacks some character of the text
        save_figure(figure, file, title)
