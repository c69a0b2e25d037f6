"""The run folder `runs/<app>/<time stamp>/`: written whole or not at all, found again, compared.

While a run trains, its folder is named `<time stamp>.unfinished`; the last act of a run is to take that ending away.
So everything that looks like a finished run is one, and what a kill leaves behind can go on with `--resume`.
TensorBoard reads the logs through links, `runs/tensorboard/<app>/<time stamp>`, whose names stay when the run is finished.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import filelock

from shared import cli
from shared.cli import UserError, flag

ConfigType = TypeVar("ConfigType")
ROOT = Path("runs")
UNFINISHED = ".unfinished"
TENSORBOARD = "tensorboard"  # folder of the links to the logs
LOCK = "lock"  # held while a process works in the folder; the kernel lets go of it when that process ends, however it ends
NOT_COMPARED = ("resume",)  # settings that may differ between a run and its continuation
TRAINING_STATE = "*.npz"  # what only --resume needs: best weights, states of trainings
REQUIRED = ("config.json", "environment.json", "metrics.json", "model.keras")


def parse(app: str, presets: Mapping[str, ConfigType], description: str, args: list[str] | None = None) -> ConfigType:
    """`cli.parse`, but with `--resume` the Config is that of the newest unfinished run that agrees with the flags given.

    Raises:
        UserError: with `--resume`, if there is no such run; the message names the flags that differ from the newest one.
    """
    args = sys.argv[1:] if args is None else args
    program = f"python -m apps.{app} train"
    if "--resume" not in args or "--help" in args:
        return cli.parse(program, presets, description, args)
    kind = type(presets["default"])
    differences = {}
    for folder in reversed(resumable(app, kind)):
        stored = read_config(folder, kind)
        start = dataclasses.replace(stored, training=dataclasses.replace(stored.training, resume=True))
        config = cli.override(program, start, description, args)
        differences[folder] = _different_flags(_settings(dataclasses.asdict(stored)), _settings(dataclasses.asdict(config)))
        if not differences[folder]:
            print(f"Resuming {folder}.")
            return config
    raise _nothing_to_resume(app, differences)


@contextlib.contextmanager
def open_run(app: str, config: Any, about: dict[str, Any]) -> Iterator["Run"]:
    """The folder of a new run or, with `--resume`, of the unfinished one that it goes on with, held against other processes.

    Left without `Run.finish`, by an error or Ctrl-C, it stays there to be resumed; how is printed.

    Args:
        app: name.
        config: the app's Config; saved as config.json.
        about: see `shared.environment.environment`; saved as environment.json.

    Raises:
        UserError: with `--resume`, if no unfinished run was started with the same config on the same data; the message names
            what differs from the newest one.
    """
    run = _resume(app, config, about) if config.training.resume else _start(app, config, about)
    _link_logs(run.path)
    link_all_logs(app)
    try:
        yield run
    finally:
        run.lock.release()
        if run.path.name.endswith(UNFINISHED):
            print(f"{run.path} is not finished. To go on with it: make {app} ARGS=--resume", file=sys.stderr)


class Run:
    """One run folder that is being written. `path` is where its files go until `finish`."""

    def __init__(self, path: Path, lock: filelock.BaseFileLock):
        self.path = path
        self.lock = lock

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write one JSON file whole: first beside, then renamed into place."""
        beside = self.path / (name + ".part")
        beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        beside.replace(self.path / name)

    def finish(self, metrics: dict[str, Any]) -> Path:
        """Write metrics.json, remove what only `--resume` needs, give the folder its final name. Returns the final path."""
        self.write_json("metrics.json", metrics)
        missing = [name for name in REQUIRED if not (self.path / name).exists()]
        assert not missing, f"a run is finished only with {missing}"
        for file in self.path.glob(TRAINING_STATE):
            file.unlink()
        self.path = self.path.rename(self.path.with_name(self.path.name.removesuffix(UNFINISHED)))
        _link_logs(self.path)
        self.lock.release()
        (self.path / LOCK).unlink(missing_ok=True)
        return self.path


def _start(app: str, config: Any, about: dict[str, Any]) -> Run:
    if left := resumable(app, type(config)):
        print(f"{left[-1]} is not finished. To go on with it: make {app} ARGS=--resume")
    path = _make_folder(app)
    run = Run(path, _hold(path, seconds=10))  # another process may just be looking at it
    for name in ("plots", "logs"):
        (path / name).mkdir()
    run.write_json("config.json", dataclasses.asdict(config))
    run.write_json("environment.json", about)
    return run


def _resume(app: str, config: Any, about: dict[str, Any]) -> Run:
    differences = {folder: _differences(folder, config, about) for folder in reversed(resumable(app, type(config)))}
    for folder, differing in differences.items():
        if not differing and (lock := _hold(folder)):
            return Run(folder, lock)
    raise _nothing_to_resume(app, differences)


def _link_logs(folder: Path) -> None:
    """Point the link to a run's logs, which TensorBoard follows, at where they are now."""
    link = ROOT / TENSORBOARD / folder.parent.name / folder.name.removesuffix(UNFINISHED)
    if link.is_dir() and not link.is_symlink():
        return  # runs/ was copied with what its links point at
    link.parent.mkdir(parents=True, exist_ok=True)
    beside = ROOT / f".link_{os.getpid()}"  # not there where TensorBoard looks
    beside.unlink(missing_ok=True)
    beside.symlink_to(Path("..", "..", folder.parent.name, folder.name, "logs"))
    beside.replace(link)


def link_all_logs(app: str) -> None:
    """Link the runs that came from elsewhere or were killed right after their renaming; unlink those deleted."""
    for folder in (*finished(app), *unfinished(app)):
        _link_logs(folder)
    for link in (ROOT / TENSORBOARD / app).iterdir():
        if not link.exists():
            link.unlink(missing_ok=True)


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
            f"Finish it with: make {app} ARGS=--resume, or name another run (make runs)."
        )
    if (other := read_json(folder / "metrics.json")["app"]) != app:
        raise UserError(f"--run {path} is a run of {other}, not of {app}.")
    return folder


def load(app: str, path: str | None = None) -> tuple[Path, dict[str, Any]]:
    """The folder that `find` finds and its metrics; it is said on standard error what is loaded."""
    folder = find(app, path)
    metrics = read_json(folder / "metrics.json")
    ended = ", ended by Ctrl-C" if metrics.get("interrupted") else ""
    print(f"Loading {folder}, trained on {metrics['dataset']} (preset {metrics['preset']}{ended}).", file=sys.stderr)
    return folder, metrics


def finished(app: str) -> list[Path]:
    """The whole runs of an app, oldest first."""
    folders = [path for path in (ROOT / app).glob("*") if path.is_dir() and not path.is_symlink()]
    whole = [path for path in folders if all((path / name).exists() for name in REQUIRED)]
    return sorted(path for path in whole if not path.name.endswith(UNFINISHED))


def unfinished(app: str) -> list[Path]:
    """The runs of an app that are being trained or were cut off, oldest first."""
    return sorted((ROOT / app).glob("*" + UNFINISHED))


def resumable(app: str, kind: type) -> list[Path]:
    """The unfinished runs that no process holds, oldest first. Those that cannot be read are left out, and why is printed.

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


def read_config(folder: Path, kind: type[ConfigType]) -> ConfigType:
    """The Config, of the dataclass `kind`, that a run was made with.

    Raises:
        UserError: if the file cannot be read or has other fields than `kind`.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    stored = read_json(folder / "config.json")
    expected = _settings(dataclasses.asdict(kind()))
    if differing := sorted(_settings(stored).keys() ^ expected.keys() or stored.keys() ^ defaults.keys()):
        raise UserError(
            f"{folder} was made by another version of this app, which differs in {', '.join(map(flag, differing))}. "
            "Train again, or name another run (make runs)."
        )
    groups = {name: type(defaults[name])(**value) for name, value in stored.items() if isinstance(value, dict)}
    lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}  # JSON has no tuples
    return kind(**stored | groups | lists)


def was_interrupted(folder: Path) -> bool:
    """Whether Ctrl-C ended the training of a finished run."""
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
        ended = "ended by Ctrl-C, then evaluated and saved" if was_interrupted(whole[-1]) else "trained to its end"
        message += (
            f". The newest run, {whole[-1]}, is finished: it was {ended}. To train longer, start a new run with more --epochs"
        )
    return UserError(f"{message}. A new run starts by leaving --resume out.")


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """All settings by name, those of groups too, as JSON has them."""
    flat = {}
    for name, value in config.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return json.loads(json.dumps(flat))


def _different_flags(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    compared = [key for key in now if key not in NOT_COMPARED]
    return [f"{flag(key)}: was {before.get(key)}, now {now[key]}" for key in compared if before.get(key) != now[key]]


def _differences(folder: Path, config: Any, about: dict[str, Any]) -> list[str]:
    """The reasons why a new process cannot go on with an unfinished run, one line each."""
    lines = _different_flags(_settings(read_json(folder / "config.json")), _settings(dataclasses.asdict(config)))
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
    except (OSError, ValueError) as error:  # not there, not UTF-8, not JSON
        raise UserError(f"{path} can't be read ({error}); the run is damaged, name another (make runs).") from None
