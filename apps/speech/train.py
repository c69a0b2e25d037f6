"""Train on spoken words, evaluate, report: python -m apps.speech.train (or: make speech)."""

from pathlib import Path

from apps.speech.config import PRESETS, Config
from shared import cli, runs


def train(config: Config) -> Path:
    """Train, evaluate once on test, and write the run folder. Returns its path."""
    # Imported here, so that --help and a wrong flag are answered at once.
    import keras
    import numpy as np

    from apps.speech import augment, baseline, data, report, stream
    from apps.speech.model import build_features, build_model, build_servable, coefficient_statistics
    from shared import gradients, rnn, training
    from shared.classification import measure
    from shared.report import announce, scores

    # 1. Data
    training.setup(config.seed, config.deterministic, config.precision)
    speech, noise = data.load(config)
    names, sizes = speech.train.class_names, [len(part.labels) for part in (speech.train, speech.validation, speech.test)]
    print(f"{speech.name}: {sizes[0]} clips to train, {sizes[1]} to validate, {sizes[2]} to test: {', '.join(names)}.")
    about = runs.environment(speech.name, speech.fingerprint)
    run = runs.Run.resume("speech", config, about) if config.resume else runs.Run.start("speech", config, about)
    features = build_features(config)
    report.show_augmentation(run.path, config, features, speech.train, noise)

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

    # 4. Test, touched here and nowhere before; baseline; report
    rival = baseline.fit_baseline(features, speech.train, speech.validation)
    probabilities = {
        "validation": report.predict(servable, speech.validation),
        "test": report.predict(servable, speech.test),
        "baseline": rival.predict_proba(baseline.statistics(features, speech.test)),
    }
    listening = stream.evaluate(config, servable, speech.validation, speech.test)
    summary = {
        "app": "speech",
        "preset": config.preset,
        "dataset": speech.name,
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
    summary["beats_baseline"] = summary["test_accuracy"] > summary["baseline_accuracy"]
    summary |= {f"stream_{name}": value for name, value in listening.items()}
    mistakes = report.write(run.path, summary, speech.test, probabilities)
    report.write_tensorboard(run.path, config, mistakes, speech.test, features)
    run.write_json("metrics.json", summary)
    training.remove_training_state(run.path)
    path = run.finish()
    print(report.listening(summary))
    announce(
        path, summary, scores(summary, report.ROWS), "test", "the logistic regression", "make speech-predict ARGS='clip.wav'"
    )
    return path


def main() -> None:
    train(runs.parse("speech", PRESETS, __doc__))


if __name__ == "__main__":
    cli.run(main)
