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
        _leads_in_words(metrics),
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
    """Print a table; numbers that are not whole get `digits` decimals.

    One that is wider than the terminal is turned where that makes it narrower; what is too wide still is wrapped, not cut.
    """
    console = Console(width=None if sys.stdout.isatty() else 160)
    cells = table.astype(object).map(lambda value: _cell(value, digits))
    shown, turned = (_rich_table(one, title, corner) for one in (cells, cells.T))
    without_limit = console.options.update(max_width=10_000)
    widths, widths_turned = (console.measure(one, options=without_limit) for one in (shown, turned))
    fits_better = widths.maximum > console.width and widths_turned.minimum < widths.minimum
    console.print(turned if fits_better else shown)


def _rich_table(cells: pd.DataFrame, title: str, corner: str) -> Table:
    """Texts as a table whose columns may wrap between words alone."""
    shown = Table(title=Text(title))  # Text: rich would take [billing] in a plain str for markup
    shown.add_column(Text(corner), overflow="fold")
    for name in cells.columns:
        shown.add_column(Text(str(name)), justify="right", overflow="fold")
    for who, row in cells.iterrows():
        shown.add_row(*(Text(cell) for cell in (str(who), *row)))
    return shown


def _cell(value, digits: int) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "-"
    return f"{value:,.0f}" if not isinstance(value, float) or float(value).is_integer() else f"{value:,.{digits}f}"


def announce(folder: Path, metrics: dict[str, Any], scores: pd.DataFrame, next_command: str) -> None:
    """Print the scores, who won, where the run lies and what to do next."""
    in_words = scores.rename(columns=lambda name: name.replace("_", " "))
    print_table(in_words, f"{_title(metrics)}, {metrics['split']}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"{_leads_in_words(metrics)} {metrics['train_seconds'] / 60:.1f} minutes of training.", markup=False)
    console.print(f"Run:   {folder}  (report.md, plots/, model.keras)", highlight=False, markup=False)
    console.print(f"Next:  {next_command}    make tensorboard    make runs", highlight=False, markup=False)


def _leads_in_words(metrics: dict[str, Any]) -> str:
    """The lead by the metric, and by the other measures where an app judges by them, too."""
    return " ".join(map(_lead_in_words, (metrics["lead"], *metrics.get("other_leads", ()))))


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
