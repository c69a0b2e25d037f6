"""The answer as it forms, epoch after epoch: probabilities of the tags of a sentence, scores of one tag after another."""

import warnings
from pathlib import Path

import numpy as np

from apps.tagging.data import Sentences
from apps.tagging.validation import scores_of
from apps.tagging.words import Vocabulary
from shared.chain import marginals
from shared.crf import FORBIDDEN
from shared.plots import plt, save_figure
from shared.tensorboard import QUALITY, EpochPictures

WORDS_DRAWN = 16
SHOWN_FROM = 0.05  # the probability of a tag at some word
MAX_TYPES = 20  # in the picture of transitions


class AnswerByEpoch(EpochPictures):
    """A picture, `answer.png`, of the probability of each tag at each word of one validation sentence, see `EpochPictures`.

    Args:
        vocabulary: from words to ids.
        validation: the sentence whose length is nearest to 16 words is drawn.
        folder: the run folder.
    """

    group = QUALITY

    def __init__(self, vocabulary: Vocabulary, validation: Sentences, folder: Path):
        super().__init__(folder)
        row = int(np.argmin([abs(len(tokens) - WORDS_DRAWN) for tokens in validation.tokens]))
        self.tokens, self.tags = validation.tokens[row][: 2 * WORDS_DRAWN], validation.tags[row]
        self.tag_names = validation.tag_names
        self.ids = vocabulary.encode([self.tokens])

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `answer.png`."""
        emissions = self.model.predict_on_batch(self.ids)
        [probabilities] = marginals(emissions, np.array([len(self.tokens)]), scores_of(self.model)).of_tags()
        expected = [self.tag_names.index(tag) for tag in self.tags[: len(self.tokens)]]
        shown = sorted({*np.flatnonzero(probabilities.max(axis=0) > SHOWN_FROM), *expected})
        figure, axes = plt.subplots(figsize=(2.5 + 0.5 * len(self.tokens), 1.8 + 0.28 * len(shown)))
        image = axes.imshow(probabilities[:, shown].T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        figure.colorbar(image, label="probability")
        axes.scatter(range(len(expected)), [shown.index(tag) for tag in expected], s=25, color="C1", label="expected")
        axes.set_xticks(range(len(self.tokens)), self.tokens, rotation=90)
        axes.set_yticks(range(len(shown)), [self.tag_names[tag] for tag in shown])
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1))
        picture = folder / "answer.png"
        with warnings.catch_warnings(action="ignore"):  # the font lacks some character of the sentence
            save_figure(figure, picture, f"{title}: a validation sentence")
        return [picture], {}


class Transitions(EpochPictures):
    """A picture, `transitions.png`, of what the conditional random field has learned about a tag after another.

    Args:
        tag_names: of the tags.
        folder: the run folder.
    """

    group = QUALITY

    def __init__(self, tag_names: tuple[str, ...], folder: Path):
        super().__init__(folder)
        self.tag_names = tag_names

    def look(self, folder: Path, title: str) -> tuple[list[Path], dict[str, float]]:
        """Draw `transitions.png`: a row for each tag, a column for the one behind it."""
        tags = range(min(len(self.tag_names), 2 * MAX_TYPES + 1))
        learned = scores_of(self.model).transitions[np.ix_(tags, tags)]
        learned = np.where(learned == FORBIDDEN, np.nan, learned)
        limit = np.nanmax(np.abs(learned)) or 1.0
        size = 2.8 + 0.22 * len(tags)
        figure, axes = plt.subplots(figsize=(size + 1, size))
        axes.set_facecolor("lightgrey")
        image = axes.imshow(learned, cmap="RdBu", vmin=-limit, vmax=limit)
        figure.colorbar(image, label="score (grey: cannot be)", shrink=0.8)
        names = [self.tag_names[number] for number in tags]
        axes.set_xticks(range(len(tags)), names, rotation=90)
        axes.set_yticks(range(len(tags)), names)
        axes.set(xlabel="the tag behind it", ylabel="a tag")
        picture = folder / "transitions.png"
        save_figure(figure, picture, title + f", the first {len(tags)} tags" * (len(tags) < len(self.tag_names)))
        return [picture], {}
