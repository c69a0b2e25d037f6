"""What a run shows of itself: metrics, plots, the most confident mistakes, report.md, TensorBoard."""

import sys
from pathlib import Path

import keras
import matplotlib
import numpy as np
import pandas as pd
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from sklearn import metrics

from apps.sentiment.data import Reviews
from shared import runs
from shared.data import batches_in_order

matplotlib.use("Agg")  # files only, no window
import matplotlib.pyplot as plt

MISTAKES_SHOWN = 12
WORDS_PROJECTED = 5_000


def measure(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Compare probabilities `(n, classes)` with labels `(n,)`.

    Returns:
        accuracy; auc (area under the ROC curve; one class against the rest, mean); f1 (mean over the classes); log_loss in
        nats; calibration_error: expected gap between confidence and accuracy, 10 bins (Guo et al., 2017).
    """
    predicted = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    scores = probabilities[:, 1] if len(classes) == 2 else probabilities
    return {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "auc": float(metrics.roc_auc_score(labels, scores, multi_class="ovr", labels=classes)),
        "f1": float(metrics.f1_score(labels, predicted, average="macro")),
        "log_loss": metrics.log_loss(labels, probabilities, labels=classes),
        "calibration_error": _calibration_error(labels, probabilities),
    }


def _calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    _, gaps, shares = _reliability(labels, probabilities)
    return float(np.sum(np.abs(gaps) * shares))


def _reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10):
    """For each bin of confidence that is not empty: mean confidence, accuracy minus confidence, share of the rows."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(number, minlength=bins)
    filled = counts > 0
    means = np.bincount(number, confidence, bins)[filled] / counts[filled]
    accuracies = np.bincount(number, right, bins)[filled] / counts[filled]
    return means, accuracies - means, counts[filled] / len(labels)


def predict(network: keras.Model, ids: dict) -> dict[str, np.ndarray]:
    """Logits `(n, classes)` of every output for the ragged ids of n reviews, in their order."""
    rows = next(iter(ids.values())).nrows()
    batches, order = batches_in_order(ids, np.zeros(rows), batch_size=128)
    back = np.argsort(order)
    return {name: logits[back] for name, logits in network.predict(batches, verbose=0).items()}


def write(folder: Path, summary: dict, test: Reviews, probabilities: dict[str, np.ndarray]) -> None:
    """Plots (PNG), the most confident mistakes (mistakes.csv) and report.md.

    Args:
        folder: the run folder.
        summary: what goes into metrics.json.
        test: the test reviews.
        probabilities: `(n, classes)` of the network as "test", of the baseline as "baseline".
    """
    title = f"{summary['app']} on {summary['dataset']} (test)"
    _write_plots(folder, test, probabilities["test"], probabilities["baseline"], title)
    mistakes = confident_mistakes(test, probabilities["test"])
    mistakes.to_csv(folder / "mistakes.csv", index=False)
    _write_markdown(folder, summary, mistakes)


def _write_plots(folder: Path, test: Reviews, network: np.ndarray, baseline: np.ndarray, title: str) -> None:
    figure, axes = plt.subplots(figsize=(1.2 * len(test.class_names) + 4, 1.0 * len(test.class_names) + 3))
    metrics.ConfusionMatrixDisplay.from_predictions(
        test.labels, network.argmax(axis=1), display_labels=test.class_names, ax=axes, colorbar=False, cmap="Blues"
    )
    _save(figure, folder, "confusion_matrix", title)

    figure, axes = plt.subplots(figsize=(5, 5))
    is_class = np.eye(len(test.class_names))[test.labels]
    for name, probabilities in (("network", network), ("baseline", baseline)):
        # Micro-average over the classes; with two classes that is the ordinary curve.
        columns = [1] if len(test.class_names) == 2 else slice(None)
        metrics.RocCurveDisplay.from_predictions(
            is_class[:, columns].ravel(), probabilities[:, columns].ravel(), name=name, ax=axes
        )
    _save(figure, folder, "roc", title)

    figure, axes = plt.subplots(figsize=(5, 5))
    axes.plot([0, 1], [0, 1], "k:", label="perfectly calibrated")
    for name, probabilities in (("network", network), ("baseline", baseline)):
        confidence, gap, _ = _reliability(test.labels, probabilities)
        axes.plot(confidence, confidence + gap, "o-", label=name)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(1 / len(test.class_names), 1), ylim=(0, 1))
    axes.legend()
    _save(figure, folder, "reliability", title)

    history = pd.read_csv(folder / "history.csv")
    figure, axes = plt.subplots(1, 3, figsize=(13, 4))
    for axis, columns in zip(
        axes, (("loss", "val_loss"), ("sentiment_accuracy", "val_sentiment_accuracy"), ("gradient_norm",)), strict=True
    ):
        history.plot(x="epoch", y=list(columns), ax=axis, marker="o")
    _save(figure, folder, "training", title)


def _save(figure, folder: Path, name: str, title: str) -> None:
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(folder / "plots" / f"{name}.png", dpi=100)
    plt.close(figure)


def confident_mistakes(test: Reviews, probabilities: np.ndarray) -> pd.DataFrame:
    """The reviews that the network got wrong with the highest probability, worst first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != test.labels)
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:MISTAKES_SHOWN]
    names = np.array(test.class_names)
    return pd.DataFrame(
        {
            "label": names[test.labels[worst]],
            "predicted": names[probabilities[worst].argmax(axis=1)],
            "probability": probabilities[worst].max(axis=1).round(4),
            "review": [" ".join(test.texts[row].split())[:600] for row in worst],
        }
    )


def scores(summary: dict) -> pd.DataFrame:
    """All measures on test, side by side: the network, what its paths reach without each other, the baseline."""
    names = [key.removeprefix("baseline_") for key in summary if key.startswith("baseline_")]
    rows = {
        "network": "test",
        "  its recurrent paths alone": "recurrent_alone",
        "  its n-gram path alone": "ngrams_alone",
        "baseline": "baseline",
    }
    return pd.DataFrame({who: [summary[f"{prefix}_{name}"] for name in names] for who, prefix in rows.items()}, names).T


def _write_markdown(folder: Path, summary: dict, mistakes: pd.DataFrame) -> None:
    table = scores(summary)
    lines = [
        f"# {summary['app']} on {summary['dataset']}, preset {summary['preset']}",
        "",
        f"{summary['parameters']:,} parameters, {summary['epochs']} epochs, {summary['train_seconds'] / 60:.1f} minutes of "
        f"training on {runs.describe_device()}, seed {summary['seed']}.",
        "",
        "| on test | " + " | ".join(table.columns) + " |",
        "|---|" + "---|" * len(table.columns),
        *(f"| {who} | " + " | ".join(f"{score:.4f}" for score in row) + " |" for who, row in table.iterrows()),
        "",
        *(f"![{name}](plots/{name}.png)" for name in ("training", "confusion_matrix", "roc", "reliability")),
        "",
        "## Most confident mistakes",
        "",
        *(f"- **{row.label}**, predicted {row.predicted} {row.probability:.3f}: {row.review}" for row in mistakes.itertuples()),
    ]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def announce(folder: Path, summary: dict) -> None:
    """The result in the terminal, who won, and what to do next."""
    table = Table(title=f"{summary['app']} on {summary['dataset']}, preset {summary['preset']}, test split")
    table.add_column("")
    for name in scores(summary).columns:
        table.add_column(name, justify="right")
    for who, row in scores(summary).iterrows():
        table.add_row(who, *(f"{score:.4f}" for score in row))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    winner = "The network beats" if summary["beats_baseline"] else "The network does NOT beat"
    console.print(f"{winner} the linear baseline. {summary['train_seconds'] / 60:.1f} minutes of training.")
    console.print(f"Run:   {folder}  (report.md, plots/, model.keras)", highlight=False)
    console.print("Next:  make sentiment-predict ARGS='\"Your own review.\"'    make tensorboard    make runs", highlight=False)


def write_tensorboard(folder: Path, network: keras.Model, words: list[str]) -> None:
    """Plots, mistakes and the word embeddings (PROJECTOR tab) into the run's TensorBoard logs."""
    logs = folder / "logs"
    mistakes = pd.read_csv(folder / "mistakes.csv")
    with tf.summary.create_file_writer(str(logs / "report")).as_default():
        for plot in sorted((folder / "plots").glob("*.png")):
            tf.summary.image(plot.stem, tf.image.decode_png(plot.read_bytes(), channels=4)[None], step=0)
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
