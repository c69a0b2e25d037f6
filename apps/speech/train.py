"""Train on spoken words, evaluate, report: make speech."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from sklearn.pipeline import Pipeline

from apps.speech import audio, augment, explain, report, stream, tracks, watch
from apps.speech.answers import ConfusionMatrix
from apps.speech.baseline import fit_baseline, statistics
from apps.speech.config import Config
from apps.speech.data import Clips, Speech
from apps.speech.export import exportable
from apps.speech.model import build_features, build_model, build_servable, coefficient_statistics
from apps.speech.predict import load_streamer
from shared import checkpoints, export, kernels, runs, training
from shared.batches import count_batches
from shared.classification import measure
from shared.comparison import paired_bootstrap
from shared.environment import environment
from shared.inference import OnnxModel
from shared.report import announce, print_table, scores

LABEL_SMOOTHING = 0.1


@dataclass(frozen=True)
class Experiment(training.Experiment):
    """What `prepare` returns, with what `evaluate` needs beside the network."""

    features: keras.Model  # from waveforms to spectrogram and coefficients
    baseline: Pipeline
    confusion: ConfusionMatrix  # a metric of the network


def prepare(config: Config, speech: Speech) -> Experiment:
    """Everything before the first step: features, baseline, batches, the compiled network."""
    # 1. Features and baseline
    strategy = training.setup(config.training)
    names, sizes = speech.train.class_names, [len(part.labels) for part in (speech.train, speech.validation, speech.test)]
    print(f"{speech.name}: {sizes[0]} clips to train, {sizes[1]} to validate, {sizes[2]} to test: {', '.join(names)}.")
    features = build_features(config)
    baseline = fit_baseline(features, speech.train, speech.validation)

    # 2. Batches, augmented while the network computes the one before
    replicas, batch_size = strategy.num_replicas_in_sync, config.training.batch_size
    steps = count_batches(sizes[0], batch_size, replicas)
    validation_batches = augment.evaluation_batches(speech.validation, batch_size, replicas)

    def batches(first_epoch: int) -> tf.data.Dataset:
        return augment.training_batches(speech.train, speech.noise, config, first_epoch, replicas)

    # 3. Network
    mean, variance = coefficient_statistics(features, speech.train.waveforms)
    with strategy.scope():
        network, confusion = build_model(config, len(names), mean, variance), ConfusionMatrix(len(names))
        network.compile(
            optimizer=training.make_optimizer(config.training, steps),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=LABEL_SMOOTHING),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy"), confusion],
            jit_compile=False,
        )
    return Experiment(speech, network, batches, steps, validation_batches, features, baseline, confusion)


def train(config: Config, speech: Speech) -> Path:
    """Train, evaluate once on test, and write the run folder. Returns its path."""
    experiment = prepare(config, speech)
    network = experiment.network
    with runs.open_run("speech", config, environment(speech)) as run:
        report.show_augmentation(run.path, config, experiment.features, speech)
        kernels.print_kernels(network)
        callbacks, resume = training.make_callbacks(run.path, "val_accuracy", config.training, score_baseline(experiment))
        watching = watch.callbacks(config, experiment, run.path)
        network.fit(
            experiment.batches(resume.first_epoch),
            epochs=resume.last_epoch(config.training.epochs),
            initial_epoch=resume.first_epoch,
            steps_per_epoch=experiment.steps,
            validation_data=experiment.validation_batches,
            shuffle=False,  # the batches come in an order of their own
            callbacks=[*watching, *callbacks],
            verbose=training.verbosity(),
        )
        checkpoints.restore_best(network, run.path)
        for pictures in watching:
            pictures.write_plots()
        servable = build_servable(network)
        servable.save(run.path / "model.keras")
        export.write_after_training("speech", run.path, lambda saved: exportable(config, saved, speech))
        evaluation, probabilities = evaluate(config, experiment, servable, load_streamer(run.path))
        metrics = training.describe("speech", config, experiment, resume) | evaluation
        draw_mistakes = partial(explain.draw_mistakes, run.path / "plots" / "mistakes.png", servable, config, speech.test)
        mistakes = report.write(run.path, metrics, speech.test, probabilities, draw_mistakes)
        report.write_tensorboard(run.path, config, mistakes, speech.test, experiment.features)
        path = run.finish(metrics)
    print_table(report.table_of_modes(metrics["stream"]), "Commands in a long recording, test", "mode")
    for warning in speech.warnings:
        print(f"warning: {warning}")
    announce(path, metrics, scores(metrics), "make speech-predict ARGS='clip.wav'")
    return path


def score_baseline(experiment: Experiment) -> dict[str, float]:
    """Of the baseline on validation what the network is followed by."""
    validation = experiment.data.validation
    return {"accuracy": experiment.baseline.score(statistics(experiment.features, validation), validation.labels)}


def evaluate(
    config: Config, experiment: Experiment, servable: keras.Model, streamer: OnnxModel | None
) -> tuple[dict, dict[str, np.ndarray]]:
    """Measure network and baseline on test, on which nothing is chosen; and the network on a stream of its clips.

    Returns:
        The part of metrics.json that is about quality, and the probabilities `(n, classes)` on test by who made them.
    """
    speech = experiment.data
    test, on_validation = speech.test, predict(servable, speech.validation)
    probabilities = {
        "network": predict(servable, test),
        "baseline": experiment.baseline.predict_proba(statistics(experiment.features, test)),
    }
    sources = stream.sources(config, test.class_names, servable.predict_on_batch, streamer)
    right = {who: found.argmax(axis=1) == test.labels for who, found in probabilities.items()}
    lead = paired_bootstrap(right["network"], right["baseline"], higher_is_better=True)
    evaluation = {
        "metric": "accuracy",
        "higher_is_better": True,
        "class_names": test.class_names,
        "warnings": speech.warnings,
        "validation": {"network": measure(speech.validation.labels, on_validation)},
        "test": {who: measure(test.labels, found) for who, found in probabilities.items()},
        "stream": tracks.evaluate(config, sources, speech.validation, test),
        **lead.describe("accuracy", "the baseline (logistic regression)"),
    }
    return evaluation, probabilities


def predict(model: keras.Model, clips: Clips) -> np.ndarray:
    """Probabilities `(n, classes)` of clips, in their order."""
    pieces = [clips.waveforms[start : start + 128] for start in range(0, len(clips.labels), 128)]
    return np.concatenate([model.predict_on_batch(audio.to_float(piece)) for piece in pieces])
