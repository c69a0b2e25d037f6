"""What `predict --explain` of every app has: that Keras is there, parts of a text in colours, a name for a picture."""

import importlib.util
import itertools
import sys
from pathlib import Path

from rich.text import Text

from shared.cli import UserError

Pieces = list[tuple[str, float]]  # parts of a text in order, and how much each adds
STRONGEST = 5


def check_keras() -> None:
    """Say that an explanation takes longer than an answer.

    Raises:
        UserError: if TensorFlow is not installed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError("--explain needs TensorFlow and Keras: .venv/bin/pip install -c constraints.txt -e '.[train]'")
    print("--explain loads Keras and the run's model.keras: some seconds.", file=sys.stderr)


def warn_if_incomplete(found) -> None:
    """Say so where the parts of a `shared.attribution.Attribution` do not add up to 1 %."""
    if not found.is_complete:
        print(f"WARNING: the parts are inexact: {found.residual:.2g} is missing from what they add up to.", file=sys.stderr)


def coloured(pieces: Pieces, between: str = "") -> Text:
    """Green what adds to the answer, red what takes away from it; the strongest are bold, the weakest as they are."""
    most = max((abs(part) for _, part in pieces), default=0.0) or 1.0
    text = Text()
    for piece, part in pieces:
        strength, colour = abs(part) / most, "green" if part > 0 else "red"
        text.append(piece + between, f"bold {colour}" if strength > 0.5 else colour if strength > 0.15 else "not bold")
    return text


def strongest(pieces: Pieces, places: bool = False) -> str:
    """The five pieces that matter most: 'ending.' +0.310, 'slow' -0.052; with `places`, 'e' (1 from the end) +0.310."""
    where = {number: f" ({len(pieces) - number} from the end)" * places for number in range(len(pieces))}
    ranked = sorted(enumerate(pieces), key=lambda numbered: -abs(numbered[1][1]))
    return ", ".join(f"{piece!r}{where[number]} {part:+.3f}" for number, (piece, part) in ranked[:STRONGEST])


def new_picture(name: str) -> Path:
    """`<name>.png` in the current folder or, where that exists, `<name>_2.png` and so on."""
    names = (Path(f"{name}.png" if number == 1 else f"{name}_{number}.png") for number in itertools.count(1))
    return next(file for file in names if not file.exists())
