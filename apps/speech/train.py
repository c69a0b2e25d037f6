"""Train on spoken words, evaluate, report: python -m apps.speech.train (or: make speech)."""

from pathlib import Path

from apps.speech.config import PRESETS, Config
from shared import cli, runs


def train(config: Config) -> Path:
    """Train, evaluate once on test, and write the run folder. Returns its path."""
    # 1. Data, before TensorFlow is imported, so that a mistake in it is answered at once
    from apps.speech import data

    speech, noise = data.load(config)
    names, sizes = speech.train.class_names, [len(part.labels) for part in (speech.train, speech.validation, speech.test)]
    print(f"{speech.name}: {sizes[0]} clips to train, {sizes[1]} to validate, {sizes[2]} to test: {', '.join(names)}.")

    import keras
    import numpy as np

    from apps.speech import augment, baseline, report, stream
    from apps.speech.model import build_features, build_model, build_servable, coefficient_statistics
    from shared import gradients, rnn, training
    from shared.classification import measure
    from shared.comparison import paired_bootstrap
    from shared.report import announce, scores

    training.setup(config.seed, config.deterministic, config.precision)
    about = runs.environment(speech.name, speech.fingerprint)
    run = runs.Run.resume("speech", config, about) if config.resume else runs.Run.start("speech", config, about)
    features = build_features(config)
    report.show_augmentation(run.path, config, features, speech.train, noise)
    linear = baseline.fit_baseline(features, speech.train, speech.validation)

    # 2. Model
    callbacks = training.make_callbacks(run.path, "val_accuracy", config.patience, config.resume)
    resume = callbacks[-1]
    batches, steps = augment.training_batches(speech.train, noise, config, resume.first_epoch)
    network = build_model(config, len(names), *coefficient_statistics(features, speech.train.waveforms))
    learning_rate = training.warmup_cosine(config.learning_rate, steps * config.epochs, warmup=0.1)
    network.compile(
        optimizer=gradients.AdamW(
            learning_rate, config.weight_decay, clipping=config.clipping, clip_threshold=config.clip_threshold
        ),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )
    for layer, kernel in rnn.explain_kernels(network).items():
        print(f"{layer} runs as {kernel}")

    # 3. Training
    network.fit(
        batches,
        epochs=resume.last_epoch(config.epochs),
        initial_epoch=resume.first_epoch,
        steps_per_epoch=steps,
        validation_data=augment.evaluation_batches(speech.validation, config.batch_size),
        shuffle=False,  # the batches come in an order of their own
        callbacks=[report.ConfusionMatrices(run.path / "logs" / "validation", speech.validation), *callbacks],
        verbose=training.verbosity(),
    )
    training.restore_best(network, run.path)
    servable = build_servable(network)
    servable.save(run.path / "model.keras")

    # 4. Test, touched here and nowhere before; report
    probabilities = {
        "validation": report.predict(servable, speech.validation),
        "test": report.predict(servable, speech.test),
        "baseline": linear.predict_proba(baseline.statistics(features, speech.test)),
    }
    listening = stream.evaluate(config, servable, speech.validation, speech.test)
    summary = {
        "app": "speech",
        "preset": config.preset,
        "dataset": speech.name,
        "warnings": speech.warnings,
        "class_names": names,
        "seed": config.seed,
        "parameters": network.count_params(),
        "epochs": resume.epochs,
        "interrupted": network.interrupted,
        "train_seconds": resume.seconds,
        "validation_accuracy": float(np.mean(probabilities["validation"].argmax(axis=1) == speech.validation.labels)),
    }
    for who in ("test", "baseline"):
        summary |= {f"{who}_{name}": value for name, value in measure(speech.test.labels, probabilities[who]).items()}
    right = {who: probabilities[who].argmax(axis=1) == speech.test.labels for who in ("test", "baseline")}
    lead = paired_bootstrap(right["test"], right["baseline"], higher_is_better=True)
    summary["lead"] = {"metric": "accuracy", **lead._asdict(), "verdict": lead.verdict}
    summary["beats_baseline"] = lead.verdict == "better"
    summary |= {f"stream_{name}": value for name, value in listening.items()}
    mistakes = report.write(run.path, summary, speech.test, probabilities)
    report.write_tensorboard(run.path, config, mistakes, speech.test, features)
    run.write_json("metrics.json", summary)
    training.remove_training_state(run.path)
    path = run.finish()
    print(report.listening(summary))
    for warning in speech.warnings:
        print(f"warning: {warning}")
    announce(
        path, summary, scores(summary, report.ROWS), "test", "the logistic regression", "make speech-predict ARGS='clip.wav'"
    )
    return path


def main() -> None:
    config = runs.parse("speech", PRESETS, __doc__)
    if not config.folds:
        train(config)
    else:
        from apps.speech.folds import train_folds

        train_folds(config)


if __name__ == "__main__":
    cli.run(main)
