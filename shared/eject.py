"""Make an app a repository of its own: python -m shared.eject weather ../forecaster (or: make eject APP=... DEST=...)."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import tyro

from shared import cli, new
from shared.cli import UserError

KEPT_ANYWAY = ("doctor", "make", "new", "runs")  # shared modules that the Makefile and the tests of every app need
CI = """#!/usr/bin/env bash
# The commands of the README, on a clean clone.
set -euo pipefail
cd "$(dirname "$0")/.."
make
make lint
make {app}-smoke ARGS='--dataset sample'
make test-all
"""
README = """# {title}

The app `{app}` of {source}, with the parts of its shared layer that it uses. What it does and what to change is in
[apps/{app}/README.md](apps/{app}/README.md).

```
make {app}      # installs what it needs, trains, prints the result beside a baseline
make test       # installs what it needs, runs the fast tests
```

Nothing else is needed but Python 3.11 or newer and make. `make` alone lists every target.
"""


def eject(app: str, destination: Path, root: Path = new.ROOT) -> Path:
    """Write a tree with one app alone: its part of the shared layer, its tests, Makefile, pyproject.toml, README, CI.

    Args:
        app: which one.
        destination: folder to make; it must not exist, or be empty.
        root: the tree to copy from.

    Raises:
        UserError: for an unknown app, or a destination that holds something.
    """
    if app not in new.apps(root):
        raise UserError(f"APP={app}: there is no such app; there are {', '.join(new.apps(root))}.")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UserError(f"DEST={destination} is not an empty folder; nothing was written. Name another, or empty it.")
    of_app = {path for path in (root / "apps" / app).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    kept = of_app | {root / "apps" / "__init__.py"}
    modules = _shared_modules(kept | {root / "shared" / "__init__.py"}, root)
    kept |= {root / "shared" / f"{module}.py" for module in ("__init__", *modules)}
    kept |= {root / "tests" / "conftest.py"}
    kept |= {test for test in root.glob("tests/test_*.py") if _is_of(test, app, modules)}
    kept |= {root / name for name in ("LICENSE", "constraints.txt", ".gitignore", ".pre-commit-config.yaml")}
    dropped = {path.stem for path in root.glob("shared/*.py")} - set(modules) - {"__init__"}
    everything = "\n".join(path.read_text(encoding="utf-8") for path in kept if path.suffix == ".py")
    others = "\n".join(path.read_text(encoding="utf-8") for path in root.glob("apps/*/*.py"))
    contents = (root / "shared" / "__init__.py").read_text(encoding="utf-8")
    texts = {
        Path("shared/__init__.py"): _without_lines(contents, rf"({'|'.join(dropped)}) "),
        Path("Makefile"): _makefile((root / "Makefile").read_text(encoding="utf-8"), dropped),
        Path("pyproject.toml"): _pyproject(
            (root / "pyproject.toml").read_text(encoding="utf-8"), destination.name, everything, others
        ),
        Path("README.md"): README.format(title=destination.name, app=app, source=_name(root)),
        Path(".ci/run"): CI.format(app=app),
    }
    for path in (*(path.relative_to(root) for path in kept), *texts):
        (destination / path).parent.mkdir(parents=True, exist_ok=True)
        if path in texts:
            (destination / path).write_text(texts[path], encoding="utf-8")
        else:
            shutil.copy(root / path, destination / path)
    (destination / ".ci" / "run").chmod(0o755)
    return destination


def imports(file: Path) -> set[str]:
    """Dotted names of everything that a file imports, wherever in it: for `from shared import rnn`, "shared.rnn"."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _shared(file: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(file) if name.startswith("shared.")}


def _shared_modules(files: set[Path], root: Path) -> list[str]:
    """The modules of the shared layer that files need, and those that these need."""
    found, ahead = set(), {name for file in files if file.suffix == ".py" for name in _shared(file)} | set(KEPT_ANYWAY)
    while ahead:
        found |= ahead
        ahead = {name for module in ahead for name in _shared(root / "shared" / f"{module}.py")} - found
    return sorted(found)


def _is_of(test: Path, app: str, modules: list[str]) -> bool:
    """Whether a test needs nothing but this app and these modules. The guides are of all apps, and stay."""
    of_apps = {name.split(".")[1] for name in imports(test) if name.startswith("apps.")}
    return of_apps <= {app} and _shared(test) <= set(modules) and test.name != "test_docs.py"


def _without_lines(text: str, beginning: str) -> str:
    return re.sub(rf"^{beginning}.*\n", "", text, flags=re.MULTILINE)


def _makefile(text: str, dropped: set[str]) -> str:
    """Without the targets that run a module of the shared layer that is not there."""
    for module in dropped:
        for target in re.findall(rf"^([a-z-]+):.*\n\t.* shared\.{module}\b", text, flags=re.MULTILINE):
            text = re.sub(rf"^{target}:.*\n(\t.*\n)+\n", "", text, flags=re.MULTILINE)
            text = re.sub(rf"^(\.PHONY:.*) {target}\b", r"\1", text, flags=re.MULTILINE)
    return text


def _pyproject(text: str, name: str, kept: str, others: str) -> str:
    """With a name of its own, and without the packages that only other apps import."""
    name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    text = re.sub(r'^name = ".*"', f'name = "{name}"', text, flags=re.MULTILINE)
    for package in set(re.findall(r'"([A-Za-z0-9_-]+)(?:\[.*?\])?>=', text)):
        used = re.compile(rf"^\s*(?:import|from) {package.replace('-', '_')}\b", re.MULTILINE)
        if used.search(others) and not used.search(kept):
            text = re.sub(rf'^.*"{package}>=.*\n', "", text, flags=re.MULTILINE)
    return text


def _name(root: Path) -> str:
    return re.search(r'^name = "(.*)"', (root / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]


def main(app: tyro.conf.Positional[str], destination: tyro.conf.Positional[str]) -> None:
    """Copy an app with all that it needs into a new repository, and commit it there.

    Args:
        app: which one.
        destination: folder to make; it must not exist, or be empty.
    """
    folder = eject(app, Path(destination).expanduser())
    for command in (
        ["git", "init", "--quiet"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", f"{app}, by itself"],
    ):
        try:
            answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"{folder} is written, but git is not to be had ({error}); commit it yourself.") from None
        if answer.returncode:
            raise UserError(f"{folder} is written, but {' '.join(command[:2])} failed: {answer.stderr.strip()}")
    files = sum(1 for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    print(f"Wrote {files} files into {folder}, as a repository of its own. Next:  cd {folder} && make test")


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(main, description=__doc__))
