"""What a run shows of itself: plots, the mistakes, report.md, TensorBoard."""

from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from apps.tagging.data import Sentences
from apps.tagging.schemes import OUTSIDE, split
from apps.tagging.validation import Decoded
from shared import classification, report
from shared.plots import plot_history, plt, save_figure
from shared.tensorboard import hparams_to_tensorboard, plots_of_recurrence, plots_to_tensorboard

MISTAKES_SHOWN = 12
MAX_CONFUSED = 15  # types in the picture of confusions, those with the most


def write(folder: Path, metrics: dict, test: Sentences, found: Decoded) -> None:
    """Plots (PNG), all mistakes (mistakes.csv), report.md, and the same in TensorBoard.

    Args:
        folder: the run folder.
        metrics: what goes into metrics.json.
        test: the test sentences.
        found: what the network says of them.
    """
    on = f"{metrics['app']} on {metrics['dataset']}"  # a sample's plot cannot be taken for another's
    metric = metrics["metric"]
    curves = [["loss", "val_loss"], [f"val_{metric}", "val_sentence_accuracy"], ["gradient_norm"]]
    plot_history(folder / "plots" / "training.png", pd.read_csv(folder / "history.csv"), curves, on)
    plot_confusion(folder / "plots" / "confusion.png", test, found.tags, f"{on} (test), words")
    if "per_type" in metrics:
        table = pd.DataFrame(metrics["per_type"]).T
        plot_types(folder / "plots" / "types.png", table, f"{on} (test)")
    mistakes = table_of_mistakes(test, found)
    mistakes.to_csv(folder / "mistakes.csv", index=False)
    names = ["training", "types", "confusion", "answer", "transitions", *plots_of_recurrence(folder)]
    shown = [name for name in names if (folder / "plots" / f"{name}.png").exists()]
    sections = report.images(*shown)
    if "per_type" in metrics:
        sections += ["", "## Each type", "", *report.markdown_table(table, "on test")]
    lines = _mistake_lines(mistakes[:MISTAKES_SHOWN])
    sections += [
        "",
        f"## The {len(lines)} most confident of {len(mistakes)} mistakes",
        "",
        "mistakes.csv holds all.",
        "",
        *lines,
    ]
    report.write_markdown(folder, metrics, sections)
    hparams_to_tensorboard(folder, metrics)
    plots_to_tensorboard(folder)
    with tf.summary.create_file_writer(str(folder / "logs" / "report")).as_default():
        tf.summary.text("confident mistakes", "\n".join(lines), step=0)


def table_of_mistakes(test: Sentences, found: Decoded) -> pd.DataFrame:
    """A row for each test sentence whose tags are not all right, those with the highest probability first."""
    rows = [
        {"probability": round(probability, 4), "expected": in_brackets(tokens, tags), "predicted": in_brackets(tokens, other)}
        for tokens, tags, other, probability in zip(test.tokens, test.tags, found.tags, found.probabilities, strict=True)
        if tags != other
    ]
    table = pd.DataFrame(rows, columns=["probability", "expected", "predicted"])
    return table.sort_values("probability", ascending=False, kind="stable")


def in_brackets(tokens: list[str], tags: list[str]) -> str:
    """wake me at [seven timeRange]; a word with a plain tag: [run VB]."""
    pieces = []
    for token, tag in zip(tokens, tags, strict=True):
        prefix, kind = split(tag)
        if prefix == "I" and pieces and pieces[-1].endswith(f" {kind}]"):
            pieces[-1] = f"{pieces[-1].removesuffix(f' {kind}]')} {token} {kind}]"
        else:
            pieces.append(token if tag == OUTSIDE else f"[{token} {kind or tag}]")
    return " ".join(pieces)


def _mistake_lines(mistakes: pd.DataFrame) -> list[str]:
    return [f"- {row.probability:.4f} {row.predicted}\n    - right: {row.expected}" for row in mistakes.itertuples()]


def plot_types(file: Path, table: pd.DataFrame, title: str) -> None:
    """F1 of each type as a bar, with how many spans there are."""
    figure, axes = plt.subplots(figsize=(7, 1.5 + 0.25 * len(table)))
    labels = [f"{name} ({spans:.0f})" for name, spans in table["spans"].items()]
    axes.barh(labels, table["f1"].fillna(0))
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set(xlim=(0, 1), xlabel="F1 of exact spans; in brackets: spans in test")
    axes.grid(axis="x", alpha=0.4)
    save_figure(figure, file, title)


def plot_confusion(file: Path, test: Sentences, found: list[list[str]], title: str) -> None:
    """Which type of tag the words were given for which: the types that are confused most."""
    pairs = [
        (split(tag)[1] or tag, split(other)[1] or other)
        for tags in zip(test.tags, found, strict=True)
        for tag, other in zip(*tags, strict=True)
    ]
    counts = pd.crosstab(*map(pd.Series, zip(*pairs, strict=True)))
    names = counts.index.union(counts.columns)
    counts = counts.reindex(index=names, columns=names, fill_value=0)
    wrong = counts.to_numpy() * (1 - np.eye(len(names), dtype=int))
    most = np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:MAX_CONFUSED])
    figure = classification.draw_counts(counts.to_numpy()[np.ix_(most, most)], names[most])
    save_figure(figure, file, title)
