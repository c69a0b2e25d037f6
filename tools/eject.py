"""Make an app a repository of its own: make eject APP=weather DEST=../forecaster"""

import ast
import functools
import importlib.metadata
import re
import shutil
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import tyro

from shared import cli
from shared.cli import UserError
from tools import ROOT, list_apps

RUN_BY_MAKE = ("shared/make.py", "tools/doctor.py", "tools/runs.py", "tools/tensorboard.py")  # by the Makefile of a single app
FILES = ("LICENSE", "Makefile", "apps/Makefile", "constraints.txt", ".gitignore", ".pre-commit-config.yaml")
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

Nothing else is needed but Python 3.11, 3.12 or 3.13 and make. `make` alone lists every target.
"""


def eject(app: str, destination: Path, root: Path = ROOT) -> Path:
    """Write a tree with one app alone: its part of the shared layer, its tests, Makefile, pyproject.toml, README, CI.

    Args:
        app: which one.
        destination: folder to make; it must not exist, or be empty.
        root: the tree to copy from.

    Raises:
        UserError: for an unknown app, or a destination that holds something.
    """
    if app not in list_apps(root):
        raise UserError(f"APP={app}: there is no such app; there are {', '.join(list_apps(root))}.")
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UserError(f"DEST={destination} is not an empty folder; nothing was written. Name another, or empty it.")
    kept = kept_files(app, root)
    everything = {path for part in ("apps", "shared", "tools", "tests") for path in (root / part).rglob("*.py")}
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    source = tomllib.loads(project)["project"]["name"]
    texts = {
        "pyproject.toml": _project_file(
            project, _slug(destination.name) or app, named_packages(everything), named_packages(kept)
        ),
        "README.md": README.format(title=destination.name, app=app, source=source),
        ".ci/run": CI.format(app=app),
    }
    for path in kept:
        target = destination / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (destination / ".ci").mkdir()
    for name, text in texts.items():
        (destination / name).write_text(text, encoding="utf-8")
    (destination / ".ci" / "run").chmod(0o755)
    return destination


def kept_files(app: str, root: Path) -> set[Path]:
    """All files of an app, the code that it imports, and every test that needs no more than these."""
    of_app = {path for path in (root / "apps" / app).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    code = with_imports({*of_app, root / "tests" / "conftest.py", *(root / name for name in RUN_BY_MAKE)}, root)
    tests = {test for test in root.glob("tests/test_*.py") if with_imports({test}, root) <= {*code, test}}
    tests -= {root / "tests" / "test_docs.py"}  # the guides are about all apps, and stay
    return code | tests | {root / name for name in FILES}


def with_imports(files: set[Path], root: Path) -> set[Path]:
    """The files, the files of the tree that they import, those that these import, and so on."""
    found, ahead = set(), files
    while ahead:
        found |= ahead
        ahead = {path for file in ahead for name in imports(file) for path in _files_of(name, root)} - found
    return found


@functools.cache
def imports(file: Path) -> set[str]:
    """Dotted names of everything that a Python file imports, wherever in it: for `from shared import rnn`, "shared.rnn"."""
    found = set()
    if file.suffix == ".py":
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def named_packages(files: set[Path]) -> set[str]:
    """What Python files could need of other packages: top-level modules that they import, and all their strings.

    (A package that is run as a module, or of which only the version is asked, is not imported.)
    """
    found = {name.split(".")[0] for file in files for name in imports(file)}
    for file in files:
        if file.suffix == ".py":
            nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            found |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return found


def _files_of(name: str, root: Path) -> Iterable[Path]:
    """The module of a dotted name, and the packages that it is in, as far as they lie in the tree."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        module = root.joinpath(*parts[:end])
        yield from (path for path in (module.with_suffix(".py"), module / "__init__.py") if path.exists())


def _project_file(text: str, name: str, named: set[str], kept: set[str]) -> str:
    """pyproject.toml with a name of its own, without the dependencies that only what is left out needs.

    Args:
        text: the file as it is; each dependency, or a whole group of optional ones, stands on a line of its own.
        name: of the new project.
        named: see `named_packages`, of the whole tree.
        kept: the same of the kept files.
    """
    project = tomllib.loads(text)["project"]
    modules = defaultdict(set)
    for module, distributions in importlib.metadata.packages_distributions().items():
        for distribution in distributions:
            modules[_slug(distribution)].add(module)

    def is_unused(requirement: str) -> bool:
        distribution = _slug(re.match(r"[\w.-]+", requirement)[0])
        found = {distribution, *modules.get(distribution, {distribution.replace("-", "_")})}  # a guess if not installed
        return bool(found & named) and not found & kept

    groups = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(requirement for those in groups.values() for requirement in those)]
    dropped = [f'"{requirement}"' for requirement in requirements if is_unused(requirement)]
    dropped += [f"{group} =" for group, those in groups.items() if all(map(is_unused, those))]
    lines = [line for line in text.splitlines() if not line.strip().startswith(tuple(dropped))]
    before = f'name = "{project["name"]}"'
    return "\n".join(f'name = "{name}"' if line == before else line for line in lines) + "\n"


def _slug(name: str) -> str:
    """A name as package indexes compare it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def main(app: tyro.conf.Positional[str], destination: tyro.conf.Positional[str]) -> None:
    """Copy an app with all that it needs into a new repository, and commit it there.

    Args:
        app: which one.
        destination: folder to make; it must not exist, or be empty.
    """
    if not destination:
        raise UserError(f"DEST is missing: make eject APP={app or '...'} DEST=... names the folder to write.")
    folder = eject(app, Path(destination).expanduser())
    for command in (
        ["git", "init", "--quiet"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", f"{app}, by itself"],
    ):
        try:
            answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"{folder} is written, but git is not available ({error}); commit it yourself.") from None
        if answer.returncode:
            raise UserError(f"{folder} is written, but {' '.join(command[:2])} failed: {answer.stderr.strip()}")
    files = sum(1 for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    print(f"Wrote {files} files into {folder}, as a repository of its own. Next:  cd {folder} && make test")


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(main, prog="python -m tools.eject"))
