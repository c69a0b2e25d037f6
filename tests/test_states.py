"""The probed states and gates against a recurrence written out in NumPy, and against what the layers put out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from shared import rnn, state_plots, states, tensorboard, through_time

WATCHED = True

FEATURES, UNITS, STEPS, ROWS = 3, 4, 6, 2


def sequences(rows=ROWS, steps=STEPS):
    return np.random.default_rng(0).normal(size=(rows, steps, FEATURES)).astype("float32")


def randomise(model):
    """Also the biases, which start as zeros and ones."""
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(layer, sequence):
    """One row `(time, features)`, in 64 bits, gate by gate: what the textbooks write. Lists over time, by name."""
    kernel, recurrent, *bias = [weight.astype("float64") for weight in layer.get_weights()]
    bias = bias[0] if bias else np.zeros(kernel.shape[1])
    both = bias if bias.ndim == 2 else np.stack([bias, 0 * bias])
    parts = [np.split(of, kernel.shape[1] // layer.units, axis=-1) for of in (kernel, recurrent, both[0], both[1])]
    w, u, b, d = parts
    h = c = np.zeros(layer.units)
    found = []
    for x in sequence[::-1] if layer.go_backwards else sequence:
        add = lambda n, h=h, x=x: x @ w[n] + b[n] + h @ u[n] + d[n]  # noqa: E731
        if isinstance(layer, keras.layers.LSTM):
            i, f, o = sigmoid(add(0)), sigmoid(add(1)), sigmoid(add(3))
            c = f * c + i * np.tanh(add(2))
            h = o * np.tanh(c)
            found.append({"hidden": h, "cell": c, "input": i, "forget": f, "output": o})
        elif isinstance(layer, keras.layers.GRU):
            z, r = sigmoid(add(0)), sigmoid(add(1))
            recalled = r * (h @ u[2] + d[2]) if layer.reset_after else (r * h) @ u[2] + d[2]
            h = z * h + (1 - z) * np.tanh(x @ w[2] + b[2] + recalled)
            found.append({"hidden": h, "update": z, "reset": r})
        else:
            h = np.tanh(add(0))
            found.append({"hidden": h})
    if layer.go_backwards:
        found.reverse()
    return {name: np.array([step[name] for step in found]) for name in found[0]}


def assert_as_by_hand(recording, layer, sequence, row=0):
    expected = by_hand(layer, sequence[row])
    steps = len(expected["hidden"])
    found = recording.states() | recording.gates
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].shape == (ROWS, sequence.shape[1], UNITS)
        np.testing.assert_allclose(found[name][row, :steps], values, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    ("cell", "options"),
    [("rnn", {}), ("gru", {}), ("gru", {"reset_after": False}), ("lstm", {}), ("lstm", {"use_bias": False})],
)
def test_states_and_gates_are_those_of_the_textbook(cell, options, both):
    inputs = keras.Input((STEPS, FEATURES))
    layer = rnn.CELLS[cell](UNITS, name="layer", **options)  # puts out the last step alone
    layer = keras.layers.Bidirectional(layer, name="layer") if both else layer
    model = keras.Model(inputs, layer(inputs))
    randomise(model)
    found = states.Probe(model)(sequences())
    directions = {"layer/forward": layer.forward_layer, "layer/backward": layer.backward_layer} if both else {"layer": layer}
    assert found.keys() == directions.keys()
    for name, direction in directions.items():
        for row in range(ROWS):
            assert_as_by_hand(found[name], direction, sequences(), row)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", rnn.CELLS)
def test_hidden_states_of_a_masked_stack_are_the_layers_own_outputs(cell, both):
    """Two layers, rows of different lengths, a normalisation and a residual connection between them."""
    inputs, mask = keras.Input((None, FEATURES)), keras.Input((None,), dtype="bool")
    stack = {"cell": cell, "units": UNITS, "num_layers": 2, "bidirectional": both, "residual": True, "normalization": "layer"}
    model = keras.Model([inputs, mask], rnn.recurrent_stack(inputs, mask=mask, **stack))
    randomise(model)
    lengths = np.array([STEPS, 4])
    given = [sequences(), np.arange(STEPS) < lengths[:, None]]
    recurrent = [layer for layer in model.layers if layer.name.endswith((f"{cell}_1", f"{cell}_2"))]
    outputs = keras.Model(model.input, [layer.output[0] for layer in recurrent])(given)
    found = states.Probe(model)(given)
    assert len(found) == (4 if both else 2)
    for layer, output in zip(recurrent, outputs, strict=True):
        names = [f"{layer.name}/forward", f"{layer.name}/backward"] if both else [layer.name]
        hidden = np.concatenate([found[name].hidden for name in names], axis=-1)
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(hidden[row, :length], output[row, :length], atol=1e-5)
            assert np.isnan(hidden[row, length:]).all()
    for recording in found.values():
        for values in recording.gates.values():
            assert np.isnan(values[1, 4:]).all()
            assert ((values[0] >= 0) & (values[0] <= 1)).all()


def test_states_that_are_passed_in_are_started_from():
    inputs, start = keras.Input((None, FEATURES), name="x"), [keras.Input((UNITS,)) for _ in range(2)]
    layer = keras.layers.LSTM(UNITS, return_sequences=True, name="layer")
    model = keras.Model({"x": inputs, "start": start}, layer(inputs, initial_state=start))
    randomise(model)
    given = {"x": sequences(), "start": [np.full((ROWS, UNITS), value, "float32") for value in (0.5, -2.0)]}
    np.testing.assert_allclose(states.Probe(model)(given)["layer"].hidden, model(given), atol=1e-5)


def test_the_model_is_left_as_it_was():
    inputs = keras.Input((STEPS, FEATURES))
    model = keras.Model(inputs, keras.layers.GRU(UNITS, name="gru")(keras.layers.Dropout(0.5)(inputs)))
    model.compile("adam", lambda y, h: keras.ops.sum(h))
    before, weights = np.array(model(sequences())), model.get_weights()
    probe = states.Probe(model)
    probe(sequences())
    np.testing.assert_array_equal(model(sequences()), before)
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    randomise(model)  # the probe sees later weights
    np.testing.assert_allclose(probe(sequences())["gru"].hidden[:, -1], model(sequences()), atol=1e-5)


def test_a_stateful_model_and_one_without_recurrence_are_refused():
    inputs = keras.Input(batch_shape=(ROWS, STEPS, FEATURES))
    with pytest.raises(ValueError, match="is stateful: probe one that gets its state passed in"):
        states.Probe(keras.Model(inputs, keras.layers.GRU(UNITS, stateful=True)(inputs)))
    with pytest.raises(ValueError, match="no SimpleRNN, GRU or LSTM"):
        states.Probe(keras.Model(inputs, keras.layers.Dense(1)(inputs)))


def autoregression(coefficients, steps=4000, rows=8):
    noise = np.random.default_rng(0).normal(size=(rows, steps, len(coefficients)))
    series = np.zeros_like(noise)
    for step in range(1, steps):
        series[:, step] = coefficients * series[:, step - 1] + noise[:, step]
    return series


def test_the_half_life_of_an_autoregression_is_that_of_its_coefficient():
    coefficients = np.array([0.7, 0.9, 0.97])
    series = autoregression(coefficients)
    expected = np.log(0.5) / np.log(coefficients)  # 1.9, 6.6, 22.8 steps
    np.testing.assert_allclose(state_plots.half_lives(series), expected, rtol=0.1)
    series[::2, 2000:] = np.nan  # every other row is half as long
    np.testing.assert_allclose(state_plots.half_lives(series), expected, rtol=0.1)
    change = state_plots.change_per_step(series)
    np.testing.assert_allclose(change, 2 * (1 - coefficients), rtol=0.1)  # of an autoregression


def test_a_unit_that_stays_has_the_longest_half_life_and_one_that_never_moves_has_none():
    steps = np.zeros((2, 10, 3))
    steps[1, :, 0] = 1.0  # differs from row to row alone
    steps[:, ::2, 1] = 1.0  # alternates
    longest, shortest, none = state_plots.half_lives(steps)
    assert (longest, np.isnan(none)) == (5, True)
    assert shortest < 1
    assert np.isnan(state_plots.change_per_step(steps)[2])


def test_heat_map_shows_the_slowest_units_of_the_steps_that_are_there():
    series = autoregression(np.linspace(0, 0.99, 40), steps=300, rows=2)
    series[0, 20:] = np.nan
    _, axes = state_plots.plt.subplots()
    image = state_plots.plot_heat_map(axes, series, [str(number) for number in range(300)])
    assert image.get_array().shape == (state_plots.MAX_UNITS, 20)
    np.testing.assert_allclose(image.get_array()[0], series[0, :20, 39])
    assert state_plots.MAX_LABELS == 10
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [str(number) for number in range(0, 20, 2)]
    state_plots.plt.close()


def test_saturation_counts_the_steps_that_are_there():
    gate = np.full((2, 4, 2), 0.5)
    gate[0, 0] = 0.05, 0.95
    gate[1, 2:] = np.nan
    _, axes = state_plots.plt.subplots()
    state_plots.plot_saturation(axes, {"update": gate})
    np.testing.assert_allclose(axes.get_lines()[0].get_xydata(), [[1 / 6, 0], [0, 1 / 6]])
    state_plots.plt.close()


def test_figures_count_the_steps_that_are_there():
    gate = np.full((2, 4, 2), 0.5)
    gate[0, 0] = 0.05, 0.95
    gate[1, 2:] = np.nan  # 12 of 16 are there
    series = autoregression(np.array([0.7, 0.9, 0.97]))
    found = states.figures({"layer": states.Recording(np.zeros_like(series), series, {"forget": gate})})
    assert found.pop("half_life/layer") == pytest.approx(np.log(0.5) / np.log(0.9), rel=0.1)  # of the cell states
    assert found == {
        f"gate_{what}/layer/forget": pytest.approx(one) for what, one in (("mean", 0.5), ("shut", 1 / 12), ("open", 1 / 12))
    }


@pytest.mark.parametrize(("cell", "names"), [("rnn", ["states", "units"]), ("lstm", ["states", "gates", "units"])])
def test_callback_writes_pictures_every_few_epochs_and_plots_at_the_end(cell, names, tmp_path):
    inputs = keras.Input((STEPS, FEATURES))
    model = keras.Model(inputs, keras.layers.Dense(1)(rnn.CELLS[cell](UNITS, name="layer")(inputs)))
    model.compile("adam", "mse")
    callback = states.States(sequences(), [*"lette", "↵"], {"an input": sequences()[..., 0]}, tmp_path)
    callback.every = 2
    (tmp_path / "logs" / "train").mkdir(parents=True)
    (tmp_path / "plots").mkdir()
    model.fit(sequences(), np.ones(ROWS), epochs=3, verbose=0, callbacks=[callback])
    written = [
        (value.tag, event.step)
        for file in sorted((tmp_path / "logs" / "train").glob("events*"))
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]
    callback.write_plots()
    figures = states.figures(states.Probe(model)(sequences()))
    gates = [f"gate_{what}/layer/{gate}" for what in ("mean", "shut", "open") for gate in ("input", "forget", "output")]
    assert sorted(figures) == sorted([*gates * (cell == "lstm"), "half_life/layer"])
    assert sorted(written) == sorted((f"3_recurrence/{name}", step) for name in [*names, *figures] for step in (0, 2))
    assert not list((tmp_path / "logs").rglob("*.png"))
    assert tensorboard.plots_of_recurrence(tmp_path) == names


def test_labels_that_fit_no_layer_end_the_training_before_it_begins(tmp_path):
    inputs = keras.Input((STEPS, FEATURES))
    model = keras.Model(inputs, keras.layers.GRU(UNITS, name="gru")(inputs))
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"a label for each step of a recurrent layer, {'gru': 6}; got 2 labels"):
        model.fit(
            sequences(), np.ones((ROWS, UNITS)), verbose=0, callbacks=[states.States(sequences(), ["a", "b"], {}, tmp_path)]
        )


def test_a_training_that_is_watched_ends_with_the_same_weights(tmp_path):
    """Pictures of the state and of the gradient take nothing from the random numbers of dropout and order."""
    (tmp_path / "logs" / "train").mkdir(parents=True)
    x, y = sequences(), np.ones(ROWS)

    def train(*callbacks):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((STEPS, FEATURES))
        model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.GRU(UNITS)(keras.layers.Dropout(0.5)(inputs))))
        model.compile("adam", "mse")
        model.fit(x, y, epochs=2, batch_size=1, verbose=0, callbacks=callbacks)
        return model.get_weights()

    def loss(targets, outputs):
        return keras.ops.square(outputs[:, 0] - targets)

    watched = train(
        states.States(x, [*"letter"], {"an input": x[..., 0]}, tmp_path),
        through_time.GradientThroughTime(x, y.astype("float32"), loss, tmp_path),
    )
    for one, other in zip(watched, train(), strict=True):
        np.testing.assert_array_equal(one, other)
