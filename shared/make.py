"""Run a module with the arguments that were typed behind ARGS=, as the Makefile does: python -m shared.make apps.speech train

They are split at spaces and quotes as a shell does, and patterns of file names are replaced by the files. Nothing else is
expanded: "I paid $10" arrives as it is.
"""

import glob
import os
import shlex
import sys

from shared import cli
from shared.cli import UserError


def split(text: str) -> list[str]:
    """Split a line as it was typed into arguments.

    Raises:
        UserError: for a quote that is never closed.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(
            f'ARGS={text} ends inside quotes ({error}). Close the quote, or put the text between " and ".'
        ) from None
    return [argument for word in words for argument in _files(os.path.expanduser(word))]


def _files(word: str) -> list[str]:
    return sorted(glob.glob(word)) or [word] if glob.has_magic(word) else [word]


def main() -> None:
    """Replace this process by the module's."""
    arguments = [*sys.argv[1:], *split(os.environ.get("MAKE_ARGS", ""))]
    os.execv(sys.executable, [sys.executable, "-m", *arguments])


if __name__ == "__main__":
    cli.run(main)
