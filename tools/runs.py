"""A table of all runs, finished and unfinished"""

import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared import cli, runs
from shared.cli import UserError


def main() -> None:
    """Print a table of all runs."""
    table = Table(title=f"Runs in {runs.ROOT}/")
    for column in ("run", "preset", "data", "metric", "validation", "test", "baseline", "won", "epochs", "minutes"):
        right = column in ("validation", "test", "baseline", "minutes")
        table.add_column(column, justify="right" if right else "left", no_wrap=column == "run", overflow="fold")
    for app in sorted(path.name for path in runs.ROOT.glob("*") if path.is_dir()):
        for folder in runs.finished(app):
            table.add_row(f"{app}/{folder.name}", *map(escape, _table_cells(folder)))
        for folder in runs.unfinished(app):
            table.add_row(f"{app}/{folder.name}", "unfinished", *["-"] * 8)
    if not table.rows:
        raise UserError(f"No runs in {runs.ROOT}/ yet. Train an app first; make lists them.")
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _table_cells(folder: Path) -> list[str]:
    try:
        metrics = runs.read_json(folder / "metrics.json")
        metric = metrics["metric"]
    except (UserError, KeyError):  # KeyError: made before metrics.json had its present form
        return ["damaged, or of another version", *["-"] * 8]
    figures = [
        metrics["validation"]["network"][metric],
        metrics["test"]["network"][metric],
        metrics["test"]["baseline"][metric],
    ]
    figures = [f"{figure:.4f}" for figure in figures]
    if metrics["split"] != "test":
        figures[1:] = [f"{figure} on {metrics['split']}" for figure in figures[1:]]
    winner = {"better": "network", "worse": "baseline", "draw": "draw"}[metrics["lead"]["verdict"]]
    minutes = f"{metrics['train_seconds'] / 60:.1f}"
    epochs = f"{metrics['epochs']}, interrupted" if metrics.get("interrupted") else f"{metrics['epochs']}"
    return [metrics["preset"], metrics["dataset"], metric, *figures, winner, epochs, minutes]


if __name__ == "__main__":
    cli.run(main)
