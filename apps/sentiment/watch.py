"""What is drawn while the network trains, and of the epoch that is kept: its recurrence from inside, its answers."""

from pathlib import Path

import numpy as np

from apps.sentiment import text
from apps.sentiment.answers import AnswerByWord
from apps.sentiment.model import cross_entropy
from apps.sentiment.ngrams import naive_bayes_log_ratios
from shared import context, through_time
from shared.states import ROWS, States
from shared.tensorboard import EpochPictures

WORDS_DRAWN = 60
NEGATIONS = {"not", "no", "never", "nothing", "nobody", "without", "cannot"}  # and what ends in n't


def callbacks(experiment, folder: Path) -> list[EpochPictures]:
    """For `fit`; afterwards, `write_plots` of each draws the kept epoch."""
    return [
        _states(experiment, folder),
        AnswerByWord(experiment.vectorizer, experiment.data.validation, folder),
        _gradient_through_time(experiment, folder),
        _loss_by_context(experiment, folder),
    ]


def _states(experiment, folder: Path) -> States:
    """Of the first validation reviews, their first 60 words."""
    texts = [" ".join(review.split()[:WORDS_DRAWN]) for review in experiment.data.validation.texts[:ROWS]]
    inputs = {name: ids.to_tensor() for name, ids in text.vectorize(experiment.vectorizer, texts).items()}
    ids = inputs["sequence"].numpy()
    words = experiment.vectorizer.get_layer("words").get_vocabulary()
    log_ratios = naive_bayes_log_ratios(experiment.ids, experiment.data.train.labels, len(words))
    return States(inputs, [words[number] for number in ids[0]], features(ids, words, log_ratios[:, -1]), folder)


def features(ids: np.ndarray, words: list[str], polarity: np.ndarray) -> dict[str, np.ndarray]:
    """What units may follow, at each of `ids` `(reviews, words)`: the same shape by name, NaN at the padding.

    Args:
        ids: of words; 0 is padding.
        words: by id.
        polarity: by id, how much more often the word stands in reviews of the last class than in others; 0 of the padding.
    """
    is_negation = np.array([word in NEGATIONS or word.endswith("n't") for word in words])
    before = np.pad(is_negation[ids], [(0, 0), (2, 0)])
    found = {
        "words so far": np.cumsum(np.ones(ids.shape), axis=1),
        "a negation among the last 3 words": before[:, 2:] | before[:, 1:-1] | before[:, :-2],
        "polarity of the word": polarity[ids],
        "polarity of the words so far": np.cumsum(polarity[ids], axis=1),
        "polarity of the words to come": np.cumsum(polarity[ids][:, ::-1], axis=1)[:, ::-1],
    }
    return {name: np.where(ids > 0, values, np.nan) for name, values in found.items()}


def _gradient_through_time(experiment, folder: Path) -> through_time.GradientThroughTime:
    """The answer is pooled over the words, so the gradient of the loss enters at each of them."""
    return through_time.GradientThroughTime(*_reviews(experiment, through_time.ROWS), recurrent_loss, folder)


def _loss_by_context(experiment, folder: Path) -> context.LossByContext:
    inputs, labels = _reviews(experiment, context.ROWS // 2)
    return context.LossByContext(inputs, labels, recurrent_loss, inputs["sequence"].shape[1], folder)


def _reviews(experiment, rows: int) -> tuple[dict, np.ndarray]:
    """Inputs and labels of some validation reviews, evenly from all."""
    texts, labels, _ = experiment.data.validation
    chosen = slice(None, None, max(1, len(texts) // rows))
    inputs = text.vectorize(experiment.vectorizer, texts[chosen][:rows])
    return {name: ids.to_tensor() for name, ids in inputs.items()}, labels[chosen][:rows]


def recurrent_loss(labels, logits):
    """The loss `(batch,)` of the recurrent path alone: the n-grams beside it have no state."""
    return cross_entropy(labels, logits[:, :1])
