"""Train on labelled reviews, evaluate, report: python -m apps.sentiment.train (or: make sentiment)."""

import time
from pathlib import Path

from apps.sentiment.config import PRESETS, Config
from shared import cli, runs

NEXT = "make sentiment-predict ARGS='\"Your own review.\"'"


def train(config: Config) -> Path:
    """Train, evaluate once on test, and write the run folder. Returns its path."""
    # Imported here, so that --help, a wrong flag and a mistake in the data are answered before TensorFlow is imported.
    from apps.sentiment import data

    started = time.monotonic()
    reviews = data.load(config)

    import keras
    import numpy as np
    from scipy.special import softmax

    from apps.sentiment import baseline, report, text
    from apps.sentiment.embeddings import cooccurrence_embeddings
    from apps.sentiment.model import ANSWER, build_model, build_servable, fit_votes, naive_bayes_log_ratios
    from apps.sentiment.pretraining import pretrain, start_from, was_cut
    from shared import gradients, rnn, training
    from shared.batches import batches_by_length, batches_in_order
    from shared.classification import measure, per_class
    from shared.comparison import paired_bootstrap
    from shared.report import announce, scores

    # 1. Data
    strategy = training.setup(config.seed, config.deterministic, config.precision, config.multi_gpu, config.batch_size)
    print(f"{reviews.name}: {len(reviews.train.texts)} reviews to train, {len(reviews.validation.texts)} to validate.")
    vectorizer, num_ids = text.build_vectorizer(reviews.train.texts, config)
    about = runs.environment(reviews.name, reviews.fingerprint)
    of_words = baseline.fit_baseline(reviews.train, reviews.validation)
    run = runs.Run.resume("sentiment", config, about) if config.resume else runs.Run.start("sentiment", config, about)
    ids, validation_ids = (text.vectorize(vectorizer, part.texts) for part in (reviews.train, reviews.validation))

    # 2. Model
    log_ratios = naive_bayes_log_ratios(ids["bag"], reviews.train.labels, num_ids)
    embeddings = cooccurrence_embeddings(ids["sequence"], len(text.words(vectorizer)), config.embedding_dim, config.seed)
    callbacks = training.make_callbacks(run.path, f"val_{ANSWER}_accuracy", config.patience, config.resume)
    resume = callbacks[-1]
    replicas = strategy.num_replicas_in_sync
    batches, steps = batches_by_length(ids, reviews.train.labels, config.batch_size, config.seed, resume.first_epoch, replicas)
    validation_batches, _ = batches_in_order(validation_ids, reviews.validation.labels, config.batch_size, replicas)
    with strategy.scope():
        network = build_model(config, log_ratios, embeddings)
        outputs = list(network.output)
        learning_rate = training.warmup_cosine(config.learning_rate, steps * config.epochs, warmup=0.1, floor=0.1)
        network.compile(
            optimizer=gradients.Adam(learning_rate, clipping=config.clipping, clip_threshold=config.clip_threshold),
            loss={path: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for path in outputs if path != ANSWER},
            metrics=dict.fromkeys(outputs, "accuracy"),
            jit_compile=False,  # batches differ in length: XLA would compile again for each
        )
    pretrained = run.path / "pretrained.npz"
    if pretrained.exists():
        training.load_weights(network, pretrained)
    elif config.pretraining_epochs:
        start_from(network, pretrain(config, ids["sequence"], embeddings, run.path), config)
        training.save_weights(network, pretrained)
    for layer, kernel in rnn.explain_kernels(network).items():
        print(f"{layer} runs as {kernel}")

    # 3. Training: every path learns from the same labels
    def for_each_output(features, labels):
        return features, dict.fromkeys(outputs, labels)

    preparation_seconds = time.monotonic() - started
    network.fit(
        batches.map(for_each_output),
        epochs=resume.last_epoch(config.epochs),
        initial_epoch=resume.first_epoch,
        steps_per_epoch=steps,
        validation_data=validation_batches.map(for_each_output),
        shuffle=False,  # the batches come in an order of their own
        callbacks=callbacks,
        verbose=training.verbosity(),
    )
    training.restore_best(network, run.path)

    # 4. Votes, chosen on validation; from here on the model is what will be served
    network.get_layer("votes").set_weights([fit_votes(report.predict(network, validation_ids), reviews.validation.labels)])
    build_servable(vectorizer, network).save(run.path / "model.keras")

    # 5. Test, touched here and nowhere before; baseline; report
    test = report.predict(network, text.vectorize(vectorizer, reviews.test.texts))
    probabilities = {
        "test": softmax(test[ANSWER], axis=1),
        "recurrent_alone": softmax(sum(logits for path, logits in test.items() if path.startswith("recurrent")), axis=1),
        "ngrams_alone": softmax(test["ngrams"], axis=1),
        "baseline": of_words.predict_proba(reviews.test.texts),
    }
    validation_answer = report.predict(network, validation_ids)[ANSWER]
    summary = {
        "app": "sentiment",
        "preset": config.preset,
        "dataset": reviews.name,
        "class_names": reviews.train.class_names,
        "seed": config.seed,
        "parameters": network.count_params(),
        "epochs": resume.epochs,
        "interrupted": network.interrupted or was_cut(config, run.path),
        "train_seconds": preparation_seconds + resume.seconds,
        "validation_accuracy": float(np.mean(validation_answer.argmax(axis=1) == reviews.validation.labels)),
    }
    for who, of_test in probabilities.items():
        summary |= {f"{who}_{name}": value for name, value in measure(reviews.test.labels, of_test).items()}
    right = {who: of_test.argmax(axis=1) == reviews.test.labels for who, of_test in probabilities.items()}
    lead = paired_bootstrap(right["test"], right["baseline"], higher_is_better=True)
    summary["beats_baseline"] = lead.verdict == "better"
    summary["lead"] = {"metric": "accuracy", **lead._asdict(), "verdict": lead.verdict}
    classes = per_class(reviews.test.labels, probabilities["test"], reviews.test.class_names)
    summary["per_class"] = classes.to_dict("index")
    mistakes = report.write(run.path, summary, reviews.test, probabilities)
    report.write_tensorboard(run.path, mistakes, network, text.words(vectorizer))
    run.write_json("metrics.json", summary)
    training.remove_training_state(run.path)
    path = run.finish()
    announce(path, summary, scores(summary, report.ROWS), "test", "the linear baseline", NEXT)
    return path


def main() -> None:
    train(runs.parse("sentiment", PRESETS, __doc__))


if __name__ == "__main__":
    cli.run(main)
