"""The command line: presets, overrides, wrong flags, exit status."""

import errno
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from shared import cli

REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Config:
    preset: Literal["default", "best"] = "default"
    units: int = 8
    cell: Literal["gru", "lstm"] = "gru"


PRESETS = {"default": Config(), "best": Config(preset="best", units=64)}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], Config()),
        (["--preset", "best"], Config("best", 64)),
        (["--preset=best", "--cell", "lstm"], Config("best", 64, "lstm")),
        (["--units", "3", "--preset", "best"], Config("best", 3)),
    ],
)
def test_flags_override_the_preset(args, expected):
    assert cli.parse(PRESETS, "", args) == expected


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--preset", "bset"], "bset"),
        (["--cell", "elman"], "elman"),
        (["--units", "many"], "many"),
        (["--unit", "3"], "--unit"),
    ],
)
def test_a_wrong_flag_ends_with_status_2_and_names_itself(args, named, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.parse(PRESETS, "", args)
    assert stop.value.code == 2
    assert named in capsys.readouterr().err


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (cli.UserError("no column 'text'"), 2, "error: no column 'text'"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device. Free some space"),
        (KeyboardInterrupt(), 130, "Stopped."),
    ],
)
def test_a_users_mistake_shows_a_message_and_no_traceback(error, status, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.run(raising(error))
    assert stop.value.code == status
    assert message in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    code = "from shared import cli; cli.run(lambda: [print('x' * 100) for _ in range(10000)])"
    command = f'{sys.executable} -c "{code}" | head -1'
    answer = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True)
    assert answer.stderr == ""
    assert answer.stdout == "x" * 100 + "\n"


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(raising(ZeroDivisionError()))
    with pytest.raises(OSError, match="odd"):
        cli.run(raising(OSError(errno.EIO, "odd")))


HELP = """
import contextlib, io, runpy, sys
sys.argv = ["command", "--help"]
with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
    runpy.run_module(MODULE, run_name="__main__")
assert "--help" in printed.getvalue()
print(sorted({"tensorflow", "keras", "sklearn"} & set(sys.modules)))
"""


@pytest.mark.parametrize("module", ["train", "predict"])
@pytest.mark.parametrize("app", sorted(path.parent.name for path in REPOSITORY.glob("apps/*/train.py")))
def test_help_is_answered_before_tensorflow_is_imported(app, module):
    code = HELP.replace("MODULE", repr(f"apps.{app}.{module}"))
    answer = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert (answer.stderr, answer.stdout) == ("", "[]\n")


def test_this_tree_is_what_is_tested():
    import shared

    assert Path(shared.__file__).parent.parent == REPOSITORY
