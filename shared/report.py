"""The report of every run: report.md, and a table in the terminal with the network beside its baseline."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text


def scores(metrics: dict[str, Any]) -> pd.DataFrame:
    """The figures of metrics.json side by side: a row for the network, the baseline and what else was measured on the split."""
    return pd.DataFrame(metrics["test"]).T


def write_markdown(folder: Path, metrics: dict[str, Any], sections: list[str]) -> None:
    """Write report.md: what was trained, the scores, the lead over the baseline, then `sections`, lines of Markdown."""
    lines = [
        f"# {_title(metrics)}",
        "",
        f"{metrics['parameters']:,} parameters, {metrics['epochs']} epochs, {metrics['train_seconds'] / 60:.1f} minutes of "
        f"training on {metrics['device']}, seed {metrics['seed']}.",
        "",
        *markdown_table(scores(metrics), f"on {metrics['split']}"),
        "",
        _lead_in_words(metrics["lead"]),
        "",
        *sections,
    ]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def images(*names: str) -> list[str]:
    """Plots of the run folder as lines of Markdown."""
    return [f"![{name}](plots/{name}.png)" for name in names]


def markdown_table(table: pd.DataFrame, corner: str) -> list[str]:
    """A table of numbers as lines of Markdown."""
    return [
        f"| {corner} | " + " | ".join(table.columns) + " |",
        "|---|" + "---|" * len(table.columns),
        *(f"| {who} | " + " | ".join(_cell(score, 4) for score in row) + " |" for who, row in table.iterrows()),
    ]


def with_mean_and_spread(table: pd.DataFrame) -> pd.DataFrame:
    """The table with two rows more: mean and (sample) standard deviation of its numbers; texts are left empty there."""
    numbers = table.select_dtypes("number")
    summary = pd.DataFrame({"mean": numbers.mean(), "standard deviation": numbers.std()}).T
    return pd.concat([table, summary]).fillna(dict.fromkeys(table.columns.difference(numbers.columns), ""))


def print_table(table: pd.DataFrame, title: str, corner: str = "", digits: int = 4) -> None:
    """Print a table; numbers that are not whole get `digits` decimals."""
    shown = Table(title=Text(title))  # Text: rich would take [billing] in a plain str for markup
    shown.add_column(Text(corner))
    for name in table.columns:
        shown.add_column(Text(str(name)), justify="right")
    for who, row in table.iterrows():
        shown.add_row(*(Text(cell) for cell in (str(who), *(_cell(value, digits) for value in row))))
    Console(width=None if sys.stdout.isatty() else 160).print(shown)


def _cell(value, digits: int) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "-"
    return f"{value:,.0f}" if not isinstance(value, float) or float(value).is_integer() else f"{value:,.{digits}f}"


def announce(folder: Path, metrics: dict[str, Any], scores: pd.DataFrame, next_command: str) -> None:
    """Print the scores, who won, where the run lies and what to do next."""
    print_table(scores, f"{_title(metrics)}, {metrics['split']}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"{_lead_in_words(metrics['lead'])} {metrics['train_seconds'] / 60:.1f} minutes of training.", markup=False)
    console.print(f"Run:   {folder}  (report.md, plots/, model.keras)", highlight=False, markup=False)
    console.print(f"Next:  {next_command}    make tensorboard    make runs", highlight=False, markup=False)


def _lead_in_words(lead: dict[str, Any]) -> str:
    """Who is ahead, by how much of which metric, and how sure that is."""
    baseline, metric = lead["baseline"], lead["metric"].replace("_", " ")
    interval = f"(95 % interval {lead['low']:.4f} to {lead['high']:.4f})"
    if lead["verdict"] == "draw":
        return f"The network and {baseline} are a draw: the network leads by {lead['mean']:.4f} {metric} {interval}."
    if lead["verdict"] == "better":
        return f"The network beats {baseline} by {lead['mean']:.4f} {metric} {interval}."
    worse = f"(95 % interval {-lead['high']:.4f} to {-lead['low']:.4f})"
    return f"The network does NOT beat {baseline}: it is worse by {-lead['mean']:.4f} {metric} {worse}."


def _title(metrics: dict[str, Any]) -> str:
    return f"{metrics['app']} on {metrics['dataset']}, preset {metrics['preset']}"
