"""Train on text, evaluate, report: python -m apps.textgen.train (or: make textgen)."""

from pathlib import Path

from apps.textgen import baseline, characters, data
from apps.textgen.config import PRESETS, Config
from shared import cli, runs

FEW_UPDATES = 500


def train(config: Config) -> Path:
    """Train, evaluate once on test, and write the run folder. Returns its path."""
    # 1. Data, and the baseline: all that can be wrong with a text is found before TensorFlow is imported
    text = data.load(config)
    data.check_length(text, config)
    vocabulary = characters.learn_vocabulary(text.train, config.min_count)
    num_ids = len(vocabulary) + 2
    text = text._replace(
        **{part: characters.encode(getattr(text, part), vocabulary) for part in ("train", "validation", "test")}
    )
    sizes = [f"{len(part.characters):,}" for part in (text.train, text.validation)]
    print(f"{text.name}: {sizes[0]} characters to train, {sizes[1]} to validate, {len(vocabulary)} different ones.")
    ngrams = baseline.fit_baseline(text.train, text.validation, num_ids)

    import keras

    from apps.textgen import report
    from apps.textgen.model import build_generator, build_model, build_servable
    from shared import gradients, rnn, training
    from shared.bptt import TruncatedBPTT, contiguous_batches, contiguous_windows
    from shared.report import announce, scores
    from shared.through_time import GradientThroughTime, last_step_cross_entropy

    training.setup(config.seed, config.deterministic, config.precision)
    about = runs.environment(text.name, text.fingerprint)
    run = runs.Run.resume("textgen", config, about) if config.resume else runs.Run.start("textgen", config, about)
    shape = config.batch_size, config.sequence_length
    windows = contiguous_windows(text.train.document_lengths, *shape)
    validation_windows = contiguous_windows(text.validation.document_lengths, *shape)

    # 2. Model
    steps = len(windows.starts)
    if (updates := steps * config.epochs) < FEW_UPDATES:
        print(f"Only {updates} updates in all. To learn more from so short a text, lower --batch-size or raise --epochs.")
    network = build_model(config, num_ids)
    learning_rate = training.warmup_cosine(config.learning_rate, steps * config.epochs, warmup=0.05)
    network.compile(
        optimizer=gradients.AdamW(
            learning_rate, config.weight_decay, clipping=config.clipping, clip_threshold=config.clip_threshold
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
        weighted_metrics=[keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="nats_per_character")],
        jit_compile=False,
    )
    generator = build_generator(config, num_ids)
    for layer, kernel in rnn.explain_kernels(network).items():
        print(f"{layer} runs as {kernel}")

    # 3. Training: the true next character at every step (teacher forcing), the state carried from batch to batch
    callbacks = training.make_callbacks(run.path, "val_nats_per_character", config.patience, config.resume)
    resume = callbacks[-1]
    batches = contiguous_batches(text.train.characters, windows, config.sequence_length)
    validation_batches = contiguous_batches(text.validation.characters, validation_windows, config.sequence_length)
    logs = run.path / "logs" / "train"
    sample = report.SampleText(logs, config, generator, vocabulary, text.validation.characters[:20])
    inputs, targets, weights = next(iter(batches))

    def last_loss(targets, logits):
        return last_step_cross_entropy(targets, logits) * weights[:, -1]

    network.fit(
        batches,
        epochs=resume.last_epoch(config.epochs),
        initial_epoch=resume.first_epoch,
        validation_data=validation_batches,
        shuffle=False,  # the batches follow each other in the text
        callbacks=[
            TruncatedBPTT(windows, validation_windows),
            sample,
            GradientThroughTime(inputs, targets, last_loss, logs),
            *callbacks,
        ],
        verbose=training.verbosity(),
    )
    training.restore_best(network, run.path)
    generator.set_weights(network.get_weights())
    build_servable(config, characters.build_lookup(vocabulary), generator).save(run.path / "model.keras")

    # 4. Test, touched here and nowhere before; report
    summary = {
        "app": "textgen",
        "preset": config.preset,
        "dataset": text.name,
        "split": config.split,
        "characters": len(vocabulary),
        "seed": config.seed,
        "parameters": network.count_params(),
        "epochs": resume.epochs,
        "interrupted": network.interrupted,
        "train_seconds": resume.seconds,
        "ngram_order": len(ngrams.orders),
        "ngram_characters": ngrams.characters,
        "train_characters": len(text.train.characters),
        **evaluate(config, generator, ngrams, text),
    }
    report.write(run.path, summary, sample.make(length=1000))
    run.write_json("metrics.json", summary)
    training.remove_training_state(run.path)
    path = run.finish()
    announce(path, summary, scores(summary, report.rows(summary)), report.part(summary), "the n-grams", "make textgen-predict")
    return path


def evaluate(config: Config, generator, ngrams: baseline.Baseline, text) -> dict:
    """Measure network and baseline, character by character, on validation and test; compare them on test."""
    from apps.textgen.generate import nats_by_block, nats_per_character
    from apps.textgen.report import measures
    from shared.comparison import paired_bootstrap

    of_network = nats_by_block(config, generator, text.test)
    of_baseline = baseline.nats_by_block(ngrams, text.test)[-1]
    count = data.count_targets(text.test)
    nats = {
        "validation": nats_per_character(config, generator, text.validation),
        "test": of_network.sum() / count,
        "baseline": of_baseline.sum() / count,
    }
    scale = len(of_network) / count  # so that the mean over blocks is that over characters
    lead = paired_bootstrap(of_network * scale, of_baseline * scale, higher_is_better=False)
    return {
        **measures(nats),
        "beats_baseline": lead.verdict == "better",
        "lead": {"metric": "nats_per_character", **lead._asdict(), "verdict": lead.verdict},
    }


def main() -> None:
    train(runs.parse("textgen", PRESETS, __doc__))


if __name__ == "__main__":
    cli.run(main)
