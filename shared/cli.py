"""A Config dataclass becomes the command line; a user's mistake becomes one clear message and exit status 2."""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

import tyro

ConfigType = TypeVar("ConfigType")


class UserError(Exception):
    """Something the user can fix. The message names what was given, what was expected and how to fix it."""


def flag(field: str) -> str:
    """The command-line flag of a Config's field."""
    return "--" + field.replace("_", "-")


def parse(program: str, presets: Mapping[str, ConfigType], description: str, args: list[str] | None = None) -> ConfigType:
    """Turn the command line into a Config.

    `--preset NAME` chooses the starting Config, every further flag overrides one of its fields.

    Args:
        program: what `--help` calls it, for example "python -m apps.weather train".
        presets: starting Configs by name; must contain "default". All are instances of one dataclass.
        description: first lines of `--help`.
        args: the command line without the program's name; `sys.argv[1:]` if None.

    Raises:
        SystemExit: with status 2 for a flag or value that does not parse, 0 after `--help`.
    """
    args = sys.argv[1:] if args is None else args
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", default="default")
    name = chooser.parse_known_args(args)[0].preset
    start = presets.get(name, presets["default"])  # an unknown name is reported by tyro, with the choices
    return override(program, start, description, args)


def override(program: str, start: ConfigType, description: str, args: list[str]) -> ConfigType:
    """The Config `start` with the fields that `args` names replaced; see `parse`."""
    flat = (tyro.conf.OmitArgPrefixes,)  # --units, not --recurrent.units
    return tyro.cli(type(start), prog=program, default=start, args=args, description=description, config=flat)


def standard_input() -> list[str]:
    """The lines of standard input.

    Raises:
        UserError: if it is not UTF-8.
    """
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"Standard input is not UTF-8 (byte {error.start}). Convert it first: iconv -f latin1 -t utf-8"
        ) from None


def run_command(description: str, commands: Mapping[str, Callable[[list[str]], None]], args: list[str] | None = None) -> None:
    """`python -m apps.<app> <command> ...`: call the command with the arguments after it, as `run` does.

    Args:
        description: first line of `--help`.
        commands: functions by name; the first line of a function's docstring explains it.
        args: the command line without the program's name; `sys.argv[1:]` if None.
    """
    name, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    if name in ("-h", "--help"):
        print(
            description,
            "",
            *(f"  {name:<10} {command.__doc__.splitlines()[0]}" for name, command in commands.items()),
            sep="\n",
        )
        print("\nEvery command has a --help of its own.")
        return
    if name not in commands:
        sys.exit(_complain(f"'{name}' is not a command; there are {', '.join(commands)}."))
    run(lambda: commands[name](rest))


def run(main: Callable[[], None]) -> None:
    """Call `main()`; answer a user's mistake with a message on standard error instead of a traceback.

    Exit status: 2 for a `UserError` and for a full or read-only disk, 130 after Ctrl-C.
    """
    try:
        main()
    except UserError as error:
        sys.exit(_complain(str(error)))
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output, for example `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
            raise
        sys.exit(_complain(f"{error}. Free some space, or allow this file to be read or written, then run again."))


def _complain(message: str) -> int:
    print(f"\nerror: {message}", file=sys.stderr)
    return 2
