"""The attention layer against NumPy and unpadded rows."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from shared.attention import KINDS, Attention

ROWS, TIME, SOURCE, UNITS = 3, 4, 6, 5
LENGTHS = [SOURCE, 4, 1]


@pytest.fixture
def given():
    """Queries of width 7, a memory of width 8, and its mask."""
    rng = np.random.default_rng(0)
    queries, memory = rng.normal(size=(ROWS, TIME, 7)), rng.normal(size=(ROWS, SOURCE, 8))
    return queries.astype("float32"), memory.astype("float32"), np.arange(SOURCE) < np.array(LENGTHS)[:, None]


def attend(layer, queries, memory, mask):
    """Contexts and weights, place by place and in 64 bits."""
    query_kernel, memory_kernel, *vector = (np.asarray(weight, np.float64) for weight in layer.get_weights())
    contexts, weights = np.zeros((ROWS, TIME, memory.shape[-1])), np.zeros((ROWS, TIME, SOURCE))
    for row, time in np.ndindex(ROWS, TIME):
        query, keys = queries[row, time] @ query_kernel, memory[row, mask[row]] @ memory_kernel
        scores = np.tanh(query + keys) @ vector[0][:, 0] if vector else keys @ query / np.sqrt(UNITS)
        fractions = np.exp(scores) / np.exp(scores).sum()
        weights[row, time, mask[row]] = fractions
        contexts[row, time] = fractions @ memory[row, mask[row]]
    return contexts, weights


@pytest.mark.parametrize("kind", KINDS)
def test_contexts_and_weights_are_those_of_numpy(kind, given):
    layer = Attention(kind, UNITS)
    contexts, weights = (np.asarray(part) for part in layer(*given))
    expected_contexts, expected_weights = attend(layer, *given)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-6)
    np.testing.assert_allclose(contexts, expected_contexts, atol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_has_weight_0_and_changes_nothing(kind, given):
    queries, memory, mask = given
    layer = Attention(kind, UNITS)
    contexts, weights = (np.asarray(part) for part in layer(queries, np.where(mask[..., None], memory, 1e3), mask))
    assert (weights[~np.broadcast_to(mask[:, None], weights.shape)] == 0).all()
    for row, length in enumerate(LENGTHS):
        alone = layer(queries[[row]], memory[[row], :length], mask[[row], :length])
        np.testing.assert_allclose(contexts[[row]], alone[0], atol=1e-6)
        np.testing.assert_allclose(weights[[row], :, :length], alone[1], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_is_hidden_wholly_gives_zeros_and_no_nan(kind, given):
    queries, memory, mask = given
    mask = mask & (np.arange(ROWS) != 1)[:, None]
    layer = Attention(kind, UNITS)
    with tf.GradientTape() as tape:
        contexts, weights = layer(queries, memory, mask)
        total = tf.reduce_sum(contexts**2)
    assert not np.asarray(weights[1]).any()
    assert not np.asarray(contexts[1]).any()
    gradients = tape.gradient(total, [variable.value for variable in layer.trainable_variables])
    assert all(np.isfinite(gradient).all() and np.asarray(gradient).any() for gradient in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_at_a_time_is_answered_as_all_at_once(kind, given):
    queries, memory, mask = given
    layer = Attention(kind, UNITS)
    whole = layer(queries, memory, mask)
    for step in range(TIME):
        for part, of_step in zip(whole, layer(queries[:, step : step + 1], memory, mask), strict=True):
            np.testing.assert_allclose(part[:, step : step + 1], of_step, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_answers_the_same(kind, given, tmp_path):
    """Behind a masked recurrent layer, whose mask goes no further than the layer."""
    inputs = keras.Input((None, 7)), keras.Input((None, 8)), keras.Input((None,), dtype="bool")
    encoded = keras.layers.GRU(8, return_sequences=True)(inputs[1], mask=inputs[2])
    outputs = Attention(kind, UNITS, name="attention")(inputs[0], encoded, inputs[2])
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert (again.get_layer("attention").kind, again.get_layer("attention").units) == (kind, UNITS)
    assert [tuple(output.shape) for output in again.outputs] == [(None, None, 8), (None, None, None)]
    for one, other in zip(model(given), again(given), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_keeps_weights_in_32_bits(kind, given):
    layer = Attention(kind, UNITS, dtype="mixed_bfloat16")
    contexts, weights = layer(*given)
    assert {variable.dtype for variable in layer.variables} == {"float32"}
    assert (weights.dtype, contexts.dtype) == (tf.float32, tf.bfloat16)
    np.testing.assert_allclose(np.asarray(weights).sum(axis=-1), 1, atol=1e-6)
    expected_contexts, expected_weights = attend(layer, *given)
    np.testing.assert_allclose(weights, expected_weights, atol=0.02)
    np.testing.assert_allclose(tf.cast(contexts, "float32"), expected_contexts, atol=0.05)


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="kind is one of dot, additive; got 'general'"):
        Attention("general", UNITS)
