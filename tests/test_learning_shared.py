"""What the shared layer has to reach: what measuring costs, and what gates recall. Minutes: make test-all."""

import time

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from shared import gradients, recall, rnn

pytestmark = pytest.mark.slow
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.speed
def test_measuring_gradients_costs_at_most_three_percent_of_a_step(step_times):
    """The same net with Keras's Adam and with ours, measuring, clipping and monitored; both take turns."""

    def make(optimizer):
        ids = keras.Input((200,), dtype="int32")
        x = keras.layers.Embedding(20_000, 128)(ids)
        x = rnn.recurrent_stack(x, cell="gru", units=64, bidirectional=True, return_sequences=False)
        network = keras.Model(ids, keras.layers.Dense(2)(x))
        network.compile(optimizer, CROSS_ENTROPY, jit_compile=False)
        return network

    plain = make(keras.optimizers.Adam(global_clipnorm=1.0))
    measured = make(gradients.Adam(clipping="global_norm", clip_threshold=1.0))
    rng = np.random.default_rng(0)
    rows = tf.data.Dataset.from_tensors((rng.integers(1, 20_000, (64, 200)), rng.integers(0, 2, 64))).repeat()
    monitor = gradients.GradientMonitor()
    turns = [(step_times(measured, rows, 21, [monitor]), step_times(plain, rows, 21)) for _ in range(10)]
    ratios = [np.mean(ours) / np.mean(theirs) for ours, theirs in turns[1:]]  # the first turn traces
    print(f"measured / plain step time: {np.median(ratios):.3f} (median of 9, {min(ratios):.3f} to {max(ratios):.3f})")
    assert np.median(ratios) < 1.03


@pytest.mark.speed
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_training_step_beside_one_of_pytorch(cell, step_times):
    """The same network, 128 units over 100 steps of 64 features, in batches of 64; both take turns."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    batch, time_steps, features, units = 64, 100, 64, 128
    inputs = keras.Input((time_steps, features))
    x = rnn.recurrent_stack(inputs, cell=cell, units=units, return_sequences=False)
    network = keras.Model(inputs, keras.layers.Dense(10)(x))
    network.compile(gradients.Adam(clipping="global_norm", clip_threshold=1.0), CROSS_ENTROPY, jit_compile=False)
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(batch, time_steps, features)).astype("float32"), rng.integers(0, 10, batch)
    rows = tf.data.Dataset.from_tensors((values, labels)).repeat()

    layer = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](features, units, batch_first=True)
    head = torch.nn.Linear(units, 10)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters)
    their_values, their_labels = torch.from_numpy(values), torch.from_numpy(labels)

    def their_step() -> float:
        started = time.perf_counter()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(head(layer(their_values)[0][:, -1]), their_labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return time.perf_counter() - started

    turns = [(np.median(step_times(network, rows, 16)), np.median([their_step() for _ in range(15)])) for _ in range(6)][1:]
    ratios = [ours / theirs for ours, theirs in turns]
    ours, theirs = np.median(turns, axis=0) * 1000
    print(f"a step of a {cell}: {ours:.1f} ms, PyTorch {theirs:.1f} ms; {np.median(ratios):.2f} times (median of 5)")
    assert np.isfinite(ratios).all()


def test_gates_recall_what_a_plain_recurrence_forgets_and_clipping_helps_it():
    table = pd.read_csv(recall.compare(recall.Config()) / "table.csv").set_index(["network", "clipping"])
    assert table.loc[("GRU", "global_norm"), "lag 100"] > 0.95
    assert table.loc[("SimpleRNN", "none"), "lag 100"] < 0.3
    assert table.loc[("SimpleRNN", "global_norm"), "lag 5"] > table.loc[("SimpleRNN", "none"), "lag 5"] + 0.2
    assert table.loc[("SimpleRNN", "global_norm"), "decay before"] < 0.95
    assert table.loc[("SimpleRNN, ReLU from identity", "global_norm"), "decay before"] > 0.98
