"""make bench: every run once, gone on with where it was stopped, means and spreads as NumPy has them."""

import json
import subprocess
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

from shared import bench, new, runs
from shared.cli import UserError

[*_, APP] = new.apps()  # any will do
ACCURACIES = {0: 0.5, 1: 0.75, 2: 0.7}


@pytest.fixture(autouse=True)
def same_data(monkeypatch):
    monkeypatch.setattr(bench, "data_fingerprint", lambda app, config: "1234")
    monkeypatch.setattr(runs, "git_revision", lambda: "abcd")


@pytest.fixture
def commands(monkeypatch):
    """What would have been run; each leaves a run folder, but for seeds whose training is to fail."""
    given, failing = [], set()

    def run(command):
        flags = dict(zip(command[3::2], command[4::2], strict=False))
        given.append((command[2], command[3:]))
        if int(flags["--seed"]) in failing:
            return SimpleNamespace(returncode=1)
        [(_, config)] = bench.planned(
            bench.Request(apps=(APP,), presets=(flags["--preset"],), seeds=(int(flags["--seed"]),), data=_data(flags))
        )
        make_run(config)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return SimpleNamespace(given=given, failing=failing)


def _data(flags):
    return {APP: flags["--data"]} if "--data" in flags else {}


def make_run(config, finished=True, interrupted=False, **environment):
    folder = runs.ROOT / APP / f"{len(list(runs.ROOT.glob('*/*'))):03}"
    folder = folder if finished else folder.with_name(folder.name + runs.UNFINISHED)
    folder.mkdir(parents=True)
    metrics = {"app": APP, "preset": config.preset, "dataset": "some", "parameters": 1_234, "train_seconds": 60.0 + config.seed}
    environment = {"device": "CPU", "git_revision": "abcd", "data_fingerprint": "1234"} | environment
    metrics |= {"interrupted": interrupted, "test_accuracy": ACCURACIES[config.seed], "baseline_accuracy": 0.4}
    found = {"config": asdict(config), "environment": environment, "metrics": metrics}
    for name, content in found.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "model.keras").touch()
    return folder


def test_three_seeds_become_a_row_with_mean_and_spread(commands):
    file = bench.bench(bench.Request(apps=(APP,)))
    assert [flags for _, flags in commands.given] == [["--preset", "default", "--seed", seed] for seed in "012"]
    assert {module for module, _ in commands.given} == {f"apps.{APP}.train"}
    row = [cell.strip() for cell in file.read_text().splitlines()[2].split("|")[1:-1]]
    values = [*ACCURACIES.values()]
    assert row[:8] == [
        f"{APP}, default",
        "accuracy",
        f"{np.mean(values):.4f}",
        f"{np.std(values, ddof=1):.4f}",
        "0.4000",
        "3",
        "1,234",
        "1.0 to 1.0",
    ]


def test_what_is_there_is_not_run_again_and_a_stopped_one_is_resumed(commands):
    request = bench.Request(apps=(APP,), seeds=(0, 1))
    commands.failing.add(1)
    with pytest.raises(UserError, match="--seed 1 ended with status 1; make bench goes on"):
        bench.bench(request)
    [*_, (_, config)] = bench.planned(request)
    make_run(replace(config, epochs=config.epochs + 1), finished=False)  # of another config
    commands.failing.clear()
    commands.given.clear()
    bench.bench(request)
    assert commands.given == [(f"apps.{APP}.train", ["--preset", "default", "--seed", "1"])]
    make_run(replace(config, seed=2), finished=False)
    bench.bench(replace(request, seeds=(0, 1, 2)))
    assert commands.given[1:] == [(f"apps.{APP}.train", ["--preset", "default", "--seed", "2", "--resume"])]


def test_runs_on_other_data_or_with_other_settings_are_others(commands):
    [(_, config)] = bench.planned(bench.Request(apps=(APP,), seeds=(0,), data={APP: "mine"}))
    assert bench.find_finished(APP, config) is None
    folder = make_run(config)
    assert bench.find_finished(APP, config) == folder
    assert bench.find_finished(APP, replace(config, data=None)) is None
    assert bench.find_finished(APP, replace(config, limit=1_000)) is None
    assert bench.find_finished(APP, replace(config, epochs=config.epochs + 1)) is None


@pytest.mark.parametrize(
    "how", [{"interrupted": True}, {"data_fingerprint": "other"}, {"git_revision": "other"}], ids=lambda how: next(iter(how))
)
def test_runs_cut_short_or_of_other_contents_or_other_code_are_others(how):
    [(_, config)] = bench.planned(bench.Request(apps=(APP,), seeds=(0,)))
    make_run(config, **how)
    assert bench.find_finished(APP, config) is None
    folder = make_run(config)
    make_run(config, **how)  # newer
    assert bench.find_finished(APP, config) == folder


def test_every_app_is_planned_and_what_is_unknown_is_named():
    planned = bench.planned(bench.Request())
    assert {app for app, _ in planned} == set(new.apps())
    assert len(planned) == 3 * len(new.apps())
    with pytest.raises(UserError, match="There is no app nosuch; there are"):
        bench.planned(bench.Request(apps=("nosuch",)))
    with pytest.raises(UserError, match="--presets enormous: no app has that"):
        bench.planned(bench.Request(presets=("default", "enormous")))
