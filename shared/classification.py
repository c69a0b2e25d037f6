"""How good a classifier's probabilities are: measures, and plots that show them."""

from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn import metrics
from tensorboard.plugins.pr_curve import summary as pr_curve

from shared.plots import plt, save_figure
from shared.tensorboard import QUALITY

PLOTS = ("confusion_matrix", "roc", "precision_recall", "reliability")


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
    _, gaps, fractions = reliability(labels, probabilities)
    return {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "auc": float(metrics.roc_auc_score(labels, scores, multi_class="ovr", labels=classes)),
        "average_precision": float(metrics.average_precision_score(np.eye(len(classes))[labels], probabilities)),
        "macro_f1": float(metrics.f1_score(labels, predicted, average="macro", zero_division=0)),
        "log_loss": metrics.log_loss(labels, probabilities, labels=classes),
        "calibration_error": float(np.sum(np.abs(gaps) * fractions)),
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
    """For each bin of confidence that is not empty: mean confidence, accuracy minus confidence, fraction of the rows."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(number, minlength=bins)
    filled = counts > 0
    means = np.bincount(number, confidence, bins)[filled] / counts[filled]
    accuracies = np.bincount(number, right, bins)[filled] / counts[filled]
    return means, accuracies - means, counts[filled] / len(labels)


def table_of_mistakes(labels: np.ndarray, probabilities: np.ndarray, class_names) -> pd.DataFrame:
    """Rows that are wrong, those with the highest probability first; the index is the number of the row."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1))]
    names = np.array(class_names)
    columns = {"label": names[labels[worst]], "predicted": names[predicted[worst]]}
    return pd.DataFrame(columns | {"probability": probabilities[worst].max(axis=1).round(4)}, index=worst)


def best_threshold(positive: np.ndarray, probability: np.ndarray) -> float:
    """The threshold with the highest F1: rows with this probability `(n,)` or more count as positive."""
    precision, recall, thresholds = metrics.precision_recall_curve(positive, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[f1[:-1].argmax()])


def measure_at(positive: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, float]:
    """Precision, recall and F1 of calling rows positive whose probability is `threshold` or more."""
    found = metrics.precision_recall_fscore_support(positive, probability >= threshold, average="binary", zero_division=0)
    return dict(zip(("precision", "recall", "f1"), map(float, found[:3]), strict=True))


def plot_all(folder: Path, labels: np.ndarray, probabilities: dict[str, np.ndarray], class_names, title: str) -> None:
    """The plots named in `PLOTS`.

    Args:
        folder: to write to.
        labels: `(n,)`.
        probabilities: `(n, classes)` of "network" and "baseline".
        class_names: of the classes.
        title: of the plots.
    """
    candidates = {who: probabilities[who] for who in ("network", "baseline")}
    save_figure(draw_confusion(labels, probabilities["network"], class_names), folder / "confusion_matrix.png", title)
    plot_curves(metrics.RocCurveDisplay, folder / "roc.png", labels, candidates, title)
    plot_curves(metrics.PrecisionRecallDisplay, folder / "precision_recall.png", labels, candidates, title)
    plot_reliability(folder / "reliability.png", labels, candidates, title)


def draw_confusion(labels: np.ndarray, probabilities: np.ndarray, class_names):
    """The confusion matrix as a figure: how often each class was taken for each."""
    return draw_counts(
        metrics.confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(len(class_names))), class_names
    )


def draw_counts(counts: np.ndarray, class_names):
    """A confusion matrix `(classes, classes)`, a row for each label, as a figure."""
    classes = len(class_names)
    figure, axes = plt.subplots(figsize=(0.45 * classes + 3.5, 0.4 * classes + 2.8))
    rotation = "vertical" if classes > 5 or max(map(len, class_names)) > 8 else "horizontal"
    metrics.ConfusionMatrixDisplay(counts, display_labels=class_names).plot(ax=axes, cmap="Blues", xticks_rotation=rotation)
    return figure


def plot_curves(display, file: Path, labels: np.ndarray, candidates: dict[str, np.ndarray], title: str) -> None:
    """A ROC or precision-recall curve for each candidate: of the second of two classes; of several, all pooled."""
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


def pr_curves_to_tensorboard(folder: Path, labels: np.ndarray, probabilities: np.ndarray, class_names) -> None:
    """Precision and recall of each class against the rest at 201 thresholds, into the run's logs (PR CURVES tab).

    Args:
        folder: the run folder.
        labels: `(n,)`.
        probabilities: `(n, classes)`.
        class_names: of the classes.
    """
    with tf.summary.create_file_writer(str(folder / "logs" / "report")).as_default(step=0):
        for number, name in enumerate(class_names):
            curve = pr_curve.pb(f"{QUALITY}/{name}", labels == number, probabilities[:, number])
            tf.summary.experimental.write_raw_pb(curve.SerializeToString())
