"""The conditional random field against enumeration of all sequences, finite differences and unpadded rows."""

import importlib.util
import itertools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy.special import logsumexp, softmax

from shared import crf
from shared.chain import Scores, marginals, viterbi

TAGS, STEPS, ROWS = 4, 6, 3


@pytest.fixture
def chain():
    """Emissions, mask (lengths 6, 4 and 1), transitions, start and end."""
    rng = np.random.default_rng(0)
    emissions = rng.normal(0, 2, (ROWS, STEPS, TAGS)).astype("float32")
    mask = np.arange(STEPS) < np.array([[STEPS], [4], [1]])
    return emissions, mask, *(rng.normal(0, 2, shape).astype("float32") for shape in ((TAGS, TAGS), TAGS, TAGS))


def all_paths(emissions, transitions, start, end):
    """Every sequence of tags of one unpadded row, and its score, added up one by one in 64 bits."""
    emissions, transitions, start, end = (part.astype("float64") for part in (emissions, transitions, start, end))
    paths = list(itertools.product(range(TAGS), repeat=len(emissions)))
    scores = [
        start[path[0]]
        + sum(emissions[step, tag] for step, tag in enumerate(path))
        + sum(transitions[pair] for pair in itertools.pairwise(path))
        + end[path[-1]]
        for path in paths
    ]
    return np.array(paths), np.array(scores)


def test_log_likelihood_is_that_of_all_sequences_counted(chain):
    emissions, mask, *scores = chain
    for row in range(ROWS):
        length = mask[row].sum()
        paths, found = all_paths(emissions[row, :length], *scores)
        for number in np.random.default_rng(1).integers(0, len(paths), 10):
            tags = np.zeros((ROWS, STEPS), "int32")
            tags[row, :length] = paths[number]
            got = crf.log_likelihood(emissions, tags, mask, *scores)[row]
            assert float(got) == pytest.approx(found[number] - logsumexp(found), abs=1e-5)


def test_viterbi_finds_the_best_of_all_sequences(chain):
    emissions, mask, *scores = chain
    tags = viterbi(emissions, mask.sum(axis=1), Scores(*scores))
    for row in range(ROWS):
        length = mask[row].sum()
        paths, found = all_paths(emissions[row, :length], *scores)
        np.testing.assert_array_equal(tags[row, :length], paths[found.argmax()])
        assert not tags[row, length:].any()


def test_marginals_are_those_of_all_sequences_counted_and_sum_to_1(chain):
    emissions, mask, *scores = chain
    found = marginals(emissions, mask.sum(axis=1), Scores(*scores))
    of_tags = found.of_tags()
    np.testing.assert_allclose(of_tags.sum(axis=2)[mask], 1, atol=1e-12)
    for row in range(ROWS):
        length = mask[row].sum()
        paths, totals = all_paths(emissions[row, :length], *scores)
        probabilities = np.exp(totals - logsumexp(totals))
        assert found.partition[row] == pytest.approx(logsumexp(totals), abs=1e-9)
        for step, tag in itertools.product(range(length), range(TAGS)):
            assert of_tags[row, step, tag] == pytest.approx(probabilities[paths[:, step] == tag].sum(), abs=1e-9)
        for first in range(length):
            tags = np.array([1, 2, 0])[: length - first]
            with_them = (paths[:, first : first + len(tags)] == tags).all(axis=1)
            assert found.of_span(row, first, tags) == pytest.approx(probabilities[with_them].sum(), abs=1e-9)


def test_without_scores_every_tag_is_decided_by_itself(chain, tmp_path):
    emissions, mask, *_ = chain
    lengths, scores = mask.sum(axis=1), Scores.zeros(TAGS)
    scores.save(tmp_path / "scores")
    tags = viterbi(emissions, lengths, Scores.load(tmp_path / "scores"))
    np.testing.assert_array_equal(tags, np.where(mask, emissions.argmax(axis=2), 0))
    np.testing.assert_allclose(
        marginals(emissions, lengths, scores).of_tags()[mask], softmax(emissions, axis=2)[mask], atol=1e-6
    )


def test_gradients_are_those_of_finite_differences(chain):
    emissions, mask, *scores = chain
    tags = np.random.default_rng(2).integers(0, TAGS, (ROWS, STEPS)).astype("int32")
    parts = [emissions, *scores]

    def total(parts):
        return ops.sum(crf.log_likelihood(parts[0], tags, mask, *parts[1:]))

    tensors = [tf.constant(part) for part in parts]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = total(tensors)
    for number, gradient in enumerate(tape.gradient(value, tensors)):
        for index in itertools.islice(np.ndindex(*parts[number].shape), 0, None, 7):
            moved = [[part.copy() for part in parts] for _ in range(2)]
            moved[0][number][index] += 1e-2
            moved[1][number][index] -= 1e-2
            slope = (float(total(moved[0])) - float(total(moved[1]))) / 2e-2
            assert float(gradient[index]) == pytest.approx(slope, abs=2e-3)


def test_padding_changes_neither_loss_nor_gradient():
    """A padded batch, and its rows one by one, weighted by their lengths."""
    rng = np.random.default_rng(3)
    emissions = rng.normal(size=(ROWS, STEPS, TAGS)).astype("float32")
    lengths = [STEPS, 3, 1]
    tags = np.where(np.arange(STEPS) < np.array(lengths)[:, None], rng.integers(0, TAGS, (ROWS, STEPS)), -1)
    layer = crf.CRF()
    layer.build((None, None, TAGS))
    layer.learned.assign(rng.normal(size=(TAGS + 1, TAGS + 1)))
    loss = crf.CRFLoss(layer)

    def measure(emissions, tags):
        with tf.GradientTape() as tape:
            value = loss(tags, emissions)
        return float(value), tape.gradient(value, layer.learned.value).numpy()

    whole, gradient = measure(emissions, tags)
    alone = [measure(emissions[row : row + 1, :length], tags[row : row + 1, :length]) for row, length in enumerate(lengths)]
    weights = np.array(lengths) / sum(lengths)
    assert whole == pytest.approx(sum(w * value for w, (value, _) in zip(weights, alone, strict=True)), rel=1e-5)
    np.testing.assert_allclose(gradient, sum(w * of for w, (_, of) in zip(weights, alone, strict=True)), atol=1e-5)


def test_what_is_forbidden_is_never_decoded_and_has_no_probability(chain):
    """Tags O, B, I, X: I follows B and I alone, and does not start; after X the sequence ends."""
    allowed = np.ones((TAGS + 1, TAGS + 1), bool)
    allowed[[0, 3, TAGS], 2] = False
    allowed[3, :TAGS] = False
    layer = crf.CRF(allowed)
    emissions, mask, *_ = chain
    emissions = emissions + 5.0 * np.eye(TAGS, dtype="float32")[2]  # I would be likeliest everywhere
    layer(emissions)
    lengths = mask.sum(axis=1)
    tags = viterbi(emissions, lengths, Scores(*map(np.asarray, layer.scores())))
    paths = [tuple(row[:length]) for row, length in zip(tags, lengths, strict=True)]
    for path in paths:
        assert path[0] != 2
        assert all(allowed[pair] for pair in itertools.pairwise(path))
    [start, *_] = [np.asarray(part) for part in layer.scores()][1:]
    every, scores = all_paths(emissions[0], *(np.asarray(part) for part in layer.scores()))
    possible = [allowed[TAGS, path[0]] and all(allowed[pair] for pair in itertools.pairwise(path)) for path in every]
    partition = float(crf.log_partition(emissions, mask, *layer.scores())[0])
    assert partition == pytest.approx(logsumexp(scores[np.array(possible)]), abs=1e-4)
    assert (start == crf.FORBIDDEN).tolist() == [False, False, True, False]


def test_layer_learns_an_order_that_emissions_do_not_tell_and_is_saved(tmp_path):
    """Tags alternate; the emissions are noise: only transitions can say so."""
    inputs = keras.Input((None, 2))
    layer = crf.CRF(np.ones((3, 3), bool), name="crf")
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.Adam(0.2), crf.CRFLoss(layer))
    rng = np.random.default_rng(0)
    tags = (np.arange(8) + rng.integers(0, 2, (64, 1))) % 2
    x = rng.normal(0, 0.1, (64, 8, 2)).astype("float32")
    model.fit(x, tags, epochs=20, batch_size=64, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False).get_layer("crf")
    found = viterbi(x, np.full(64, 8), Scores(*map(np.asarray, again.scores())))
    assert (np.abs(np.diff(found, axis=1)) == 1).all()


@pytest.mark.speed
def test_the_loss_costs_less_than_a_quarter_of_a_step(step_times):
    """64 sentences of 30 words, 80 tags: a bidirectional LSTM of 128 units under a CRF, and under a cross-entropy."""
    rng = np.random.default_rng(0)
    x, tags = rng.normal(size=(64, 30, 128)).astype("float32"), rng.integers(0, 80, (64, 30))
    seconds = {}
    for name in ("crf", "cross-entropy"):
        inputs = keras.Input((None, 128))
        hidden = keras.layers.Bidirectional(keras.layers.LSTM(128, return_sequences=True))(inputs)
        emissions = keras.layers.Dense(80)(hidden)
        layer = crf.CRF()
        network = keras.Model(inputs, layer(emissions) if name == "crf" else emissions)
        loss = crf.CRFLoss(layer) if name == "crf" else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        network.compile("adam", loss, jit_compile=False)
        batches = tf.data.Dataset.from_tensors((x, tags)).repeat()
        seconds[name] = np.median(step_times(network, batches, 40))
    fraction = 1 - seconds["cross-entropy"] / seconds["crf"]
    print(f"the CRF takes {fraction:.0%} of a step of {1000 * seconds['crf']:.1f} ms")
    assert fraction < 0.25


JAX = """
import jax, numpy as np
from shared import crf
given = dict(np.load("given.npz"))
tags, mask, parts = given.pop("tags"), given.pop("mask"), list(given.values())
total = lambda parts: crf.log_likelihood(parts[0], tags, mask, *parts[1:]).sum()
np.savez("found.npz", total(parts), *jax.grad(total)(parts))
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_jax_gives_the_same_likelihood_and_gradients(chain, tmp_path):
    emissions, mask, *scores = chain
    tags = np.random.default_rng(2).integers(0, TAGS, (ROWS, STEPS)).astype("int32")
    np.savez(tmp_path / "given.npz", tags=tags, mask=mask, emissions=emissions, a=scores[0], b=scores[1], c=scores[2])
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", JAX], cwd=tmp_path, env=environment, check=True)
    tensors = [tf.constant(part) for part in (emissions, *scores)]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = ops.sum(crf.log_likelihood(tensors[0], tags, mask, *tensors[1:]))
    with np.load(tmp_path / "found.npz") as found:
        for one, other in zip(found.values(), [value, *tape.gradient(value, tensors)], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
