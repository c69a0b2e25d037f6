"""What the shared layer has to reach: what measuring costs, and what gates recall. Minutes: make test-all."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from shared import gradients, recall, rnn

pytestmark = pytest.mark.slow
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


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


def test_gates_recall_what_a_plain_recurrence_forgets_and_clipping_helps_it():
    table = pd.read_csv(recall.compare(recall.Config()) / "table.csv").set_index(["network", "clipping"])
    assert table.loc[("GRU", "global_norm"), "lag 100"] > 0.95
    assert table.loc[("SimpleRNN", "none"), "lag 100"] < 0.3
    assert table.loc[("SimpleRNN", "global_norm"), "lag 5"] > table.loc[("SimpleRNN", "none"), "lag 5"] + 0.2
    assert table.loc[("SimpleRNN", "global_norm"), "decay before"] < 0.95
    assert table.loc[("SimpleRNN, ReLU from identity", "global_norm"), "decay before"] > 0.98
