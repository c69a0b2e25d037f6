"""Models that have to reach a number, and times as ratios within one run. Minutes: make test-all.

Those on real reviews are skipped where IMDB does not lie prepared (TFDS_DATA_DIR).
"""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps.sentiment import data, model, report, text, train
from apps.sentiment.config import DEFAULT
from apps.sentiment.embeddings import cooccurrence_embeddings
from shared import gradients, rnn
from shared.data import batches_by_length

pytestmark = pytest.mark.slow
IMDB = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser() / "imdb_reviews"
needs_imdb = pytest.mark.skipif(not IMDB.exists(), reason=f"IMDB does not lie prepared in {IMDB}")
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_recurrent_path_succeeds_on_the_sample_where_counting_words_fails():
    folder = train.train(replace(DEFAULT, dataset="sample"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["recurrent_alone_accuracy"] > 0.97
    assert metrics["test_accuracy"] > 0.97
    assert metrics["baseline_accuracy"] < 0.75
    assert metrics["ngrams_alone_accuracy"] < 0.85


@needs_imdb
def test_default_preset_on_imdb():
    """What the README promises of `make sentiment`; the baseline is to be a serious rival (about 90 %)."""
    metrics = json.loads((train.train(DEFAULT) / "metrics.json").read_text())
    assert metrics["dataset"] == "imdb_reviews"
    assert metrics["baseline_accuracy"] > 0.895
    assert metrics["test_accuracy"] > max(0.915, metrics["baseline_accuracy"])
    assert metrics["recurrent_alone_accuracy"] > 0.885


def seconds_of_steps(network, batches, steps):
    started = time.perf_counter()
    network.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
    return time.perf_counter() - started


def test_measuring_gradients_costs_at_most_three_percent_of_a_step():
    """The same net with Keras's Adam and with ours, measuring, clipping and monitored; step times alternate."""

    def make(optimizer):
        ids = keras.Input((200,), dtype="int32")
        x = keras.layers.Embedding(20_000, 128)(ids)
        x = rnn.recurrent_stack(x, cell="gru", units=64, bidirectional=True, return_sequences=False)
        network = keras.Model(ids, keras.layers.Dense(2)(x))
        network.compile(optimizer, CROSS_ENTROPY, jit_compile=False)
        return network

    plain = make(keras.optimizers.Adam(global_clipnorm=1.0))
    measured = make(gradients.Adam(clipping="global_norm", clip_threshold=1.0))
    rng = np.random.default_rng(0)
    rows = tf.data.Dataset.from_tensors((rng.integers(1, 20_000, (64, 200)), rng.integers(0, 2, 64))).repeat()
    monitor = gradients.GradientMonitor()

    def seconds(network, callbacks):
        started = time.perf_counter()
        network.fit(rows, steps_per_epoch=20, shuffle=False, verbose=0, callbacks=callbacks)
        return time.perf_counter() - started

    seconds(plain, []), seconds(measured, [monitor])  # traced
    ratios = [seconds(measured, [monitor]) / seconds(plain, []) for _ in range(9)]
    print(f"measured / plain step time: {np.median(ratios):.3f} (median of 9, {min(ratios):.3f} to {max(ratios):.3f})")
    assert np.median(ratios) < 1.05  # 1.03 is the aim; the rest is what timing on a shared machine needs


@pytest.fixture(scope="module")
def imdb():
    """The training reviews of IMDB as ids, and everything the network starts from."""
    config = replace(DEFAULT, dataset="imdb")
    splits = data.load(config)
    started = time.perf_counter()
    vectorizer, num_ids = text.build_vectorizer(splits.train.texts, config)
    ids = text.vectorize(vectorizer, splits.train.texts)
    ratios = model.naive_bayes_log_ratios(ids["bag"], splits.train.labels, num_ids)
    embeddings = cooccurrence_embeddings(ids["sequence"], len(text.words(vectorizer)), config.embedding_dim, config.seed)
    return config, splits, vectorizer, ids, ratios, embeddings, time.perf_counter() - started


def compiled(config, ratios, embeddings):
    network = model.build_model(config, ratios, embeddings)
    outputs = list(network.output)
    losses = {name: CROSS_ENTROPY for name in outputs if name != model.ANSWER}
    network.compile(gradients.Adam(config.learning_rate), losses, jit_compile=False)
    return network, lambda features, labels: (features, dict.fromkeys(outputs, labels))


@needs_imdb
def test_length_buckets_against_padding_everything_to_the_maximum(imdb):
    config, splits, _, ids, ratios, embeddings, _ = imdb
    lengths = ids["sequence"].row_lengths().numpy()
    network, for_each_output = compiled(config, ratios, embeddings)
    buckets, steps = batches_by_length(ids, splits.train.labels, config.batch_size, seed=0)

    def padded(features, labels):
        places = [[0, 0], [0, config.sequence_length - tf.shape(features["sequence"])[1]]]
        return features | {"sequence": tf.pad(features["sequence"], places)}, labels

    kinds = {"buckets": buckets.map(for_each_output), "maximum": buckets.map(padded).map(for_each_output)}
    seconds = {kind: [] for kind in kinds}
    for kind, batches in [*kinds.items()] * 3:  # the first round traces
        seconds[kind].append(seconds_of_steps(network, batches, 60))
    ratio = np.median(seconds["maximum"][1:]) / np.median(seconds["buckets"][1:])
    print(f"padded to {config.sequence_length}: {ratio:.2f} times the time of length buckets")
    print(f"places a word: {config.sequence_length * len(lengths) / lengths.sum():.2f} padded, {steps} steps an epoch")
    assert ratio > 1.5


def pad_to_200(ragged):
    """As the public example has its reviews: the last 200 words of the 20,000 most frequent."""
    ids = keras.utils.pad_sequences([row[-200:] for row in ragged["sequence"].numpy()], 200)
    return np.where(ids < 20_000, ids, 1)


def seconds_to_865(network, train_some, accuracy_of, most: int) -> float | None:
    """Train piece by piece until 86.5 % are right; seconds of training, or None if `most` pieces were not enough."""
    seconds = 0.0
    for piece in range(most):
        started = time.perf_counter()
        train_some(network, piece)
        seconds += time.perf_counter() - started
        if accuracy_of(network) >= 0.865:
            return seconds
    return None


@needs_imdb
def test_reaches_865_at_least_four_times_sooner_than_the_public_keras_example(imdb):
    """https://keras.io/examples/nlp/bidirectional_lstm_imdb: two bidirectional LSTM layers of 64, 20,000 words, 200 steps.

    Both start with reviews as ids, are trained piece by piece, and judged on the same 5,000 test reviews after each.
    """
    config, splits, vectorizer, ids, ratios, embeddings, prepared = imdb
    chosen = np.random.default_rng(0).permutation(len(splits.test.texts))[:5000]
    labels = splits.test.labels[chosen]
    test_ids = text.vectorize(vectorizer, [splits.test.texts[row] for row in chosen])

    network, for_each_output = compiled(config, ratios, embeddings)
    batches, _ = batches_by_length(ids, splits.train.labels, config.batch_size, seed=0)
    ours = seconds_to_865(
        network,
        lambda net, piece: seconds_of_steps(net, batches.skip(20 * piece).map(for_each_output), 20),
        lambda net: np.mean(report.predict(net, test_ids)[model.ANSWER].argmax(axis=1) == labels),
        most=30,
    )

    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(20_000, 128)(inputs)
    x = keras.layers.Bidirectional(keras.layers.LSTM(64, return_sequences=True))(x)
    x = keras.layers.Bidirectional(keras.layers.LSTM(64))(x)
    example = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))
    example.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    x_train, y_train, x_test = pad_to_200(ids), splits.train.labels, pad_to_200(test_ids)
    quarter = len(x_train) // 4

    def train_a_quarter(net, piece):
        rows = slice(piece % 4 * quarter, (piece % 4 + 1) * quarter)
        net.fit(x_train[rows], y_train[rows], batch_size=32, verbose=0)

    theirs = seconds_to_865(
        example, train_a_quarter, lambda net: net.evaluate(x_test, labels, verbose=0, batch_size=128)[1], most=12
    )
    assert ours is not None
    print(f"seconds of training to 86.5 %: {ours:.1f}, after {prepared:.0f} of preparation; public example: {theirs}")
    assert theirs is None or theirs > 4 * ours
