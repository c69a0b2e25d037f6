"""What a run shows of itself: plots, the mistakes, report.md, TensorBoard."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from apps.sentiment.data import Reviews
from shared import classification, report
from shared.plots import plot_history
from shared.tensorboard import hparams_to_tensorboard, plots_of_recurrence, plots_to_tensorboard

MISTAKES_SHOWN = 12
WORDS_PROJECTED = 5_000


def write(folder: Path, metrics: dict, test: Reviews, probabilities: dict[str, np.ndarray], explain: Callable) -> pd.DataFrame:
    """Plots (PNG), all mistakes (mistakes.csv) and report.md.

    Args:
        folder: the run folder.
        metrics: what goes into metrics.json.
        test: the test reviews.
        probabilities: `(n, classes)` on them, of "network" and "baseline".
        explain: from texts and the numbers of the classes that they were given to the reasons, a line of Markdown each.

    Returns:
        The most confident mistakes, as many as are shown.
    """
    on = f"{metrics['app']} on {metrics['dataset']}"  # a sample's plot cannot be taken for IMDB's
    classification.plot_all(folder / "plots", test.labels, probabilities, test.class_names, f"{on} (test)")
    curves = [["log_loss", "val_log_loss"], ["accuracy", "val_accuracy"], ["gradient_norm"]]
    plot_history(folder / "plots" / "training.png", pd.read_csv(folder / "history.csv"), curves, on)
    mistakes = table_of_mistakes(test, probabilities["network"])
    mistakes.to_csv(folder / "mistakes.csv", index=False)
    shown = mistakes[:MISTAKES_SHOWN]
    given = [test.class_names.index(name) for name in shown["predicted"]]
    shown = shown.assign(reasons=explain([test.texts[row] for row in shown.index], given))
    sections = [
        *_positive_lines(metrics.get("positive")),
        *report.images("training", *classification.PLOTS, "answer", *plots_of_recurrence(folder)),
        "",
        "## Each class",
        "",
        *report.markdown_table(pd.DataFrame(metrics["per_class"]).T, "on test"),
        "",
        f"## The {len(shown)} most confident of {len(mistakes)} mistakes",
        "",
        "mistakes.csv holds all of them. Below each: the words that add most to the probability of the wrong class.",
        "",
        *_mistake_lines(shown),
    ]
    report.write_markdown(folder, metrics, sections)
    hparams_to_tensorboard(folder, metrics)
    classification.pr_curves_to_tensorboard(folder, test.labels, probabilities["network"], test.class_names)
    return shown


def _mistake_lines(mistakes: pd.DataFrame) -> list[str]:
    return [
        f"- **{row.label}**, predicted {row.predicted} {row.probability:.4f}: {row.review}\n    - {row.reasons}"
        for row in mistakes.itertuples()
    ]


def _positive_lines(positive: dict | None) -> list[str]:
    if positive is None:
        return []
    return [
        f"'{positive['class']}' from a probability of {positive['threshold']:.3f} on (the best F1 on validation): precision "
        f"{positive['precision']:.4f}, recall {positive['recall']:.4f}, F1 {positive['f1']:.4f} on test.",
        "",
    ]


def table_of_mistakes(test: Reviews, probabilities: np.ndarray) -> pd.DataFrame:
    """All reviews that the network got wrong, those with the highest probability first."""
    table = classification.table_of_mistakes(test.labels, probabilities, test.class_names)
    return table.assign(review=[" ".join(test.texts[row].split())[:600] for row in table.index])


def write_tensorboard(folder: Path, mistakes: pd.DataFrame, network: keras.Model, vectorizer: keras.Model) -> None:
    """Plots, mistakes and the word embeddings (PROJECTOR tab) into the run's TensorBoard logs."""
    plots_to_tensorboard(folder)
    logs = folder / "logs" / "report"  # the projector looks beside event files alone
    with tf.summary.create_file_writer(str(logs)).as_default():
        tf.summary.text("confident mistakes", "\n".join(_mistake_lines(mistakes)), step=0)
    vectors = network.get_layer("embedding").embeddings.numpy()
    shown = vectorizer.get_layer("words").get_vocabulary()[2 : 2 + WORDS_PROJECTED]  # 0 and 1 are padding and unknown
    np.savetxt(logs / "word_embedding.tsv", vectors[2 : 2 + len(shown)], delimiter="\t", fmt="%.4f")
    (logs / "words.tsv").write_text("\n".join(shown) + "\n", encoding="utf-8")
    (logs / "projector_config.pbtxt").write_text(
        'embeddings {\n  tensor_name: "word_embedding"\n  tensor_path: "word_embedding.tsv"\n  metadata_path: "words.tsv"\n}\n'
    )
