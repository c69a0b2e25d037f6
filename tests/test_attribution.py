"""Integrated gradients against closed forms and against a sum of finite differences in NumPy."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from shared import attribution, rnn
from shared.attribution import POINTS, IntegratedGradients, cut

IDS = np.array([[3, 1, 4, 1, 5]])


def model_of(function, features=2):
    x = keras.Input((features,), name="x")
    return keras.Model({"x": x}, function(x))


def explain(model, x, baseline, number=0):
    return IntegratedGradients(model)({"x": np.array([x], np.float32)}, {"x": np.array([baseline], np.float32)}, number)


def test_of_a_linear_model_each_part_is_its_weight_times_the_difference():
    dense = layers.Dense(2)
    model = model_of(dense, features=3)
    found = explain(model, [1, 2, 3], [0.5, -1, 4], number=1)
    np.testing.assert_allclose(found.parts["x"], dense.kernel.numpy()[:, 1] * [0.5, 3, -1], rtol=1e-5)
    assert found.points == POINTS[0]
    assert found.is_complete


def test_of_a_product_each_factor_gets_what_it_changes_at_the_mean_of_the_other():
    found = explain(model_of(lambda x: x[:, :1] * x[:, 1:]), [3, 5], [1, 2])
    np.testing.assert_allclose(found.parts["x"], [(3 - 1) * (5 + 2) / 2, (5 - 2) * (3 + 1) / 2], rtol=1e-5)
    assert (found.before, found.after) == (2, 15)


def test_more_points_are_taken_until_the_parts_add_up():
    found = explain(model_of(lambda x: ops.tanh(100 * (x[:, :1] - 0.3))), [1, 7], [0, 7])
    assert found.points > POINTS[0]
    assert found.is_complete
    np.testing.assert_allclose(found.parts["x"], [2, 0], atol=0.02)


def test_what_does_not_add_up_is_said(monkeypatch):
    monkeypatch.setattr(attribution, "POINTS", (16, 32))
    found = explain(model_of(lambda x: ops.cast(x[:, :1] > 0.5, "float32")), [1, 0], [0, 0])
    assert found.points == 32
    assert found.residual == 1
    assert not found.is_complete


def test_where_nothing_changes_nothing_is_missing():
    found = explain(model_of(layers.Dense(1)), [1, 2], [1, 2])
    assert not found.parts["x"].any()
    assert found.is_complete


def classifier(cell="gru", bidirectional=False):
    """Ids to probabilities, with a mask that is made from the ids."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(10, 3, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0), name="embedding")(ids)
    x = rnn.recurrent_stack(x, cell=cell, units=4, bidirectional=bidirectional, mask=ids > 0)
    x = rnn.pool(x, "last", ids > 0, bidirectional)
    return keras.Model(ids, layers.Dense(3, activation="softmax", name="probabilities")(x))


def explained(model, ids, number):
    vectors_of, behind = cut(model, ["embedding"])
    vectors = np.asarray(vectors_of({"ids": ids})["embedding"])
    return vectors, IntegratedGradients(behind)(
        {"ids": ids, "embedding": vectors}, {"embedding": np.zeros_like(vectors)}, number
    )


def test_of_an_lstm_in_both_directions_the_parts_add_up_and_padding_adds_nothing():
    model, padded = classifier("lstm", bidirectional=True), np.pad(IDS, ((0, 0), (0, 3)))
    _, found = explained(model, padded, number=2)
    parts = found.parts["embedding"]
    assert parts.shape == (8, 3)
    assert found.after == pytest.approx(float(model(padded)[0, 2]))
    assert abs(parts.sum() - (found.after - found.before)) <= 0.01 * abs(found.after - found.before)
    assert (parts[5:] == 0).all()
    assert parts[:5].all()


def gru_probability(model, vectors, number):
    """The same network in NumPy and 64 bits, from vectors `(n, time, features)`: a GRU (Cho et al., 2014; reset after)."""
    cell = model.get_layer("recurrent_gru_1").cell
    kernel, recurrent, bias = (np.asarray(weight, np.float64) for weight in (cell.kernel, cell.recurrent_kernel, cell.bias))
    hidden = np.zeros((len(vectors), 4))
    for step in vectors.swapaxes(0, 1):
        of_input, of_state = step @ kernel + bias[0], hidden @ recurrent + bias[1]
        update, reset = np.split(1 / (1 + np.exp(-(of_input + of_state)[:, :8])), 2, axis=1)
        candidate = np.tanh(of_input[:, 8:] + reset * of_state[:, 8:])
        hidden = update * hidden + (1 - update) * candidate
    weights, offset = model.get_layer("probabilities").get_weights()
    powers = np.exp(hidden @ weights + offset)
    return powers[:, number] / powers.sum(axis=1)


def test_of_a_gru_as_a_riemann_sum_of_finite_differences():
    model = classifier()
    vectors, found = explained(model, IDS, number=0)
    step, middles = 1e-5, (np.arange(200) + 0.5) / 200
    line = middles[:, None, None] * vectors.astype(np.float64)
    expected = np.zeros((5, 3))
    for place in np.ndindex(5, 3):
        moved = np.zeros((5, 3))
        moved[place] = step
        ahead, behind = (gru_probability(model, line + sign * moved, number=0) for sign in (1, -1))
        expected[place] = vectors[0][place] * ((ahead - behind) / (2 * step)).mean()
    np.testing.assert_allclose(found.parts["embedding"], expected, atol=1e-5)
    assert found.is_complete
    assert np.abs(expected).max() > 0.01


def test_a_model_that_was_cut_or_called_elsewhere_can_be_cut_again():
    model = classifier()
    model.compile(optimizer="adam", loss="mse")
    other = keras.Input((None,), dtype="int32", name="other")
    model.get_layer("embedding")(other)  # as callbacks that look into a network do
    for _ in range(2):
        vectors_of, behind = cut(model, ["embedding"])
        vectors = vectors_of({"ids": IDS})["embedding"]
        np.testing.assert_allclose(vectors, model.get_layer("embedding")(IDS))
        np.testing.assert_allclose(behind({"ids": ops.array(IDS), "embedding": vectors}), model(IDS), rtol=1e-6)
