"""Ask a trained run: make tagging-predict ARGS='"wake me at seven in new york"'."""

import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.text import Text

from apps.tagging import reading
from apps.tagging.config import Request
from apps.tagging.schemes import OUTSIDE, spans_of
from apps.tagging.words import Vocabulary, split_words
from shared import inference, runs
from shared.chain import Scores, marginals, viterbi
from shared.cli import UserError, standard_input
from shared.data import existing_path, new_file

VOCABULARY = "vocabulary.json"
SCORES = "transitions.zip"
BATCH = 64
AT_A_TIME = 1024  # sentences of a file, from one look at the progress bar to the next
COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")
WRITTEN = (".conll", ".jsonl")


class Predictor:
    """Tags sentences with a run's ONNX file: needs ONNX Runtime and NumPy, not TensorFlow.

        predictor = Predictor(Path("runs/tagging/2026-11-28_07-47-06"))
        predictor([["wake", "me", "at", "seven"]])
        [{"tokens": ["wake", "me", "at", "seven"], "tags": ["O", "O", "O", "B-timeRange"], "probabilities": [0.99, ...],
          "spans": [{"label": "timeRange", "first": 3, "last": 3, "text": "seven", "probability": 0.98}]}]

    The network gives the emissions; decoding, and the probabilities, are `shared.chain`'s.

    Args:
        folder: the run folder.
        threads: see `shared.inference.OnnxModel`.
    """

    def __init__(self, folder: Path, threads: int | None = None):
        self.folder = Path(folder)
        self.network = inference.OnnxModel(self.folder / inference.ONNX, threads)
        self.vocabulary = Vocabulary.load(self.folder / VOCABULARY)
        self.scores = Scores.load(self.folder / SCORES)

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        return runs.read_json(self.folder / "metrics.json")

    def __call__(self, sentences: list[list[str]]) -> list[dict[str, Any]]:
        """Tags and spans of each sentence, a list of tokens.

        Raises:
            UserError: for a sentence without tokens, one that is too long, and for a token that is empty or holds a tab or a
                line's end.
        """
        check(sentences)
        answers: list[dict] = [{}] * len(sentences)
        for rows in _batches(sentences):
            for row, answer in zip(rows, self._answer([sentences[row] for row in rows]), strict=True):
                answers[row] = answer
        return answers

    def emissions(self, sentences: list[list[str]]) -> np.ndarray:
        """`(n, time, tags)`, 0 behind the end of a sentence."""
        [found] = self.network(**self.vocabulary.encode(sentences)).values()
        return found

    def _answer(self, sentences: list[list[str]]) -> Iterator[dict[str, Any]]:
        emissions, lengths = self.emissions(sentences), np.array([len(tokens) for tokens in sentences])
        found = marginals(emissions, lengths, self.scores)
        probabilities = found.of_tags()
        for row, (tokens, numbers) in enumerate(zip(sentences, viterbi(emissions, lengths, self.scores), strict=True)):
            numbers = numbers[: len(tokens)]
            tags = [self.vocabulary.tags[number] for number in numbers]
            spans = [
                {
                    "label": span.type,
                    "first": span.first,
                    "last": span.last,
                    "text": " ".join(tokens[span.first : span.last + 1]),
                    "probability": found.of_span(row, span.first, numbers[span.first : span.last + 1]),
                }
                for span in spans_of(tags)
            ]
            of_tags = probabilities[row, np.arange(len(tokens)), numbers].tolist()
            yield {"tokens": tokens, "tags": tags, "probabilities": of_tags, "spans": spans}


def _batches(sentences: list[list[str]]) -> list[np.ndarray]:
    """Rows of sentences that are about equally long."""
    order = np.argsort([len(tokens) for tokens in sentences], kind="stable")
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def check(sentences: list[list[str]]) -> None:
    """Raise a UserError for what cannot be tagged, see `Predictor`."""
    for number, tokens in enumerate(sentences, start=1):
        reading.check_length(len(tokens), f"Sentence {number}")
        if not tokens:
            raise UserError(f"Sentence {number} holds no token. Write something.")
        for token in tokens:
            if not token.strip() or any(mark in token for mark in "\t\n\r"):
                raise UserError(f"Sentence {number}: {token!r} is no token: it is empty or holds a tab or a line's end.")


def predict(request: Request) -> None:
    """Print sentences with their spans coloured; with `--file`, write a file of tags."""
    if request.file:
        _answer_file(request)
        return
    texts = _read(request)
    predictor = Predictor(inference.find("tagging", request.run))
    sentences = [split_words(text) for text in texts]
    explainer = load_explainer(predictor) if request.explain else None
    for answer in predictor(sentences):
        _show(answer)
        if explainer:
            for line in explainer.lines(answer):
                Console().print(f"   {line}", style="dim", markup=False)


def load_explainer(predictor: Predictor):
    """The run's `apps.tagging.explain.Explainer`; imports Keras.

    Raises:
        UserError: if it is not installed.
    """
    from shared.explaining import check_keras

    check_keras()
    from apps.tagging import explain

    return explain.load(predictor.folder, predictor.vocabulary)


def _show(answer: dict[str, Any]) -> None:
    console, text, end = Console(), Text(), 0
    types = sorted({span["label"] for span in answer["spans"]})
    for span in answer["spans"]:
        text.append(" ".join(answer["tokens"][end : span["first"]]) + " ")
        colour = COLOURS[types.index(span["label"]) % len(COLOURS)]
        text.append(span["text"], f"bold {colour}").append(f"[{span['label']} {span['probability']:.2f}] ", colour)
        end = span["last"] + 1
    if not answer["spans"] and set(answer["tags"]) - {OUTSIDE}:  # parts of speech, say: each word has a tag of its own
        for token, tag in zip(answer["tokens"], answer["tags"], strict=True):
            text.append(token, "bold").append(f"[{tag}] ", "cyan")
    else:
        text.append(" ".join(answer["tokens"][end:]))
    console.print(text)


def _read(request: Request) -> list[str]:
    if sys.stdin.isatty() and not request.texts:
        print("A sentence a line, then Ctrl-D:", file=sys.stderr)
    lines = request.texts or standard_input()
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise UserError("No sentence to tag. Give some as arguments, with --file, or on standard input.")
    return texts


def _answer_file(request: Request) -> None:
    source, output = existing_path("--file", request.file), new_file("--output", request.output)
    for flag, path, kinds in (("--file", source, reading.SUFFIXES), ("--output", output, WRITTEN)):
        if path.suffix.lower() not in kinds:
            raise UserError(f"{flag} {path}: the name ends in one of {', '.join(kinds)}.")
    texts, sentences = _sentences(source, request.token_column)
    if not sentences:
        raise UserError(f"--file {source} holds no sentence.")
    check(sentences)
    predictor, console = Predictor(inference.find("tagging", request.run)), Console(stderr=True)
    starts = range(0, len(sentences), AT_A_TIME)
    parts = track(starts, "Tagging", console=console, transient=True, disable=not console.is_terminal)
    answers = [answer for start in parts for answer in predictor(sentences[start : start + AT_A_TIME])]
    lines = _conll(answers) if output.suffix.lower() == ".conll" else _json_lines(answers, texts)
    beside = output.with_name(f"{output.name}.part")
    beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    beside.rename(output)
    print(f"{len(answers):,} sentences tagged by {predictor.folder}: {output}")


def _sentences(source: Path, token_column: int) -> tuple[list[str], list[list[str]]]:
    """The texts of a file, and their tokens. A .txt file holds a sentence on each line."""
    if source.suffix.lower() not in (".txt", ".jsonl"):
        sentences = reading.read_tokens(source, token_column)
        return [" ".join(tokens) for tokens in sentences], sentences
    texts = reading.read_texts(source)
    return texts, [split_words(text) for text in texts]


def _conll(answers: list[dict]) -> Iterator[str]:
    for answer in answers:
        yield from (f"{token}\t{tag}" for token, tag in zip(answer["tokens"], answer["tags"], strict=True))
        yield ""


def _json_lines(answers: list[dict], texts: list[str]) -> Iterator[str]:
    """Spans by the places of their characters, as `reading.py` takes them."""
    for answer, text in zip(answers, texts, strict=True):
        places, end = [], 0
        for token in answer["tokens"]:
            start = text.index(token, end)
            end = start + len(token)
            places.append((start, end))
        spans = [
            {
                "start": places[span["first"]][0],
                "end": places[span["last"]][1],
                "label": span["label"],
                "probability": span["probability"],
            }
            for span in answer["spans"]
        ]
        yield json.dumps({"text": text, "spans": spans}, ensure_ascii=False)
