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
    """Something the user can fix. The message says what came, what was expected and how to fix it."""


def flag(field: str) -> str:
    """The command-line flag of a Config's field."""
    return "--" + field.replace("_", "-")


def check_at_least(least: float, config: object, *fields: str) -> None:
    """Raise a UserError if one of the fields lies below `least`; None is let pass."""
    for field in fields:
        value = getattr(config, field)
        if value is not None and value < least:
            raise UserError(f"{flag(field)} is {least} or more; got {value}.")


def check_share(config: object, *fields: str) -> None:
    """Raise a UserError if one of the fields is no share: 0 or more and below 1."""
    for field in fields:
        if not 0 <= getattr(config, field) < 1:
            raise UserError(f"{flag(field)} is a share, 0 or more and below 1; got {getattr(config, field)}.")


def check_source(config: object) -> None:
    """Raise a UserError if own data is asked for and a dataset too."""
    if config.data is not None and config.dataset != "auto":
        raise UserError(
            f"--data {config.data} and --dataset {config.dataset} are two sources. Leave one out, or say --data None."
        )


def check_seed(config: object) -> None:
    """Raise a UserError if the field `seed` is none that every random generator takes."""
    if not 0 <= config.seed < 2**31:
        raise UserError(f"--seed is 0 or more and below {2**31}; got {config.seed}.")


def parse(presets: Mapping[str, ConfigType], description: str, args: list[str] | None = None) -> ConfigType:
    """Turn the command line into a Config.

    `--preset NAME` chooses the starting Config, every further flag overrides one of its fields.

    Args:
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
    return override(start, description, args)


def override(start: ConfigType, description: str, args: list[str]) -> ConfigType:
    """The Config `start` with the fields that `args` names replaced; see `parse`."""
    return tyro.cli(type(start), default=start, args=args, description=description)


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
    except BrokenPipeError:  # what reads the output, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
            raise
        sys.exit(_complain(f"{error}. Free some space, or allow this file to be read or written, then run again."))


def _complain(message: str) -> int:
    print(f"\nerror: {message}", file=sys.stderr)
    return 2
