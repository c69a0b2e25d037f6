"""Clipping and measuring against values computed by hand, and the monitor's warnings against nets that deserve them."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from shared import gradients, rnn
from shared.gradient_monitor import GradientMonitor, NotFinite

GRADIENTS = [np.array([3.0, 4.0], "float32"), np.array([[12.0]], "float32")]  # norms 5 and 12, joint norm 13


def apply_once(optimizer, grads=GRADIENTS, start=0.0):
    """The step that an optimizer takes from `start`. With SGD and learning rate 1 it is minus the clipped gradient."""
    variables = [keras.Variable(np.full(g.shape, start, "float32")) for g in grads]
    optimizer.apply([ops.convert_to_tensor(g) for g in grads], variables)
    return [variable.numpy() - start for variable in variables]


@pytest.mark.parametrize(
    ("clipping", "threshold", "expected"),
    [
        ("none", 1.0, [[3, 4], [[12]]]),
        ("global_norm", 6.5, [[1.5, 2], [[6]]]),  # 6.5 / 13 of each
        ("global_norm", 20.0, [[3, 4], [[12]]]),
        ("norm", 6.0, [[3, 4], [[6]]]),  # the first is below 6
        ("norm", 2.5, [[1.5, 2], [[2.5]]]),
        ("value", 3.5, [[3, 3.5], [[3.5]]]),
    ],
)
def test_clipping_by_hand(clipping, threshold, expected):
    optimizer = gradients.SGD(1.0, clipping=clipping, clip_threshold=threshold)
    for step, wanted in zip(apply_once(optimizer), expected, strict=True):
        np.testing.assert_allclose(step, -np.array(wanted), rtol=1e-6)
    assert float(optimizer.gradient_norm) == pytest.approx(13.0)  # before clipping
    assert float(optimizer.epoch_clipped) == (expected != [[3, 4], [[12]]])
    np.testing.assert_allclose(optimizer.epoch_square_sums.numpy(), [25, 144], rtol=1e-6)


def test_adaptive_threshold_is_the_percentile_of_the_norms_so_far():
    optimizer = gradients.SGD(0.0, clipping="adaptive", clip_percentile=70)
    variable = keras.Variable([0.0])
    norms = np.random.default_rng(0).exponential(size=30)
    for count, norm in enumerate(norms, 1):
        optimizer.apply([ops.convert_to_tensor([norm], "float32")], [variable])
        wanted = np.percentile(norms[:count], 70, method="lower")
        assert float(optimizer.clip_threshold) == pytest.approx(wanted, rel=1e-6)
    assert float(optimizer.epoch_steps) == 30


def test_adaptive_history_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr(gradients, "HISTORY", 4)
    optimizer = gradients.SGD(0.0, clipping="adaptive", clip_percentile=100)
    variable = keras.Variable([0.0])
    for norm in (9.0, 1.0, 2.0, 3.0, 1.0):
        optimizer.apply([ops.convert_to_tensor([norm])], [variable])
    assert float(optimizer.clip_threshold) == 3.0  # the 9 is five steps back


def test_adaptive_clipping_by_hand():
    optimizer = gradients.SGD(1.0, clipping="adaptive", clip_percentile=0)  # the smallest norm so far
    variable = keras.Variable([0.0])
    for norm in (2.0, 8.0):
        optimizer.apply([ops.convert_to_tensor([norm])], [variable])
    assert variable.numpy() == pytest.approx(-4.0)  # 2, then 8 clipped to 2


def test_threshold_changed_during_training_takes_effect():
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(gradients.SGD(1.0, clip_threshold=1.0), "mse")
    one_row = np.ones((1, 1)), np.full((1, 1), 100.0)
    model.fit(*one_row, verbose=0)
    assert model.get_weights()[0].item() == pytest.approx(1.0)
    model.optimizer.clip_threshold.assign(5.0)  # the step is traced already
    model.fit(*one_row, verbose=0)
    assert model.get_weights()[0].item() == pytest.approx(6.0)


def test_rows_used_twice_count_as_one_sum():
    """An embedding's gradient comes in slices; the norm is that of their sum, not of the slices."""
    model = keras.Sequential([keras.Input((2,)), layers.Embedding(3, 1, embeddings_initializer="zeros"), layers.Flatten()])
    model.compile(gradients.SGD(1.0, clipping="none"), loss=lambda y, p: ops.sum(p, axis=-1))
    model.fit(np.array([[1, 1]]), np.zeros((1, 1)), verbose=0)
    assert float(model.optimizer.gradient_norm) == pytest.approx(2.0)


def test_a_gradient_that_is_not_finite_counts_as_zero():
    bad = [np.array([1.0, np.nan], "float32"), np.array([[1.0]], "float32")]
    optimizer = gradients.SGD(1.0)
    for step in apply_once(optimizer, bad, start=2.0):
        np.testing.assert_array_equal(step, 0)
    assert int(optimizer.first_bad_step) == 0
    np.testing.assert_array_equal(optimizer.bad_gradients.numpy(), [1, 0])


@pytest.mark.parametrize("clipping", ["none", "global_norm", "norm", "value", "adaptive"])
def test_nan_does_not_get_into_weights_or_momentum(clipping):
    optimizer = gradients.Adam(0.1, clipping=clipping)
    variable = keras.Variable([1.0, 1.0])
    for gradient in ([1.0, -1.0], [np.nan, 1.0], [np.inf, 1.0], [1.0, -1.0]):
        optimizer.apply([ops.convert_to_tensor(gradient, "float32")], [variable])
    assert int(optimizer.first_bad_step) == 1
    for one in (variable, *optimizer.variables):
        if "norm" not in one.path:  # the measurements may hold what was seen
            assert np.all(np.isfinite(one.numpy())), one.path
    assert np.isfinite(float(optimizer.epoch_norm_sum))


@pytest.mark.parametrize(
    ("own", "plain"),
    [
        (gradients.Adam(0.1, clipping="none"), keras.optimizers.Adam(0.1)),
        (gradients.Adam(0.1, clipping="none", weight_decay=0.3), keras.optimizers.AdamW(0.1, weight_decay=0.3)),
        (gradients.SGD(0.1, clipping="none"), keras.optimizers.SGD(0.1)),
    ],
)
def test_unclipped_equals_keras_own_optimizer(own, plain):
    for mine, theirs in zip(apply_once(own, start=2.0), apply_once(plain, start=2.0), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def test_config_round_trip():
    optimizer = gradients.Adam(0.1, weight_decay=0.2, clipping="adaptive", clip_percentile=75.0, clip_threshold=3.0)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert (again.clipping, again.clip_percentile, float(again.clip_threshold)) == ("adaptive", 75.0, 3.0)


@pytest.mark.parametrize("options", [{"clipping": "norms"}, {"clip_threshold": 0.0}])
def test_wrong_options_are_named(options):
    (value,) = options.values()
    with pytest.raises(ValueError, match=f"got {value!r}"):
        gradients.SGD(**options)


def test_several_replicas_are_clipped_by_the_norm_of_the_sum():
    """The same step on two replicas as on one: clipping each replica by itself would give another."""
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    y = 50 * x[:, :1]

    def train(strategy):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            model = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="tanh"), layers.Dense(1)])
            model.compile(gradients.SGD(0.1, clip_threshold=0.5), "mse", jit_compile=False)
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        history = model.fit(data, epochs=3, verbose=0, shuffle=False, callbacks=[GradientMonitor()])
        return model.get_weights(), history.history

    alone, alone_history = train(tf.distribute.get_strategy())
    both, both_history = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    for one, two in zip(alone, both, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    for key in ("gradient_norm", "gradient_norm_max", "clipped_fraction"):
        np.testing.assert_allclose(alone_history[key], both_history[key], rtol=1e-4)


def recurrent_model(num_layers=1, optimizer=None, length=20, **stack):
    inputs = keras.Input((length, 3))
    x = rnn.recurrent_stack(inputs, units=8, num_layers=num_layers, return_sequences=False, **stack)
    model = keras.Model(inputs, layers.Dense(1, name="outputs")(x))
    model.compile(optimizer or gradients.SGD(1e-3), "mse")
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(64, length, 3)).astype("float32"), rng.normal(size=(64, 1)).astype("float32")


def test_monitor_reports_what_a_gradient_tape_sees():
    model, x, y = recurrent_model(cell="gru")
    with tf.GradientTape() as tape:
        loss = ops.mean(ops.square(model(x) - y))
    wanted = [g.numpy() for g in tape.gradient(loss, [v.value for v in model.trainable_variables])]
    history = model.fit(x, y, batch_size=64, verbose=0, callbacks=[GradientMonitor()]).history
    assert history["gradient_norm"][0] == pytest.approx(np.sqrt(sum(np.sum(g**2) for g in wanted)), rel=1e-4)
    of_gru = np.sqrt(sum(np.sum(g**2) for g in wanted[:3]))
    assert history["gradient_norm/recurrent_gru_1"][0] == pytest.approx(of_gru, rel=1e-4)
    assert history["gradient_norm/outputs"][0] == pytest.approx(np.sqrt(sum(np.sum(g**2) for g in wanted[3:])), rel=1e-4)


def test_monitor_counts_clipped_steps_of_each_epoch():
    model, x, y = recurrent_model(optimizer=gradients.SGD(1e-3, clip_threshold=1e-6))
    history = model.fit(x, y, epochs=2, batch_size=16, verbose=0, callbacks=[GradientMonitor()]).history
    assert history["clipped_fraction"] == [1.0, 1.0]
    assert float(model.optimizer.epoch_steps) == 4


def warnings_of(caplog, model, x, y, **fit):
    with caplog.at_level(logging.WARNING):
        model.fit(x, y, verbose=0, callbacks=[GradientMonitor()], **fit)
    return [record.getMessage() for record in caplog.records]


def test_vanishing_gradient_is_named_and_a_gated_net_is_not_accused(caplog):
    model, x, y = recurrent_model(num_layers=5, cell="rnn", length=3)
    for layer in model.layers:  # weights a tenth of their size: the gradient shrinks tenfold from layer to layer
        layer.set_weights([w * 0.1 for w in layer.get_weights()])
    messages = warnings_of(caplog, model, x, y)
    assert any("Vanishing gradient: layer recurrent_rnn_1 " in message and "residual" in message for message in messages)
    caplog.clear()
    messages = warnings_of(caplog, *recurrent_model(num_layers=2, cell="lstm"))
    assert not any("Vanishing" in message for message in messages)


def test_exploding_gradient_is_reported_with_its_cure(caplog):
    model, x, y = recurrent_model(cell="gru", optimizer=gradients.SGD(1e-6, clipping="none"))
    y[0] = 1e4  # one of 64 batches
    messages = warnings_of(caplog, model, x, y, batch_size=1, epochs=2, shuffle=False)
    assert messages == [message for message in messages if "--clipping global_norm" in message]
    assert messages[0].startswith("Exploding gradient: norm ")


def test_constant_clipping_is_reported(caplog):
    model, x, y = recurrent_model(optimizer=gradients.SGD(1e-3, clip_threshold=1e-6))
    assert "100% of the steps were clipped" in warnings_of(caplog, model, x, y)[0]


def test_a_healthy_run_is_not_warned_of(caplog):
    """Adam divides by the gradient's size, so a low threshold does no harm; and a step below the threshold does not explode."""
    model, x, y = recurrent_model(cell="gru", optimizer=gradients.Adam(1e-3, clip_threshold=1e-6))
    assert warnings_of(caplog, model, x, y) == []
    model, x, y = recurrent_model(cell="gru", optimizer=gradients.Adam(1e-6, clip_threshold=100.0))
    x *= 1e-3
    y *= 1e-3
    y[0] = 10.0  # far above the mean, far below the threshold
    assert warnings_of(caplog, model, x, y, batch_size=1, epochs=2, shuffle=False) == []


def test_nan_stops_training_and_names_layer_and_step():
    model, x, y = recurrent_model(cell="gru", num_layers=2, optimizer=gradients.Adam(1e-3))
    before = model.get_weights()
    y[45] = np.nan  # 64 rows in batches of 4: the 12th step, between two looks
    with pytest.raises(NotFinite, match=r"at step 11: it entered from the loss at the last layer, outputs"):
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[GradientMonitor()])
    assert all(np.all(np.isfinite(w)) for w in model.get_weights())
    assert any(np.any(w != b) for w, b in zip(model.get_weights(), before, strict=True))


def test_nan_in_a_weight_names_its_layer():
    model, x, y = recurrent_model(cell="gru", num_layers=2)
    kernel, *rest = model.get_layer("recurrent_gru_2").get_weights()
    kernel[0, 0] = np.nan
    model.get_layer("recurrent_gru_2").set_weights([kernel, *rest])
    with pytest.raises(NotFinite, match="at step 0: the weights of layer recurrent_gru_2 are not finite"):
        model.fit(x, y, verbose=0, callbacks=[GradientMonitor()])


def test_infinite_gradient_inside_names_the_layer_where_it_came_up():
    inputs = keras.Input((1,))
    hidden = layers.Dense(1, name="first", kernel_initializer="zeros")(inputs)
    outputs = layers.Dense(1, name="second")(ops.sqrt(hidden))  # the slope of sqrt at 0 is infinite
    model = keras.Model(inputs, outputs)
    model.compile(gradients.SGD(1e-3), "mse")
    with pytest.raises(NotFinite, match="it came up in layer first"):
        model.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0, callbacks=[GradientMonitor()])


def test_monitor_refuses_an_optimizer_that_does_not_measure():
    model, x, y = recurrent_model(optimizer=keras.optimizers.Adam())
    with pytest.raises(TypeError, match=r"needs an optimizer of shared.gradients .*; got Adam"):
        model.fit(x, y, verbose=0, callbacks=[GradientMonitor()])
