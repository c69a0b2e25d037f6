"""All apps, some presets, some seeds, one table: python -m shared.bench (or: make bench). Goes on where it was stopped."""

import dataclasses
import importlib
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import tyro

from shared import cli, new, runs
from shared.cli import UserError

COLUMNS = ["metric", "network", "spread", "baseline", "seeds", "parameters", "minutes", "data", "device"]


@dataclass(frozen=True)
class Request:
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
    from shared.report import print_table  # imports TensorFlow: --help and a wrong flag are answered at once

    configs = planned(request)
    found = {}
    for number, (app, config) in enumerate(configs, start=1):
        folder = find_finished(app, config)
        print(f"[{number} of {len(configs)}] {app}, {config.preset}, seed {config.seed}: {folder or 'to be run'}", flush=True)
        if folder is None:
            _run(app, config)
            folder = find_finished(app, config)
        if folder is None:
            raise UserError(f"The run of {app} with seed {config.seed} was interrupted; make bench goes on from there.")
        found.setdefault((app, config.preset), []).append(folder)
    table = pd.DataFrame.from_dict({", ".join(row): _summarise(folders) for row, folders in found.items()}, orient="index")
    table = table[COLUMNS]
    print_table(table, "Test, mean over the seeds")
    file = runs.ROOT / "bench.md"
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(cells) + " |" for row, cells in zip(table.index, table.to_numpy(), strict=True)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"Saved: {file}")
    return file


def planned(request: Request) -> list[tuple[str, object]]:
    """App and config of every run that is asked for."""
    apps = request.apps or tuple(new.apps())
    if unknown := {*apps, *request.data} - set(new.apps()):
        raise UserError(f"There is no app {', '.join(sorted(unknown))}; there are {', '.join(new.apps())}.")
    presets = {app: importlib.import_module(f"apps.{app}.config").PRESETS for app in apps}
    if nowhere := [name for name in request.presets if not any(name in known for known in presets.values())]:
        raise UserError(f"--presets {' '.join(nowhere)}: no app has that.")
    return [
        (app, replace(presets[app][name], seed=seed, data=request.data.get(app)))
        for app in apps
        for name in request.presets
        if name in presets[app]
        for seed in request.seeds
    ]


def find_finished(app: str, config: object) -> Path | None:
    """The newest whole run of exactly this config, made by this revision of the code on the data as it is now."""
    found = [folder for folder in reversed(runs.finished(app)) if _is_of(folder, config) and not _was_interrupted(folder)]
    found = [folder for folder in found if runs.read_json(folder / "environment.json")["git_revision"] == runs.git_revision()]
    if not found:
        return None
    fingerprint = data_fingerprint(app, config)
    return next((folder for folder in found if _fingerprint(folder) == fingerprint), None)


def data_fingerprint(app: str, config: object) -> str:
    """Of the data that a run of this config would train on; it is loaded for that."""
    loaded = importlib.import_module(f"apps.{app}.data").load(config)
    return getattr(loaded, "fingerprint", None) or loaded[0].fingerprint  # speech has background noise beside its parts


def _fingerprint(folder: Path) -> str:
    return runs.read_json(folder / "environment.json")["data_fingerprint"]


def _was_interrupted(folder: Path) -> bool:
    return bool(runs.read_json(folder / "metrics.json").get("interrupted"))


def _is_of(folder: Path, config: object) -> bool:
    """Whether a run was made with this config. Where that has None, the data may have said a number in the run."""
    wanted = json.loads(json.dumps(dataclasses.asdict(config)))  # JSON has no tuples
    stored = runs.read_json(folder / "config.json")
    exact = {key: value for key, value in wanted.items() if value is not None or key in ("data", "limit")}
    return stored | exact == stored


def _run(app: str, config: object) -> None:
    """Train in a process of its own; what an earlier one left unfinished is gone on with."""
    command = [sys.executable, "-m", f"apps.{app}.train", "--preset", config.preset, "--seed", str(config.seed)]
    command += ["--data", config.data] if config.data else []
    command += ["--resume"] if any(_is_of(folder, config) for folder in runs.resumable(app, type(config))) else []
    answer = subprocess.run(command)
    if answer.returncode:
        raise UserError(f"{' '.join(command[1:])} ended with status {answer.returncode}; make bench goes on from there.")


def _summarise(folders: list[Path]) -> dict[str, str]:
    metrics = [runs.read_json(folder / "metrics.json") for folder in folders]
    metric = runs.metric_of(metrics[0])
    test = [one[f"test_{metric}"] for one in metrics]
    environments = [runs.read_json(folder / "environment.json") for folder in folders]
    minutes = [one["train_seconds"] / 60 for one in metrics]
    return {
        "metric": metric,
        "network": f"{statistics.mean(test):.4f}",
        "spread": f"{statistics.stdev(test):.4f}" if len(test) > 1 else "-",
        "baseline": f"{statistics.mean(one[f'baseline_{metric}'] for one in metrics):.4f}",
        "seeds": f"{len(test)}",
        "parameters": f"{metrics[0]['parameters']:,}",
        "minutes": f"{min(minutes):.1f} to {max(minutes):.1f}",
        "data": ", ".join(sorted({one["dataset"] for one in metrics})),
        "device": ", ".join(sorted({one["device"] for one in environments})),
    }


def main() -> None:
    """Read the command line, make the runs, print the table."""
    bench(tyro.cli(Request, description=__doc__))


if __name__ == "__main__":
    cli.run(main)
