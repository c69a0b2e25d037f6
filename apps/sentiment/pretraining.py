"""Pretrain a recurrent path as a language model: guess the next word of the training reviews, and the one before.

Reading needs no labels, so the path learns how words follow each other before it learns what they say (Dai and Le, 2015).
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from apps.sentiment.config import Config
from shared import gradients, rehearsal, rnn, training
from shared.batches import batches_by_length

SAMPLED_WORDS = 384


def pretrain(config: Config, sequences, embeddings: np.ndarray, folder: Path) -> dict[str, list[np.ndarray]]:
    """Train the language model.

    Args:
        config: the settings; the recurrence has the same size as in the network.
        sequences: ragged `(n, None)`, word ids of the training reviews, more frequent words having smaller ids.
        embeddings: `(num_words, dim)`, where the word embeddings start.
        folder: the run folder; `pretraining.npz` is what a killed pretraining goes on from.

    Returns:
        Weights for `start_from`.
    """
    model = build_language_model(config, embeddings)
    pace = rehearsal.callbacks()
    resume = training.Resume(folder, {}, restore=config.resume, name="pretraining.npz")
    batches, steps = batches_by_length(
        {"sequence": sequences}, np.zeros(sequences.nrows()), config.batch_size, config.seed, resume.first_epoch
    )
    learning_rate = training.warmup_cosine(
        config.pretraining_learning_rate, steps * config.pretraining_epochs, warmup=0.1, floor=0.1
    )
    optimizer = gradients.Adam(learning_rate, clipping=config.clipping, clip_threshold=config.clip_threshold)
    model.compile(optimizer, jit_compile=False)
    print(f"Pretraining as a language model, {config.pretraining_epochs} epochs; its loss is in nats a word.")
    model.fit(
        batches.map(lambda features, _: features),
        epochs=config.pretraining_epochs,
        initial_epoch=resume.first_epoch,
        steps_per_epoch=steps,
        shuffle=False,
        callbacks=[
            *pace,
            keras.callbacks.ProgbarLogger(),
            gradients.GradientMonitor(),
            *([] if pace else [training.StopOnInterrupt(then="training on the labels")]),
            resume,
        ],
        verbose=training.verbosity(),
    )
    return {name: model.get_layer(f"pretrained{name}").get_weights() for name in _pretrained_layers(config)}


def was_cut(config: Config, folder: Path) -> bool:
    """Whether Ctrl-C ended the pretraining of a run before its last epoch; asked before its state is removed."""
    return training.Resume(folder, {}, restore=True, name="pretraining.npz").first_epoch < config.pretraining_epochs


def start_from(network: keras.Model, weights: dict[str, list[np.ndarray]], config: Config) -> None:
    """Give every recurrent path of the network the weights of the language model."""
    for number in range(1, config.members + 1):
        for name, values in weights.items():
            network.get_layer(f"recurrent_{number}{name}").set_weights(values)


def build_language_model(config: Config, embeddings: np.ndarray) -> keras.Model:
    """Word ids `(batch, time)` in; the loss, of both directions where there are two, is added inside."""
    sequence = keras.Input((None,), dtype="int32", name="sequence")
    mask = sequence > 0
    embedding = layers.Embedding(*embeddings.shape, name="pretrained_embedding")
    x = layers.Dropout(config.word_dropout, noise_shape=(None, None, 1))(embedding(sequence))
    x = rnn.recurrent_stack(
        x,
        cell=config.cell,
        units=config.units,
        bidirectional=config.bidirectional,
        dropout=0.2,
        activation=config.activation,
        mask=mask,
        name="pretrained",
    )
    loss = SampledSoftmaxLoss(embedding, SAMPLED_WORDS, name="next_word")
    width = embeddings.shape[1]
    losses = [loss(layers.Dense(width, name="next")(x[:, :-1, : config.units]), sequence[:, 1:])]
    if config.bidirectional:  # reads from the end: after step t it has not seen word t - 1
        losses.append(loss(layers.Dense(width, name="previous")(x[:, 1:, config.units :]), sequence[:, :-1]))
    embedding.set_weights([embeddings])
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
        """`(batch, time, dim)` and the words `(batch, time)` to guess -> the mean loss, in nats a word."""
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


def _pretrained_layers(config: Config) -> tuple[str, str]:
    recurrent = f"_bidirectional_{config.cell}_1" if config.bidirectional else f"_{config.cell}_1"
    return "_embedding", recurrent
