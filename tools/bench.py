"""Train every app with three seeds and write one table of the results (hours; goes on where it was stopped)"""

import importlib
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro

from shared import cli, runs
from shared.cli import UserError
from tools import list_apps


@dataclass(frozen=True)
class Request:
    """Which runs make the table."""

    apps: tuple[str, ...] = ()
    """Which apps; all, if none is named."""
    presets: tuple[str, ...] = ("default",)
    """Which presets; an app that does not have one is passed over."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """A run for each."""
    data: dict[str, str] = field(default_factory=dict)
    """App and path, for each app that is to train on other data than its public set: --data speech my_words weather my.csv"""


def bench(request: Request) -> Path:
    """Make the runs that are not there yet, and write the table of all. Returns the file, `runs/bench.md`.

    Raises:
        UserError: for an unknown app or preset, and if a run fails.
    """
    from shared.environment import git_revision  # imports Keras; --help and a mistake are answered without it

    configs = planned(request)
    revision = git_revision()
    if not _is_clean(revision):
        print("The code has changes that are not committed, or no git: runs made earlier are not taken for this code's.")
    found = {}
    for number, (app, config) in enumerate(configs, start=1):
        folder = find_finished(app, config, revision)
        name = f"{app}, {config.preset}, seed {config.training.seed}"
        print(f"[{number} of {len(configs)}] {name}: {folder or 'to be run'}", flush=True)
        found.setdefault(f"{app}, {config.preset}", []).append(folder or _run(app, config, revision))
    return _write_table({row: summarise(folders) for row, folders in found.items()})


def planned(request: Request) -> list[tuple[str, Any]]:
    """App and config of every run that is asked for."""
    apps = request.apps or tuple(list_apps())
    if unknown := {*apps, *request.data} - set(list_apps()):
        raise UserError(f"There is no app {', '.join(sorted(unknown))}; there are {', '.join(list_apps())}.")
    presets = {app: importlib.import_module(f"apps.{app}.config").PRESETS for app in apps}
    if nowhere := [name for name in request.presets if not any(name in known for known in presets.values())]:
        raise UserError(f"--presets {' '.join(nowhere)}: no app has that.")
    return [
        (app, replace(config, data=request.data.get(app), training=replace(config.training, seed=seed)))
        for app in apps
        for config in (presets[app][name] for name in request.presets if name in presets[app])
        for seed in request.seeds
    ]


def find_finished(app: str, config: Any, revision: str | None) -> Path | None:
    """The newest whole run of exactly this config, made by this revision of the code on the data as it is now."""
    found = [folder for folder in reversed(runs.finished(app)) if _is_of(folder, config, revision)]
    found = [folder for folder in found if not runs.was_interrupted(folder)]
    if not found:
        return None
    fingerprint = data_fingerprint(app, config)
    return next((folder for folder in found if _environment(folder)["data_fingerprint"] == fingerprint), None)


def data_fingerprint(app: str, config: Any) -> str:
    """Of the data that a run of this config would train on; it is loaded for that."""
    return importlib.import_module(f"apps.{app}.data").load(config).fingerprint


def _is_clean(revision: str | None) -> bool:
    """Whether a revision says what the code is."""
    return revision is not None and not revision.endswith("-dirty")


def _environment(folder: Path) -> dict[str, Any]:
    return runs.read_json(folder / "environment.json")


def _is_of(folder: Path, config: Any, revision: str | None) -> bool:
    """Whether a run was made with this config by this revision."""
    if not _is_clean(revision) or _environment(folder)["git_revision"] != revision:
        return False
    return _has_config(folder, config)


def _has_config(folder: Path, config: Any) -> bool:
    return runs.read_json(folder / "config.json") == json.loads(json.dumps(asdict(config)))  # JSON has no tuples


def _run(app: str, config: Any, revision: str | None) -> Path:
    """Train in a process of its own, and return the folder; what an earlier one left unfinished is gone on with."""
    command = [sys.executable, "-m", f"apps.{app}", "train", "--preset", config.preset, "--seed", str(config.training.seed)]
    command += ["--data", config.data] if config.data else []
    command += ["--resume"] if _can_resume(app, config, revision) else []
    before = runs.finished(app)
    answer = subprocess.run(command)
    if answer.returncode:
        raise UserError(f"{' '.join(command[1:])} ended with status {answer.returncode}; make bench goes on from there.")
    made = [folder for folder in runs.finished(app) if folder not in before and _has_config(folder, config)]
    if not made or runs.was_interrupted(made[-1]):
        raise UserError(f"The run of {app} with seed {config.training.seed} was interrupted; make bench makes it again.")
    return made[-1]


def _can_resume(app: str, config: Any, revision: str | None) -> bool:
    """Whether `--resume` with preset, seed and data, which takes the newest run that agrees with these, finds one of ours."""
    for folder in reversed(runs.resumable(app, type(config))):
        stored = runs.read_config(folder, type(config))
        same_data = stored.data == config.data or config.data is None
        if (stored.preset, stored.training.seed) == (config.preset, config.training.seed) and same_data:
            return _is_of(folder, config, revision)
    return False


def summarise(folders: list[Path]) -> dict[str, str]:
    """The row of the table for runs that differ in nothing but the seed."""
    metrics = [runs.read_json(folder / "metrics.json") for folder in folders]
    metric = metrics[0]["metric"]
    network = [one["test"]["network"][metric] for one in metrics]
    baseline = [one["test"]["baseline"][metric] for one in metrics]
    minutes = [one["train_seconds"] / 60 for one in metrics]
    return {
        "metric": metric,
        "network": f"{statistics.mean(network):.4f}",
        "spread": f"{statistics.stdev(network):.4f}" if len(network) > 1 else "-",
        "baseline": f"{statistics.mean(baseline):.4f}",
        "seeds": f"{len(folders)}",
        "parameters": f"{metrics[0]['parameters']:,}",
        "minutes": f"{min(minutes):.1f} to {max(minutes):.1f}",
        "data": ", ".join(sorted({one["dataset"] for one in metrics})),
        "device": ", ".join(sorted({_environment(folder)["device"] for folder in folders})),
    }


def _write_table(rows: dict[str, dict[str, str]]) -> Path:
    import pandas as pd

    from shared.report import markdown_table, print_table  # imports TensorFlow

    table = pd.DataFrame.from_dict(rows, orient="index")
    print_table(table, "Test, mean over the seeds")
    file = runs.ROOT / "bench.md"
    file.write_text("\n".join(markdown_table(table, "")) + "\n", encoding="utf-8")
    print(f"Saved: {file}")
    return file


def main() -> None:
    """Read the command line, make the runs, print the table."""
    bench(tyro.cli(Request, prog="python -m tools.bench", description=__doc__))


if __name__ == "__main__":
    cli.run(main)
