"""How good tags are: spans that are exactly right, as the program `conlleval` of the CoNLL shared tasks counts them."""

import numpy as np
import pandas as pd

from apps.tagging.schemes import spans_of


def counts(expected: list[list[str]], found: list[list[str]]) -> pd.DataFrame:
    """Spans of each sentence: a row for each, and `right`, `found` and `expected`. Right: same type, first and last word."""
    rows = []
    for one, other in zip(expected, found, strict=True):
        spans, guesses = set(spans_of(one)), set(spans_of(other))
        rows.append((len(spans & guesses), len(guesses), len(spans)))
    return pd.DataFrame(rows, columns=["right", "found", "expected"])


def f1(right: int, found: int, expected: int) -> float:
    """Of counts of spans: 2 right / (found + expected), the harmonic mean of precision and recall; 0 where there are none."""
    return float(2 * right / (found + expected)) if found + expected else 0.0


def measure(expected: list[list[str]], found: list[list[str]], has_spans: bool) -> dict[str, float]:
    """Compare tags in IOB2 of many sentences.

    Returns:
        entity_f1, entity_precision and entity_recall over all spans, where tags name spans; token_accuracy, the fraction of the
        words whose tag is right; sentence_accuracy, that of the sentences of which all are.
    """
    right = [np.array(one) == np.array(other) for one, other in zip(expected, found, strict=True)]
    figures = {
        "token_accuracy": float(np.concatenate(right).mean()),
        "sentence_accuracy": float(np.mean([one.all() for one in right])),
    }
    if not has_spans:
        return figures
    total = counts(expected, found).sum()
    spans = {
        "entity_f1": f1(*total),
        "entity_precision": float(total.right / max(total.found, 1)),
        "entity_recall": float(total.right / max(total.expected, 1)),
    }
    return spans | figures


def words_right(expected: list[list[str]], found: list[list[str]]) -> np.ndarray:
    """Of each sentence `(n, 2)`: the words whose tag is right, and all words."""
    right = [sum(map(str.__eq__, one, other)) for one, other in zip(expected, found, strict=True)]
    return np.array([*zip(right, map(len, expected), strict=True)])


def per_type(expected: list[list[str]], found: list[list[str]]) -> pd.DataFrame:
    """A row for each type of span: precision, recall, f1, spans (that there are); the most frequent first."""
    spans = {(row, span) for row, tags in enumerate(expected) for span in spans_of(tags)}
    guesses = {(row, span) for row, tags in enumerate(found) for span in spans_of(tags)}
    table = pd.DataFrame(
        {
            name: pd.Series([span.type for _, span in part], dtype=object).value_counts()
            for name, part in (("right", spans & guesses), ("found", guesses), ("expected", spans))
        }
    ).fillna(0)
    figures = pd.DataFrame(
        {
            "precision": table.right / table.found.clip(lower=1),
            "recall": table.right / table.expected.clip(lower=1),
            "f1": 2 * table.right / (table.found + table.expected),
            "spans": table.expected.astype(int),
        }
    )
    return figures.sort_values(["spans", "f1"], ascending=False)
