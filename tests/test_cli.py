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
class Group:
    cell: Literal["gru", "lstm"] = "gru"


@dataclass(frozen=True)
class Config:
    preset: Literal["default", "best"] = "default"
    units: int = 8
    group: Group = Group()


PRESETS = {"default": Config(), "best": Config(preset="best", units=64)}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], Config()),
        (["--preset", "best"], Config("best", 64)),
        (["--preset=best", "--cell", "lstm"], Config("best", 64, Group("lstm"))),
        (["--units", "3", "--preset", "best"], Config("best", 3)),
    ],
)
def test_flags_override_the_preset(args, expected):
    assert cli.parse("program", PRESETS, "", args) == expected


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
        cli.parse("program", PRESETS, "", args)
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


def test_run_command_calls_the_one_that_is_named(capsys):
    def train(args):
        """Train it.

        And more.
        """
        given.append(args)

    given, commands = [], {"train": train}
    cli.run_command("An app.", commands, ["train", "--epochs", "2"])
    assert given == [["--epochs", "2"]]
    for args in ([], ["--help"], ["-h"]):
        cli.run_command("An app.", commands, args)
        assert capsys.readouterr().out.splitlines()[:3] == ["An app.", "", "  train      Train it."]
    with pytest.raises(SystemExit) as stop:
        cli.run_command("An app.", commands, ["trian"])
    assert stop.value.code == 2
    assert "'trian' is not a command; there are train." in capsys.readouterr().err
    assert len(given) == 1


def test_this_tree_is_what_is_tested():
    import shared

    assert Path(shared.__file__).parent.parent == REPOSITORY
