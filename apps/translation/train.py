"""Train on pairs of texts, evaluate, report: make translation."""

from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from apps.translation import report, scores, text, watch
from apps.translation.baseline import Baseline
from apps.translation.config import Config
from apps.translation.data import short_enough, token_kinds
from apps.translation.decoding import ScoreValidation, Translator
from apps.translation.export import exportable
from apps.translation.model import SmoothedLoss, build_model, token_accuracy
from apps.translation.tokens import Vocabulary
from shared import checkpoints, export, kernels, runs, training
from shared.batches import batches_by_length, batches_in_order, count_batches
from shared.beam import Hypothesis
from shared.data import Splits
from shared.environment import environment
from shared.report import announce
from shared.report import scores as table_of_scores

BEAM = 5  # that test is translated with
NEXT = "make translation-predict ARGS='\"Your own text.\" --best 5'"


@dataclass(frozen=True)
class Experiment(training.Experiment):
    """What `prepare` returns, with what `evaluate` needs beside the network."""

    vocabulary: Vocabulary
    baseline: Baseline
    kind: str  # of the targets' tokens, see `apps.translation.scores.measure`


def prepare(config: Config, pairs: Splits) -> Experiment:
    """Everything before the first step: vocabulary, baseline, batches, the compiled network."""
    settings = config.training
    strategy = training.setup(settings)
    kinds = token_kinds(config, pairs.name)
    print(f"{pairs.name}: {len(pairs.train.sources):,} pairs to train, {len(pairs.validation.sources):,} sources to validate.")
    sizes = config.vocabulary_size, config.max_tokens
    vocabulary = Vocabulary.learn(kinds, pairs.train.sources, pairs.train.targets, *sizes)
    train = short_enough(pairs.train, vocabulary, config.max_tokens, "train")
    validation = short_enough(pairs.validation, vocabulary, config.max_tokens, "validate")
    print("Fitting the baseline ...", flush=True)
    baseline = Baseline(pairs.train, kinds)
    (features, targets), replicas = text.vectorise(vocabulary, train), strategy.num_replicas_in_sync

    def batches(first_epoch: int) -> tf.data.Dataset:
        both = ("source", "target")
        return batches_by_length(features, targets, settings.batch_size, settings.seed, first_epoch, replicas, by=both)

    steps = count_batches(len(train.sources), settings.batch_size, replicas)
    validation_batches, _ = batches_in_order(*text.vectorise(vocabulary, validation), settings.batch_size, replicas)
    with strategy.scope():
        one = vocabulary.source is vocabulary.target
        network = build_model(config, len(vocabulary.source), len(vocabulary.target), shared=one)
        network.compile(
            optimizer=training.make_optimizer(settings, steps),
            loss=SmoothedLoss(config.label_smoothing),
            metrics=[token_accuracy],
            jit_compile=False,  # batches differ in length: XLA would compile again for each
        )
    return Experiment(pairs, network, batches, steps, validation_batches, vocabulary, baseline, kinds[1])


def train(config: Config, pairs: Splits) -> Path:
    """Train, evaluate once on test, and write the run folder. Returns its path."""
    experiment = prepare(config, pairs)
    network, vocabulary, kind = experiment.network, experiment.vocabulary, experiment.kind
    with runs.open_run("translation", config, environment(pairs)) as run:
        kernels.print_kernels(network)
        scored = ScoreValidation(config, vocabulary, pairs.validation, kind)
        baseline = scores.measure(kind, experiment.baseline(scored.sources), scored.references)
        callbacks, resume = training.make_callbacks(run.path, f"val_{scores.METRIC[kind]}", config.training, baseline)
        watching = watch.callbacks(config, experiment, run.path)
        network.fit(
            experiment.batches(resume.first_epoch),
            epochs=resume.last_epoch(config.training.epochs),
            initial_epoch=resume.first_epoch,
            steps_per_epoch=experiment.steps,
            validation_data=experiment.validation_batches,
            shuffle=False,  # the batches come in an order of their own
            callbacks=[scored, *watching, *callbacks],
            verbose=training.verbosity(),
        )
        checkpoints.restore_best(network, run.path)
        for pictures in watching:
            pictures.write_plots()
        keras.Model(network.input, network.output, name="network").save(run.path / "model.keras")  # without the optimizer
        vocabulary.save(run.path)
        export.write_after_training("translation", run.path, lambda saved: exportable(config, vocabulary, saved, pairs))
        evaluation, texts, found = evaluate(config, experiment)
        metrics = training.describe("translation", config, experiment, resume) | evaluation
        report.write(run.path, metrics, experiment, texts, found)
        path = run.finish(metrics)
    announce(path, metrics, table_of_scores(metrics), NEXT)
    return path


def evaluate(config: Config, experiment: Experiment) -> tuple[dict, dict[str, list[str]], list[list[Hypothesis]]]:
    """Measure the network and the baseline on test, on which nothing is chosen.

    Returns:
        The part of metrics.json that is about quality; what was written for each test source, by who wrote it; the n best of
        the network.
    """
    _, validation, test = experiment.data[:3]
    kind, network = experiment.kind, experiment.network
    by_beam = {beam: Translator(config, network, experiment.vocabulary, beam) for beam in (1, BEAM)}
    found = by_beam[BEAM](test.sources)
    texts = {
        "network": [experiment.vocabulary.target.decode(best.tokens) for best, *_ in found],
        "network, greedy": by_beam[1].texts(test.sources),
        "baseline": experiment.baseline(test.sources),
    }
    on_validation = by_beam[BEAM].texts(validation.sources)
    lead = scores.lead(kind, texts["network"], texts["baseline"], test.references)
    evaluation = {
        "metric": scores.METRIC[kind],
        "higher_is_better": scores.higher_is_better(kind),
        "validation": {"network": scores.measure(kind, on_validation, validation.references)},
        "test": {who: scores.measure(kind, of, test.references) for who, of in texts.items()},
        **lead.describe(scores.METRIC[kind], f"the baseline ({experiment.baseline.name})"),
        "has_attention": config.attention != "none",
    }
    if kind == "subwords":
        evaluation["signatures"] = scores.signatures(test.references)
    return evaluation, texts, found
