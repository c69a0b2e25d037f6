"""The answer as it forms: the probabilities after each word of a review."""

import warnings
from pathlib import Path

import keras
import numpy as np
from scipy.special import softmax

from apps.sentiment import text
from apps.sentiment.data import Reviews
from shared.plots import plt, save_figure
from shared.tensorboard import QUALITY, EpochPictures

WORDS_DRAWN = 50
PATHS = ("recurrent path alone", "n-gram path alone")


class AnswerByWord(EpochPictures):
    """A picture, `answer.png`, of the probabilities after each word of one validation review, see `EpochPictures`.

    Args:
        vectorizer: from texts to ids.
        validation: the review whose length is nearest to 50 words is drawn, its first 50 words.
        folder: the run folder.
    """

    group = QUALITY

    def __init__(self, vectorizer: keras.Model, validation: Reviews, folder: Path):
        super().__init__(folder)
        row = int(np.argmin([abs(len(review.split()) - WORDS_DRAWN) for review in validation.texts]))
        self.words = text.split_words([validation.texts[row]])[0][:WORDS_DRAWN]
        self.ids = ids_of_prefixes(vectorizer, self.words)
        self.class_names = validation.class_names
        self.label = validation.class_names[validation.labels[row]]

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `answer.png`."""
        logits = np.asarray(self.model(self.ids, training=False))
        probabilities = {"the answer": softmax(logits.mean(axis=1), axis=1)}
        if logits.shape[1] > 1:
            probabilities |= {name: softmax(logits[:, path], axis=1) for path, name in enumerate(PATHS)}
        picture = folder / "answer.png"
        draw(picture, self.words, probabilities, self.class_names, f"{title}: a validation review, labelled {self.label}")
        return [picture], {}


def ids_of_prefixes(vectorizer: keras.Model, words: list[str]) -> dict:
    """The network's inputs for the first word, the first two and so on, a row each; the words are normalised.

    Each is computed by itself: the backward direction of the recurrence starts at the last word of each.
    """
    prefixes = [" ".join(words[: number + 1]) for number in range(len(words))]
    return {name: ids.to_tensor() for name, ids in text.vectorize(vectorizer, prefixes).items()}


def draw(file: Path, words: list[str], probabilities: dict[str, np.ndarray], class_names, title: str) -> None:
    """A panel for each of `probabilities` `(words, classes)`, by its name: a line for the second of two classes.

    Of several, for those that are the answer after some word.
    """
    figure, axes = plt.subplots(
        len(probabilities), 1, figsize=(8.5, 1.5 + 1.6 * len(probabilities)), sharex=True, squeeze=False
    )
    columns = [1] if len(class_names) == 2 else np.unique(probabilities["the answer"].argmax(axis=1))
    for axis, (name, found) in zip(axes[:, 0], probabilities.items(), strict=True):
        for column in columns:
            axis.step(range(len(words)), found[:, column], where="mid", label=class_names[column])
        axis.axhline(1 / len(class_names), color="grey", linewidth=0.5)
        axis.set(ylim=(-0.03, 1.03), ylabel="probability")
        axis.set_title(name, loc="left", fontsize=11)
    axes[0, 0].legend()
    axis.set_xticks(range(len(words)), words, rotation=90)
    axis.set_xlim(-0.5, len(words) - 0.5)
    with warnings.catch_warnings(action="ignore"):  # the font lacks some character of the review
        save_figure(figure, file, title)
