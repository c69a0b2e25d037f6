"""Truncated backpropagation through time against NumPy's own, one long pass, and counting."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from shared import bptt, checkpoints, gradients, rnn


@pytest.mark.parametrize(("documents", "batch_size", "length"), [([1000], 4, 16), ([50, 1, 7, 300, 2, 64], 3, 10), ([5], 2, 9)])
def test_every_character_but_a_documents_first_is_a_target_once(documents, batch_size, length):
    windows = bptt.contiguous_windows(np.array(documents), batch_size, length)
    ids = np.arange(sum(documents))
    targets = [y[w > 0] for _, y, w in bptt.contiguous_batches(ids, windows, length).as_numpy_iterator()]
    firsts = np.cumsum([0, *documents])[:-1]
    np.testing.assert_array_equal(np.sort(np.concatenate(targets)), np.setdiff1d(ids, firsts))


def test_rows_go_on_from_batch_to_batch_and_targets_are_one_later():
    windows = bptt.contiguous_windows(np.array([200, 90]), 4, 8)
    before = None
    for (x, y, w), fresh in zip(bptt.contiguous_batches(np.arange(290), windows, 8), windows.fresh, strict=True):
        x, y, w = x.numpy(), y.numpy(), w.numpy()
        np.testing.assert_array_equal(y[w > 0], x[w > 0] + 1)
        if before is not None:
            goes_on = ~fresh & (w[:, 0] > 0)
            np.testing.assert_array_equal(x[goes_on, 0], before[goes_on] + 1)
        before = x[:, -1]


def test_windows_are_those_drawn_in_the_docstring():
    text = np.array([ord(letter) for letter in "abcdefghijklmnopQRSTUVWX"])
    windows = bptt.contiguous_windows(np.array([16, 8]), 2, 3)
    streams = [[], []]
    for x, _, weights in bptt.contiguous_batches(text, windows, 3).as_numpy_iterator():
        for stream, row, weight in zip(streams, x, weights, strict=True):
            stream.append("".join(map(chr, row[weight > 0])))
    assert streams == [["abc", "def", "ghi", "jkl"], ["mno", "QRS", "TUV", "W"]]
    assert windows.fresh.T.tolist() == [[True, False, False, False], [False, True, False, False]]


def build_stateful(cell="rnn", batch_size=2, length=6, **stack):
    ids = keras.Input(batch_shape=(batch_size, length), dtype="int32")
    x = keras.layers.Embedding(11, 5)(ids)
    x = rnn.recurrent_stack(x, cell=cell, units=7, stateful=True, **stack)
    return keras.Model(ids, keras.layers.Dense(11)(x))


def truncated_gradients_in_numpy(weights, ids, targets, window):
    """Loss of a SimpleRNN summed over all steps and its gradients; they do not flow past the start of a window."""
    embedding, kernel, recurrent, bias, out, out_bias = weights
    grads = [np.zeros_like(w) for w in weights]
    h, trace = np.zeros((len(ids), recurrent.shape[0])), []
    for t in range(ids.shape[1]):
        before, h = h, np.tanh(embedding[ids[:, t]] @ kernel + h @ recurrent + bias)
        logits = h @ out + out_bias
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        p[np.arange(len(ids)), targets[:, t]] -= 1
        trace.append((before, h, p))
    back = np.zeros_like(h)
    for t in reversed(range(ids.shape[1])):
        before, h, p = trace[t]
        grads[4] += h.T @ p
        grads[5] += p.sum(axis=0)
        back = (p @ out.T + back) * (1 - h**2)
        grads[3] += back.sum(axis=0)
        grads[2] += before.T @ back
        grads[1] += embedding[ids[:, t]].T @ back
        np.add.at(grads[0], ids[:, t], back @ kernel.T)
        back = back @ recurrent.T if t % window else np.zeros_like(h)
    return grads


@pytest.mark.parametrize("window", [12, 4])
def test_gradients_are_full_within_a_window_and_cut_at_its_start(window):
    """With a window as long as the sequence, that is full backpropagation through time."""
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, 11, (2, 12)), rng.integers(0, 11, (2, 12))
    model = build_stateful(length=window)
    expected = truncated_gradients_in_numpy(model.get_weights(), ids, targets, window)
    got = [np.zeros(w.shape) for w in model.trainable_weights]
    for start in range(0, 12, window):
        piece = slice(start, start + window)
        with tf.GradientTape() as tape:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")(
                targets[:, piece], model(ids[:, piece])
            )
        gradients_ = tape.gradient(loss, [w.value for w in model.trainable_weights])
        for total, gradient in zip(got, gradients_, strict=True):
            total += tf.convert_to_tensor(gradient).numpy()
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_chunks_with_carried_state_give_the_outputs_of_one_long_pass(cell):
    ids = np.random.default_rng(0).integers(0, 11, (2, 30))
    short, long = build_stateful(cell, num_layers=2), build_stateful(cell, length=30, num_layers=2)
    long.set_weights(short.get_weights())
    chunks = [short(ids[:, start : start + 6]) for start in range(0, 30, 6)]
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), long(ids), atol=1e-5)


class StatesAt(keras.callbacks.Callback):
    """What the states are before each training step and at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(bptt.read_states(self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(bptt.read_states(self.model))


class Killed(Exception):
    """Stands for the power going out."""


class KillBeforeLastBatch(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 6:
            raise Killed


def test_a_run_killed_within_an_epoch_goes_on_with_the_state_it_had(tmp_path, monkeypatch):
    whole, *_ = fitted(False, epochs=1)
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", 0)
    resume = checkpoints.Resume(tmp_path, {}, restore=False)
    with pytest.raises(Killed):
        fitted(False, epochs=1, extra=[resume, KillBeforeLastBatch()])
    resumed, *_ = fitted(False, epochs=1, extra=[checkpoints.Resume(tmp_path, {}, restore=True)])
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(bptt.read_states(whole), bptt.read_states(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


def fitted(validate, documents=(100,), epochs=2, extra=()):
    keras.utils.set_random_seed(0)
    ids = np.random.default_rng(0).integers(0, 11, sum(documents))
    windows = bptt.contiguous_windows(np.array(documents), 2, 6)
    batches = bptt.contiguous_batches(ids, windows, 6)
    model = build_stateful("lstm")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    nats = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="nats")
    model.compile(gradients.Adam(), loss, weighted_metrics=[nats], jit_compile=False)
    states = StatesAt()
    model.fit(
        batches,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=batches if validate else None,
        callbacks=[bptt.TruncatedBPTT(windows, windows), states, *extra],
    )
    return model, states.seen, windows, ids


def test_validation_leaves_the_training_state_untouched():
    (with_validation, seen, *_), (without, seen_without, *_) = fitted(True), fitted(False)
    for one, other in zip(with_validation.get_weights(), without.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(seen, seen_without, strict=True):
        np.testing.assert_array_equal(one, other)


def test_state_starts_an_epoch_at_zero_and_is_carried_within_it():
    _, seen, windows, _ = fitted(True)
    steps = len(windows.starts) + 1  # and the end of the epoch
    for number, states in enumerate(seen):
        assert all(np.any(state) == bool(number % steps) for state in states)


def test_state_is_zero_in_the_rows_where_a_document_begins():
    _, seen, windows, _ = fitted(False, documents=(40, 30, 30))
    fresh = windows.fresh
    assert fresh[1:].any()
    for step, states in enumerate(seen[: len(fresh)]):
        for state in states:
            zero = ~np.any(state, axis=1)
            np.testing.assert_array_equal(zero, fresh[step] | (step == 0))


def test_evaluation_of_documents_side_by_side_is_that_of_each_alone():
    model, _, windows, ids = fitted(False, documents=(30, 30, 30, 30))  # two documents a stream
    batches, callbacks = bptt.contiguous_batches(ids, windows, 6), [bptt.TruncatedBPTT(validation=windows)]
    together = model.evaluate(batches, callbacks=callbacks, verbose=0, return_dict=True)["nats"]
    alone = build_stateful("lstm", batch_size=1, length=29)
    alone.set_weights(model.get_weights())
    nats = []
    for document in np.split(ids, 4):
        bptt.reset_states(alone)
        logits = alone(document[None, :-1])
        nats.extend(keras.ops.sparse_categorical_crossentropy(document[None, 1:], logits, from_logits=True).numpy()[0])
    assert together == pytest.approx(np.mean(nats), abs=1e-5)


def test_a_missing_need_of_the_callback_is_named():
    windows = bptt.contiguous_windows(np.array([9]), 2, 3)
    model = keras.Sequential([keras.Input((3, 2)), keras.layers.GRU(2)])
    model.compile(gradients.Adam(), "mse")
    rows = np.zeros((2, 3, 2)), np.zeros((2, 2))
    with pytest.raises(ValueError, match="stateful=True"):
        model.fit(*rows, verbose=0, callbacks=[bptt.TruncatedBPTT(windows)])
    with pytest.raises(ValueError, match="stateful=True"):
        model.evaluate(*rows, verbose=0, callbacks=[bptt.TruncatedBPTT(validation=windows)])
    with pytest.raises(ValueError, match=r"validation=.* is needed"):
        model.evaluate(*rows, verbose=0, callbacks=[bptt.TruncatedBPTT(windows)])


def test_another_backend_is_refused(monkeypatch):
    """Keras's JAX trainer keeps the state outside the model: every window would start from zero without a message."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="needs Keras's TensorFlow backend; got jax"):
        bptt.TruncatedBPTT()
