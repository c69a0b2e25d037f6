"""make eject: what is taken along is whole, and what is not needed stays. CI runs the tests of an ejected app."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from shared import environment
from shared.cli import UserError
from tools import doctor, eject, list_apps

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.parametrize("app", list_apps(REPOSITORY))
def test_everything_that_is_imported_is_there_and_nothing_of_another_app(app, tmp_path):
    folder = eject.eject(app, tmp_path / "My own")
    assert list_apps(folder) == [app]
    there = {
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__") for path in folder.rglob("*.py")
    }
    packages = {"apps", f"apps.{app}", "shared", "tools"}
    for file in folder.rglob("*.py"):
        for name in eject.imports(file):
            if name.startswith(("apps.", "shared.", "tools.")):
                module, attribute = name.rsplit(".", 1)
                known = name in there or (module in there and (module not in packages or attribute == "list_apps"))
                assert known, f"{file} imports {name}"
    tests = {path.name for path in folder.glob("tests/test_*.py")}
    of_app = {path.name for path in REPOSITORY.glob(f"tests/test_*{app}*.py")}  # a copied app has none of its own
    assert {"test_conformance.py", "test_rnn.py", *of_app} <= tests
    assert not any(other in name for name in tests for other in list_apps(REPOSITORY) if other != app)
    modules = {path.stem for path in folder.glob("shared/*.py")} - {"__init__"}
    assert modules < {path.stem for path in REPOSITORY.glob("shared/*.py")}
    assert {path.stem for path in folder.glob("tools/*.py")} == {"__init__", "doctor", "runs", "tensorboard"}
    for test in folder.glob("tests/*.py"):
        assert (REPOSITORY / "tests" / test.name).read_text() == test.read_text()


@pytest.mark.parametrize("app", list_apps(REPOSITORY))
def test_the_project_file_names_what_is_used(app, tmp_path):
    folder = eject.eject(app, tmp_path / "My own")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "my-own"
    groups = project["optional-dependencies"]
    requirements = project["dependencies"] + groups["train"] + groups["dev"]
    packages = {re.match(r"[\w-]+", line)[0] for line in requirements}
    assert {"tensorflow", "keras", "tyro"} <= packages
    assert {"tensorboard", *environment.PACKAGES, *doctor.PACKAGES} <= packages  # run as a module; asked for their version
    imported = {name.split(".")[0] for file in folder.rglob("*.py") for name in eject.imports(file)}
    modules = {"librosa": "librosa", "soundfile": "soundfile", "soxr": "soxr", "pandas": "pandas"}
    for package, module in modules.items():
        assert (package in packages) == (module in imported)
    assert ("microphone" in groups) == ("sounddevice" in imported)


def test_make_and_readme_know_the_app_alone(tmp_path):
    folder = eject.eject("textgen", tmp_path / "poems")
    text = subprocess.run(["make", "--no-print-directory"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert "  textgen-predict " in text
    targets = {line.split()[0] for line in text.splitlines() if line.startswith("  ")}
    assert {"doctor", "runs", "test", "speed"} < targets
    assert not {"new", "eject", "bench", "gradients"} & targets
    assert "sentiment" not in text
    assert "# poems" in (folder / "README.md").read_text()
    assert "make textgen-smoke" in (folder / ".ci" / "run").read_text()
    assert (folder / ".ci" / "run").stat().st_mode & 0o111


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="is not an empty folder; nothing was written"):
        eject.eject(list_apps(REPOSITORY)[0], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="APP=wether: there is no such app"):
        eject.eject("wether", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match=r"DEST is missing: make eject APP=textgen DEST="):
        eject.main("textgen", "")
