"""The run folder `runs/<app>/<time stamp>/`: written whole or not at all, found again, compared.

While a run trains, its folder is named `<time stamp>.unfinished`; the last act of a run is to take that ending away.
So everything that looks like a finished run is one, and what a kill leaves behind can go on with `--resume`.
"""

import atexit
import dataclasses
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import filelock

from shared import cli
from shared.cli import UserError, flag

ConfigType = TypeVar("ConfigType")
ROOT = Path("runs")
UNFINISHED = ".unfinished"
LOCK = "lock"  # held while a process works in the folder; the kernel lets go of it when that process ends, however it ends
NOT_COMPARED = ("resume",)  # Config fields that may differ between a run and its continuation
REQUIRED = ("config.json", "environment.json", "metrics.json", "model.keras")


def parse(app: str, presets: Mapping[str, ConfigType], description: str, args: list[str] | None = None) -> ConfigType:
    """`cli.parse`, but with `--resume` the Config is that of the newest unfinished run that agrees with the flags given.

    Raises:
        UserError: with `--resume`, if there is no such run; the message names the flags that differ from the newest one.
    """
    args = sys.argv[1:] if args is None else args
    if "--resume" not in args or "--help" in args:
        return cli.parse(presets, description, args)
    kind = type(presets["default"])
    differences = {}
    for folder in reversed(resumable(app, kind)):
        stored = read_config(folder, kind)
        config = cli.override(dataclasses.replace(stored, resume=True), description, args)
        differences[folder] = _different_flags(_as_json(stored), _as_json(config))
        if not differences[folder]:
            print(f"Resuming {folder}.")
            return config
    raise _nothing_to_resume(app, differences)


class Run:
    """One run folder that is being written, and held against other processes. `path` is where its files go until `finish`."""

    def __init__(self, path: Path, lock: filelock.BaseFileLock):
        self.path = path
        self._lock = lock
        atexit.register(self._say_how_to_go_on)

    @classmethod
    def start(cls, app: str, config: Any, about: dict[str, Any]) -> "Run":
        """Make the folder of a new run and save `config` (a dataclass) and its `environment` in it."""
        if left := resumable(app, type(config)):
            print(f"{left[-1]} is not finished. To go on with it: make {app} ARGS=--resume")
        path = _make_folder(app)
        run = cls(path, _hold(path, seconds=10))  # another process may just be looking at it
        (path / "plots").mkdir()
        run.write_json("config.json", dataclasses.asdict(config))
        run.write_json("environment.json", about)
        return run

    @classmethod
    def resume(cls, app: str, config: Any, about: dict[str, Any]) -> "Run":
        """Hold the newest unfinished run of `app` that was started with the same config on the same data.

        Raises:
            UserError: if there is none; the message names what differs from the newest one.
        """
        differences = {folder: _differences(folder, config, about) for folder in reversed(resumable(app, type(config)))}
        for folder, differing in differences.items():
            if not differing and (lock := _hold(folder)):
                return cls(folder, lock)
        raise _nothing_to_resume(app, differences)

    def release(self) -> None:
        """Let other processes go on with the run, as the end of this process would."""
        atexit.unregister(self._say_how_to_go_on)
        self._lock.release()

    def _say_how_to_go_on(self) -> None:
        if self.path.exists():
            app = self.path.parent.name
            print(f"{self.path} is not finished. To go on with it: make {app} ARGS=--resume", file=sys.stderr)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write one JSON file whole: first beside, then renamed into place."""
        beside = self.path / (name + ".part")
        beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        beside.replace(self.path / name)

    def finish(self) -> Path:
        """Give the folder its final name. Returns the final path."""
        missing = [name for name in REQUIRED if not (self.path / name).exists()]
        assert not missing, f"a run is finished only with {missing}"
        self.path = self.path.rename(self.path.with_name(self.path.name.removesuffix(UNFINISHED)))
        self.release()
        (self.path / LOCK).unlink(missing_ok=True)
        return self.path


def find(app: str, path: str | None = None) -> Path:
    """The run folder at `path`, or the newest finished one of `app`.

    Raises:
        UserError: if there is none, or if the one at `path` is not whole, or of another app.
    """
    if path is None:
        if not finished(app):
            raise UserError(f"No finished run in {ROOT / app}/. Train one first: make {app}")
        newest = finished(app)[-1]
        if _was_interrupted(newest):
            print(f"{newest}, the newest run, was ended by Ctrl-C. Others (make runs) are named by --run.", file=sys.stderr)
        return newest
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"--run {path}: there is no such folder. Runs are listed by: make runs")
    missing = [name for name in REQUIRED if not (folder / name).exists()]
    if missing:
        raise UserError(
            f"--run {path}: this run is not whole, {', '.join(missing)} is missing. "
            f"Finish it with: make {app} ARGS=--resume, or name another run (make runs)."
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
    """The runs of an app that are being trained or were cut off, oldest first."""
    return sorted((ROOT / app).glob("*" + UNFINISHED))


def resumable(app: str, kind: type) -> list[Path]:
    """Those of them that no process holds, oldest first; it is said which ones can't be read, and why.

    Args:
        app: name.
        kind: the app's Config.
    """
    found = []
    for folder in unfinished(app):
        try:
            lock = _hold(folder)
            if lock:
                lock.release()
                read_config(folder, kind)
                read_json(folder / "environment.json")
                found.append(folder)
        except (UserError, OSError) as error:
            print(f"Skipped {folder}, which can't be resumed: {error}", file=sys.stderr)
    return found


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
            "Train again, or name another run (make runs)."
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
        "git_revision": git_revision(),
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
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"Runs in {ROOT}/")
    for column in ("run", "preset", "data", "metric", "validation", "test", "baseline", "won", "epochs", "minutes"):
        table.add_column(column, justify="right" if column in ("validation", "test", "baseline", "minutes") else "left")
    for app in sorted(path.name for path in ROOT.glob("*") if path.is_dir()):
        for folder in finished(app):
            table.add_row(f"{app}/{folder.name}", *map(escape, _table_cells(folder)))
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
    epochs = f"{metrics['epochs']}, interrupted" if metrics.get("interrupted") else f"{metrics['epochs']}"
    return [metrics["preset"], metrics["dataset"], metric, *figures, winner, epochs, minutes]


def _was_interrupted(folder: Path) -> bool:
    return bool(read_json(folder / "metrics.json").get("interrupted"))


def _make_folder(app: str) -> Path:
    """A new `<time stamp>.unfinished`, or `<time stamp>_2.unfinished`, ..., that no other process has."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    (ROOT / app).mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        name = stamp if number == 1 else f"{stamp}_{number}"
        path = ROOT / app / (name + UNFINISHED)
        try:
            path.mkdir()
        except FileExistsError:
            continue
        if not (ROOT / app / name).exists():
            return path
        path.rmdir()
    raise AssertionError("numbers do not end")


def _hold(folder: Path, seconds: float = 0) -> filelock.BaseFileLock | None:
    """Hold a folder until `release` or the end of this process; None if another process does, for `seconds` at least."""
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=seconds)
    except filelock.Timeout:
        return None
    return lock


def _nothing_to_resume(app: str, differences: dict[Path, list[str]]) -> UserError:
    """Why `--resume` found nothing. `differences`: of each unfinished run, newest first."""
    if differences:
        newest, lines = next(iter(differences.items()))
        return UserError(
            f"--resume goes on only with the config and the data that a run was started with. From the newest unfinished "
            f"run, {newest}, these differ:\n  " + "\n  ".join(lines) + "\nGive --resume alone to go on with that run, or start "
            "a new one by leaving --resume out."
        )
    message = f"--resume found no unfinished run in {ROOT / app}/"
    if unfinished(app):
        message += " that can be read and is not being trained by another process (make runs lists them)"
    if whole := finished(app):
        ended = "ended by Ctrl-C, then evaluated and saved" if _was_interrupted(whole[-1]) else "trained to its end"
        message += (
            f". The newest run, {whole[-1]}, is finished: it was {ended}. To train longer, start a new run with more --epochs"
        )
    return UserError(f"{message}. A new run starts by leaving --resume out.")


def _as_json(config: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _different_flags(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    compared = [key for key in now if key not in NOT_COMPARED]
    return [f"{flag(key)}: was {before.get(key)}, now {now[key]}" for key in compared if before.get(key) != now[key]]


def _differences(folder: Path, config: Any, about: dict[str, Any]) -> list[str]:
    """What keeps a new process from going on with an unfinished run, a line each."""
    lines = _different_flags(read_json(folder / "config.json"), _as_json(config))
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


def git_revision() -> str | None:
    """Of the code, with "-dirty" where it was changed since; None where there is no git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    cli.run(main)
