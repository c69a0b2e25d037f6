"""The gradient through time against powers of a matrix, NumPy's chain rule, and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import shared.rnn
from shared import through_time
from shared.through_time import gradient_through_time, last_step_cross_entropy

WATCHED = True


def test_norms_of_a_linear_recurrence_are_powers_of_its_matrix():
    inputs = keras.Input((9, 3))
    cell = keras.layers.SimpleRNN(4, activation="linear", name="recurrence")
    model = keras.Model(inputs, cell(inputs))
    x = np.random.default_rng(0).normal(size=(5, 9, 3)).astype("float32")
    direction = np.random.default_rng(1).normal(size=4).astype("float32")
    norms = gradient_through_time(model, x, None, lambda _, h: keras.ops.matmul(h, direction))["recurrence"]
    matrix = model.get_weights()[1]
    expected = [np.linalg.norm(np.linalg.matrix_power(matrix, 8 - step) @ direction) for step in range(9)]
    np.testing.assert_allclose(norms, np.tile(expected, (5, 1)), rtol=1e-5)


@pytest.mark.parametrize(("scale", "steps"), [(0.5, 20), (0.1, 26)])  # of 1e-25, 32 bits do not hold the square
def test_norms_of_a_scaled_identity_fall_by_the_scale_each_step(scale, steps):
    inputs = keras.Input((steps, 1))
    cell = keras.layers.SimpleRNN(3, activation="linear", recurrent_initializer=keras.initializers.Identity(scale))
    model = keras.Model(inputs, cell(inputs))
    norms = gradient_through_time(model, np.ones((2, steps, 1), "float32"), None, lambda _, h: keras.ops.sum(h, axis=1))
    np.testing.assert_allclose(next(iter(norms.values()))[1], 3**0.5 * scale ** np.arange(steps - 1.0, -1, -1), rtol=1e-4)


def test_each_direction_is_read_up_to_its_own_last_step():
    """Inputs by name, a mask, states passed in; the loss is of each direction's last output, as powers of its matrix."""
    x, mask = keras.Input((9, 3), name="x"), keras.Input((9,), dtype="bool", name="mask")
    states = [keras.Input((4,), name=name) for name in ("state", "backward_state")]
    cell = keras.layers.SimpleRNN(4, activation="linear", return_sequences=True)
    layer = keras.layers.Bidirectional(cell, name="both")
    inputs = {"x": x, "mask": mask, "states": states}
    model = keras.Model(inputs, shared.rnn.pool(layer(x, mask=mask, initial_state=states), "last", mask, bidirectional=True))
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(2, 9, 3)), "mask": np.arange(9) < [[9], [5]], "states": [np.ones((2, 4))] * 2}
    direction = rng.normal(size=(2, 4)).astype("float32")
    norms = gradient_through_time(model, given, None, lambda _, h: keras.ops.matmul(h, direction.ravel()))
    assert list(norms) == ["both/forward", "both/backward"]
    for found, one, towards in zip(norms.values(), (layer.forward_layer, layer.backward_layer), direction, strict=True):
        matrix = np.array(one.cell.recurrent_kernel)
        expected = [np.linalg.norm(np.linalg.matrix_power(matrix, 8 - step) @ towards) for step in range(9)]
        np.testing.assert_allclose(found[0], expected, rtol=1e-4)
        np.testing.assert_allclose(found[1], [np.nan] * 4 + expected[4:], rtol=1e-4)


def test_of_a_mean_the_gradient_enters_at_every_step():
    """h[t] is in all later states: with a matrix of 0.5 times the identity, (1 + 0.5 + 0.25 + ...) / 6 of each unit."""
    inputs = keras.Input((6, 1))
    options = {"activation": "linear", "recurrent_initializer": keras.initializers.Identity(0.5), "return_sequences": True}
    model = keras.Model(inputs, keras.ops.mean(keras.layers.SimpleRNN(1, **options)(inputs), axis=1))
    [norms] = gradient_through_time(model, np.ones((1, 6, 1), "float32"), None, lambda _, h: h).values()
    np.testing.assert_allclose(norms[0], [2 * (1 - 0.5 ** (6 - step)) / 6 for step in range(6)], rtol=1e-5)


def test_rows_of_different_length_count_as_far_back_as_half_of_them_go():
    rows = np.full((4, 9), np.nan)
    for row, length in enumerate((2, 4, 6, 9)):
        rows[row, -length:] = 0.2 ** np.arange(length)[::-1]
    np.testing.assert_allclose(through_time.quantiles_of_rows(rows), np.tile(0.2 ** np.arange(6)[::-1], (3, 1)))
    assert through_time.steps_to_1_percent(rows) == 3  # 0.2 ** 3 = 0.008


def test_a_few_large_rows_do_not_move_what_is_shown():
    """Nine rows fall by a half each step, one is a million times larger and does not fall, one was given no weight."""
    rows = np.tile(0.5 ** np.arange(19.0, -1, -1), (11, 1))
    rows[3], rows[7] = 1e6, 0
    low, median, high = through_time.quantiles_of_rows(rows)
    for one in (low, median):
        np.testing.assert_allclose(one, rows[0])
    assert (high >= median).all()
    assert through_time.steps_to_1_percent(rows) == 7  # 0.5 ** 7 = 0.0078
    assert through_time.steps_to_1_percent(np.ones((2, 20))) == 20
    assert through_time.steps_to_1_percent(np.zeros((2, 20))) == 20
    _, axes = through_time.plt.subplots()
    through_time.plot_norms(axes, {"gru": rows})
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), rows[0])
    through_time.plt.close()


@pytest.mark.parametrize("cell", ["GRU", "LSTM"])
def test_norms_of_gated_layers_agree_with_finite_differences(cell):
    """Of two layers, the state of the lower one after step 2 is moved by hand: the rest is run from there."""
    make = getattr(keras.layers, cell)
    lower, upper = make(3, return_sequences=True, return_state=True, name="lower"), make(4, name="upper")
    inputs = keras.Input((6, 2))
    sequence, *_ = lower(inputs)
    model = keras.Model(inputs, keras.layers.Dense(5)(upper(sequence)))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 6, 2)).astype("float32"), np.array([3])
    norms = gradient_through_time(model, x, y, last_step_cross_entropy)
    assert list(norms) == ["lower", "upper"]

    first, *states = lower(x[:, :3])

    def loss(moved):
        head = np.concatenate([first[:, :2], moved[0][:, None]], axis=1)  # what the upper layer sees of step 2 moves along
        tail, *_ = lower(x[:, 3:], initial_state=moved)
        logits = model.layers[-1](upper(np.concatenate([head, tail], axis=1)))
        return float(last_step_cross_entropy(y, logits)[0])

    states = [np.array(state) for state in states]
    slopes = []
    for number in range(len(states)):
        for unit in range(3):
            moved = [[one.copy() for one in states] for _ in range(2)]
            moved[0][number][0, unit] += 1e-2
            moved[1][number][0, unit] -= 1e-2
            slopes.append((loss(moved[0]) - loss(moved[1])) / 2e-2)
    assert norms["lower"][0, 2] == pytest.approx(np.linalg.norm(slopes), rel=0.02)


def test_the_model_is_left_as_it_was():
    inputs = keras.Input((5, 2))
    model = keras.Model(inputs, keras.layers.GRU(3)(inputs))
    weights, x = model.get_weights(), np.ones((1, 5, 2), "float32")
    model.compile("adam", lambda y, h: keras.ops.sum(h))  # a loss that could not be cloned
    before = model(x)
    gradient_through_time(model, x, None, lambda _, h: keras.ops.sum(h, axis=1))
    np.testing.assert_array_equal(model(x), before)
    assert [w.shape for w in model.get_weights()] == [w.shape for w in weights]


def test_a_model_without_recurrence_is_refused():
    inputs = keras.Input((5, 2))
    with pytest.raises(ValueError, match="no recurrent layer"):
        gradient_through_time(keras.Model(inputs, keras.layers.Dense(1)(inputs)), np.ones((1, 5, 2)), None, None)


def test_callback_writes_a_picture_and_how_many_steps_the_gradient_reaches(tmp_path):
    inputs = keras.Input((5, 2))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GRU(3, name="gru")(inputs)))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.ones((4, 5, 2), "float32"), np.zeros(4, int)
    callback = through_time.GradientThroughTime(x, y, last_step_cross_entropy, tmp_path)
    callback.every = 2
    (tmp_path / "logs" / "train").mkdir(parents=True)
    model.fit(x, y, epochs=3, verbose=0, callbacks=[callback])
    written = [
        (value.tag, event.step)
        for file in sorted(tmp_path.rglob("events*"))
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]
    tags = ("3_recurrence/gradient_through_time", "3_recurrence/steps_to_1_percent/gru")
    assert sorted(written) == sorted((tag, step) for tag in tags for step in (0, 2))
    assert not list(tmp_path.rglob("*.png"))
    assert len(callback.earlier) == 2
    _, axes = through_time.plt.subplots()
    through_time.plot_layer(axes, callback.earlier[1]["gru"], [callback.earlier[0]["gru"]], callback.untrained["gru"])
    assert [line.get_color() for line in axes.get_lines()] == ["grey", "C0", "C0"]
    assert axes.get_ylim() == through_time.AXIS
    through_time.plt.close()


def test_a_run_that_is_resumed_draws_no_untrained_network(tmp_path):
    inputs = keras.Input((5, 2))
    model = keras.Model(inputs, keras.layers.GRU(3)(inputs))
    model.compile("adam", "mse")
    model.optimizer.iterations.assign(7)
    callback = through_time.GradientThroughTime(np.ones((1, 5, 2)), None, lambda _, h: h, tmp_path)
    callback.set_model(model)
    callback.on_train_begin()
    assert not callback.untrained
