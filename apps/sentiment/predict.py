"""Ask a trained run: python -m apps.sentiment.predict "A slow start, but what an ending." (or: make sentiment-predict)."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from shared import cli, runs
from shared.cli import UserError

MAX_PIECES = 64  # a longer text is explained by phrases, not words


@dataclass(frozen=True)
class Request:
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Reviews. Without any, and without --file, they are read from standard input, one a line."""
    file: str | None = None
    """A text file with a review a line; the answers go to --output."""
    output: str = "predictions.csv"
    """CSV file to write with --file; must not exist."""
    run: str | None = None
    """Run folder to ask; None: the newest finished run."""


def predict(request: Request) -> None:
    """Print label, probability and the words that pushed; with `--file`, write a CSV file."""
    folder = runs.find("sentiment", request.run)
    metrics = runs.read_json(folder / "metrics.json")
    texts = _read(request)
    if request.file and Path(request.output).exists():
        raise UserError(f"--output {request.output} exists already; nothing was overwritten. Name another file.")
    if request.file and not Path(request.output).parent.is_dir():
        raise UserError(f"--output {request.output}: the folder {Path(request.output).parent} does not exist. Make it first.")
    print(f"Loading {folder}, trained on {metrics['dataset']} (preset {metrics['preset']}).", file=sys.stderr)

    import keras
    import pandas as pd

    from apps.sentiment import text  # noqa: F401  registers `standardize`, which the saved model names

    model = keras.models.load_model(folder / "model.keras", compile=False)
    names = metrics["class_names"]
    probabilities = probabilities_of(model, texts)
    if request.file:
        table = pd.DataFrame(probabilities, columns=[f"probability_{name}" for name in names])
        table.insert(0, "label", [names[row.argmax()] for row in probabilities])
        table.insert(0, "text", texts)
        table.to_csv(request.output, index=False)
        print(f"{len(texts)} reviews labelled by {folder}: {request.output}")
        return
    print(
        "Green words push towards the label, red ones away from it: each is left out by itself, so that a word says",
        file=sys.stderr,
    )
    print("nothing where others say the same.", file=sys.stderr)
    if len(texts) > 1 and request.texts and all(" " not in one for one in texts):
        print(
            f"WARNING: {len(texts)} reviews of one word each; a review of several words stands between quotes.", file=sys.stderr
        )
    for one, row in zip(texts, probabilities, strict=True):
        _show(one, names[row.argmax()], row.max(), pushes(model, one, int(row.argmax())))


def probabilities_of(model, texts: list[str], batch_size: int = 64):
    """Probabilities `(n, classes)` of raw texts."""
    import numpy as np

    from apps.sentiment.text import in_chunks

    rows, chunks = zip(*in_chunks(texts, batch_size), strict=True)
    found = np.concatenate([np.asarray(model(np.array(chunk, dtype=object))) for chunk in chunks])
    return found[np.argsort(np.concatenate(rows))]


def pushes(model, one: str, label: int) -> list[tuple[str, float]]:
    """Which words pushed which way: by how much the label's probability falls when they are left out (occlusion).

    Returns:
        Pieces of the text in order, a word each or, in long texts, a phrase; and their push, from -1 to 1.
    """
    words = one.split()
    size = -(-len(words) // MAX_PIECES)
    pieces = [" ".join(words[start : start + size]) for start in range(0, len(words), size)]
    without = [" ".join(pieces[:n] + pieces[n + 1 :]) for n in range(len(pieces))]
    probability, *left = probabilities_of(model, [one, *without])[:, label]
    return [(piece, float(probability - other)) for piece, other in zip(pieces, left, strict=True)]


def _show(one: str, label: str, probability: float, pieces: list[tuple[str, float]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    strongest = max((abs(push) for _, push in pieces), default=0.0) or 1.0
    line = Text(f"{label} {probability:.3f}  ", style="bold")
    for piece, push in pieces:
        strength = abs(push) / strongest
        colour = "green" if push > 0 else "red"
        style = f"bold {colour}" if strength > 0.5 else colour if strength > 0.15 else "not bold"
        line.append(piece + " ", style=style)
    console.print(line)
    ranked = sorted(pieces, key=lambda pair: -abs(pair[1]))[:5]
    console.print("   " + ", ".join(f"{piece!r} {push:+.3f}" for piece, push in ranked), style="dim", markup=False)


def _read(request: Request) -> list[str]:
    if request.file and request.texts:
        raise UserError(f"Give reviews as arguments or with --file, not both; got {len(request.texts)} beside {request.file}.")
    if request.file:
        lines = _read_lines(Path(request.file).read_bytes, f"--file {request.file}")
    elif request.texts:
        lines = list(request.texts)
    else:
        if sys.stdin.isatty():
            print("A review a line, then Ctrl-D:", file=sys.stderr)
        lines = _read_lines(sys.stdin.buffer.read, "Standard input")
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise UserError("No text to judge. Give reviews as arguments, with --file, or on standard input.")
    return texts


def _read_lines(read, name: str) -> list[str]:
    try:
        return read().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 (byte {error.start}). Convert it first: iconv -f latin1 -t utf-8") from None
    except OSError as error:
        raise UserError(f"{name} can't be read: {error.strerror}.") from None


def main() -> None:
    predict(tyro.cli(Request, description=__doc__))


if __name__ == "__main__":
    cli.run(main)
