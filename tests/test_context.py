"""A state that is reset against networks that are fed pieces; the losses against NumPy's."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from shared import context, rnn
from shared.context import context_needed, losses_by_context, reset_every
from shared.directions import with_recurrence
from shared.plots import plt

WATCHED = True

X = np.random.default_rng(0).normal(size=(3, 10, 2)).astype("float32")


def stack(**options) -> keras.Model:
    """From a sequence and its mask to what the options make of it."""
    inputs, mask = keras.Input((None, 2), name="sequence"), keras.Input((None,), dtype="bool", name="mask")
    return keras.Model({"sequence": inputs, "mask": mask}, rnn.recurrent_stack(inputs, units=4, mask=mask, **options))


def run(model: keras.Model, sequence: np.ndarray, lengths=None) -> np.ndarray:
    mask = np.arange(sequence.shape[1]) < np.reshape(sequence.shape[1] if lengths is None else lengths, (-1, 1))
    return np.array(model({"sequence": sequence, "mask": np.broadcast_to(mask, sequence.shape[:2])}))


@pytest.mark.parametrize(("cell", "steps"), [("rnn", 5), ("gru", 1), ("gru", 16), ("lstm", 3)])
def test_the_last_output_has_seen_the_last_steps_alone(cell, steps):
    model = stack(cell=cell, num_layers=2, return_sequences=False)
    np.testing.assert_allclose(run(reset_every(model, steps), X), run(model, X[:, -steps:]), atol=1e-6)


def test_a_layer_that_returns_its_last_output_alone_hands_on_the_last_blocks_state():
    inputs = keras.Input((None, 2))
    model = keras.Model(inputs, keras.layers.LSTM(4, return_state=True)(inputs))
    for found, expected in zip(reset_every(model, 3)(X), model(X[:, -3:]), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_last_of_both_directions_has_seen_so_many_steps_of_its_own():
    model = stack(cell="gru", bidirectional=True, return_sequences=False)
    expected = np.concatenate([run(model, X[:, -3:])[:, :4], run(model, X[:, :3])[:, 4:]], axis=1)
    np.testing.assert_allclose(run(reset_every(model, 3), X), expected, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_sequence_is_that_of_its_pieces(bidirectional):
    model = stack(cell="gru", num_layers=2, bidirectional=bidirectional)
    expected = np.concatenate([run(model, X[:, :5]), run(model, X[:, 5:])], axis=1)
    np.testing.assert_allclose(run(reset_every(model, 5), X), expected, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_rows_that_the_mask_shortens_are_as_if_alone(bidirectional):
    model = reset_every(stack(cell="lstm", bidirectional=bidirectional), 3)
    found = run(model, X, lengths=[4, 10, 7])
    for row, length in enumerate([4, 10, 7]):
        np.testing.assert_allclose(found[row, :length], run(model, X[row : row + 1, :length])[0], atol=1e-6)


@pytest.mark.parametrize("lengths", [[10, 10, 10], [4, 10, 7]])
def test_a_state_passed_in_is_that_before_the_first_block(lengths):
    inputs, mask = keras.Input((None, 2), name="sequence"), keras.Input((None,), dtype="bool", name="mask")
    state = keras.Input((4,), name="state")
    outputs = keras.layers.GRU(4, return_sequences=True)(inputs, initial_state=state, mask=mask)
    model = keras.Model({"sequence": inputs, "mask": mask, "state": state}, outputs)
    given = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")
    found = reset_every(model, 3)({"sequence": X, "mask": np.arange(10) < np.reshape(lengths, (3, 1)), "state": given})
    for row, length in enumerate(lengths):
        start = 0
        for end in range((length - 1) % 3 + 1, length + 1, 3):  # blocks are counted from the row's last step
            piece = {"sequence": X[row : row + 1, start:end], "mask": np.ones((1, end - start), bool)}
            expected = model(piece | {"state": given[row : row + 1] * (start == 0)})
            np.testing.assert_allclose(found[row, start:end], expected[0], atol=1e-6)
            start = end


@pytest.mark.parametrize("merge", ["sum", "ave", "mul"])
def test_both_directions_are_merged_as_keras_merges_them(merge):
    inputs = keras.Input((10, 2))
    layer = keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True), merge_mode=merge)
    model = keras.Model(inputs, layer(inputs))
    np.testing.assert_allclose(reset_every(model, 10)(X), model(X), atol=1e-6)


def test_losses_of_the_last_step_are_those_of_shorter_sequences():
    model = stack(cell="gru", return_sequences=False)
    inputs, loss = {"sequence": X, "mask": np.ones((3, 10), bool)}, lambda targets, h: ops.sum((h - targets) ** 2, axis=1)
    found = losses_by_context({3: reset_every(model, 3), 10: model}, inputs, 0.5, loss)
    assert found == pytest.approx({k: np.mean(np.sum((run(model, X[:, -k:]) - 0.5) ** 2, axis=1)) for k in (3, 10)})


def test_losses_of_every_step_are_compared_where_a_block_ends():
    """With blocks of three steps of ten, those end at steps 3, 6 and 9, counted from 0; what ends at step 0 is no whole one."""
    model = stack(cell="gru")
    inputs, loss = {"sequence": X, "mask": np.ones((3, 10), bool)}, lambda targets, h: ops.sum((h - targets) ** 2, axis=2)
    found = losses_by_context({3: reset_every(model, 3), 10: model}, inputs, 0.5, loss)
    whole = np.sum((run(model, X) - 0.5) ** 2, axis=2)
    more = [np.sum((run(model, X[:, end - 2 : end + 1])[:, -1] - 0.5) ** 2, axis=1) - whole[:, end] for end in (3, 6, 9)]
    assert found == pytest.approx({3: whole.mean() + np.mean(more), 10: whole.mean()})


def test_context_needed_is_the_shortest_within_1_percent():
    assert context_needed({1: 2.0, 2: 1.5, 4: 1.0099, 8: 1.2, 10: 1.0}) == 4
    assert context_needed({1: 2.0, 2: 1.02, 3: 1.0}) == 3
    assert context_needed({1: 1.0}) == 1


def test_what_has_no_recurrence_is_refused():
    inputs = keras.Input((5, 2))
    with pytest.raises(ValueError, match="no recurrent layer"):
        with_recurrence(keras.Model(inputs, keras.layers.Dense(1)(inputs)), None)


def test_callback_draws_the_kept_epoch(tmp_path):
    inputs = keras.Input((5, 2))
    model = keras.Model(inputs, keras.layers.GRU(3)(inputs))
    callback = context.LossByContext(X[:, :5], 0.0, lambda _, h: ops.sum(h**2, axis=1), 5, tmp_path)
    callback.set_model(model)
    (tmp_path / "plots").mkdir()
    callback.on_epoch_end(0)
    assert not [*tmp_path.rglob("*.png")]
    expected = losses_by_context({1: reset_every(model, 1), 2: reset_every(model, 2), 5: model}, *callback.batch)
    callback.write_plots()
    assert (tmp_path / "plots" / "loss_by_context.png").exists()
    [events] = (tmp_path / "logs" / "report").glob("events*")
    logged = [value for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value]
    assert [(one.tag, tf.make_ndarray(one.tensor)) for one in logged] == [
        ("3_recurrence/context_needed", context_needed(expected))
    ]
    _, axes = plt.subplots()
    context.plot_losses(axes, expected)
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [*expected.values()])
    plt.close()
