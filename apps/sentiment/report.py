"""What a run shows of itself: metrics, plots, the mistakes, report.md, TensorBoard."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from apps.sentiment.data import Reviews
from apps.sentiment.model import ANSWER
from shared import classification, report
from shared.batches import batches_in_order
from shared.plots import plot_history

MISTAKES_SHOWN = 12
WORDS_PROJECTED = 5_000
ROWS = {
    "network": "test",
    "  its recurrent paths alone": "recurrent_alone",
    "  its n-gram path alone": "ngrams_alone",
    "baseline": "baseline",
}


def predict(network: keras.Model, ids: dict) -> dict[str, np.ndarray]:
    """Logits `(n, classes)` of every output for the ragged ids of n reviews, in their order."""
    rows = next(iter(ids.values())).nrows()
    batches, order = batches_in_order(ids, np.zeros(rows), batch_size=128)
    back = np.argsort(order)
    return {name: logits[back] for name, logits in network.predict(batches, verbose=0).items()}


def write(folder: Path, summary: dict, test: Reviews, probabilities: dict[str, np.ndarray]) -> pd.DataFrame:
    """Plots (PNG), all mistakes (mistakes.csv) and report.md.

    Args:
        folder: the run folder.
        summary: what goes into metrics.json.
        test: the test reviews.
        probabilities: `(n, classes)` of the network as "test", of the baseline as "baseline".

    Returns:
        The most confident mistakes, as many as are shown.
    """
    title = f"{summary['app']} on {summary['dataset']} (test)"  # a sample's plot can't be taken for IMDB's
    candidates = {"network": probabilities["test"], "baseline": probabilities["baseline"]}
    plots, history = folder / "plots", pd.read_csv(folder / "history.csv")
    curves = [["loss", "val_loss"], [f"{ANSWER}_accuracy", f"val_{ANSWER}_accuracy"], ["gradient_norm"]]
    classification.plot_confusion(plots / "confusion_matrix.png", test.labels, probabilities["test"], test.class_names, title)
    classification.plot_roc(plots / "roc.png", test.labels, candidates, title)
    classification.plot_precision_recall(plots / "precision_recall.png", test.labels, candidates, title)
    classification.plot_reliability(plots / "reliability.png", test.labels, candidates, title)
    plot_history(plots / "training.png", history, curves, f"{summary['app']} on {summary['dataset']}")
    mistakes = table_of_mistakes(test, probabilities["test"])
    mistakes.to_csv(folder / "mistakes.csv", index=False)
    shown = mistakes[:MISTAKES_SHOWN]
    classes = pd.DataFrame(summary["per_class"]).T
    sections = [
        *(
            f"![{name}](plots/{name}.png)"
            for name in ("training", "confusion_matrix", "roc", "precision_recall", "reliability")
        ),
        "",
        "## Each class",
        "",
        *report.markdown_table(classes, "on test"),
        "",
        f"## The {len(shown)} most confident of {len(mistakes)} mistakes",
        "",
        "mistakes.csv holds all of them.",
        "",
        *(f"- **{row.label}**, predicted {row.predicted} {row.probability:.3f}: {row.review}" for row in shown.itertuples()),
    ]
    report.write_markdown(folder, summary, report.scores(summary, ROWS), "test", sections)
    return shown


def table_of_mistakes(test: Reviews, probabilities: np.ndarray) -> pd.DataFrame:
    """All reviews that the network got wrong, those with the highest probability first."""
    worst = classification.confident_mistakes(test.labels, probabilities)
    names = np.array(test.class_names)
    return pd.DataFrame(
        {
            "label": names[test.labels[worst]],
            "predicted": names[probabilities[worst].argmax(axis=1)],
            "probability": probabilities[worst].max(axis=1).round(4),
            "review": [" ".join(test.texts[row].split())[:600] for row in worst],
        }
    )


def write_tensorboard(folder: Path, mistakes: pd.DataFrame, network: keras.Model, words: list[str]) -> None:
    """Plots, mistakes and the word embeddings (PROJECTOR tab) into the run's TensorBoard logs."""
    report.plots_to_tensorboard(folder)
    logs = folder / "logs" / "report"  # the projector looks beside event files alone
    with tf.summary.create_file_writer(str(logs)).as_default():
        rows = [f"|{r.label}|{r.predicted}|{r.probability}|{r.review.replace('|', '/')}|" for r in mistakes.itertuples()]
        table = ["|label|predicted|probability|review|", "|---|---|---|---|", *rows]
        tf.summary.text("confident mistakes", "\n".join(table), step=0)
    vectors = network.get_layer("recurrent_1_embedding").embeddings.numpy()
    shown = words[2 : 2 + WORDS_PROJECTED]  # 0 and 1 are padding and unknown
    np.savetxt(logs / "word_embedding.tsv", vectors[2 : 2 + len(shown)], delimiter="\t", fmt="%.4f")
    (logs / "words.tsv").write_text("\n".join(shown) + "\n", encoding="utf-8")
    (logs / "projector_config.pbtxt").write_text(
        'embeddings {\n  tensor_name: "word_embedding"\n  tensor_path: "word_embedding.tsv"\n  metadata_path: "words.tsv"\n}\n'
    )
