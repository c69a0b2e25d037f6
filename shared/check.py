"""What `make <app>-check` says: what the data holds, what speaks against training on it, how long each preset would take."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from shared import runs
from shared.cli import UserError
from shared.plots import save_figure


class Findings(NamedTuple):
    """What an app has seen in its data."""

    app: str
    dataset: str
    tables: dict[str, pd.DataFrame]  # by title
    figures: dict[str, Figure]  # by file name
    remarks: list[str]  # what is worth knowing
    obstacles: list[str]  # reasons why this data cannot be trained on


def tell(findings: Findings, train: Callable, presets: Mapping[str, object], config: object) -> None:
    """Print the tables and remarks, save the figures in `runs/<app>/check/`, measure how long training would take.

    Args:
        findings: what was seen.
        train: the app's; see `shared.rehearsal`.
        presets: the app's.
        config: the user's; what differs in it from its preset is given to the other presets too.

    Raises:
        SystemExit: with status 1 where the data cannot be trained on; its minutes are then not measured.
    """
    from shared.report import print_table  # loads TensorFlow: not before the data was looked at

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
    print_table(expected_minutes(train, presets, config), "Expected on this machine", "preset", digits=1)
    print("Minutes of training, from a few measured steps; validation, test and early stopping are left out.")


def expected_minutes(train: Callable, presets: Mapping[str, object], config: object) -> pd.DataFrame:
    """For each preset the milliseconds of a step and the minutes of its training on the data of `config`."""
    from shared import rehearsal  # loads TensorFlow

    own = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(presets[config.preset], field.name)
    }
    rows = {}
    for name, preset in presets.items():
        print(f"Training a few steps of preset {name} ...", flush=True)
        try:
            rehearsed = rehearsal.rehearse(train, dataclasses.replace(preset, **own))
        except UserError as error:
            rows[name] = ["-", "-", f"not with this data: {error}"]
            continue
        rows[name] = [rehearsed.milliseconds, rehearsed.seconds / 60, f"{rehearsed.network.count_params():,}"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["ms a step", "minutes", "parameters"])


def repeated(things: list) -> int:
    """How many of them have stood before in the list."""
    return len(things) - len(set(things))
