"""The language model against a full softmax in NumPy, and what it hands on."""

import json
import os
import signal
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from apps.sentiment import model, pretraining
from apps.sentiment.config import DEFAULT
from shared import rnn

TINY = replace(
    DEFAULT,
    embedding_dim=8,
    pretraining_epochs=1,
    recurrent=replace(DEFAULT.recurrent, units=4),
    training=replace(DEFAULT.training, batch_size=16),
)
EMBEDDINGS = np.random.default_rng(0).normal(size=(12, 8)).astype("float32")
ROWS = tf.ragged.constant([[2 + (n + k) % 10 for k in range(6)] for n in range(64)], dtype=tf.int32)


def build(config, log_ratios=None):
    return model.build_model(config, 2, EMBEDDINGS, log_ratios)


def test_sampled_loss_is_about_the_full_softmax():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(200, 8)).astype("float32")
    embedding = keras.layers.Embedding(200, 8, weights=[vectors])
    embedding.build()
    hidden = rng.normal(size=(4, 10, 8)).astype("float32")
    words = rng.integers(0, 200, (4, 10))  # 0 and 1, padding and unknown, are not to be guessed
    loss = pretraining.SampledSoftmaxLoss(embedding, num_sampled=20_000)
    got = np.mean([float(loss(hidden, words)) for _ in range(5)])
    logits = hidden @ vectors.T
    logits[..., :2] = -1e9  # never sampled
    full = -np.take_along_axis(log_softmax(logits, axis=-1), words[..., None], axis=-1)[..., 0]
    assert got == pytest.approx(full[words > 1].mean(), rel=0.02)


def test_neither_direction_sees_the_word_that_it_guesses():
    """The loss of guessing word t must not fall when word t is fed: change it, and nothing that guesses it may move."""
    config = replace(TINY, word_dropout=0.0)
    language_model = pretraining.build_language_model(config, build(config))
    ahead, back = (language_model.get_layer(name).output for name in ("next", "previous"))
    guesses = keras.Model(language_model.input, [ahead, back])
    one = np.array([[2, 3, 4, 5, 6, 7]])
    other = one.copy()
    other[0, 3] = 9
    (ahead_one, back_one), (ahead_other, back_other) = guesses({"sequence": one}), guesses({"sequence": other})
    np.testing.assert_array_equal(ahead_one[0, :3], ahead_other[0, :3])  # row t guesses word t + 1: rows 0 to 2
    np.testing.assert_array_equal(back_one[0, 3:], back_other[0, 3:])  # row t guesses word t: rows 3 on
    assert np.any(ahead_one[0, 3] != ahead_other[0, 3])
    assert np.any(back_one[0, 2] != back_other[0, 2])


def weights_by_layer(network):
    return {layer.name: [*map(np.copy, layer.get_weights())] for layer in network.layers}


def changed(network, before):
    """The names of the layers of which every weight has changed."""
    after = weights_by_layer(network)
    return {
        name
        for name, weights in before.items()
        if weights and all(np.any(one != other) for one, other in zip(weights, after[name], strict=True))
    }


def pretrain(config, network, folder):
    pretraining.pretrain(config, pretraining.prepare_pretraining(config, None, network, ROWS), folder)


def test_pretraining_works_whatever_the_recurrence_is(tmp_path, monkeypatch):
    def convolve(x, *, units, bidirectional, **_):
        return keras.layers.Conv1D(units * (1 + bidirectional), 3, padding="same", name="convolution")(x)

    monkeypatch.setattr(rnn, "recurrent_stack", convolve)
    network = build(TINY)
    before = weights_by_layer(network)
    pretrain(TINY, network, tmp_path)
    assert changed(network, before) == {"embedding", "convolution"}
    progress = pretraining.read_progress(tmp_path)
    assert progress.first_epoch == TINY.pretraining_epochs
    assert progress.seconds > 0

    resumed = build(TINY)
    pretrain(replace(TINY, training=replace(TINY.training, resume=True)), resumed, tmp_path)  # nothing is left to be trained
    for name in ("embedding", "convolution"):
        for one, other in zip(resumed.get_layer(name).get_weights(), network.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


class PressCtrlC(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_pretraining_and_what_embedding_and_recurrence_have_learned_is_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(keras.callbacks, "ProgbarLogger", PressCtrlC)
    config = replace(TINY, pretraining_epochs=9)
    network = build(config, log_ratios=np.zeros((20, 2), "float32"))
    before = weights_by_layer(network)
    pretrain(config, network, tmp_path)
    assert "then training on the labels" in capsys.readouterr().out
    assert changed(network, before) == {"embedding", "recurrent_bidirectional_gru_1"}  # neither the head nor the n-grams
    with np.load(tmp_path / "pretraining.npz") as saved:
        about = json.loads(str(saved["about"]))
    assert (about["epochs"], about["batches"]) == (0, 2)
    assert pretraining.read_progress(tmp_path).first_epoch == 0
