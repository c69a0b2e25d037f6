"""make new: what is renamed, what is refused, and that a copy works."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from shared.cli import UserError
from tools import list_apps, new

REPOSITORY = Path(__file__).parent.parent
APP = list_apps(REPOSITORY)[0]
NAME = "a_name_that_nobody_takes"


@pytest.fixture
def tree(tmp_path):
    """The apps, the tools and the Makefile, to be copied in."""
    for part in ("apps", "tools"):
        shutil.copytree(REPOSITORY / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    return tmp_path


@pytest.mark.parametrize("app", list_apps(REPOSITORY))
def test_a_copy_names_its_source_nowhere_and_keeps_everything_else(app, tree):
    folder = new.copy(NAME, app, tree)
    assert list_apps(tree) == sorted([*list_apps(REPOSITORY), NAME])
    for file in (REPOSITORY / "apps" / app).glob("*.*"):
        before, after = file.read_text(), (folder / file.name).read_text()
        if file.name == "README.md":  # has another head
            head, after = after.split(", whose numbers and wording these still are.\n", 1)  # a copy of a copy says so twice
            assert head == f"# {NAME}\n\nCopied from `{app}`"
            before = before.split("\n", 1)[1]
        assert len(before.splitlines()) == len(after.splitlines())
        for line, other in zip(before.splitlines(), after.splitlines(), strict=True):
            assert other == line or app in line
        if file.suffix == ".py":
            imported = [node.module or "" for node in ast.walk(ast.parse(after)) if isinstance(node, ast.ImportFrom)]
            assert not any(module.split(".")[:2] == ["apps", app] for module in imported)
            strings = {node.value for node in ast.walk(ast.parse(after)) if isinstance(node, ast.Constant)}
            assert app not in strings
        assert not re.search(rf"apps[./]{app}\b|make {app}\b|[\"']{app}[\"']", after)
    assert new.CHANGES in (folder / "README.md").read_text()


def test_words_that_only_look_like_the_name_stay():
    text = 'load_tfds("speech_commands"); runs.find("speech", run)  # real speech, apps/speech/split.py: make speech-predict'
    expected = 'load_tfds("speech_commands"); runs.find("calls", run)  # real speech, apps/calls/split.py: make calls-predict'
    assert new.renamed(text, "speech", "calls") == expected


def test_what_is_no_text_of_the_app_is_copied_as_it_is(tree):
    (tree / "apps" / APP / "more").mkdir()
    (tree / "apps" / APP / "more" / "clip.wav").write_bytes(b"RIFF\xff")
    (tree / "apps" / ".left.part").mkdir()
    (tree / "apps" / ".left.part" / "__main__.py").touch()
    folder = new.copy(NAME, APP, tree)
    assert (folder / "more" / "clip.wav").read_bytes() == b"RIFF\xff"
    assert ".left.part" not in list_apps(tree)


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("", APP, "expected a name"),
        ("my-app", APP, "NAME=my-app: expected a name"),
        ("Tickets", APP, "expected a name"),
        ("class", APP, "NAME=class is a word of the Python language"),
        (APP, APP, f"NAME={APP} is taken, by .*apps/{APP}"),
        ("lint", APP, "NAME=lint is taken, by make lint"),
        ("doctor", APP, "NAME=doctor is taken, by make doctor"),
        ("json", APP, "the name of a Python module"),
        (NAME, "", f"FROM is missing: make new NAME={NAME} FROM=... copies one of {APP}"),
        (NAME, "tikets", f"FROM=tikets: there is no such app; there are {APP}"),
    ],
)
def test_bad_names_are_refused_and_leave_nothing(name, source, message, tree):
    before = sorted(tree.rglob("*"))
    with pytest.raises(UserError, match=message):
        new.copy(name, source, tree)
    assert sorted(tree.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.skipif("sentiment" not in list_apps(REPOSITORY), reason="the data is made for the sentiment app")
def test_a_copied_app_with_data_of_its_own(tree):
    """What make new does, made tiny: copy, train on three classes, ask."""
    shutil.copytree(REPOSITORY / "shared", tree / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    new.copy(NAME, "sentiment", tree)
    rows = [(f"{word} number {n}", label) for n in range(30) for word, label in (("fine", "a"), ("poor", "b"), ("odd", "c"))]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tree / "mine.csv", index=False)

    def command(*args):
        line = [sys.executable, "-m", f"apps.{NAME}", *args]
        return subprocess.run(line, cwd=tree, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    tiny = ["--preset", "smoke", "--units", "4", "--embedding-dim", "8", "--epochs", "1"]
    trained = command("train", *tiny, "--data", "mine.csv", "--cell", "lstm", "--normalization", "layer", "--num-layers", "2")
    assert trained.returncode == 0, trained.stderr
    assert f"{NAME} on mine.csv" in trained.stdout
    assert "not cuDNN: no GPU" in trained.stdout
    answer = command("predict", "odd number 7")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split()[0] in "abc"
    assert f"Loading runs/{NAME}/" in answer.stderr
