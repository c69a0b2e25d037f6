"""Train on labelled reviews, evaluate, report: python -m apps.sentiment.train (or: make sentiment)."""

import time
from pathlib import Path

from apps.sentiment.config import PRESETS, Config
from shared import cli


def train(config: Config) -> Path:
    """Train, evaluate once on test, and write the run folder. Returns its path."""
    # Imported here, so that --help and a wrong flag are answered at once.
    import keras

    from apps.sentiment import baseline, data, report, text
    from apps.sentiment.model import build_model, build_servable, naive_bayes_log_ratios
    from shared import gradients, rnn, runs, training
    from shared.data import batches_by_length, batches_in_order

    # 1. Data
    started = time.monotonic()
    strategy = training.setup(config.seed, config.deterministic, config.precision, config.multi_gpu)
    reviews = data.load(config)
    run = runs.Run.resume("sentiment", config) if config.resume else runs.Run.start("sentiment", config)
    print(f"{reviews.name}: {len(reviews.train.texts)} reviews to train, {len(reviews.validation.texts)} to validate.")
    vectorizer, num_ids = text.build_vectorizer(reviews.train.texts, config)
    ids, validation_ids = (text.vectorize(vectorizer, part.texts) for part in (reviews.train, reviews.validation))

    # 2. Model
    log_ratios = naive_bayes_log_ratios(ids["bag"], reviews.train.labels, num_ids)
    callbacks = training.make_callbacks(run.path, "val_accuracy", config.patience, config.resume)
    first_epoch = callbacks[-1].first_epoch
    batches, steps = batches_by_length(ids, reviews.train.labels, config.batch_size, config.seed, first_epoch)
    validation_batches, _ = batches_in_order(validation_ids, reviews.validation.labels, config.batch_size)
    with strategy.scope():
        network = build_model(config, log_ratios)
        learning_rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=config.learning_rate,
            warmup_steps=steps * config.epochs // 10,
            decay_steps=steps * config.epochs,
            alpha=0.1,
        )
        network.compile(
            optimizer=gradients.Adam(learning_rate, clipping=config.clipping, clip_threshold=config.clip_threshold),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,  # batches differ in length: XLA would compile anew for each
        )
    for layer, kernel in rnn.explain_kernels(network).items():
        print(f"{layer} runs as {kernel}")

    # 3. Training
    network.fit(
        batches,
        epochs=config.epochs,
        initial_epoch=first_epoch,
        steps_per_epoch=steps,
        validation_data=validation_batches,
        shuffle=False,  # the batches come in an order of their own
        callbacks=callbacks,
        verbose=training.verbosity(),
    )
    training.restore_best(network, run.path)

    # 4. Baseline, test (touched here and nowhere before), report
    rival = baseline.fit_baseline(reviews.train, reviews.validation)
    servable = build_servable(vectorizer, network)
    servable.save(run.path / "model.keras")
    probabilities = report.predict(network, text.vectorize(vectorizer, reviews.test.texts))
    rival_probabilities = baseline.predict_baseline(rival, reviews.test.texts)
    validation_accuracy = report.measure(reviews.validation.labels, report.predict(network, validation_ids))["accuracy"]
    summary = {
        "app": "sentiment",
        "preset": config.preset,
        "dataset": reviews.name,
        "class_names": reviews.train.class_names,
        "seed": config.seed,
        "parameters": network.count_params(),
        "epochs": callbacks[-1].epochs,
        "interrupted": network.interrupted,
        "train_seconds": callbacks[-1].seconds,
        "total_seconds": time.monotonic() - started,
        "validation_accuracy": validation_accuracy,
        **{f"test_{name}": value for name, value in report.measure(reviews.test.labels, probabilities).items()},
        **{f"baseline_{name}": value for name, value in report.measure(reviews.test.labels, rival_probabilities).items()},
    }
    summary["beats_baseline"] = summary["test_accuracy"] > summary["baseline_accuracy"]
    run.write_json("environment.json", runs.environment(reviews.name, reviews.fingerprint))
    run.write_json("metrics.json", summary)
    report.write(run.path, summary, reviews.test, probabilities, rival_probabilities)
    report.write_tensorboard(run.path, network, text.words(vectorizer))
    training.remove_training_state(run.path)
    path = run.finish()
    report.announce(path, summary)
    return path


def main() -> None:
    train(cli.parse(PRESETS, __doc__))


if __name__ == "__main__":
    cli.run(main)
