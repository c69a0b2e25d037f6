"""Builders against a recurrence written out in NumPy, and against closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from shared import kernels, rnn

BATCH, TIME, FEATURES, UNITS = 3, 6, 4, 5
LENGTHS = np.array([6, 2, 4])
MASK = np.arange(TIME) < LENGTHS[:, None]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_step(cell, x, states, kernel, recurrent, bias):
    """One step of a cell from the papers' equations, in Keras's order of gates. Returns the new states, output first."""
    h = states[0]
    if cell == "rnn":
        return [np.tanh(x @ kernel + h @ recurrent + bias)]
    if cell == "gru":  # Cho et al., 2014, with the reset gate after the matrix product, as cuDNN has it
        inner = np.split(x @ kernel + bias[0], 3, axis=1)
        outer = np.split(h @ recurrent + bias[1], 3, axis=1)
        update, reset = sigmoid(inner[0] + outer[0]), sigmoid(inner[1] + outer[1])
        candidate = np.tanh(inner[2] + reset * outer[2])
        return [update * h + (1 - update) * candidate]
    entry, forget, candidate, output = np.split(x @ kernel + h @ recurrent + bias, 4, axis=1)  # Gers et al., 2000
    c = sigmoid(forget) * states[1] + sigmoid(entry) * np.tanh(candidate)
    return [sigmoid(output) * np.tanh(c), c]


def numpy_layer(cell, x, weights, mask, states=None, backwards=False):
    """Run a cell over a sequence; where the mask is False the states stand still. Returns outputs and final states."""
    count = rnn.STATES_PER_LAYER[cell]
    states = [np.zeros((len(x), UNITS))] * count if states is None else states
    outputs = np.zeros((*x.shape[:2], UNITS))
    for t in range(x.shape[1])[:: -1 if backwards else 1]:
        new = numpy_step(cell, x[:, t], states, *weights)
        states = [np.where(mask[:, t, None], n, s) for n, s in zip(new, states, strict=True)]
        outputs[:, t] = states[0]
    return outputs, states


def randomise(model):
    """Every weight random, biases too: with zero biases a mistake in them would go unseen."""
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(scale=0.5, size=w.shape) for w in model.get_weights()])


@pytest.fixture
def sequence():
    return np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype("float32")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cell", rnn.CELLS)
def test_every_cell_equals_numpy(cell, masked, sequence):
    inputs, mask_input = keras.Input((None, FEATURES)), keras.Input((None,), dtype="bool")
    mask = mask_input if masked else None
    outputs, states = rnn.recurrent_stack(inputs, cell=cell, units=UNITS, num_layers=2, mask=mask, return_state=True)
    model = keras.Model([inputs, mask_input], [outputs, states])
    randomise(model)
    got, got_states = model([sequence, MASK])

    keep = MASK if masked else np.ones_like(MASK)
    first, first_states = numpy_layer(cell, sequence, model.get_layer(f"recurrent_{cell}_1").get_weights(), keep)
    second, second_states = numpy_layer(cell, first, model.get_layer(f"recurrent_{cell}_2").get_weights(), keep)
    np.testing.assert_allclose(np.where(keep[..., None], got, 0), np.where(keep[..., None], second, 0), atol=1e-5)
    for layer, expected in zip(got_states, (first_states, second_states), strict=True):
        for state, wanted in zip(layer, expected, strict=True):
            np.testing.assert_allclose(state, wanted, atol=1e-5)


@pytest.mark.parametrize("cell", rnn.CELLS)
def test_bidirectional_equals_numpy_both_ways(cell, sequence):
    inputs, mask = keras.Input((None, FEATURES)), keras.Input((None,), dtype="bool")
    outputs = rnn.recurrent_stack(inputs, cell=cell, units=UNITS, bidirectional=True, mask=mask)
    last = rnn.recurrent_stack(inputs, cell=cell, units=UNITS, bidirectional=True, mask=mask, return_sequences=False, name="b")
    model = keras.Model([inputs, mask], [outputs, last])
    randomise(model)
    weights = model.get_layer(f"recurrent_bidirectional_{cell}_1").get_weights()
    model.get_layer(f"b_bidirectional_{cell}_1").set_weights(weights)
    got, got_last = model([sequence, MASK])

    half = len(weights) // 2
    ahead, ahead_states = numpy_layer(cell, sequence, weights[:half], MASK)
    back, back_states = numpy_layer(cell, sequence, weights[half:], MASK, backwards=True)
    expected = np.concatenate([ahead, back], axis=-1)
    np.testing.assert_allclose(np.where(MASK[..., None], got, 0), np.where(MASK[..., None], expected, 0), atol=1e-5)
    np.testing.assert_allclose(got_last, np.concatenate([ahead_states[0], back_states[0]], axis=-1), atol=1e-5)


@pytest.mark.parametrize("cell", rnn.CELLS)
def test_state_handed_on_continues_the_sequence(cell, sequence):
    inputs = keras.Input((None, FEATURES))
    layer_states = [keras.Input((UNITS,)) for _ in range(rnn.STATES_PER_LAYER[cell])]
    outputs, states = rnn.recurrent_stack(inputs, cell=cell, units=UNITS, initial_state=[layer_states], return_state=True)
    model = keras.Model([inputs, *layer_states], [outputs, *states[0]])
    randomise(model)
    zeros = [np.zeros((BATCH, UNITS), "float32")] * len(layer_states)
    whole = model([sequence, *zeros])[0]
    head, *carried = model([sequence[:, :2], *zeros])
    tail = model([sequence[:, 2:], *map(np.array, carried)])[0]
    np.testing.assert_allclose(np.concatenate([head, tail], axis=1), whole, atol=1e-6)


def test_stateful_stack_carries_its_state_from_batch_to_batch(sequence):
    inputs = keras.Input(batch_shape=(BATCH, None, FEATURES))
    model = keras.Model(inputs, rnn.recurrent_stack(inputs, cell="gru", units=UNITS, stateful=True))
    first = np.array(model(sequence))
    second = np.array(model(sequence))
    weights = model.get_layer("recurrent_gru_1").get_weights()
    expected, _ = numpy_layer("gru", np.concatenate([sequence, sequence], axis=1), weights, np.ones((BATCH, 2 * TIME), bool))
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), expected, atol=1e-5)


def test_residual_adds_the_input_where_widths_agree(sequence):
    inputs = keras.Input((None, FEATURES))
    outputs = rnn.recurrent_stack(inputs, cell="gru", units=UNITS, num_layers=2, residual=True)
    model = keras.Model(inputs, outputs)
    randomise(model)
    every = np.ones((BATCH, TIME), bool)
    first, _ = numpy_layer("gru", sequence, model.get_layer("recurrent_gru_1").get_weights(), every)
    second, _ = numpy_layer("gru", first, model.get_layer("recurrent_gru_2").get_weights(), every)
    np.testing.assert_allclose(model(sequence), first + second, atol=1e-5)


def test_layer_normalization_stands_between_the_layers(sequence):
    inputs = keras.Input((None, FEATURES))
    model = keras.Model(inputs, rnn.recurrent_stack(inputs, cell="rnn", units=UNITS, num_layers=2, normalization="layer"))
    every = np.ones((BATCH, TIME), bool)
    first, _ = numpy_layer("rnn", sequence, model.get_layer("recurrent_rnn_1").get_weights(), every)
    normal = (first - first.mean(-1, keepdims=True)) / np.sqrt(first.var(-1, keepdims=True) + 1e-3)
    second, _ = numpy_layer("rnn", normal, model.get_layer("recurrent_rnn_2").get_weights(), every)
    np.testing.assert_allclose(model(sequence), second, atol=1e-5)


def test_batch_normalization_leaves_masked_steps_out_of_its_statistics(sequence):
    inputs, mask = keras.Input((None, FEATURES)), keras.Input((None,), dtype="bool")
    stack = rnn.recurrent_stack(inputs, cell="gru", units=UNITS, num_layers=2, normalization="batch", mask=mask)
    model = keras.Model([inputs, mask], stack)
    model([sequence, MASK], training=True)
    first, _ = numpy_layer("gru", sequence, model.get_layer("recurrent_gru_1").get_weights(), MASK)
    layer = model.get_layer("recurrent_batch_normalization_2")
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.01 * first[MASK].mean(axis=0), atol=1e-6)


def test_dropout_keeps_one_mask_for_all_time_steps():
    inputs = keras.Input((None, 200))
    model = keras.Model(inputs, rnn.recurrent_stack(inputs, cell="gru", units=200, dropout=0.5))
    dropped = keras.Model(inputs, model.get_layer("recurrent_dropout_0").output)(np.ones((1, TIME, 200)), training=True)
    dropped = np.array(dropped)
    assert np.all(dropped == dropped[:, :1])
    assert 0.3 < np.mean(dropped == 0) < 0.7


def test_relu_starts_as_an_identity_that_keeps_its_state():
    """Le, Jaitly and Hinton (2015): with no input, an untrained state neither shrinks nor grows."""
    inputs, start = keras.Input((None, FEATURES)), keras.Input((UNITS,))
    stack = rnn.recurrent_stack(inputs, cell="rnn", units=UNITS, activation="relu", initial_state=[[start]])
    model = keras.Model([inputs, start], stack)
    state = np.abs(np.random.default_rng(0).normal(size=(1, UNITS))).astype("float32")
    outputs = model([np.zeros((1, 200, FEATURES), "float32"), state])
    np.testing.assert_allclose(outputs[:, -1], state, rtol=1e-5)


@pytest.mark.parametrize("how", ["last", "max", "mean"])
def test_pooling_equals_numpy_row_by_row(how, sequence):
    inputs, mask = keras.Input((None, FEATURES)), keras.Input((None,), dtype="bool")
    model = keras.Model([inputs, mask], rnn.pool(inputs, how, mask))
    reduce = {"last": lambda row: row[-1], "max": lambda row: row.max(axis=0), "mean": lambda row: row.mean(axis=0)}[how]
    expected = [reduce(row[:length]) for row, length in zip(sequence, LENGTHS, strict=True)]
    np.testing.assert_allclose(model([sequence, MASK]), expected, atol=1e-6)
    every = keras.Model(inputs, rnn.pool(inputs, how))
    np.testing.assert_allclose(every(sequence), [reduce(row) for row in sequence], atol=1e-6)


def test_attention_is_a_softmax_mean(sequence):
    inputs, mask = keras.Input((None, FEATURES)), keras.Input((None,), dtype="bool")
    model = keras.Model([inputs, mask], rnn.pool(inputs, "attention", mask))
    (scores,) = model.get_weights()
    for row, length, got in zip(sequence, LENGTHS, model([sequence, MASK]), strict=True):
        weights = np.exp(row[:length] @ scores)
        np.testing.assert_allclose(got, (weights * row[:length]).sum(axis=0) / weights.sum(), atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("how", ["last", "max", "mean", "attention"])
def test_what_a_mask_hides_changes_nothing(how, bidirectional, sequence):
    inputs, mask = keras.Input((None, FEATURES)), keras.Input((None,), dtype="bool")
    x = rnn.recurrent_stack(inputs, units=UNITS, num_layers=2, bidirectional=bidirectional, residual=True, mask=mask)
    model = keras.Model([inputs, mask], rnn.pool(x, how, mask, bidirectional))
    noisy = np.where(MASK[..., None], sequence, 1e3).astype("float32")
    longer = np.pad(sequence, [(0, 0), (0, 5), (0, 0)])
    plain = model([sequence, MASK])
    np.testing.assert_allclose(model([noisy, MASK]), plain, atol=1e-6)
    np.testing.assert_allclose(model([longer, np.pad(MASK, [(0, 0), (0, 5)])]), plain, atol=1e-6)


def test_the_four_shapes_have_their_shapes(sequence):
    vector = sequence[:, 0]
    assert rnn.build_many_to_one(FEATURES, 2, units=UNITS, pooling="mean")(sequence).shape == (BATCH, 2)
    assert rnn.build_many_to_many(FEATURES, 2, units=UNITS)(sequence).shape == (BATCH, TIME, 2)
    assert rnn.build_one_to_many(FEATURES, 2, length=7, units=UNITS)(vector).shape == (BATCH, 7, 2)
    both = rnn.build_encoder_decoder(FEATURES, 3, 2, units=UNITS, num_layers=2)
    assert both([sequence, sequence[:, :4, :3]]).shape == (BATCH, 4, 2)


def test_one_to_many_shows_the_vector_at_every_step(sequence):
    model = rnn.build_one_to_many(FEATURES, 2, length=7, cell="gru", units=UNITS)
    vector = sequence[:, 0]
    repeated = np.repeat(vector[:, None], 7, axis=1)
    hidden, _ = numpy_layer("gru", repeated, model.get_layer("recurrent_gru_1").get_weights(), np.ones((BATCH, 7), bool))
    kernel, bias = model.get_layer("outputs").get_weights()
    np.testing.assert_allclose(model(vector), hidden @ kernel + bias, atol=1e-5)


@pytest.mark.parametrize("cell", rnn.CELLS)
def test_decoder_starts_from_the_encoders_states(cell, sequence):
    model = rnn.build_encoder_decoder(FEATURES, 3, 2, cell=cell, units=UNITS)
    forced = sequence[:, :4, :3]
    every = np.ones((BATCH, TIME), bool)
    _, states = numpy_layer(cell, sequence, model.get_layer(f"encoder_{cell}_1").get_weights(), every)
    hidden, _ = numpy_layer(cell, forced, model.get_layer(f"decoder_{cell}_1").get_weights(), every[:, :4], states)
    kernel, bias = model.get_layer("outputs").get_weights()
    np.testing.assert_allclose(model([sequence, forced]), hidden @ kernel + bias, atol=1e-5)


def test_saved_model_loads_with_keras_alone(sequence, tmp_path):
    ids = keras.Input((None,), dtype="int32")
    mask = ids > 0
    x = layers.Embedding(10, 8)(ids)
    x = rnn.recurrent_stack(x, cell="lstm", units=8, num_layers=3, bidirectional=True, residual=True, dropout=0.1, mask=mask)
    pooled = [rnn.pool(x, how, mask, True) for how in ("last", "max", "mean", "attention")]
    model = keras.Model(ids, ops.concatenate(pooled))
    model.save(tmp_path / "model.keras")
    rows = np.array([[1, 2, 3, 0], [4, 5, 6, 7]])
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(rows), model(rows))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.LSTM(3), "no GPU"),
        (layers.Bidirectional(layers.GRU(3)), "no GPU"),
        (layers.SimpleRNN(3), "this is a SimpleRNN"),
        (layers.GRU(3, reset_after=False), "reset_after=False"),
        (layers.LSTM(3, recurrent_dropout=0.1), "recurrent_dropout=0.1, it needs 0"),
        (layers.LSTM(3, activation="relu"), "activation=relu, it needs tanh"),
        (layers.LSTM(3, recurrent_activation="relu"), "recurrent_activation=relu, it needs sigmoid"),
        (layers.GRU(3, use_bias=False), "use_bias=False"),
        (layers.GRU(3, unroll=True), "unroll=True"),
        (layers.GRU(3, use_cudnn=False), "use_cudnn=False"),
    ],
)
def test_kernel_names_the_reason_against_cudnn(layer, reason):
    kernel = kernels.explain_kernel(layer)
    assert kernel.name == "plain loop"
    assert kernel.reason.endswith(reason)
    assert kernels.explain_kernel(layer, jit_compile=True).name == "XLA"


def operations(traced):
    """The types of all operations in a traced function, those of the functions that it calls among them."""
    graph = traced.graph.as_graph_def()
    return {node.op for nodes in (graph.node, *(f.node_def for f in graph.library.function)) for node in nodes}


@pytest.mark.parametrize("options", [{}, {"unroll": True}, {"recurrent_dropout": 0.1}, {"use_cudnn": False}])
@pytest.mark.parametrize("kind", [layers.GRU, layers.LSTM])
def test_kernel_is_cudnn_where_there_is_a_gpu(kind, options, gpu_in_name):
    """Traced where Keras believes in a GPU, the graph holds cuDNN's operation where explain_kernel names cuDNN."""
    layer = kind(3, **options)
    traced = tf.function(layer).get_concrete_function(tf.TensorSpec((2, 4, 3)))
    assert (kernels.explain_kernel(layer).name == "cuDNN") == ("CudnnRNNV3" in operations(traced)) == (not options)


def test_kernel_of_both_directions_and_of_xla_where_there_is_a_gpu(gpu_in_name):
    assert str(kernels.explain_kernel(layers.Bidirectional(layers.LSTM(3)))) == "cuDNN"
    assert str(kernels.explain_kernel(layers.LSTM(3), jit_compile=True)) == "XLA (not cuDNN: jit_compile=True)"


def test_kernels_of_a_model_are_named_once_per_layer():
    model = rnn.build_many_to_one(3, 1, cell="gru", units=4, num_layers=2, bidirectional=True)
    model.compile(jit_compile=True)
    found = kernels.explain_kernels(model)
    assert list(found) == ["recurrent_bidirectional_gru_1", "recurrent_bidirectional_gru_2"]
    assert {kernel.name for kernel in found.values()} == {"XLA"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "elman"}, "cell is one of rnn, gru, lstm; got 'elman'"),
        ({"normalization": "group"}, "normalization is layer, batch or None"),
        ({"num_layers": 0}, "num_layers is 1 or more"),
        ({"activation": "relu", "cell": "gru"}, "relu.* is for cell='rnn'"),
        ({"activation": "elu"}, "activation is tanh or relu"),
        ({"initial_state": [], "num_layers": 2}, "one list per layer, 2; got 0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        rnn.recurrent_stack(keras.Input((None, 3)), **options)


def test_decoder_cannot_be_bidirectional():
    with pytest.raises(ValueError, match="left to right"):
        rnn.build_encoder_decoder(3, 3, 2, bidirectional=True)


def test_unknown_pooling_is_named():
    with pytest.raises(ValueError, match="got 'median'"):
        rnn.pool(keras.Input((None, 3)), "median")
