"""What is written for TensorBoard beside the epochs' figures, read back from its files."""

import json
import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from tensorboard.plugins.hparams import plugin_data_pb2

from shared import callbacks, gradients, tensorboard
from shared.checkpoints import BestWeights
from shared.gradient_monitor import GradientMonitor, UpdateMonitor


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
    assert [(step, value) for tag, step, value in found if tag == "4_gradients/batch_gradient_norm_max"] == [
        (step, pytest.approx(norm, rel=1e-5)) for step, norm in expected
    ]
    assert [value for tag, _, value in found if tag == "4_gradients/batch_gradient_norm_max_log10"] == [
        pytest.approx(math.log10(norm), abs=1e-5) for _, norm in expected
    ]


def fit_two_epochs(folder, callbacks):
    """A linear model, whose only weight a step of gradient descent moves by 0.1 of the batch's mean input."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="dense")]
    )
    model.compile(gradients.SGD(0.1, clipping="none"), loss=lambda y, p: ops.sum(p, axis=-1))
    x = np.array([[1.0], [2.0], [3.0]])
    best = BestWeights(folder, "val_loss")
    callbacks = [*callbacks, best, tensorboard.EpochScalars(folder, best, {"accuracy": 0.25})]
    return model.fit(
        *(x, x), batch_size=1, epochs=2, shuffle=False, verbose=0, validation_data=(x[:1], x[:1]), callbacks=callbacks
    ).history


def test_epochs_are_written_in_groups_beside_the_baseline_and_the_epoch_that_is_kept(tmp_path):
    history = fit_two_epochs(tmp_path, [GradientMonitor()])
    scalars = {
        part: [
            (tag, step, pytest.approx(tf.make_ndarray(value.tensor).item(), rel=1e-6))
            for tag, step, value in read(tmp_path / "logs" / part)
            if value.metadata.plugin_data.plugin_name == "scalars"
        ]
        for part in ("train", "validation", "kept", "baseline")
    }
    assert [one for one in scalars["train"] if one[0] == "2_loss/loss"] == [
        ("2_loss/loss", step, loss) for step, loss in enumerate(history["loss"])
    ]
    assert {tag for tag, _, _ in scalars["train"]} == {
        "2_loss/loss",
        *(f"4_gradients/{name}" for name in ("gradient_norm", "gradient_norm_max", "clipped_fraction", "gradient_norm/dense")),
    }
    assert scalars["validation"] == [("2_loss/loss", step, loss) for step, loss in enumerate(history["val_loss"])]
    assert scalars["kept"] == [("2_loss/loss", 1, history["val_loss"][1])]
    assert scalars["baseline"] == [("1_quality/accuracy", step, 0.25) for step in (0, 1)]


def test_a_chart_of_the_layout_shows_the_tags_of_all_layers():
    charts = {chart.title: chart.multiline.tag[0] for part in tensorboard.layout().category for chart in part.chart}
    for name in ("gradient_norm/logits", "gradient_norm/recurrent_gru_1"):
        assert re.match(charts["gradient norm"], tensorboard.tag(name))
    assert not re.match(charts["gradient norm"], tensorboard.tag("gradient_norm"))
    assert re.match(charts["update as a fraction of the weights"], tensorboard.tag("update_ratio/logits"))
    assert re.match(charts["quality"], tensorboard.tag("nats_per_character"))
    assert re.match(charts["loss"], tensorboard.tag("log_loss"))


def test_updates_are_measured_in_the_middle_step(tmp_path):
    """The weight starts at 1 and loses 0.1, 0.2, 0.3 in each epoch."""
    history = fit_two_epochs(tmp_path, [UpdateMonitor()])
    assert history["weight_norm/dense"] == pytest.approx([0.7, 0.1], rel=1e-5)
    assert history["update_ratio/dense"] == pytest.approx([0.2 / 0.7, 0.2 / 0.1], rel=1e-4)


def test_speed_is_examples_over_seconds_without_the_first_batch(tmp_path, monkeypatch):
    now = iter([100.0, 100.5, 102.0, 200.0, 201.0, 201.5])
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(now))
    history = fit_two_epochs(tmp_path, [callbacks.Speed(batch_size=8)])
    assert history["examples_per_second"] == pytest.approx([8 * 2 / 2.0, 8 * 2 / 1.5])
    assert history["learning_rate"] == pytest.approx([0.1, 0.1])


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
    assert '"pooling"' in written["settings"].tensor.string_val[0].decode()
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
