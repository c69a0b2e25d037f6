"""What every run says at its end: report.md, and a table in the terminal with the network beside its baseline."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared import runs


def scores(summary: dict[str, Any], rows: dict[str, str]) -> pd.DataFrame:
    """The measures in `metrics.json` side by side.

    Args:
        summary: what goes into metrics.json; a measure is there for each prefix: `test_accuracy`, `baseline_accuracy`.
        rows: name of each row and the prefix that its measures have.
    """
    names = [key.removeprefix("baseline_") for key in summary if key.startswith("baseline_")]
    return pd.DataFrame({who: [summary[f"{prefix}_{name}"] for name in names] for who, prefix in rows.items()}, names).T


def write_markdown(folder: Path, summary: dict[str, Any], scores: pd.DataFrame, part: str, sections: list[str]) -> None:
    """Write report.md: what was trained, the scores on `part`, then `sections`, lines of Markdown."""
    lines = [
        f"# {_title(summary)}",
        "",
        f"{summary['parameters']:,} parameters, {summary['epochs']} epochs, {summary['train_seconds'] / 60:.1f} minutes of "
        f"training on {runs.describe_device()}, seed {summary['seed']}.",
        "",
        *markdown_table(scores, f"on {part}"),
        "",
        *([_lead_in_words(summary["lead"], "the baseline"), ""] if "lead" in summary else []),
        *sections,
    ]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def markdown_table(table: pd.DataFrame, corner: str) -> list[str]:
    """A table of numbers as lines of Markdown."""
    return [
        f"| {corner} | " + " | ".join(table.columns) + " |",
        "|---|" + "---|" * len(table.columns),
        *(f"| {who} | " + " | ".join(f"{score:.4f}" for score in row) + " |" for who, row in table.iterrows()),
    ]


def print_table(table: pd.DataFrame, title: str, corner: str = "", digits: int = 4) -> None:
    """A table in the terminal; `digits` behind the point of numbers that are no whole ones."""
    shown = Table(title=Text(title))  # Text: in a str of the user's, [billing] would be taken for rich's markup
    shown.add_column(Text(corner))
    for name in table.columns:
        shown.add_column(Text(str(name)), justify="right")
    for who, row in table.iterrows():
        shown.add_row(*(Text(cell) for cell in (str(who), *(_cell(value, digits) for value in row))))
    Console(width=None if sys.stdout.isatty() else 160).print(shown)


def _cell(value, digits: int) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if float(value).is_integer() and not isinstance(value, float) else f"{value:.{digits}f}"


def announce(folder: Path, summary: dict[str, Any], scores: pd.DataFrame, part: str, baseline: str, next_command: str) -> None:
    """Print the scores, who won, where the run lies and what to do next."""
    print_table(scores, f"{_title(summary)}, {part}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    winner = "The network beats" if summary["beats_baseline"] else "The network does NOT beat"
    verdict = _lead_in_words(summary["lead"], baseline) if "lead" in summary else f"{winner} {baseline}."
    console.print(f"{verdict} {summary['train_seconds'] / 60:.1f} minutes of training.", markup=False)
    console.print(f"Run:   {folder}  (report.md, plots/, model.keras)", highlight=False, markup=False)
    console.print(f"Next:  {next_command}    make tensorboard    make runs", highlight=False, markup=False)


def _lead_in_words(lead: dict[str, Any], baseline: str) -> str:
    """Who is ahead, by how much of which metric, and how sure that is."""
    interval = f"(95 % interval {lead['low']:.4f} to {lead['high']:.4f})"
    metric = lead["metric"].replace("_", " ")
    if lead["verdict"] == "draw":
        return f"The network and {baseline} are a draw: the network leads by {lead['mean']:.4f} {metric} {interval}."
    if lead["verdict"] == "better":
        return f"The network beats {baseline} by {lead['mean']:.4f} {metric} {interval}."
    worse = f"(95 % interval {-lead['high']:.4f} to {-lead['low']:.4f})"
    return f"The network does NOT beat {baseline}: it is worse by {-lead['mean']:.4f} {metric} {worse}."


def plots_to_tensorboard(folder: Path) -> None:
    """Show the run's plots in the IMAGES tab. (The writer's folder is logs/report.)"""
    with tf.summary.create_file_writer(str(folder / "logs" / "report")).as_default():
        for plot in sorted((folder / "plots").glob("*.png")):
            tf.summary.image(plot.stem, tf.image.decode_png(plot.read_bytes(), channels=4)[None], step=0)


def _title(summary: dict[str, Any]) -> str:
    return f"{summary['app']} on {summary['dataset']}, preset {summary['preset']}"
