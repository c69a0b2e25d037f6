"""make eject: what is taken along is whole, and what is not needed stays. CI runs the tests of an ejected app."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from shared import eject, new
from shared.cli import UserError

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.parametrize("app", new.apps(REPOSITORY))
def test_everything_that_is_imported_is_there_and_nothing_of_another_app(app, tmp_path):
    folder = eject.eject(app, tmp_path / "My own")
    assert new.apps(folder) == [app]
    there = {".".join(path.relative_to(folder).with_suffix("").parts) for path in folder.rglob("*.py")}
    for file in folder.rglob("*.py"):
        for name in eject.imports(file):
            if name.startswith(("apps.", "shared.")):
                assert {name, name.rsplit(".", 1)[0]} & there, f"{file} imports {name}"
    tests = {path.name for path in folder.glob("tests/test_*.py")}
    of_app = {path.name for path in REPOSITORY.glob(f"tests/test_*{app}*.py")}  # a copied app has none of its own
    assert {"test_conformance.py", "test_rnn.py", *of_app} <= tests
    assert not any(other in name for name in tests for other in new.apps(REPOSITORY) if other != app)
    modules = {path.stem for path in folder.glob("shared/*.py")} - {"__init__"}
    assert modules < {path.stem for path in REPOSITORY.glob("shared/*.py")}
    assert set(re.findall(r"^(\w+)  ", (folder / "shared" / "__init__.py").read_text(), re.MULTILINE)) == modules
    assert set(re.findall(r" shared\.(\w+)", (folder / "Makefile").read_text())) <= modules


@pytest.mark.parametrize("app", new.apps(REPOSITORY))
def test_the_project_file_names_what_is_used(app, tmp_path):
    folder = eject.eject(app, tmp_path / "My own")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "my-own"
    packages = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    assert {"tensorflow", "keras", "tyro"} <= packages
    imported = {name.split(".")[0] for file in folder.rglob("*.py") for name in eject.imports(file)}
    for package in ("librosa", "soundfile", "pandas"):
        assert (package in packages) == (package in imported)


def test_make_and_readme_know_the_app_alone(tmp_path):
    folder = eject.eject("textgen", tmp_path / "poems")
    text = subprocess.run(["make", "--no-print-directory"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert "  textgen-predict " in text
    assert "gradients" not in text
    assert "sentiment" not in text
    assert "# poems" in (folder / "README.md").read_text()
    assert "make textgen-smoke" in (folder / ".ci" / "run").read_text()
    assert (folder / ".ci" / "run").stat().st_mode & 0o111


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="is not an empty folder; nothing was written"):
        eject.eject(new.apps(REPOSITORY)[0], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="APP=wether: there is no such app"):
        eject.eject("wether", tmp_path / "new")
    assert not (tmp_path / "new").exists()
