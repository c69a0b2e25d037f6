"""What is written for TensorBoard beside the epochs' figures, read back from its files."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from tensorboard.plugins.hparams import plugin_data_pb2

from shared import gradients, tensorboard


def read(folder):
    """Tag, step and value of everything that lies in a folder of TensorBoard's."""
    return [
        (value.tag, event.step, value)
        for file in sorted(folder.glob("events*"))
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]


def test_a_spike_between_two_points_is_seen_and_the_last_batches_too(tmp_path):
    """The gradient norm of each of 25 batches is the number that is in it; points stand at batches 0, 10, 20, and the end."""
    norms = np.linspace(1, 2, 25)
    norms[[7, 13, 23]] = 70.0, 4.34, 10.0
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(gradients.SGD(0.0, clipping="none"), loss=lambda y, p: ops.sum(p, axis=-1))
    batches = tf.data.Dataset.from_tensor_slices((norms[:, None], np.zeros((25, 1)))).batch(1)
    model.fit(batches, shuffle=False, verbose=0, callbacks=[tensorboard.BatchScalars(tmp_path)])
    found = [(tag, step, tf.make_ndarray(value.tensor).item()) for tag, step, value in read(tmp_path)]
    expected = [(1, 1.0), (11, 70.0), (21, 4.34), (25, 10.0)]
    assert [(step, value) for tag, step, value in found if tag == "batch_gradient_norm_max"] == [
        (step, pytest.approx(norm, rel=1e-5)) for step, norm in expected
    ]
    assert [value for tag, _, value in found if tag == "batch_gradient_norm_max_log10"] == [
        pytest.approx(math.log10(norm), abs=1e-5) for _, norm in expected
    ]


def test_the_hparams_tab_has_settings_of_all_groups_and_the_result(tmp_path):
    config = {"preset": "smoke", "data": None, "pooling": ["max", "mean"], "recurrent": {"units": 8, "bidirectional": True}}
    (tmp_path / "config.json").write_text(json.dumps(config | {"training": {"learning_rate": 0.001, "resume": True}}))
    metrics = {
        "app": "toy",
        "metric": "accuracy",
        "split": "test",
        "validation": {"network": {"accuracy": 0.75}},
        "test": {"network": {"accuracy": 0.5, "auc": 0.6}, "baseline": {"accuracy": 0.625, "auc": 0.7}},
        "train_seconds": 90.0,
        "parameters": 10,
    }
    tensorboard.hparams_to_tensorboard(tmp_path, metrics)
    written = {tag: value for tag, _, value in read(tmp_path / "logs" / "report")}
    start = written["_hparams_/session_start_info"].metadata.plugin_data.content
    hparams = plugin_data_pb2.HParamsPluginData.FromString(start).session_start_info.hparams
    assert {name: getattr(value, value.WhichOneof("kind")) for name, value in hparams.items()} == {
        "app": "toy",
        "preset": "smoke",
        "data": "none",
        "pooling": "max mean",
        "units": 8,
        "bidirectional": True,
        "learning_rate": 0.001,
    }
    result = {tag: tf.make_ndarray(value.tensor).item() for tag, value in written.items() if tag.startswith("result/")}
    assert result == {
        "result/validation_accuracy": 0.75,
        "result/test_accuracy": 0.5,
        "result/baseline": 0.625,
        "result/minutes": 1.5,
        "result/parameters": 10,
    }
