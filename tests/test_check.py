"""What every app's check prints, saves and exits with; how the time per step is measured."""

import time
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from shared import check, runs, training
from shared.batches import prepared_ahead
from shared.data import Splits
from shared.gradients import Adam
from shared.plots import plt

SECONDS_PER_STEP = 0.03


@dataclass(frozen=True)
class Config:
    preset: str = "best"


def findings(obstacles=()):
    tables = {"sizes": pd.DataFrame({"rows": [1_200, "x"], "fraction": [0.25, 1.0]}, ["train", "test"])}
    return check.Findings("app", "mine.csv", tables, {"lengths": plt.figure()}, ["Rows are few."], [*obstacles])


def experiment(steps, taken=None):
    """A tiny network, and batches of which each takes `SECONDS_PER_STEP`; `taken` grows by one with each."""
    taken = [] if taken is None else taken

    def make():
        while True:
            taken.append(time.sleep(SECONDS_PER_STEP))
            yield np.ones((4, 3), "float32"), np.ones((4, 2), "float32")

    signature = tf.TensorSpec((4, 3)), tf.TensorSpec((4, 2))
    batches = prepared_ahead(make, signature, tf.data.INFINITE_CARDINALITY)
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    network.compile(Adam(), "mse", jit_compile=False)
    return training.Experiment(Splits(*"abcde"), network, lambda _first_epoch: batches, steps, batches.take(1))


def test_tables_remarks_plots_and_minutes(monkeypatch, capsys, tmp_path):
    measured = {200: 7.25, 3_000: 20.0}
    monkeypatch.setattr(training, "time_steps", lambda experiment: measured[experiment.steps])
    check.tell(findings(), Config(), lambda: {"pretraining": (experiment(200), 5), "training": (experiment(3_000), 40)})
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]
    assert ["train", "1,200", "0.250"] in rows
    assert ["pretraining", "7.2", "200", "5", "0.1", "8"] in rows
    assert ["training", "20", "3,000", "40", "40", "8"] in rows
    assert "- Rows are few." in printed
    assert "preset best" in printed
    assert (tmp_path / "runs" / "app" / "check" / "lengths.png").exists()


def test_exit_status_is_1_where_training_would_be_pointless(capsys):
    with pytest.raises(SystemExit) as stop:
        check.tell(findings(["there is one class."]), Config(), None)  # nothing is prepared
    assert stop.value.code == 1
    assert "This data cannot be trained on:\n- there is one class.\n" in capsys.readouterr().out


def test_the_time_per_step_is_the_median_of_a_part_of_an_epoch(monkeypatch, capsys):
    monkeypatch.setattr(training.StepTimes, "MIN_SECONDS", 0.0)
    taken, started = [], time.monotonic()
    milliseconds = training.time_steps(experiment(3_000, taken))
    took = time.monotonic() - started
    assert 800 * SECONDS_PER_STEP < milliseconds < 1300 * SECONDS_PER_STEP
    assert training.StepTimes.STEPS <= len(taken) < 100
    assert took < 3_000 * SECONDS_PER_STEP / 10
    assert capsys.readouterr().out == ""
    assert not runs.ROOT.exists()


def test_steps_that_are_slow_end_it_as_well(monkeypatch):
    monkeypatch.setattr(training.StepTimes, "MAX_SECONDS", 0.1)
    taken = []
    training.time_steps(experiment(3_000, taken))
    assert len(taken) < training.StepTimes.STEPS


def test_a_short_training_is_measured_by_the_steps_it_has():
    taken = []
    milliseconds = training.time_steps(experiment(1, taken))
    assert len(taken) >= 2
    assert milliseconds < 1300 * SECONDS_PER_STEP


def test_an_error_in_the_training_is_passed_on():
    broken = experiment(10)
    broken.network.compile(Adam(), lambda *_: 1 / 0, jit_compile=False)
    with pytest.raises(ZeroDivisionError):
        training.time_steps(broken)
