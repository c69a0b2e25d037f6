"""Copy an app, to make it yours: python -m shared.new tickets --source sentiment (or: make new NAME=tickets FROM=sentiment)."""

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

ROOT = Path(__file__).parent.parent
CHANGES = "## To make it yours, change these places"  # heading in every app's README


def apps(root: Path = ROOT) -> list[str]:
    """The names of all apps in a tree: every folder of `apps/` with a train.py."""
    return sorted(path.parent.name for path in root.glob("apps/[a-z]*/train.py"))


def renamed(text: str, old: str, new: str) -> str:
    """A file of the app `old`, as the app `new` has it.

    What is the app's name is renamed: in imports and paths, in quotes, behind make, in "the ... app". What is only the same
    word ("Speech Commands", "the weather of today") stays.
    """
    name = r"(?<=apps[./])X\b|(?<=runs/)X\b|(?<=make )X\b|(?<=the )X(?= app\b)|(?<=[\"'])X(?=[\"'])"
    return re.sub(name.replace("X", re.escape(old)), new, text)


def copy(name: str, source: str, root: Path = ROOT) -> Path:
    """Make `apps/<name>` from `apps/<source>`. Returns the new folder.

    Raises:
        UserError: for a name that is no identifier, is taken, or shadows a module or a make target; for an unknown source.
    """
    if not source:
        raise UserError(f"FROM is missing: make new NAME={name or '...'} FROM=... copies one of {', '.join(apps(root))}.")
    if source not in apps(root):
        raise UserError(f"FROM={source}: there is no such app; there are {', '.join(apps(root))}.")
    if keyword.iskeyword(name):
        raise UserError(f"NAME={name} is a word of the Python language, and no name for a folder of code; choose another.")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"NAME={name}: expected a name of lower-case letters, digits and _, for example tickets.")
    targets = re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    folder = root / "apps" / name
    if folder.exists() or name in targets:
        raise UserError(f"NAME={name} is taken, by {folder if folder.exists() else f'make {name}'}; choose another.")
    if importlib.util.find_spec(name):
        raise UserError(f"NAME={name} is also the name of a Python module, which would be mistaken for it; choose another.")
    beside = folder.with_name(f".{name}.part")
    shutil.rmtree(beside, ignore_errors=True)  # of an attempt that was killed
    shutil.copytree(root / "apps" / source, beside, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*beside.rglob("*.py"), *beside.rglob("*.md")):
        file.write_text(renamed(file.read_text(encoding="utf-8"), source, name), encoding="utf-8")
    readme = beside / "README.md"
    _, text = readme.read_text(encoding="utf-8").split("\n", 1)
    readme.write_text(
        f"# {name}\n\nCopied from `{source}`, whose numbers and wording these still are.\n{text}", encoding="utf-8"
    )
    return beside.rename(folder)


def main(name: tyro.conf.Positional[str], source: str) -> None:
    """Copy an app, run the copy's smoke preset, and tell what to change.

    Args:
        name: of the new app.
        source: the app to start from.
    """
    folder = copy(name, source)
    print(f"Made {folder.relative_to(ROOT)}/ from apps/{source}/. Now its smoke preset, to see that it runs; it need not")
    print("beat the baseline in so short a training.")
    answer = subprocess.run([sys.executable, "-m", f"apps.{name}.train", "--preset", "smoke"], cwd=ROOT)
    if answer.returncode:
        raise UserError(f"The copy does not run (exit status {answer.returncode}); {folder} is left there to be looked at.")
    readme = (folder / "README.md").read_text(encoding="utf-8")
    print(f"\nThe places to change, all in apps/{name}/:\n{readme.split(CHANGES)[1].rstrip()}\n")
    print(f"Then: make {name}-check    make {name}    make {name}-predict    make test")
    print(f"To undo it: rm -r apps/{name}")


if __name__ == "__main__":
    cli.run(lambda: tyro.cli(main, description=__doc__))
