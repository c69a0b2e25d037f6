"""Train on text, evaluate, report: make textgen."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from apps.textgen import baseline, characters, data, report, watch
from apps.textgen.config import Config
from apps.textgen.export import exportable
from apps.textgen.generate import nats_by_block
from apps.textgen.model import build_generator, build_model, build_servable
from shared import checkpoints, export, kernels, runs, training
from shared.bptt import TruncatedBPTT, Windows, contiguous_batches, contiguous_windows
from shared.comparison import paired_bootstrap
from shared.data import Splits
from shared.environment import environment
from shared.report import announce

FEW_UPDATES = 500


@dataclass(frozen=True)
class Experiment(training.Experiment):
    """What `prepare` returns, with what `train` and `evaluate` need beside the network. `data` holds ids."""

    vocabulary: list[str]
    windows: Windows  # of the training batches
    validation_windows: Windows
    generator: keras.Model  # the network with its state passed in and handed back
    ngrams: baseline.Baseline


def prepare(config: Config, text: Splits) -> Experiment:
    """Everything before the first step: vocabulary, baseline, batches, the compiled network."""
    # 1. From characters to ids
    training.setup(config.training)
    vocabulary = characters.learn_vocabulary(text.train)
    num_ids = len(vocabulary) + 2
    parts = ("train", "validation", "test")
    text = text._replace(**{part: characters.encode(getattr(text, part), vocabulary) for part in parts})
    sizes = [f"{len(part.characters):,}" for part in (text.train, text.validation)]
    print(f"{text.name}: {sizes[0]} characters to train, {sizes[1]} to validate, {len(vocabulary)} different ones.")
    ngrams = baseline.fit_baseline(text.train, text.validation, num_ids)

    # 2. Windows that follow each other in the text, many streams side by side
    shape = config.training.batch_size, config.sequence_length
    windows = contiguous_windows(text.train.document_lengths, *shape)
    validation_windows = contiguous_windows(text.validation.document_lengths, *shape)
    validation_batches = contiguous_batches(text.validation.characters, validation_windows, config.sequence_length)
    steps = len(windows.starts)

    def batches(_first_epoch: int) -> tf.data.Dataset:  # every epoch reads the text from its start
        return contiguous_batches(text.train.characters, windows, config.sequence_length).repeat()

    # 3. Network
    network, generator = build_model(config, num_ids), build_generator(config, num_ids)
    network.compile(
        optimizer=training.make_optimizer(config.training, steps),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
        weighted_metrics=[keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="nats_per_character")],
        jit_compile=False,
    )
    return Experiment(
        text, network, batches, steps, validation_batches, vocabulary, windows, validation_windows, generator, ngrams
    )


def train(config: Config, text: Splits) -> Path:
    """Train, evaluate once on test, and write the run folder. Returns its path."""
    experiment = prepare(config, text)
    network, generator = experiment.network, experiment.generator
    if (updates := experiment.steps * config.training.epochs) < FEW_UPDATES:
        print(f"Only {updates} updates in all. To learn more from so short a text, lower --batch-size or raise --epochs.")
    with runs.open_run("textgen", config, environment(text)) as run:
        kernels.print_kernels(network)
        monitor = "val_nats_per_character"
        callbacks, resume = training.make_callbacks(run.path, monitor, config.training, score_baseline(experiment))
        sample = report.SampleText(run.path / "logs" / "train", config, experiment)
        watching = watch.callbacks(config, experiment, run.path)
        network.fit(
            experiment.batches(resume.first_epoch),
            epochs=resume.last_epoch(config.training.epochs),
            initial_epoch=resume.first_epoch,
            steps_per_epoch=experiment.steps,
            validation_data=experiment.validation_batches,
            shuffle=False,  # the batches follow each other in the text
            callbacks=[
                TruncatedBPTT(experiment.windows, experiment.validation_windows),  # carries the state from batch to batch
                sample,  # gives the generator its weights
                *watching,
                *callbacks,
            ],
            verbose=training.verbosity(),
        )
        checkpoints.restore_best(network, run.path)
        generator.set_weights(network.get_weights())
        for pictures in watching:
            pictures.write_plots()
        servable = build_servable(config, experiment.vocabulary, generator)
        servable.save(run.path / "model.keras")
        export.write_after_training("textgen", run.path, lambda saved: exportable(config, saved, text))
        metrics = training.describe("textgen", config, experiment, resume) | evaluate(config, experiment)
        report.write(run.path, metrics, sample.make(length=1000))
        path = run.finish(metrics)
    announce(path, metrics, report.scores(metrics), "make textgen-predict")
    return path


def score_baseline(experiment: Experiment) -> dict[str, float]:
    """Of the baseline on validation what the network is followed by."""
    validation = experiment.data.validation
    nats = baseline.nats_by_block(experiment.ngrams, validation)[-1].sum() / data.count_targets(validation)
    return {"nats_per_character": float(nats)}


def evaluate(config: Config, experiment: Experiment) -> dict:
    """Measure network and baseline character by character; nothing is chosen on test.

    Returns:
        The part of metrics.json that is about quality.
    """
    text, generator, ngrams = experiment.data, experiment.generator, experiment.ngrams
    network = nats_by_block(config, generator, text.test)
    of_ngrams = baseline.nats_by_block(ngrams, text.test)[-1]
    count = data.count_targets(text.test)
    scale = len(network) / count  # so that the mean over blocks is that over characters
    lead = paired_bootstrap(network * scale, of_ngrams * scale, higher_is_better=False)
    validation = nats_by_block(config, generator, text.validation).sum() / data.count_targets(text.validation)
    return {
        "metric": "nats_per_character",
        "higher_is_better": False,
        "split": "validation" if config.split == "90/10" else "test",
        "characters": len(experiment.vocabulary),
        "ngram_order": len(ngrams.orders),
        "ngram_characters": ngrams.characters,
        "train_characters": len(text.train.characters),
        "validation": {"network": in_all_units(validation)},
        "test": {"network": in_all_units(network.sum() / count), "baseline": in_all_units(of_ngrams.sum() / count)},
        **lead.describe("nats_per_character", f"the baseline ({len(ngrams.orders)}-grams)"),
    }


def in_all_units(nats: float) -> dict[str, float]:
    """Nats per character, and the same in bits and as perplexity."""
    return {
        "nats_per_character": float(nats),
        "bits_per_character": float(nats / np.log(2)),
        "perplexity": float(np.exp(nats)),
    }
