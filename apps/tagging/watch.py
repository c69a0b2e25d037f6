"""What is drawn while the network trains, and of the epoch that is kept: its recurrence from inside, its answers."""

from pathlib import Path

import numpy as np
from keras import ops

from apps.tagging.answers import AnswerByEpoch, Transitions
from apps.tagging.data import Sentences
from apps.tagging.model import PADDED
from apps.tagging.schemes import OUTSIDE
from apps.tagging.text import tag_ids
from shared import through_time
from shared.crf import CRF
from shared.states import ROWS, States
from shared.tensorboard import EpochPictures

WORDS_DRAWN = 30


def callbacks(experiment, folder: Path) -> list[EpochPictures]:
    """For `fit`; afterwards, `write_plots` of each draws the kept epoch."""
    validation = experiment.data.validation
    pictures = [
        _states(experiment, folder),
        AnswerByEpoch(experiment.vocabulary, validation, folder),
        _gradient_through_time(experiment, folder),
    ]
    if isinstance(experiment.network.layers[-1], CRF):
        pictures.append(Transitions(validation.tag_names, folder))
    return pictures


def _states(experiment, folder: Path) -> States:
    """Of validation sentences, their first 30 words; the longest is drawn."""
    validation = experiment.data.validation
    pairs = [(tokens[:WORDS_DRAWN], tags[:WORDS_DRAWN]) for tokens, tags in zip(*validation[:2], strict=True)]
    chosen = sorted(pairs[:ROWS], key=lambda pair: -len(pair[0]))
    sentences = [tokens for tokens, _ in chosen]
    return States(experiment.vocabulary.encode(sentences), sentences[0], features(chosen), folder)


def features(pairs: list[tuple[list[str], list[str]]]) -> dict[str, np.ndarray]:
    """What units may follow, at each word of sentences and their tags: `(sentences, words)` by name, NaN behind a sentence."""
    longest = max(len(tokens) for tokens, _ in pairs)
    named = {
        "words so far": lambda tokens, tags: np.arange(len(tokens)),
        "words to come": lambda tokens, tags: np.arange(len(tokens))[::-1],
        "inside a span": lambda tokens, tags: [tag != OUTSIDE for tag in tags],
        "words since the last span": lambda tokens, tags: since_outside(tags),
        "letters of the word": lambda tokens, tags: [len(token) for token in tokens],
    }

    def table(of) -> np.ndarray:
        rows = [np.array(of(*pair), float) for pair in pairs]
        return np.stack([np.pad(row, (0, longest - len(row)), constant_values=np.nan) for row in rows])

    return {name: table(of) for name, of in named.items()}


def since_outside(tags: list[str]) -> list[float]:
    """How many words ago a span ended, 0 inside of one; NaN before the first."""
    found, ago = [], np.nan
    for tag in tags:
        ago = ago + 1 if tag == OUTSIDE else 0.0
        found.append(ago)
    return found


def _gradient_through_time(experiment, folder: Path) -> through_time.GradientThroughTime:
    """Every word has a tag, so the gradient of the loss enters at each of them."""
    tokens, tags, tag_names = experiment.data.validation
    some = Sentences(tokens[: through_time.ROWS], tags[: through_time.ROWS], tag_names)
    inputs, tags = experiment.vocabulary.encode(some.tokens), tag_ids(some).to_tensor(PADDED)
    return through_time.GradientThroughTime(inputs, tags, loss_of_words, folder)


def loss_of_words(tags, emissions):
    """Cross-entropy of each word's tag by itself, `(batch, time)`; 0 behind a sentence."""
    shown = ops.cast(tags > PADDED, emissions.dtype)
    return ops.sparse_categorical_crossentropy(ops.maximum(tags, 0), emissions, from_logits=True) * shown
