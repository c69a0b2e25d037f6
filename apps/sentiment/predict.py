"""Ask a trained run: make sentiment-predict ARGS='"A slow start, but what an ending."'."""

import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from apps.sentiment.config import Request
from apps.sentiment.words import Vocabulary, in_chunks
from shared import inference, runs
from shared.cli import UserError, standard_input
from shared.explaining import Pieces, check_keras, coloured, strongest, warn_if_incomplete

HOW_TO_READ = """Green words push towards the label, red ones away from it.
Each word is left out by itself, so words that repeat each other show no effect."""
HOW_TO_READ_EXPLAINED = """The words as the network reads them: green ones push towards the label, red ones away from it.
What all of them add is what the text changes. As a check, each word is left out by itself: repeated ones show no effect."""
MAX_PIECES = 64  # a longer text is explained by phrases, not words
BATCH = 64
VOCABULARY = "vocabulary.zip"


class Predictor:
    """Labels texts with a run's ONNX file: needs ONNX Runtime and NumPy, not TensorFlow.

        predictor = Predictor(Path("runs/sentiment/2026-11-28_07-47-06"))
        predictor(["A slow start, but what an ending."])
        [{"label": "positive", "probability": 0.93, "probabilities": {"negative": 0.07, "positive": 0.93}}]

    Args:
        folder: the run folder.
        threads: see `shared.inference.OnnxModel`.
    """

    def __init__(self, folder: Path, threads: int | None = None):
        self.folder = Path(folder)
        self.network = inference.OnnxModel(self.folder / inference.ONNX, threads)
        self.vocabulary = Vocabulary.load(self.folder / VOCABULARY)

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        return runs.read_json(self.folder / "metrics.json")

    def __call__(self, texts: list[str]) -> list[dict[str, Any]]:
        """An answer for each text. With `--positive`, the label is that class from its threshold on."""
        names, probabilities = self.metrics["class_names"], self.probabilities(texts)
        labels = [names[number] for number in choose(probabilities, names, self.metrics.get("positive"))]
        by_name = [dict(zip(names, row.tolist(), strict=True)) for row in probabilities]
        return [
            {"label": label, "probability": row[label], "probabilities": row}
            for label, row in zip(labels, by_name, strict=True)
        ]

    def probabilities(self, texts: list[str]) -> np.ndarray:
        """`(n, classes)`."""
        rows, chunks = zip(*in_chunks(texts, BATCH), strict=True)
        found = [self.network(**self.vocabulary.encode(chunk))["probabilities"] for chunk in chunks]
        return np.concatenate(found)[np.argsort(np.concatenate(rows))]


def predict(request: Request) -> None:
    """Print label, probability and the words that pushed; with `--file`, write a table."""
    if request.table.file:
        _answer_file(request)
        return
    texts = _read(request)
    predictor = Predictor(inference.find("sentiment", request.run))
    if len(texts) > 1 and request.texts and all(" " not in one for one in texts):
        print(f"WARNING: {len(texts)} reviews of one word each; put a review of several words in quotes.", file=sys.stderr)
    explainer = load_explainer(predictor) if request.explain else None
    print(HOW_TO_READ_EXPLAINED if explainer else HOW_TO_READ, file=sys.stderr)
    for one, answer in zip(texts, predictor(texts), strict=True):
        number = [*answer["probabilities"]].index(answer["label"])
        left_out = pushes(predictor, one, number)
        if explainer is None:
            _show(answer, left_out, strongest(left_out))
            continue
        words, found = explainer(one, number)
        from_nothing = f"{found.before:.3f} without words: {strongest(words)}"
        _show(answer, words, from_nothing, f"left out: {strongest(left_out)}")
        warn_if_incomplete(found)


def load_explainer(predictor: Predictor):
    """The run's `apps.sentiment.explain.Explainer`; imports Keras.

    Raises:
        UserError: if it is not installed.
    """
    check_keras()
    from apps.sentiment import explain

    return explain.load(predictor.folder, predictor.vocabulary)


def _answer_file(request: Request) -> None:
    import pandas as pd  # takes longer to import than a review takes to answer

    from shared import large_tables

    predictor = Predictor(inference.find("sentiment", request.run))
    names = predictor.metrics["class_names"]

    def read(text: str) -> str:
        if not text.strip():
            raise UserError("No text to judge.")
        return text

    def answer(texts: list[str]) -> pd.DataFrame:
        return large_tables.labels(predictor(texts) if texts else [], names)

    count = large_tables.answer_file(
        request.table, request.text_column, lambda texts: large_tables.answer_readable(texts, read, answer)
    )
    print(f"{count:,} reviews labelled by {predictor.folder}: {request.table.output}")


def choose(probabilities: np.ndarray, names: list[str], positive: dict | None) -> np.ndarray:
    """The class of each row `(n,)`: the likeliest, or, with `--positive`, that one from its threshold on."""
    chosen = probabilities.argmax(axis=1)
    if positive is None:
        return chosen
    number = names.index(positive["class"])
    others = np.where(np.arange(len(names)) == number, -1, probabilities).argmax(axis=1)
    return np.where(probabilities[:, number] >= positive["threshold"], number, others)


def pushes(predictor: Predictor, one: str, label: int) -> Pieces:
    """Which words pushed which way: by how much the label's probability falls when they are left out (occlusion).

    Returns:
        Pieces of the text in order, a word each or, in long texts, a phrase; and their push, from -1 to 1.
    """
    words = one.split()
    size = -(-len(words) // MAX_PIECES)
    pieces = [" ".join(words[start : start + size]) for start in range(0, len(words), size)]
    without = [" ".join(pieces[:n] + pieces[n + 1 :]) for n in range(len(pieces))]
    probability, *left = predictor.probabilities([one, *without])[:, label]
    return [(piece, float(probability - other)) for piece, other in zip(pieces, left, strict=True)]


def _show(answer: dict[str, Any], pieces: Pieces, *remarks: str) -> None:
    console = Console()
    console.print(Text(f"{answer['label']} {answer['probability']:.3f}  ", "bold") + coloured(pieces, between=" "))
    for remark in remarks:
        console.print(f"   {remark}", style="dim", markup=False)


def _read(request: Request) -> list[str]:
    if request.texts:
        lines = list(request.texts)
    else:
        if sys.stdin.isatty():
            print("A review a line, then Ctrl-D:", file=sys.stderr)
        lines = standard_input()
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise UserError("No text to judge. Give reviews as arguments, with --file, or on standard input.")
    return texts
