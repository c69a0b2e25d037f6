"""make weather-check: parts, columns and errors without a network against pandas; obstacles; the expected time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from apps.weather import check, data
from apps.weather.config import DEFAULT, PRESETS
from shared import training
from shared.cli import UserError


def make_table(rows=2_000, **columns):
    rng = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=rows, freq="1h")
    walk = {"temperature": 10 + np.cumsum(rng.normal(size=rows)) / 10}
    pd.DataFrame({"time": times, **walk, **columns}).to_csv("own.csv", index=False)


def look_at(rows=2_000, **columns):
    make_table(rows, **columns)
    return check.look(data.load(replace(DEFAULT, data="own.csv", history=48, horizon=24)))


def test_parts_columns_and_naive_errors():
    findings = look_at(constant=1.0)
    parts, columns = findings.tables["parts"], findings.tables["columns"]
    assert parts.loc["rows"].tolist() == [1_400, 200, 400]
    assert parts.loc["windows"].tolist() == [1_400 - 71, 200 - 23, 400 - 23]
    table = pd.read_csv("own.csv")["temperature"]
    assert columns.loc["temperature", "standard deviation"] == pytest.approx(table[:1_400].std(ddof=0), rel=1e-5)
    higher = (table[1_600:].mean() - table[:1_400].mean()) / table[:1_400].std(ddof=0)
    assert columns.loc["temperature", "test lies higher by, standard deviations"] == pytest.approx(higher, rel=1e-4)
    last = np.mean([np.abs(table[now + 1 : now + 25] - table[now]).mean() for now in range(1_399, 1_576)])
    yesterday = np.mean(
        [np.abs(table[now + 1 : now + 25].to_numpy() - table[now - 23 : now + 1]).mean() for now in range(1_399, 1_576)]
    )
    assert f"is wrong by {last:.3f} on average, the same time yesterday by {yesterday:.3f}" in findings.remarks[0]
    assert "Constant in training, so they say nothing: constant." in findings.remarks
    assert findings.obstacles == []


def test_a_regime_that_training_has_not_seen_is_noticed():
    findings = look_at(temperature=np.where(np.arange(2_000) < 1_600, 0.0, 50.0) + np.arange(2_000) % 7)
    assert any(remark.startswith("Test lies +") for remark in findings.remarks)


def test_a_constant_target_and_few_rows_are_pointless():
    with pytest.raises(UserError, match="the target 'temperature' never changes in training"):
        look_at(temperature=3.0)
    still = look_at(temperature=np.where(np.arange(2_000) < 1_350, np.arange(2_000) % 7, 3.0))
    assert [reason.split(" does")[0] for reason in still.obstacles] == ["the target temperature"]
    [reason] = look_at(rows=320).obstacles
    assert "windows to train on; 200 are the fewest" in reason


def test_minutes_of_training_and_nothing_is_left_but_the_plot(monkeypatch, capsys):
    monkeypatch.setattr(training, "time_steps", lambda experiment: 60_000.0)  # a minute per step
    make_table()
    smoke = replace(PRESETS["smoke"], data="own.csv", history=24, horizon=24)
    check.check(smoke, data.load(smoke))
    printed = capsys.readouterr().out
    assert "Cleaning of own.csv" in printed
    [line] = [line.split("│")[1:-1] for line in printed.splitlines() if line.startswith("│ training ")]
    assert float(line[4]) == smoke.training.epochs * -(-(1_400 - 47) // smoke.training.batch_size)
    assert [str(path) for path in Path("runs").rglob("*.*")] == ["runs/weather/check/target.png"]
