"""The sentiment app has to reach its numbers. Minutes: make test-all.

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
from shared import gradients
from shared.batches import batches_by_length, indices_by_length

pytestmark = pytest.mark.slow
PREPARED = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
needs_imdb = pytest.mark.skipif(not (PREPARED / "imdb_reviews").exists(), reason=f"IMDB does not lie prepared in {PREPARED}")
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_recurrent_path_succeeds_on_the_sample_where_counting_words_fails():
    folder = train.train(replace(DEFAULT, dataset="sample"))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["recurrent_alone_accuracy"] > 0.97
    assert metrics["test_accuracy"] > 0.97
    assert metrics["baseline_accuracy"] < 0.75
    assert metrics["ngrams_alone_accuracy"] < 0.85


@needs_imdb
def test_default_preset_on_less_than_half_of_imdb():
    """10,000 reviews of 25,000; the baseline is to be a serious one (all of them: 0.906, the network 0.923)."""
    metrics = json.loads((train.train(replace(DEFAULT, limit=10_000)) / "metrics.json").read_text())
    assert metrics["dataset"] == "imdb_reviews"
    assert metrics["baseline_accuracy"] > 0.87
    assert metrics["test_accuracy"] > max(0.89, metrics["baseline_accuracy"])
    assert metrics["recurrent_alone_accuracy"] > 0.84


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
@pytest.mark.speed
def test_length_buckets_against_padding_everything_to_the_maximum(imdb, step_times):
    config, splits, _, ids, ratios, embeddings, _ = imdb
    lengths = ids["sequence"].row_lengths().numpy()
    network, for_each_output = compiled(config, ratios, embeddings)
    buckets, _ = batches_by_length(ids, splits.train.labels, config.batch_size, seed=0)

    def padded(features, labels):
        places = [[0, 0], [0, config.sequence_length - tf.shape(features["sequence"])[1]]]
        return features | {"sequence": tf.pad(features["sequence"], places)}, labels

    kinds = {"buckets": buckets.map(for_each_output), "maximum": buckets.map(padded).map(for_each_output)}
    turns = [{kind: step_times(network, batches, 31).sum() for kind, batches in kinds.items()} for _ in range(4)]
    ratio = np.median([turn["maximum"] / turn["buckets"] for turn in turns[1:]])  # the first turn traces
    print(f"padded to {config.sequence_length}: {ratio:.2f} times the time of length buckets")
    whole = np.array([len(words) for words in text.split_words(splits.train.texts)])
    for what, of_review, maximum in (("heads and tails", lengths, config.sequence_length), ("whole", whole, whole.max())):
        in_buckets = indices_by_length(of_review, config.batch_size, np.random.default_rng(0))
        places = sum(len(rows) * of_review[rows].max() for rows in in_buckets)
        print(f"places a word, {what}: {places / of_review.sum():.2f} in buckets, {maximum / of_review.mean():.2f} padded")
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
    config, splits, vectorizer, ids, ratios, embeddings, prepared = imdb
    chosen = np.random.default_rng(0).permutation(len(splits.test.texts))[:5000]
    test_texts, labels = [splits.test.texts[row] for row in chosen], splits.test.labels[chosen]

    test_ids = text.vectorize(vectorizer, test_texts)
    network, for_each_output = compiled(config, ratios, embeddings)
    batches, _ = batches_by_length(ids, splits.train.labels, config.batch_size, seed=0)
    ours, accuracy = seconds_to_865(
        network,
        lambda net, piece: step_times(net, batches.skip(20 * piece).map(for_each_output), 20),
        lambda net: np.mean(report.predict(net, test_ids)[model.ANSWER].argmax(axis=1) == labels),
        most=30,
    )

    # The example's own input: no punctuation, the last 200 of the 20,000 most frequent words, padded on the left.
    lookup = keras.layers.TextVectorization(20_000, ragged=True)
    lookup.adapt(splits.train.texts)
    x_train, x_test = (
        keras.utils.pad_sequences([row[-200:] for row in lookup(tf.constant(texts)).numpy()], 200)
        for texts in (splits.train.texts, test_texts)
    )
    rows = np.array_split(np.random.default_rng(0).permutation(len(x_train)), 4)
    theirs, their_accuracy = seconds_to_865(
        build_public_example(),
        lambda net, n: net.fit(x_train[rows[n % 4]], splits.train.labels[rows[n % 4]], batch_size=32, verbose=0),
        lambda net: net.evaluate(x_test, labels, verbose=0, batch_size=128)[1],
        most=3,
    )
    print(f"network: {accuracy:.3f} after {ours:.1f} s of training, {prepared:.1f} s of preparation before it")
    print(f"public example: {their_accuracy:.3f} at best in {theirs:.1f} s of training")
    assert accuracy >= 0.865
    assert theirs > 4 * ours
