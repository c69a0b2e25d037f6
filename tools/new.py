"""Copy an app, to make it yours: make new NAME=tickets FROM=sentiment"""

import importlib.util
import keyword
import re
import shutil
import subprocess
import sys
from pathlib import Path

import tyro

from shared import cli
from shared.cli import UserError
from tools import ROOT, list_apps

CHANGES = "## To make it yours, change these places"  # heading in every app's README


def renamed(text: str, old: str, new: str) -> str:
    """The text of a file, code or Markdown, with the name of an app replaced.

    The name stands behind `apps.`, `apps/`, `runs/` and `make `, or alone in quotes. Elsewhere the same word is left as it is:
    "Speech Commands", "the weather of today".
    """
    text = re.sub(rf"\b(apps[./]|runs/|make ){old}\b", rf"\g<1>{new}", text)
    return re.sub(rf"([\"']){old}\1", rf"\g<1>{new}\1", text)


def copy(name: str, source: str, root: Path = ROOT) -> Path:
    """Make `apps/<name>` from `apps/<source>`. Returns the new folder.

    Raises:
        UserError: for a name that is no identifier or is taken, and for an unknown source.
    """
    _check_names(name, source, root)
    beside = root / "apps" / f".{name}.part"
    shutil.rmtree(beside, ignore_errors=True)  # of an attempt that was killed
    shutil.copytree(root / "apps" / source, beside, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*beside.rglob("*.py"), *beside.rglob("*.md")):
        file.write_text(renamed(file.read_text(encoding="utf-8"), source, name), encoding="utf-8")
    readme = beside / "README.md"
    _, text = readme.read_text(encoding="utf-8").split("\n", 1)
    head = f"# {name}\n\nCopied from `{source}`, whose numbers and wording these still are.\n"
    readme.write_text(head + text, encoding="utf-8")
    return beside.rename(root / "apps" / name)


def _check_names(name: str, source: str, root: Path) -> None:
    apps = ", ".join(list_apps(root))
    if not source:
        raise UserError(f"FROM is missing: make new NAME={name or '...'} FROM=... copies one of {apps}.")
    if source not in list_apps(root):
        raise UserError(f"FROM={source}: there is no such app; there are {apps}.")
    if keyword.iskeyword(name):
        raise UserError(f"NAME={name} is a word of the Python language, and no name for a folder of code; choose another.")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"NAME={name}: expected a name of lower-case letters, digits and _, for example tickets.")
    if (root / "apps" / name).exists():
        raise UserError(f"NAME={name} is taken, by {root / 'apps' / name}; choose another.")
    lines = (root / "Makefile").read_text(encoding="utf-8").splitlines()
    if (root / "tools" / f"{name}.py").exists() or any(line.startswith(f"{name}:") for line in lines):
        raise UserError(f"NAME={name} is taken, by make {name}; choose another.")
    if importlib.util.find_spec(name):
        raise UserError(f"NAME={name} is also the name of a Python module, which would be mistaken for it; choose another.")


def main(name: tyro.conf.Positional[str], source: str) -> None:
    """Copy an app, run the copy's smoke preset, and tell what to change.

    Args:
        name: of the new app.
        source: the app to start from.
    """
    folder = copy(name, source)
    print(f"Made {folder.relative_to(ROOT)}/ from apps/{source}/. Now its smoke preset, to see that it runs; it need not")
    print("beat the baseline in so short a training.", flush=True)
    answer = subprocess.run([sys.executable, "-m", f"apps.{name}", "train", "--preset", "smoke"], cwd=ROOT)
    if answer.returncode:
        raise UserError(f"The copy does not run (exit status {answer.returncode}); {folder} is left there to be looked at.")
    readme = (folder / "README.md").read_text(encoding="utf-8")
    print(f"\nThe places to change, all in apps/{name}/:\n{readme.split(CHANGES)[1].rstrip()}\n")
    print(f"Then: make {name}-check    make {name}    make {name}-predict    make test")
    print(f"To undo it: rm -r apps/{name}")


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(main, prog="python -m tools.new"))
