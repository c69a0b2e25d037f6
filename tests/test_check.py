"""What every app's check prints, saves and exits with."""

from dataclasses import dataclass, replace

import keras
import pandas as pd
import pytest

from shared import check, rehearsal
from shared.cli import UserError
from shared.plots import plt


@dataclass(frozen=True)
class Config:
    preset: str = "default"
    epochs: int = 4
    units: int = 8
    data: str | None = None


PRESETS = {"default": Config(), "best": Config(preset="best", epochs=40), "long": Config(preset="long", units=99)}


def findings(obstacles=()):
    tables = {"sizes": pd.DataFrame({"rows": [1_200, "x"], "share": [0.25, 1.0]}, ["train", "test"])}
    return check.Findings("app", "mine.csv", tables, {"lengths": plt.figure()}, ["Rows are few."], [*obstacles])


def rehearse(train, config):
    if config.units == 99:
        raise UserError("99 is too wide")
    return rehearsal.Rehearsal(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), 7.25, 30.0 * config.epochs)


def test_tables_remarks_plots_and_minutes(monkeypatch, capsys, tmp_path):
    seen = []
    monkeypatch.setattr(rehearsal, "rehearse", lambda train, config: seen.append(config) or rehearse(train, config))
    check.tell(findings(), None, PRESETS, replace(PRESETS["default"], data="mine.csv"))
    assert seen == [replace(preset, data="mine.csv") for preset in PRESETS.values()]
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]
    assert ["train", "1,200", "0.250"] in rows
    assert ["default", "7.2", "2.0", "8"] in rows
    assert ["best", "7.2", "20.0", "8"] in rows
    assert ["long", "-", "-", "not with this data: 99 is too wide"] in rows
    assert "- Rows are few." in printed
    assert (tmp_path / "runs" / "app" / "check" / "lengths.png").exists()


def test_exit_status_is_1_where_training_would_be_pointless(monkeypatch, capsys):
    monkeypatch.setattr(rehearsal, "rehearse", None)  # not called
    with pytest.raises(SystemExit) as stop:
        check.tell(findings(["there is one class."]), None, PRESETS, PRESETS["default"])
    assert stop.value.code == 1
    assert "This data cannot be trained on:\n- there is one class.\n" in capsys.readouterr().out
