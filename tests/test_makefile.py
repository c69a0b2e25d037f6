"""The Makefile: help made from itself, targets for every app folder."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*args, folder=REPOSITORY):
    return subprocess.run(
        ["make", "--no-print-directory", *args], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def test_make_alone_prints_help_with_every_target():
    text = make()
    apps = [path.parent.name for path in REPOSITORY.glob("apps/*/train.py")]
    for target in [*apps, *(f"{app}-smoke" for app in apps), *(f"{app}-predict" for app in apps)]:
        assert f"  {target} " in text
    targets = re.search(r"^\.PHONY: (.*?) \$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert {"help", "install", "lint", "format", "test", "test-all", "new", "runs", "tensorboard", "clean"} <= set(targets)
    for target in targets:
        assert f"  {target} " in text


def test_a_copied_app_folder_gets_its_targets(tmp_path):
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    (tmp_path / "apps" / "tickets").mkdir(parents=True)
    (tmp_path / "apps" / "tickets" / "train.py").touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    (tmp_path / ".venv" / "installed").touch()
    assert "  tickets-predict " in make(folder=tmp_path)
    assert "-m apps.tickets.train --preset smoke --units 3" in make("-n", "tickets-smoke", "ARGS=--units 3", folder=tmp_path)
    assert '-m apps.tickets.predict "Not bad."' in make("-n", "tickets-predict", 'ARGS="Not bad."', folder=tmp_path)
