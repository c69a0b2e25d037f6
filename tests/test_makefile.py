"""The Makefile: help made from itself, targets for every app folder, arguments as they were typed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import list_apps

REPOSITORY = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*args, folder=REPOSITORY):
    return subprocess.run(
        ["make", "--no-print-directory", *args], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def test_make_alone_prints_help_with_every_target():
    text = make()
    apps = list_apps(REPOSITORY)
    tools = [path.stem for path in REPOSITORY.glob("tools/*.py") if 'if __name__ == "__main__":' in path.read_text()]
    assert {"runs", "tensorboard", "doctor"} <= set(tools)
    targets = re.search(r"^\.PHONY: (.*?) \$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert {"help", "install", "lint", "format", "test", "test-all", "speed", "clean"} == set(targets)
    for target in [
        *apps,
        *(f"{app}-{command}" for app in apps for command in ("smoke", "check", "predict", "export", "serve", "demo")),
        *tools,
        *targets,
    ]:
        assert re.search(rf"^  {target} +[A-Z][^\"]+$", text, re.MULTILINE), target


def test_in_the_folder_of_the_apps_make_says_where_it_is_run():
    for target in ([], ["anything"]):
        answer = subprocess.run(["make", *target], cwd=REPOSITORY / "apps", capture_output=True, text=True)
        assert answer.returncode == 2
        assert "make is run in the folder above this one" in answer.stderr


def test_a_tool_that_is_not_there_is_no_target(tree):
    (tree / "tools" / "eject.py").unlink()
    assert " eject " not in make(folder=tree)
    answer = subprocess.run(["make", "eject"], cwd=tree, capture_output=True, text=True)
    assert "No rule to make target" in answer.stderr


def test_a_copied_app_folder_gets_its_targets(tmp_path):
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    (tmp_path / "apps" / "tickets").mkdir(parents=True)
    (tmp_path / "apps" / "tickets" / "__main__.py").touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    (tmp_path / ".venv" / "installed").touch()
    assert "  tickets-predict " in make(folder=tmp_path)


SHOW = "import json, sys\nprint(json.dumps(sys.argv[1:]))\n"


@pytest.fixture
def tree(tmp_path):
    """A tree whose app, new, eject and tensorboard print what reaches them."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / ".venv" / "installed").touch()
    (tmp_path / "apps" / "tickets").mkdir(parents=True)
    (tmp_path / "apps" / "__init__.py").touch()
    (tmp_path / "shared").mkdir()
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "__init__.py").touch()
    for name in ("__init__", "cli", "make", "quiet"):
        shutil.copy(REPOSITORY / "shared" / f"{name}.py", tmp_path / "shared")
    for module in ("apps/tickets/__main__", "tools/new", "tools/eject", "tools/tensorboard"):
        (tmp_path / f"{module}.py").write_text(SHOW)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "arguments"),
    [
        ("--epochs 2", ["--epochs", "2"]),
        ('"I paid $10"', ["I paid $10"]),
        ("'$HOME `date` $(shell date) $$ \\n'", ["$HOME `date` $(shell date) $$ \\n"]),
        ('"It\'s 50% # off!" "?"', ["It's 50% # off!", "?"]),
        ("Make*", ["Makefile"]),
        ("", []),
    ],
)
def test_arguments_arrive_as_they_were_typed(tree, typed, arguments):
    assert json.loads(make("tickets-predict", f"ARGS={typed}", folder=tree)) == ["predict", *arguments]
    assert json.loads(make("tickets-anything", f"ARGS={typed}", folder=tree)) == ["anything", *arguments]
    assert json.loads(make("tickets", f"ARGS={typed}", folder=tree)) == ["train", *arguments]
    assert json.loads(make("tickets-smoke", f"ARGS={typed}", folder=tree)) == ["train", "--preset", "smoke", *arguments]


ODD = '../Anna\'s "$x"; echo $(HOME)'


def test_a_name_arrives_as_it_was_typed(tree):
    assert json.loads(make("new", f"NAME={ODD}", folder=tree)) == [ODD, "--source", ""]


def test_a_destination_arrives_as_it_was_typed(tree):
    assert json.loads(make("eject", "APP=tickets", f"DEST={ODD}", folder=tree)) == ["tickets", ODD]


def test_tensorboard_gets_the_app_that_was_typed_or_none(tree):
    assert json.loads(make("tensorboard", f"APP={ODD}", "ARGS=--port 7000", folder=tree)) == ["--app", ODD, "--port", "7000"]
    assert json.loads(make("tensorboard", folder=tree)) == ["--app", ""]


@pytest.mark.parametrize(
    ("typed", "message"),
    [("args=--epochs 2", "args=... is ignored; write it in capitals"), ("ARGS='open", "ends inside quotes")],
)
def test_what_would_be_misread_is_refused(tree, typed, message):
    answer = subprocess.run(["make", "tickets", typed], cwd=tree, capture_output=True, text=True)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr
