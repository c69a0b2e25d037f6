"""The output of `make <app>-check`: what the data holds, reasons against training on it, how long training would take."""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from shared import runs, training
from shared.environment import usable_cores
from shared.plots import save_figure
from shared.report import print_table

MEASURED = "Measured over a few steps; validation, test and early stopping are left out."


class Findings(NamedTuple):
    """What an app found in its data."""

    app: str
    dataset: str
    tables: dict[str, pd.DataFrame]  # by title
    figures: dict[str, Figure]  # by file name
    remarks: list[str]  # what is worth knowing
    obstacles: list[str]  # reasons why this data cannot be trained on


Stages = dict[str, tuple[training.Experiment, int]]  # by name: what is trained, and for how many epochs


def tell(findings: Findings, config: object, prepare: Callable[[], Stages]) -> None:
    """Print the tables and remarks, save the figures in `runs/<app>/check/`, measure how long training would take.

    Args:
        findings: what was seen.
        config: the app's.
        prepare: returns the trainings to time, see an app's `prepare`; called only where there are no obstacles.

    Raises:
        SystemExit: with status 1 where there are obstacles; the minutes are then not measured.
    """
    for title, table in findings.tables.items():
        print_table(table, f"{findings.dataset}: {title}", digits=3)
    folder = runs.ROOT / findings.app / "check"
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in findings.figures.items():
        save_figure(figure, folder / f"{name}.png", f"{findings.app} on {findings.dataset}")
    for remark in findings.remarks:
        print(f"- {remark}")
    print(f"Plots: {', '.join(str(folder / f'{name}.png') for name in findings.figures)}")
    if findings.obstacles:
        print("This data cannot be trained on:", *(f"- {reason}" for reason in findings.obstacles), sep="\n")
        sys.exit(1)
    print(f"Training a few steps of preset {config.preset} ...", flush=True)
    print_table(expected_minutes(prepare()), f"Expected on this machine, preset {config.preset}", digits=1)
    print(MEASURED)
    busy = os.getloadavg()[0] - 1  # without this process
    if busy > usable_cores() / 2:
        print(f"This machine is busy ({busy:.1f} other processes compute on {usable_cores()} cores): alone it would be faster.")


def expected_minutes(stages: Stages) -> pd.DataFrame:
    """For each stage the milliseconds per step and the minutes of all its epochs."""
    rows = {}
    for name, (experiment, epochs) in stages.items():
        milliseconds = training.time_steps(experiment)
        rows[name] = {
            "ms per step": milliseconds,
            "steps per epoch": experiment.steps,
            "epochs": epochs,
            "minutes": milliseconds * experiment.steps * epochs / 60_000,
            "parameters": experiment.network.count_params(),
        }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=object)


def repeated(things: list) -> int:
    """The number of elements that are equal to an earlier one."""
    return len(things) - len(set(things))
