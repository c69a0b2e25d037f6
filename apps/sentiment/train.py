"""Train on labelled reviews, evaluate, report: make sentiment."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax
from sklearn.pipeline import Pipeline

from apps.sentiment import explain, ngrams, pretraining, report, text, watch
from apps.sentiment.baseline import fit_baseline
from apps.sentiment.config import Config
from apps.sentiment.embeddings import cooccurrence_embeddings
from apps.sentiment.export import exportable
from apps.sentiment.model import accuracy, build_model, build_servable, cross_entropy, log_loss
from apps.sentiment.words import in_chunks
from shared import checkpoints, classification, export, kernels, runs, training
from shared.batches import batches_by_length, batches_in_order, count_batches
from shared.comparison import paired_bootstrap
from shared.data import Splits
from shared.environment import environment
from shared.report import announce, scores

NEXT = "make sentiment-predict ARGS='\"Your own review.\"'"


@dataclass(frozen=True)
class Experiment(training.Experiment):
    """What `prepare` returns, with what pretraining and `evaluate` need beside the network."""

    vectorizer: keras.Model  # from texts to ids
    ids: tf.RaggedTensor  # (n, None), words of the training reviews
    baseline: Pipeline


def prepare(config: Config, reviews: Splits) -> Experiment:
    """Everything before the first step: vocabularies, baseline, batches, the compiled network."""
    # 1. From texts to ids
    settings = config.training
    strategy = training.setup(settings)
    texts, labels, class_names = reviews.train
    print(f"{reviews.name}: {len(texts)} reviews to train, {len(reviews.validation.texts)} to validate.")
    baseline = fit_baseline(reviews.train, reviews.validation)
    lookup = text.learn_words(texts, config.vocabulary_size)
    num_words, bags, num_ids = lookup.vocabulary_size(), None, 0
    if config.ngrams:
        word_ids = [lookup(tf.constant(chunk)).numpy().astype("int32") for _, chunk in in_chunks(texts)]
        bags, num_ids = ngrams.learn_ngrams(word_ids, num_words)
    vectorizer = text.build_vectorizer(lookup, bags, config.sequence_length)
    ids, validation_ids = (text.vectorize(vectorizer, part.texts) for part in (reviews.train, reviews.validation))

    # 2. Batches of reviews that are about equally long
    replicas = strategy.num_replicas_in_sync

    def batches(first_epoch: int) -> tf.data.Dataset:
        return batches_by_length(ids, labels, settings.batch_size, settings.seed, first_epoch, replicas)

    steps = count_batches(len(labels), settings.batch_size, replicas)
    validation_batches, _ = batches_in_order(validation_ids, reviews.validation.labels, settings.batch_size, replicas)

    # 3. Network
    log_ratios = ngrams.naive_bayes_log_ratios(ids["bag"], labels, num_ids) if config.ngrams else None
    embeddings = cooccurrence_embeddings(ids["sequence"], num_words, config.embedding_dim, settings.seed)
    with strategy.scope():
        network = build_model(config, len(class_names), embeddings, log_ratios)
        network.compile(
            optimizer=training.make_optimizer(settings, steps),
            loss=cross_entropy,
            metrics=[accuracy, log_loss],
            jit_compile=False,  # batches differ in length: XLA would compile again for each
        )
    return Experiment(reviews, network, batches, steps, validation_batches, vectorizer, ids["sequence"], baseline)


def train(config: Config, reviews: Splits) -> Path:
    """Train, evaluate once on test, and write the run folder. Returns its path."""
    experiment = prepare(config, reviews)
    network = experiment.network
    with runs.open_run("sentiment", config, environment(reviews)) as run:
        if config.pretraining_epochs:
            _pretrain(config, experiment, run.path)
        kernels.print_kernels(network)
        callbacks, resume = training.make_callbacks(run.path, "val_accuracy", config.training, score_baseline(experiment))
        watching = watch.callbacks(experiment, run.path)
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
        servable = build_servable(experiment.vectorizer, network)
        servable.save(run.path / "model.keras")
        export.write_after_training("sentiment", run.path, lambda saved: exportable(config, saved, reviews))
        evaluation, probabilities = evaluate(config, experiment)
        metrics = training.describe("sentiment", config, experiment, resume) | evaluation
        pretrained = pretraining.read_progress(run.path)
        metrics["interrupted"] |= pretrained.first_epoch < config.pretraining_epochs
        metrics["train_seconds"] += pretrained.seconds
        reasons = partial(explain.reasons, config, servable)
        mistakes = report.write(run.path, metrics, reviews.test, probabilities, reasons)
        report.write_tensorboard(run.path, mistakes, network, experiment.vectorizer)
        path = run.finish(metrics)
    announce(path, metrics, scores(metrics), NEXT)
    return path


def score_baseline(experiment: Experiment) -> dict[str, float]:
    """Of the baseline on validation what the network is followed by."""
    validation = experiment.data.validation
    return {"accuracy": experiment.baseline.score(validation.texts, validation.labels)}


def evaluate(config: Config, experiment: Experiment) -> tuple[dict, dict[str, np.ndarray]]:
    """Measure the network, each of its paths and the baseline on test, on which nothing is chosen.

    Returns:
        The part of metrics.json that is about quality, and the probabilities `(n, classes)` on test by who made them.
    """
    validation, test = experiment.data.validation, experiment.data.test
    on_validation = softmax(predict(experiment, validation.texts).mean(axis=1), axis=1)
    logits = predict(experiment, test.texts)
    probabilities = {"network": softmax(logits.mean(axis=1), axis=1)}
    if config.ngrams:
        paths = ("recurrent path alone", "n-gram path alone")
        probabilities |= {name: softmax(logits[:, path], axis=1) for path, name in enumerate(paths)}
    probabilities["baseline"] = experiment.baseline.predict_proba(test.texts)
    right = {who: found.argmax(axis=1) == test.labels for who, found in probabilities.items()}
    lead = paired_bootstrap(right["network"], right["baseline"], higher_is_better=True)
    evaluation = {
        "metric": "accuracy",
        "higher_is_better": True,
        "class_names": test.class_names,
        "validation": {"network": classification.measure(validation.labels, on_validation)},
        "test": {who: classification.measure(test.labels, found) for who, found in probabilities.items()},
        "per_class": classification.per_class(test.labels, probabilities["network"], test.class_names).to_dict("index"),
        **lead.describe("accuracy", "the baseline (tf-idf, logistic regression)"),
    }
    if config.positive is not None:
        number = test.class_names.index(config.positive)
        threshold = classification.best_threshold(validation.labels == number, on_validation[:, number])
        found = classification.measure_at(test.labels == number, probabilities["network"][:, number], threshold)
        evaluation["positive"] = {"class": config.positive, "threshold": threshold, **found}
    return evaluation, probabilities


def predict(experiment: Experiment, texts: list[str]) -> np.ndarray:
    """Logits `(n, paths, classes)` of raw texts, in their order."""
    ids = text.vectorize(experiment.vectorizer, texts)
    batches, order = batches_in_order(ids, np.zeros(len(texts)), batch_size=128)
    return experiment.network.predict(batches, verbose=0)[np.argsort(order)]


def _pretrain(config: Config, experiment: Experiment, folder: Path) -> None:
    """Pretrain, or read what was pretrained before the run was cut off."""
    done = folder / "pretrained.npz"
    if done.exists():
        checkpoints.load_weights(experiment.network, done)
        return
    language_model = pretraining.prepare_pretraining(config, experiment.data, experiment.network, experiment.ids)
    pretraining.pretrain(config, language_model, folder)
    checkpoints.save_weights(experiment.network, done)
