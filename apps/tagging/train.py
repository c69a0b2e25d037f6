"""Train on tagged sentences, evaluate, report: make tagging."""

from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from apps.tagging import report, scores, text, watch
from apps.tagging.baseline import Baseline
from apps.tagging.config import Config
from apps.tagging.export import exportable
from apps.tagging.model import build_model, loss_of
from apps.tagging.predict import VOCABULARY
from apps.tagging.validation import Decoded, ScoreValidation, decode
from apps.tagging.words import Vocabulary
from shared import checkpoints, export, kernels, runs, training
from shared.batches import batches_by_length, batches_in_order, count_batches
from shared.comparison import paired_bootstrap_of_totals
from shared.data import Splits
from shared.environment import environment
from shared.report import announce
from shared.report import scores as table_of_scores

NEXT = "make tagging-predict ARGS='\"Your own sentence.\"'"


@dataclass(frozen=True)
class Experiment(training.Experiment):
    """What `prepare` returns, with what `evaluate` needs beside the network."""

    vocabulary: Vocabulary
    validation_ids: dict[str, tf.RaggedTensor]
    baseline: Baseline


def prepare(config: Config, sentences: Splits) -> Experiment:
    """Everything before the first step: vocabulary, baseline, batches, the compiled network."""
    settings = config.training
    strategy = training.setup(settings)
    train, validation, _ = sentences[:3]
    print(f"{sentences.name}: {len(train.tokens):,} sentences to train, {len(validation.tokens):,} to validate.")
    print("Fitting the baseline, which takes a minute or two on large data ...", flush=True)
    baseline = Baseline(train)
    vocabulary = Vocabulary.learn(train.tokens, [*train.tag_names])
    ids, validation_ids = (text.vectorise(vocabulary, part.tokens) for part in (train, validation))
    tags, replicas = text.tag_ids(train), strategy.num_replicas_in_sync

    def batches(first_epoch: int) -> tf.data.Dataset:
        return batches_by_length(ids, tags, settings.batch_size, settings.seed, first_epoch, replicas)

    steps = count_batches(len(train.tokens), settings.batch_size, replicas)
    validation_batches, _ = batches_in_order(validation_ids, text.tag_ids(validation), settings.batch_size, replicas)
    with strategy.scope():
        network = build_model(config, len(vocabulary.words), len(vocabulary.characters), train.tag_names)
        network.compile(
            optimizer=training.make_optimizer(settings, steps),
            loss=loss_of(network),
            jit_compile=False,  # batches differ in length: XLA would compile again for each
        )
    return Experiment(sentences, network, batches, steps, validation_batches, vocabulary, validation_ids, baseline)


def train(config: Config, sentences: Splits) -> Path:
    """Train, evaluate once on test, and write the run folder. Returns its path."""
    experiment = prepare(config, sentences)
    network, validation = experiment.network, sentences.validation
    with runs.open_run("tagging", config, environment(sentences)) as run:
        kernels.print_kernels(network)
        baseline = scores.measure(validation.tags, experiment.baseline(validation.tokens), validation.has_spans)
        callbacks, resume = training.make_callbacks(run.path, f"val_{metric_of(sentences)}", config.training, baseline)
        watching = watch.callbacks(experiment, run.path)
        network.fit(
            experiment.batches(resume.first_epoch),
            epochs=resume.last_epoch(config.training.epochs),
            initial_epoch=resume.first_epoch,
            steps_per_epoch=experiment.steps,
            validation_data=experiment.validation_batches,
            shuffle=False,  # the batches come in an order of their own
            callbacks=[ScoreValidation(experiment.validation_ids, validation), *watching, *callbacks],
            verbose=training.verbosity(),
        )
        checkpoints.restore_best(network, run.path)
        for pictures in watching:
            pictures.write_plots()
        keras.Model(network.input, network.output, name="network").save(run.path / "model.keras")  # without the optimizer
        experiment.vocabulary.save(run.path / VOCABULARY)
        export.write_after_training("tagging", run.path, lambda saved: exportable(experiment.vocabulary, saved, sentences))
        evaluation, found = evaluate(experiment)
        metrics = training.describe("tagging", config, experiment, resume) | evaluation
        report.write(run.path, metrics, sentences.test, found)
        path = run.finish(metrics)
    announce(path, metrics, table_of_scores(metrics), NEXT)
    return path


def metric_of(sentences: Splits) -> str:
    """What a run is judged by: where tags name no spans, as parts of speech, each word counts."""
    return "entity_f1" if sentences.train.has_spans else "token_accuracy"


def evaluate(experiment: Experiment) -> tuple[dict, Decoded]:
    """Measure the network and the baseline on test, on which nothing is chosen.

    Returns:
        The part of metrics.json that is about quality, and what the network says of test.
    """
    _, validation, test = experiment.data[:3]
    metric, has_spans = metric_of(experiment.data), test.has_spans
    on_validation = decode(experiment.network, experiment.validation_ids, test.tag_names)
    on_test = decode(experiment.network, text.vectorise(experiment.vocabulary, test.tokens), test.tag_names)
    found = {"network": on_test.tags, "baseline": experiment.baseline(test.tokens)}
    evaluation = {
        "metric": metric,
        "higher_is_better": True,
        "validation": {"network": scores.measure(validation.tags, on_validation.tags, has_spans)},
        "test": {who: scores.measure(test.tags, tags, has_spans) for who, tags in found.items()},
        **_lead(test, found).describe(metric, "the baseline (a linear CRF)"),
    }
    if has_spans:
        evaluation["per_type"] = scores.per_type(test.tags, found["network"]).to_dict("index")
    return evaluation, on_test


def _lead(test, found: dict[str, list[list[str]]]):
    if test.has_spans:
        counted = {who: scores.counts(test.tags, tags).to_numpy() for who, tags in found.items()}
        return paired_bootstrap_of_totals(counted["network"], counted["baseline"], scores.f1)
    right = {who: scores.words_right(test.tags, tags) for who, tags in found.items()}
    return paired_bootstrap_of_totals(right["network"], right["baseline"], lambda right, words: right / words)
