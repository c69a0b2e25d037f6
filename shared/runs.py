"""The run folder `runs/<app>/<time stamp>/`: written whole or not at all, found again, compared.

While a run trains, its folder is named `<time stamp>.unfinished`; the last act of a run is to take that ending away.
So everything that looks like a finished run is one, and what a kill leaves behind can go on with `--resume`.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any, TypeVar

from shared.cli import UserError, flag

ConfigType = TypeVar("ConfigType")
ROOT = Path("runs")
UNFINISHED = ".unfinished"
NOT_COMPARED = ("resume",)  # Config fields that may differ between a run and its continuation
REQUIRED = ("config.json", "environment.json", "metrics.json", "model.keras")


class Run:
    """One run folder that is being written. `path` is where its files go until `finish`."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def start(cls, app: str, config: Any, about: dict[str, Any]) -> "Run":
        """Make the folder of a new run and save `config` (a dataclass) and its `environment` in it."""
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        for name in (stamp, *(f"{stamp}_{n}" for n in range(2, 100))):
            path = ROOT / app / (name + UNFINISHED)
            if not path.exists() and not (ROOT / app / name).exists():
                break
        (path / "plots").mkdir(parents=True)
        run = cls(path)
        run.write_json("config.json", dataclasses.asdict(config))
        run.write_json("environment.json", about)
        return run

    @classmethod
    def resume(cls, app: str, config: Any, about: dict[str, Any]) -> "Run":
        """Find the newest unfinished run of `app` that was started with the same config on the same data.

        Raises:
            UserError: if there is none; the message names what differs from the newest one.
        """
        found = unfinished(app)[::-1]
        if not found:
            raise UserError(f"--resume found no unfinished run in {ROOT / app}/. Start one by leaving --resume out.")
        differences = [_differences(folder, config, about) for folder in found]
        for folder, differing in zip(found, differences, strict=True):
            if not differing:
                return cls(folder)
        lines = "\n".join(f"  {line}" for line in differences[0])
        raise UserError(
            f"--resume goes on only with the config and the data that a run was started with. From the newest unfinished "
            f"run, {found[0]}, these differ:\n{lines}\n"
            "Give the same flags again, or start a new run by leaving --resume out."
        )

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write one JSON file whole: first beside, then renamed into place."""
        beside = self.path / (name + ".part")
        beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        beside.replace(self.path / name)

    def finish(self) -> Path:
        """Give the folder its final name and point `latest` to it. Returns the final path."""
        missing = [name for name in REQUIRED if not (self.path / name).exists()]
        assert not missing, f"a run is finished only with {missing}"
        self.path = self.path.rename(self.path.with_name(self.path.name.removesuffix(UNFINISHED)))
        link = self.path.parent / "latest"
        beside = link.with_name("latest.part")
        beside.unlink(missing_ok=True)
        beside.symlink_to(self.path.name)
        beside.replace(link)
        return self.path


def find(app: str, path: str | None = None) -> Path:
    """The run folder at `path`, or the newest finished one of `app`.

    Raises:
        UserError: if there is none, or if the one at `path` is not whole, or of another app.
    """
    if path is None:
        if not finished(app):
            raise UserError(f"No finished run in {ROOT / app}/. Train one first: make {app}")
        return finished(app)[-1]
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"--run {path}: there is no such folder. Runs are listed by: make runs")
    missing = [name for name in REQUIRED if not (folder / name).exists()]
    if missing:
        raise UserError(
            f"--run {path}: this run is not whole, {', '.join(missing)} is missing. "
            f"Finish it with: make {app} ARGS='--resume' (and the flags it had), or name another run (make runs)."
        )
    if (other := read_json(folder / "metrics.json")["app"]) != app:
        raise UserError(f"--run {path} is a run of {other}, not of {app}.")
    return folder


def finished(app: str) -> list[Path]:
    """The whole runs of an app, oldest first."""
    folders = [path for path in (ROOT / app).glob("*") if path.is_dir() and not path.is_symlink()]
    whole = [path for path in folders if all((path / name).exists() for name in REQUIRED)]
    return sorted(path for path in whole if not path.name.endswith(UNFINISHED))


def unfinished(app: str) -> list[Path]:
    """The runs of an app that `--resume` may go on with, oldest first."""
    return sorted((ROOT / app).glob("*" + UNFINISHED))


def metric_of(metrics: dict[str, Any]) -> str:
    """The name of the measure that a run is judged by, from what lies in its metrics.json."""
    return next(key for key in metrics if key.startswith("baseline_")).removeprefix("baseline_")


def read_config(folder: Path, kind: type[ConfigType]) -> ConfigType:
    """The Config, of the dataclass `kind`, that a run was made with.

    Raises:
        UserError: if it has other fields than that.
    """
    stored = read_json(folder / "config.json").items()
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in stored}  # JSON has no tuples
    if differing := sorted(set(values) ^ {field.name for field in dataclasses.fields(kind)}):
        raise UserError(
            f"{folder} was made by another version of this app, which differs in {', '.join(map(flag, differing))}. "
            "Train anew, or name another run (make runs)."
        )
    return kind(**values)


def environment(data: str, fingerprint: str) -> dict[str, Any]:
    """What a number depends on beside the config: versions, device, backend, revision, data."""
    import keras

    packages = ("tensorflow", "keras", "numpy", "scikit-learn", "tensorflow-datasets")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "backend": keras.backend.backend(),
        "device": describe_device(),
        "git_revision": _git_revision(),
        "data": data,
        "data_fingerprint": fingerprint,
    }


def describe_device() -> str:
    """The accelerators that Keras will use, else the processor and its number of usable cores."""
    import keras

    accelerators = keras.distribution.list_devices("gpu")
    if accelerators:
        return ", ".join(accelerators)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU, {cores} cores"


def main() -> None:
    """Print a table of all runs."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Runs in {ROOT}/")
    for column in ("run", "preset", "data", "metric", "validation", "test", "baseline", "won", "epochs", "minutes"):
        table.add_column(column, justify="right" if column in ("validation", "test", "baseline", "minutes") else "left")
    for app in sorted(path.name for path in ROOT.glob("*") if path.is_dir()):
        for folder in finished(app):
            table.add_row(f"{app}/{folder.name}", *_table_cells(folder))
        for folder in unfinished(app):
            table.add_row(f"{app}/{folder.name}", "unfinished", *["-"] * 8)
    if not table.rows:
        raise UserError(f"No runs in {ROOT}/ yet. Train an app first; make lists them.")
    Console(width=None if os.isatty(1) else 160).print(table)


def _table_cells(folder: Path) -> list[str]:
    try:
        metrics = read_json(folder / "metrics.json")
    except UserError:
        return ["damaged", *["-"] * 8]
    metric = metric_of(metrics)
    figures = [f"{metrics[f'{part}_{metric}']:.4f}" for part in ("validation", "test", "baseline")]
    winner = "network" if metrics["beats_baseline"] else "baseline"
    minutes = f"{metrics['train_seconds'] / 60:.1f}"
    return [metrics["preset"], metrics["dataset"], metric, *figures, winner, str(metrics["epochs"]), minutes]


def _differences(folder: Path, config: Any, about: dict[str, Any]) -> list[str]:
    """What keeps a new process from going on with an unfinished run, a line each."""
    before, now = read_json(folder / "config.json"), json.loads(json.dumps(dataclasses.asdict(config)))
    lines = [
        f"{flag(key)}: was {before.get(key)}, now {now[key]}"
        for key in now
        if key not in NOT_COMPARED and before.get(key) != now[key]
    ]
    data_before = read_json(folder / "environment.json")
    if any(data_before[key] != about[key] for key in ("data", "data_fingerprint")):
        lines.append(f"the data: was {data_before['data']}, now {about['data']}, and their contents differ")
    return lines


def read_json(path: Path) -> dict[str, Any]:
    """Read one of a run's JSON files.

    Raises:
        UserError: if it is not there or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path} can't be read ({error}); the run is damaged, name another (make runs).") from None


def _git_revision() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    from shared import cli

    cli.run(main)
