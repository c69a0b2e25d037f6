"""Translations by the network in memory, whose weights may still change, and how good they are on validation."""

import keras
import numpy as np
import tensorflow as tf

from apps.translation import scores
from apps.translation.config import Config
from apps.translation.data import Pairs
from apps.translation.model import split
from apps.translation.predict import LENGTH_PENALTY, MAX_SOURCE
from apps.translation.text import ragged
from apps.translation.tokens import END, START, Vocabulary
from shared.batches import batches_in_order
from shared.beam import Hypothesis
from shared.beam_tf import BeamSearch

BATCH = 64  # sources side by side
SCORED = 2_000  # validation sources that are translated after an epoch, at most


class Translator:
    """Translates with the network's own layers.

    Args:
        config: the one that the network was built with.
        network: see `apps.translation.model.build_model`.
        vocabulary: of both sides.
        beam: width; 1 is greedy.
    """

    def __init__(self, config: Config, network: keras.Model, vocabulary: Vocabulary, beam: int = 1):
        self.vocabulary = vocabulary
        encoder, decoder = split(config, network)

        def read(source):
            encoded = encoder({"source": source})
            return encoded["states"], {"source": source, "memory": encoded["memory"]} if "memory" in encoded else {}

        def step(tokens, states, constants):
            found = decoder({"tokens": tokens[:, None], "states": states, **constants})
            return found["log_probabilities"], found["states"]

        options = {"start": START, "end": END, "length_penalty": LENGTH_PENALTY}
        self.search = BeamSearch(read, step, [tf.TensorSpec((None, None), tf.int32)], beam=beam, **options)

    def __call__(self, sources: list[str]) -> list[list[Hypothesis]]:
        """The n best of each source, in their order. Of a long one, the first `MAX_SOURCE` tokens are read."""
        ids = ragged([self.vocabulary.source.encode(text)[:MAX_SOURCE] for text in sources])
        limits = self.vocabulary.limits(ids.row_lengths())
        batches, order = batches_in_order({"source": ids}, limits, BATCH)
        found = [one for inputs, steps in batches for one in self.search(inputs["source"], max_length=steps)]
        return [found[row] for row in np.argsort(order)]

    def texts(self, sources: list[str]) -> list[str]:
        """The best translation of each."""
        return [self.vocabulary.target.decode(best.tokens) for best, *_ in self(sources)]


class ScoreValidation(keras.callbacks.Callback):
    """Adds the figures of greedy translations of validation sources to the epoch's logs: `val_bleu` and so on.

    Stands before what reads them.

    Args:
        config: see `Translator`.
        vocabulary: of both sides.
        validation: 2,000 of its sources, evenly spread, are translated.
        kind: see `apps.translation.scores.measure`.
    """

    def __init__(self, config: Config, vocabulary: Vocabulary, validation: Pairs, kind: str):
        super().__init__()
        self.config, self.vocabulary, self.kind = config, vocabulary, kind
        rows = np.unique(np.linspace(0, len(validation.sources) - 1, SCORED).astype(int))
        self.sources, self.references = ([part[row] for row in rows] for part in (validation.sources, validation.references))

    def on_train_begin(self, logs=None):
        self.translator = Translator(self.config, self.model, self.vocabulary)

    def on_epoch_end(self, epoch, logs=None):
        figures = scores.measure(self.kind, self.translator.texts(self.sources), self.references)
        logs |= {f"val_{name}": value for name, value in figures.items()}
