"""make bench: every run once, gone on with where it was stopped, means and spreads as NumPy has them."""

import json
import subprocess
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

from shared import environment, runs
from shared.cli import UserError
from tools import bench, list_apps

[*_, APP] = list_apps()  # any will do
ACCURACIES = {0: 0.5, 1: 0.75, 2: 0.7}


@pytest.fixture(autouse=True)
def same_data(monkeypatch):
    monkeypatch.setattr(bench, "data_fingerprint", lambda app, config: "1234")
    monkeypatch.setattr(environment, "git_revision", lambda: "abcd")


@pytest.fixture
def commands(monkeypatch):
    """What would have been run; each leaves a run folder, but for seeds whose training is to fail."""
    given, failing = [], set()

    def run(command):
        flags = dict(zip(command[4::2], command[5::2], strict=False))
        given.append((command[2:4], command[4:]))
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


def with_training(config, **changes):
    return replace(config, training=replace(config.training, **changes))


def make_run(config, finished=True, interrupted=False, **environment):
    folder = runs.ROOT / APP / f"{len(list(runs.ROOT.glob('*/*'))):03}"
    folder = folder if finished else folder.with_name(folder.name + runs.UNFINISHED)
    folder.mkdir(parents=True)
    seed = config.training.seed
    metrics = {"app": APP, "preset": config.preset, "dataset": "some", "parameters": 1_234, "train_seconds": 60.0 + seed}
    environment = {"device": "CPU", "git_revision": "abcd", "data_fingerprint": "1234"} | environment
    test = {"network": {"accuracy": ACCURACIES[seed], "loss": 9.0}, "baseline": {"accuracy": 0.4, "loss": 9.0}}
    metrics |= {"interrupted": interrupted, "metric": "accuracy", "test": test}
    found = {"config": asdict(config), "environment": environment, "metrics": metrics}
    for name, content in found.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "model.keras").touch()
    return folder


def test_three_seeds_become_a_row_with_mean_and_spread(commands):
    file = bench.bench(bench.Request(apps=(APP,)))
    assert [flags for _, flags in commands.given] == [["--preset", "default", "--seed", seed] for seed in "012"]
    assert [command for command, _ in commands.given] == 3 * [[f"apps.{APP}", "train"]]
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
    make_run(with_training(config, epochs=99), finished=False)  # of another config
    commands.failing.clear()
    commands.given.clear()
    bench.bench(request)
    assert commands.given == [([f"apps.{APP}", "train"], ["--preset", "default", "--seed", "1"])]
    make_run(with_training(config, seed=2), finished=False)
    bench.bench(replace(request, seeds=(0, 1, 2)))
    assert commands.given[1:] == [([f"apps.{APP}", "train"], ["--preset", "default", "--seed", "2", "--resume"])]


def test_what_resume_would_take_instead_is_not_resumed(commands):
    """Of preset and seed alone, which is all that the command names, --resume takes the newest run."""
    request = bench.Request(apps=(APP,), seeds=(0,))
    [(_, config)] = bench.planned(request)
    make_run(config, finished=False)
    make_run(with_training(config, epochs=99), finished=False)
    bench.bench(request)
    assert commands.given == [([f"apps.{APP}", "train"], ["--preset", "default", "--seed", "0"])]


def test_what_other_code_began_is_not_resumed(commands):
    request = bench.Request(apps=(APP,), seeds=(0,))
    [(_, config)] = bench.planned(request)
    make_run(config, finished=False, git_revision="other")
    bench.bench(request)
    assert commands.given == [([f"apps.{APP}", "train"], ["--preset", "default", "--seed", "0"])]


@pytest.mark.parametrize("revision", ["abcd-dirty", None])
def test_code_that_has_no_name_runs_again(commands, revision, monkeypatch, capsys):
    monkeypatch.setattr(environment, "git_revision", lambda: revision)
    request = bench.Request(apps=(APP,), seeds=(0,))
    [(_, config)] = bench.planned(request)
    make_run(config, git_revision=revision)
    make_run(config, finished=False, git_revision=revision)
    bench.bench(request)
    bench.bench(request)
    assert commands.given == 2 * [([f"apps.{APP}", "train"], ["--preset", "default", "--seed", "0"])]
    assert "changes that are not committed" in capsys.readouterr().out


def find(config):
    return bench.find_finished(APP, config, "abcd")


def test_runs_on_other_data_or_with_other_settings_are_others(commands):
    [(_, config)] = bench.planned(bench.Request(apps=(APP,), seeds=(0,), data={APP: "mine"}))
    assert find(config) is None
    folder = make_run(config)
    assert find(config) == folder
    assert find(replace(config, data=None)) is None
    assert find(replace(config, limit=1_000)) is None
    assert find(with_training(config, epochs=99)) is None


@pytest.mark.parametrize(
    "how", [{"interrupted": True}, {"data_fingerprint": "other"}, {"git_revision": "other"}], ids=lambda how: next(iter(how))
)
def test_runs_cut_short_or_of_other_contents_or_other_code_are_others(how):
    [(_, config)] = bench.planned(bench.Request(apps=(APP,), seeds=(0,)))
    make_run(config, **how)
    assert find(config) is None
    folder = make_run(config)
    make_run(config, **how)  # newer
    assert find(config) == folder


def test_every_app_is_planned_and_what_is_unknown_is_named():
    planned = bench.planned(bench.Request())
    assert {app for app, _ in planned} == set(list_apps())
    assert len(planned) == 3 * len(list_apps())
    with pytest.raises(UserError, match="There is no app nosuch; there are"):
        bench.planned(bench.Request(apps=("nosuch",)))
    with pytest.raises(UserError, match="--presets enormous: no app has that"):
        bench.planned(bench.Request(presets=("default", "enormous")))
