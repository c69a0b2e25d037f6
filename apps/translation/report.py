"""What a run shows of itself: plots, the mistakes, report.md, TensorBoard."""

from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from apps.translation import heatmap, scores
from apps.translation.answers import attend
from apps.translation.data import Pairs
from apps.translation.tokens import Vocabulary
from shared import report
from shared.beam import Hypothesis
from shared.plots import plot_history, save_figure
from shared.tensorboard import hparams_to_tensorboard, plots_of_recurrence, plots_to_tensorboard

MISTAKES_SHOWN = 12
CONFUSIONS_SHOWN = 15
HEAT_MAPS = 2  # of right answers, and as many of wrong ones
LENGTHS = (1, 4, 7, 10, 15, 20, 30, 50)  # source tokens that the bars of `by_length` begin with
MIN_IN_BAR = 20  # test sources, below which a bar is left out


def write(folder: Path, metrics: dict, experiment, texts: dict[str, list[str]], found: list[list[Hypothesis]]) -> None:
    """Plots (PNG), all mistakes (mistakes.csv), report.md, and the same in TensorBoard.

    Args:
        folder: the run folder.
        metrics: what goes into metrics.json.
        experiment: of `apps.translation.train`.
        texts: what the network ("network") and the others wrote for each test source.
        found: the n best of the network.
    """
    on = f"{metrics['app']} on {metrics['dataset']}"  # a sample's plot cannot be taken for another's
    test, kind, vocabulary = experiment.data.test, experiment.kind, experiment.vocabulary
    metric = scores.METRIC[kind]
    curves = [["loss", "val_loss"], [f"val_{metric}"], ["token_accuracy", "val_token_accuracy"], ["gradient_norm"]]
    plot_history(folder / "plots" / "training.png", pd.read_csv(folder / "history.csv"), curves, on)
    lengths = np.array([len(vocabulary.source.encode(source)) for source in test.sources])
    of_lengths = by_length(kind, lengths, texts, test.references)
    of_lengths.to_csv(folder / "by_length.csv", index_label="tokens")
    plot_by_length(folder / "plots" / "by_length.png", of_lengths, metric, f"{on} (test)")
    mistakes = table_of_mistakes(vocabulary, test, texts["network"], found)
    mistakes.to_csv(folder / "mistakes.csv", index=False)
    maps = draw_heat_maps(folder / "plots", experiment, texts["network"], found) if metrics["has_attention"] else []
    names = ["training", "by_length", *maps, "answer", *plots_of_recurrence(folder)]
    shown = [name for name in names if (folder / "plots" / f"{name}.png").exists()]
    lines = _lines(mistakes[:MISTAKES_SHOWN])
    confused = report.markdown_table(confusions(vocabulary, test, texts["network"]), "right")
    sections = [
        *report.images(*shown),
        "",
        f"## {metric.replace('_', ' ')} by the length of the source",
        "",
        *report.markdown_table(of_lengths, "tokens"),
        "",
        "## Most frequent confusions",
        "",
        *confused,
        "",
        f"## The {len(lines)} most confident of {len(mistakes):,} mistakes",
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


def by_length(kind: str, lengths: np.ndarray, texts: dict[str, list[str]], references: list[list[str]]) -> pd.DataFrame:
    """The metric by source tokens: a row for each range with enough sources, its columns their number and each of `texts`."""
    rows = {}
    for first, last in zip(LENGTHS, [*LENGTHS[1:], np.inf], strict=True):
        inside = np.flatnonzero((lengths >= first) & (lengths < last))
        if len(inside) < MIN_IN_BAR:
            continue
        right = [references[row] for row in inside]
        name = f"{first} to {last - 1}" if np.isfinite(last) else f"{first} or more"
        reached = {who: scores.measure(kind, [of[row] for row in inside], right) for who, of in texts.items()}
        rows[name] = {"sources": len(inside)} | {who: measured[scores.METRIC[kind]] for who, measured in reached.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["sources", *texts])


def plot_by_length(file: Path, table: pd.DataFrame, metric: str, title: str) -> None:
    """The metric of each range of lengths as bars."""
    if table.empty:
        return
    axes = table.drop(columns="sources").plot.bar(figsize=(7, 4), rot=0)
    axes.set(xlabel="tokens of the source", ylabel=metric.replace("_", " "))
    axes.grid(axis="y", alpha=0.4)
    save_figure(axes.figure, file, title)


def draw_heat_maps(folder: Path, experiment, written: list[str], found: list[list[Hypothesis]]) -> list[str]:
    """Attention in right and in wrong answers of about the median length. Returns the pictures' names."""
    test, names = experiment.data.test, []
    order = np.argsort(np.abs(np.array([*map(len, test.sources)]) - np.median([*map(len, test.sources)])), kind="stable")
    for what, wanted in (("right", True), ("wrong", False)):
        rows = [row for row in order if (written[row] in test.references[row]) == wanted and written[row]][:HEAT_MAPS]
        for number, row in enumerate(rows, start=1):
            names.append(f"attention_{what}_{number}")
            looked = attend(experiment.network, experiment.vocabulary, test.sources[row], found[row][0].tokens)
            title = "A right answer" if wanted else f"A wrong answer; right: {test.targets[row]}"
            heatmap.save(folder / f"{names[-1]}.png", *looked, title)
    return names


def confusions(vocabulary: Vocabulary, test: Pairs, written: list[str]) -> pd.DataFrame:
    """Which tokens were written for which, most frequent first; "-" where one was left out or is too many.

    A wrong answer is compared with the reference that is nearest to it.
    """

    def pieces(text: str) -> list[str]:
        return [piece.replace("|", "\\|") for piece in vocabulary.target.pieces(vocabulary.target.encode(text))]

    counts = Counter()
    for text, right in zip(written, test.references, strict=True):
        if text in right:
            continue
        other = pieces(text)
        one = min(map(pieces, right), key=lambda pieces: scores.edit_distance(pieces, other))
        for what, i, k, m, n in SequenceMatcher(a=one, b=other, autojunk=False).get_opcodes():
            if what != "equal":
                counts[" ".join(one[i:k]) or "-", " ".join(other[m:n]) or "-"] += 1
    rows = [(f"`{right}`", f"`{text}`", count) for (right, text), count in counts.most_common(CONFUSIONS_SHOWN)]
    return pd.DataFrame(rows, columns=["right", "written", "times"]).set_index("right")


def table_of_mistakes(vocabulary: Vocabulary, test: Pairs, written: list[str], found: list[list[Hypothesis]]) -> pd.DataFrame:
    """A row for each test source whose answer equals no reference, those with the highest score first."""
    decode = vocabulary.target.decode
    rows = [
        {
            "score": round(best[0].score, 4),
            "source": source,
            "written": text,
            "right": " | ".join(right),
            "next best": " | ".join(decode(one.tokens) for one in best[1:3]),
        }
        for source, text, right, best in zip(test.sources, written, test.references, found, strict=True)
        if text not in right
    ]
    table = pd.DataFrame(rows, columns=["score", "source", "written", "right", "next best"])
    return table.sort_values("score", ascending=False, kind="stable")


def _lines(mistakes: pd.DataFrame) -> list[str]:
    return [
        f"- {row.score:.3f} {row.source}: {row.written}\n    - right: {row.right}\n    - next best: {row[5]}"
        for row in mistakes.itertuples()
    ]
