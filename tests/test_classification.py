"""Measures against hand-computed values and scikit-learn's own definitions."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score, roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from shared import classification


def test_measures_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
    labels = np.array([0, 1, 1, 0])
    got = classification.measure(labels, probabilities)
    assert got["accuracy"] == 0.75
    assert got["auc"] == 1.0  # 0.4 and 0.7 lie above 0.1 and 0.2
    assert got["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)  # 2 TP, 1 FP, 0 FN; 1 TP, 0 FP, 1 FN
    assert got["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.8]).mean())


def test_measures_of_each_class_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    table = classification.per_class(np.array([0, 1, 1, 0]), probabilities, ("ham", "spam"))
    assert table.loc["spam", ["precision", "recall", "f1"]].tolist() == [0.5, 0.5, 0.5]
    assert table["average_precision"].tolist() == pytest.approx([(1 + 2 / 4) / 2, (1 / 2 + 2 / 3) / 2])  # precision at each hit
    assert table["examples"].tolist() == [2, 2]


def test_calibration_error_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.35, 0.65], [0.35, 0.65]])
    labels = np.array([0, 1, 1, 1])  # 0.95 sure and right half the time; 0.65 sure and always right
    assert classification.measure(labels, probabilities)["calibration_error"] == pytest.approx(0.5 * 0.45 + 0.5 * 0.35)


def test_reliability_equals_scikit_learns_curve():
    rng = np.random.default_rng(0)
    positive = rng.uniform(0.5, 1, 1000)  # class 1 is always the one predicted
    labels = (rng.random(1000) < positive**2).astype(int)
    confidence, gap, fractions = classification.reliability(labels, np.stack([1 - positive, positive], axis=1))
    accuracies, means = calibration_curve(labels, positive, n_bins=10)
    np.testing.assert_allclose(confidence, means)
    np.testing.assert_allclose(confidence + gap, accuracies)
    assert fractions.sum() == pytest.approx(1)


def test_several_classes():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 200)
    labels = rng.integers(0, 3, 200)
    expected = np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in range(3)])
    assert classification.measure(labels, probabilities)["auc"] == pytest.approx(expected)


def test_most_confident_mistakes_come_first():
    probabilities = np.array([[0.4, 0.6], [0.9, 0.1], [0.2, 0.8], [0.99, 0.01]])
    table = classification.table_of_mistakes(np.array([0, 0, 1, 1]), probabilities, ("no", "yes"))
    assert table.index.tolist() == [3, 0]
    assert table["label"].tolist() == ["yes", "no"]
    assert table["predicted"].tolist() == ["no", "yes"]
    np.testing.assert_allclose(table["probability"], probabilities[[3, 0]].max(axis=1))


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_has_the_highest_f1_of_all(seed):
    """Against scikit-learn's F1 at every threshold that makes a difference."""
    rng = np.random.default_rng(seed)
    positive = rng.random(60) < 0.3
    probability = np.round(np.clip(0.3 * positive + 0.7 * rng.random(60), 0, 1), 2)  # rounded: some are equal
    scores = [f1_score(positive, probability >= threshold) for threshold in np.unique(probability)]
    threshold = classification.best_threshold(positive, probability)
    at_best = classification.measure_at(positive, probability, threshold)
    assert at_best["f1"] == pytest.approx(max(scores))
    predicted = probability >= threshold
    assert at_best["precision"] == pytest.approx(precision_score(positive, predicted))
    assert at_best["recall"] == pytest.approx(recall_score(positive, predicted))


def test_a_threshold_above_every_probability_finds_nothing():
    assert classification.measure_at(np.array([True, False]), np.array([0.4, 0.2]), 0.5) == {
        "precision": 0,
        "recall": 0,
        "f1": 0,
    }


def test_precision_recall_curves_in_tensorboard_equal_scikit_learns(tmp_path):
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(3), 100), rng.integers(0, 3, 100)
    classification.pr_curves_to_tensorboard(tmp_path, labels, probabilities, ("go", "stop", "up"))
    accumulator = EventAccumulator(str(tmp_path / "logs" / "report")).Reload()
    [event] = accumulator.Tensors("1_quality/stop/pr_curves")
    *counts, precision, recall = tensor_util.make_ndarray(event.tensor_proto)
    for threshold in (0, 60, 100, 140):  # of 200
        predicted = probabilities[:, 1] >= threshold / 200
        assert precision[threshold] == pytest.approx(precision_score(labels == 1, predicted, zero_division=0))
        assert recall[threshold] == pytest.approx(recall_score(labels == 1, predicted))
        true_negatives, false_positives, false_negatives, true_positives = confusion_matrix(labels == 1, predicted).ravel()
        expected = [true_positives, false_positives, true_negatives, false_negatives]
        assert [count[threshold] for count in counts] == expected
