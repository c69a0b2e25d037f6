"""The sentiment app has to reach its numbers. Minutes: make test-all.

Those on real reviews are skipped where IMDB does not lie prepared (TFDS_DATA_DIR).
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps.sentiment import data, model, text, train
from apps.sentiment.config import DEFAULT, PRESETS
from shared import gradients, runs
from shared.batches import batches_in_order, indices_by_length

pytestmark = pytest.mark.slow
PREPARED = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
needs_imdb = pytest.mark.skipif(not (PREPARED / "imdb_reviews").exists(), reason=f"IMDB does not lie prepared in {PREPARED}")


def test_recurrent_path_succeeds_on_the_sample_where_counting_words_fails():
    """Preset smoke (measured: recurrent path 0.995, network 0.976, n-grams 0.661, baseline 0.667)."""
    config = replace(PRESETS["smoke"], dataset="sample")
    test = runs.read_json(train.train(config, data.load(config)) / "metrics.json")["test"]
    assert test["recurrent path alone"]["accuracy"] > 0.97
    assert test["network"]["accuracy"] > 0.94
    assert test["baseline"]["accuracy"] < 0.75
    assert test["n-gram path alone"]["accuracy"] < 0.85


@needs_imdb
def test_default_preset_learns_from_a_tenth_of_imdb():
    """2,500 reviews of 25,000, halves of the words (measured: network 0.853, recurrence alone 0.731, baseline 0.868)."""
    config = replace(DEFAULT, limit=2_500, sequence_length=200)
    metrics = runs.read_json(train.train(config, data.load(config)) / "metrics.json")
    test = metrics["test"]
    assert metrics["dataset"] == "imdb_reviews"
    assert test["baseline"]["accuracy"] > 0.85
    assert test["network"]["accuracy"] > 0.83
    assert test["recurrent path alone"]["accuracy"] > 0.68


@pytest.fixture(scope="module")
def imdb():
    """The whole of IMDB, ready to train on; the weights that the network starts from; the seconds that took."""
    config = replace(DEFAULT, dataset="imdb")
    splits = data.load(config)
    started = time.perf_counter()
    experiment = train.prepare(config, splits)
    return config, experiment, experiment.network.get_weights(), time.perf_counter() - started


def restarted(config, experiment, weights):
    """The network as it was before the first step, with one learning rate for all steps."""
    experiment.network.set_weights(weights)
    experiment.network.compile(gradients.Adam(config.training.learning_rate), model.cross_entropy, jit_compile=False)
    return experiment.network


@needs_imdb
@pytest.mark.speed
def test_length_buckets_against_padding_everything_to_the_maximum(imdb, step_times):
    config, experiment, weights, _ = imdb
    network, buckets = restarted(config, experiment, weights), experiment.batches(0)

    def padded(features, labels):
        places = [[0, 0], [0, config.sequence_length - tf.shape(features["sequence"])[1]]]
        return features | {"sequence": tf.pad(features["sequence"], places)}, labels

    kinds = {"buckets": buckets, "maximum": buckets.map(padded)}
    turns = [{kind: step_times(network, batches, 31).sum() for kind, batches in kinds.items()} for _ in range(4)]
    ratio = np.median([turn["maximum"] / turn["buckets"] for turn in turns[1:]])  # the first turn traces
    print(f"padded to {config.sequence_length}: {ratio:.2f} times the time of length buckets")
    lengths = experiment.ids.row_lengths().numpy()
    whole = np.array([len(words) for words in text.split_words(experiment.data.train.texts)])
    for what, of_review, maximum in (("heads and tails", lengths, config.sequence_length), ("whole", whole, whole.max())):
        in_buckets = indices_by_length(of_review, config.training.batch_size, np.random.default_rng(0))
        places = sum(len(rows) * of_review[rows].max() for rows in in_buckets)
        print(f"places per word, {what}: {places / of_review.sum():.2f} in buckets, {maximum / of_review.mean():.2f} padded")
    assert ratio > 1.5


def seconds_to_865(network, train_some, accuracy_of, most: int):
    """Train piece by piece until 86.5 % are right, `most` pieces at most: seconds of training, and the best accuracy."""
    seconds, best = 0.0, 0.0
    for piece in range(most):
        started = time.perf_counter()
        train_some(network, piece)
        seconds += time.perf_counter() - started
        best = max(best, accuracy_of(network))
        if best >= 0.865:
            break
    return seconds, best


def build_public_example():
    """https://keras.io/examples/nlp/bidirectional_lstm_imdb: two bidirectional LSTM layers of 64, 20,000 words, 200 steps."""
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(20_000, 128)(inputs)
    x = keras.layers.Bidirectional(keras.layers.LSTM(64, return_sequences=True))(x)
    x = keras.layers.Bidirectional(keras.layers.LSTM(64))(x)
    example = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))
    example.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return example


@needs_imdb
@pytest.mark.speed
def test_reaches_865_at_least_four_times_sooner_than_the_public_keras_example(imdb, step_times):
    """Both start with reviews as ids, are trained piece by piece, and judged on the same 5,000 test reviews after each.

    The example gets three quarters of an epoch. (In five it reaches 85.0 %, then it overfits.)
    """
    config, experiment, weights, prepared = imdb
    train_part, test = experiment.data.train, experiment.data.test
    chosen = np.random.default_rng(0).permutation(len(test.texts))[:5000]
    test_texts, labels = [test.texts[row] for row in chosen], test.labels[chosen]

    test_batches, order = batches_in_order(text.vectorize(experiment.vectorizer, test_texts), labels, batch_size=128)
    batches = experiment.batches(0)
    ours, accuracy = seconds_to_865(
        restarted(config, experiment, weights),
        lambda net, piece: step_times(net, batches.skip(20 * piece), 20),
        lambda net: np.mean(net.predict(test_batches, verbose=0).mean(axis=1).argmax(axis=1) == labels[order]),
        most=30,
    )

    # The example's own input: no punctuation, the last 200 of the 20,000 most frequent words, padded on the left.
    lookup = keras.layers.TextVectorization(20_000, ragged=True)
    lookup.adapt(train_part.texts)
    x_train, x_test = (
        keras.utils.pad_sequences([row[-200:] for row in lookup(tf.constant(texts)).numpy()], 200)
        for texts in (train_part.texts, test_texts)
    )
    rows = np.array_split(np.random.default_rng(0).permutation(len(x_train)), 4)
    theirs, their_accuracy = seconds_to_865(
        build_public_example(),
        lambda net, n: net.fit(x_train[rows[n % 4]], train_part.labels[rows[n % 4]], batch_size=32, verbose=0),
        lambda net: net.evaluate(x_test, labels, verbose=0, batch_size=128)[1],
        most=3,
    )
    print(f"network: {accuracy:.3f} after {ours:.1f} s of training, {prepared:.1f} s of preparation, the baseline's too")
    print(f"public example: {their_accuracy:.3f} at best in {theirs:.1f} s of training")
    assert accuracy >= 0.865
    assert theirs > 4 * ours
