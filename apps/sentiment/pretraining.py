"""Train the network's embeddings and recurrence as a language model first: predict the next word, and the previous one.

This needs no labels: the recurrence learns how words follow each other before it learns what they say (Dai and Le, 2015).
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from apps.sentiment.config import Config
from shared import gradients, training
from shared.batches import batches_by_length, count_batches
from shared.callbacks import StopOnInterrupt
from shared.checkpoints import Resume
from shared.data import Splits
from shared.gradient_monitor import GradientMonitor

LEARNING_RATE = 2e-3
SAMPLED_WORDS = 384
STATE = "pretraining.npz"


def prepare_pretraining(config: Config, data: Splits, network: keras.Model, sequences: tf.RaggedTensor) -> training.Experiment:
    """The language model, compiled, and its batches.

    Args:
        config: the settings.
        data: the reviews, kept in the Experiment.
        network: see `apps.sentiment.model.build_model`; its layers are the language model's.
        sequences: `(n, None)`, word ids of the training reviews, more frequent words having smaller ids.
    """
    settings = config.training
    steps = count_batches(sequences.nrows(), settings.batch_size)
    schedule = training.warmup_cosine(LEARNING_RATE, steps * config.pretraining_epochs, training.WARM_UP)
    model = build_language_model(config, network)
    model.compile(
        gradients.Adam(schedule, clipping=settings.clipping, clip_threshold=settings.clip_threshold), jit_compile=False
    )

    def batches(first_epoch: int) -> tf.data.Dataset:
        labels = np.zeros(sequences.nrows())
        found = batches_by_length({"sequence": sequences}, labels, settings.batch_size, settings.seed, first_epoch)
        return found.map(lambda features, _: features)

    return training.Experiment(data, model, batches, steps, validation_batches=None)


def pretrain(config: Config, experiment: training.Experiment, folder: Path) -> None:
    """Train the language model, and with it the network's layers.

    Args:
        config: the settings.
        experiment: see `prepare_pretraining`.
        folder: the run folder; `pretraining.npz` is what a killed pretraining goes on from.
    """
    resume = Resume(folder, {}, restore=config.training.resume, name=STATE)
    print(f"Pretraining as a language model, {config.pretraining_epochs} epochs; its loss is in nats per word.")
    experiment.network.fit(
        experiment.batches(resume.first_epoch),
        epochs=config.pretraining_epochs,
        initial_epoch=resume.first_epoch,
        steps_per_epoch=experiment.steps,
        shuffle=False,  # the batches come in an order of their own
        callbacks=[
            keras.callbacks.ProgbarLogger(),
            GradientMonitor(),
            StopOnInterrupt(then="training on the labels"),
            resume,
        ],
        verbose=training.verbosity(),
    )


def read_progress(folder: Path) -> Resume:
    """How far the pretraining of a run came, and in how many seconds; asked before `finish` removes its state."""
    return Resume(folder, {}, restore=True, name=STATE)


def build_language_model(config: Config, network: keras.Model) -> keras.Model:
    """Word ids `(batch, time)` in; the loss, of both directions where there are two, is added inside."""
    sequence = network.input["sequence"]
    steps, embedding = network.get_layer("steps").output, network.get_layer("embedding")
    units, width = config.recurrent.units, config.embedding_dim
    loss = SampledSoftmaxLoss(embedding, SAMPLED_WORDS, name="next_word")
    losses = [loss(layers.Dense(width, name="next")(steps[:, :-1, :units]), sequence[:, 1:])]
    if config.recurrent.bidirectional:  # reads from the end: after step t it has not seen word t - 1
        losses.append(loss(layers.Dense(width, name="previous")(steps[:, 1:, units:]), sequence[:, :-1]))
    return keras.Model({"sequence": sequence}, losses, name="language_model")


class SampledSoftmaxLoss(layers.Layer):
    """Cross-entropy of the right word, with a few sampled words standing for the whole vocabulary in the softmax's sum.

    Words are sampled by rank, log-uniformly, which is close to how often they come up, and weighted by one over the number
    of times that they are expected (Bengio and Senecal, 2008). Output vectors are the embeddings themselves (Press and
    Wolf, 2017).

    Args:
        embedding: the layer whose vectors are shared.
        num_sampled: how many words stand for all.
    """

    def __init__(self, embedding: layers.Embedding, num_sampled: int, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding
        self.num_sampled = num_sampled
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, hidden_shape, words_shape=None):
        self.bias = self.add_weight(shape=(self.embedding.input_dim,), initializer="zeros", name="bias")

    def call(self, hidden, words):
        """`(batch, time, dim)` and the words `(batch, time)` to guess -> the mean loss, in nats per word."""
        last = self.embedding.input_dim - 1
        uniform = keras.random.uniform((self.num_sampled,), seed=self.seed_generator)
        sampled = ops.minimum(ops.cast(ops.exp(uniform * np.log(last)), "int32") + 1, last)  # 2 ... last
        known = words > 1
        words = ops.where(known, words, 2)
        right = ops.sum(hidden * self._vectors(words), axis=-1) + ops.take(self.bias, words)
        others = ops.matmul(hidden, ops.transpose(self._vectors(sampled)))
        others = others + ops.take(self.bias, sampled) - self._log_expected(sampled)
        others = ops.where(ops.equal(ops.expand_dims(words, -1), sampled), -1e9, others)  # the right word is no other
        losses = ops.logaddexp(right, ops.logsumexp(others, axis=-1)) - right
        weights = ops.cast(known, losses.dtype)
        loss = ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1)
        self.add_loss(loss)
        return loss

    def _vectors(self, words):
        return ops.take(self.embedding.embeddings, words, axis=0)

    def _log_expected(self, words):
        """Logarithm of how often a word is expected among the sampled ones."""
        rank = ops.cast(words, "float32")
        return ops.log(ops.log(rank / (rank - 1)) / np.log(self.embedding.input_dim - 1) * self.num_sampled)
