"""What the shared layer has to reach: what measuring costs. Minutes: make test-all."""

import importlib.util
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from shared import gradients, rnn
from shared.gradient_monitor import GradientMonitor

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
    monitor = GradientMonitor()
    turns = [(step_times(measured, rows, 21, [monitor]), step_times(plain, rows, 21)) for _ in range(10)]
    ratios = [np.mean(ours) / np.mean(theirs) for ours, theirs in turns[1:]]  # the first turn traces
    print(f"measured / plain step time: {np.median(ratios):.3f} (median of 9, {min(ratios):.3f} to {max(ratios):.3f})")
    assert np.median(ratios) < 1.03


PYTORCH = """
import sys, time
import numpy as np
import torch

cell, (batch, time_steps, features, units) = sys.argv[1], map(int, sys.argv[2:])
layer = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](features, units, batch_first=True)
head = torch.nn.Linear(units, 10)
parameters = [*layer.parameters(), *head.parameters()]
optimizer = torch.optim.Adam(parameters)
values, labels = torch.randn(batch, time_steps, features), torch.randint(10, (batch,))
seconds = []
for _ in range(30):
    started = time.perf_counter()
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(head(layer(values)[0][:, -1]), labels).backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    seconds.append(time.perf_counter() - started)
print(np.median(seconds[5:]))
"""


@pytest.mark.speed
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_training_step_takes_at_most_three_times_as_long_as_pytorchs(cell, step_times):
    """128 units over 100 steps of 64 features, batches of 64, clipped; PyTorch in a process of its own, both take turns."""
    sizes = batch, time_steps, features, units = 64, 100, 64, 128
    inputs = keras.Input((time_steps, features))
    x = rnn.recurrent_stack(inputs, cell=cell, units=units, return_sequences=False)
    network = keras.Model(inputs, keras.layers.Dense(10)(x))
    network.compile(gradients.Adam(clipping="global_norm", clip_threshold=1.0), CROSS_ENTROPY, jit_compile=False)
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(batch, time_steps, features)).astype("float32"), rng.integers(0, 10, batch))
    rows = tf.data.Dataset.from_tensors(rows).repeat()
    command = [sys.executable, "-c", PYTORCH, cell, *map(str, sizes)]

    def theirs() -> float:
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    turns = [(np.median(step_times(network, rows, 31)[5:]), theirs()) for _ in range(3)]
    ratio = np.median([ours / other for ours, other in turns])
    ours, other = 1000 * np.median(turns, axis=0)
    print(f"a step of a {cell}: {ours:.1f} ms, PyTorch {other:.1f} ms; {ratio:.2f} times (median of 3)")
    assert ratio < 3
