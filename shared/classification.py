"""How good a classifier's probabilities are: measures, and plots that show them."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import metrics

from shared.plots import plt, save_figure


def measure(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Compare probabilities `(n, classes)` with labels `(n,)`.

    Returns:
        accuracy; auc: area under the ROC curve (of several classes, each against the rest, their mean); average_precision
        and macro_f1: means over the classes; log_loss in nats; calibration_error: the expected gap between confidence and
        accuracy (Guo et al., 2017).
    """
    predicted = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    scores = probabilities[:, 1] if len(classes) == 2 else probabilities
    _, gaps, shares = reliability(labels, probabilities)
    return {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "auc": float(metrics.roc_auc_score(labels, scores, multi_class="ovr", labels=classes)),
        "average_precision": float(metrics.average_precision_score(np.eye(len(classes))[labels], probabilities)),
        "macro_f1": float(metrics.f1_score(labels, predicted, average="macro", zero_division=0)),
        "log_loss": metrics.log_loss(labels, probabilities, labels=classes),
        "calibration_error": float(np.sum(np.abs(gaps) * shares)),
    }


def per_class(labels: np.ndarray, probabilities: np.ndarray, class_names) -> pd.DataFrame:
    """A row for each class: precision, recall, f1, average_precision (area under the precision-recall curve), examples."""
    classes = range(len(class_names))
    scores = metrics.precision_recall_fscore_support(labels, probabilities.argmax(axis=1), labels=classes, zero_division=0)
    table = pd.DataFrame(dict(zip(("precision", "recall", "f1", "examples"), scores, strict=True)), index=[*class_names])
    areas = metrics.average_precision_score(np.eye(len(classes))[labels], probabilities, average=None)
    table.insert(3, "average_precision", areas)
    return table


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10):
    """For each bin of confidence that is not empty: mean confidence, accuracy minus confidence, share of the rows."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(number, minlength=bins)
    filled = counts > 0
    means = np.bincount(number, confidence, bins)[filled] / counts[filled]
    accuracies = np.bincount(number, right, bins)[filled] / counts[filled]
    return means, accuracies - means, counts[filled] / len(labels)


def confident_mistakes(labels: np.ndarray, probabilities: np.ndarray, most: int | None = None) -> np.ndarray:
    """Rows that are wrong with the highest probability, worst first; at most `most`, or all."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1))][:most]


def plot_confusion(file: Path, labels: np.ndarray, probabilities: np.ndarray, class_names, title: str) -> None:
    """How often each class was taken for each."""
    save_figure(draw_confusion(labels, probabilities, class_names), file, title)


def draw_confusion(labels: np.ndarray, probabilities: np.ndarray, class_names):
    """As `plot_confusion`, but returns the figure."""
    figure, axes = plt.subplots(figsize=(0.6 * len(class_names) + 4, 0.5 * len(class_names) + 3))
    metrics.ConfusionMatrixDisplay.from_predictions(
        labels,
        probabilities.argmax(axis=1),
        labels=range(len(class_names)),
        display_labels=class_names,
        ax=axes,
        cmap="Blues",
        xticks_rotation="vertical" if len(class_names) > 5 else "horizontal",
    )
    return figure


def plot_roc(file: Path, labels: np.ndarray, candidates: dict[str, np.ndarray], title: str) -> None:
    """True positives over false positives, for each candidate's probabilities `(n, classes)`."""
    _plot_curves(metrics.RocCurveDisplay, file, labels, candidates, title)


def plot_precision_recall(file: Path, labels: np.ndarray, candidates: dict[str, np.ndarray], title: str) -> None:
    """Precision over recall, for each candidate's probabilities `(n, classes)`."""
    _plot_curves(metrics.PrecisionRecallDisplay, file, labels, candidates, title)


def _plot_curves(display, file: Path, labels: np.ndarray, candidates: dict[str, np.ndarray], title: str) -> None:
    """A curve for each candidate: of the second of two classes; of several, all pooled."""
    figure, axes = plt.subplots(figsize=(5, 5))
    for name, probabilities in candidates.items():
        classes = probabilities.shape[1]
        columns = [1] if classes == 2 else range(classes)
        is_class = np.eye(classes)[labels][:, columns]
        display.from_predictions(is_class.ravel(), probabilities[:, columns].ravel(), name=name, ax=axes)
    save_figure(figure, file, title)


def plot_reliability(file: Path, labels: np.ndarray, candidates: dict[str, np.ndarray], title: str) -> None:
    """How often a candidate is right when it is so sure; below the diagonal it is too sure of itself."""
    figure, axes = plt.subplots(figsize=(5, 5))
    axes.plot([0, 1], [0, 1], "k:", label="perfectly calibrated")
    for name, probabilities in candidates.items():
        confidence, gap, _ = reliability(labels, probabilities)
        axes.plot(confidence, confidence + gap, "o-", label=name)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    save_figure(figure, file, title)
