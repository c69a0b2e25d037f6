"""Write text with a trained run: make textgen-predict ARGS='--prompt "ROMEO:"'."""

import functools
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from apps.textgen.characters import UNKNOWN, decode
from apps.textgen.config import Request
from apps.textgen.sampling import CHUNK, Sampling, choose, probabilities_of
from shared import inference, runs
from shared.cli import UserError
from shared.explaining import check_keras
from shared.settings import TableRequest, read_shard

VOCABULARY = "characters.json"
BATCH = 64  # prompts of a table that are written on after side by side
WINDOW = 1_000  # characters of a prompt that are read at a time
COLOURS = {"likely": "green", "possible": "yellow", "unlikely": "bold red"}  # of characters, in a terminal
SAMPLING = Sampling(Request.temperature, Request.top_k, Request.top_p)


class Predictor:
    """Goes on with texts by a run's ONNX file: needs ONNX Runtime and NumPy, not TensorFlow.

        predictor = Predictor(Path("runs/textgen/2026-11-28_07-47-06"))
        predictor(["ROMEO:"], length=5)
        [{"text": "\\nWhat", "probabilities": [0.99, 0.12, 0.64, 0.71, 0.93]}]

    Args:
        folder: the run folder.
        threads: see `shared.inference.OnnxModel`.
    """

    def __init__(self, folder: Path, threads: int | None = None):
        self.folder = Path(folder)
        self.network = inference.OnnxModel(self.folder / inference.ONNX, threads)
        self.vocabulary = runs.read_json(self.folder / VOCABULARY)
        self.ids = {character: number for number, character in enumerate(self.vocabulary, start=UNKNOWN + 1)}
        self.states = {name: f"new_{name}" for name in self.network.inputs if name != "ids"}  # after a step

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        return runs.read_json(self.folder / "metrics.json")

    def __call__(
        self,
        prompts: list[str],
        sampling: Sampling = SAMPLING,
        length: int = Request.length,
        seed: int | Sequence[tuple[int, int]] = Request.seed,
        stop: str | None = Request.stop,
    ) -> list[dict[str, Any]]:
        """What follows each prompt, up to `stop`, and the probability that the network gave each character; see `stream`."""
        texts = [Text(stop) for _ in prompts]
        for pieces, probabilities in self.stream(prompts, sampling, length, seed):
            for text, piece, row in zip(texts, pieces, probabilities.tolist(), strict=True):
                text.add(piece, row)
            if all(text.stopped for text in texts):
                break
        return [{"text": text.text, "probabilities": text.probabilities[: len(text.text)]} for text in texts]

    def stream(
        self,
        prompts: list[str],
        sampling: Sampling = SAMPLING,
        length: int = Request.length,
        seed: int | Sequence[tuple[int, int]] = Request.seed,
    ) -> Iterator[tuple[list[str], np.ndarray]]:
        """Write on after each prompt, side by side.

        Args:
            prompts: one or more. A character that is not in the vocabulary is read as the unknown one.
            sampling: how the next character is chosen.
            length: characters to write for each.
            seed: the same seed gives the same texts; equal prompts get different ones. Or the seed of each prompt and its place
                among those of one question, where the prompts of several are written on after side by side.

        Yields:
            The next characters of each, at most 32, and the probabilities that the network gave them (before temperature,
            top-k and top-p), `(prompts, characters)`, until all is made.

        Raises:
            UserError: for an empty prompt.
        """
        if "" in prompts:
            raise UserError("A prompt is empty; give one character or more.")
        read = {prompt: self.read(self.encode([prompt])) for prompt in set(prompts)}
        logits = np.concatenate([read[prompt][0] for prompt in prompts])
        states = {name: np.concatenate([read[prompt][1][name] for prompt in prompts]) for name in self.states}
        places = [(seed, place) for place in range(len(prompts))] if isinstance(seed, int) else seed
        generators = [np.random.default_rng(place) for place in places]
        for first in range(0, length, CHUNK):
            steps = []
            for uniform in np.stack([generator.random(CHUNK) for generator in generators], axis=1)[: length - first]:
                ids = choose(logits, sampling, uniform)
                steps.append((ids, logits))
                logits, states = self.read(ids[:, None], states)
            ids, logits_before = (np.stack(arrays, axis=1) for arrays in zip(*steps, strict=True))
            yield [decode(row, self.vocabulary) for row in ids], probabilities_of(ids, logits_before)

    def encode(self, texts: list[str]) -> np.ndarray:
        """Ids `(n, time)` of texts of one length."""
        return np.array([[self.ids.get(character, UNKNOWN) for character in text] for text in texts], np.int32)

    def read(self, ids: np.ndarray, states: dict[str, np.ndarray] | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Read ids `(n, time)`, one or more of each text, on from `states`; None: from the start of the texts.

        Returns:
            Logits of the character after them, `(n, num_ids)`, and the states after them, `(n, units)` each.
        """
        if states is None:
            states = {name: np.zeros((len(ids), self.network.inputs[name].shape[1]), np.float32) for name in self.states}
        for start in range(0, ids.shape[1], WINDOW):
            found = self.network(ids=ids[:, start : start + WINDOW], **states)
            states = {name: found[after] for name, after in self.states.items()}
        return found["logits"][:, -1], states


def predict(request: Request) -> None:
    """Print the prompt and what follows, as it is made; with `--file`, write a table."""
    predictor = Predictor(inference.find("textgen", request.run))
    if request.table.file:
        _answer_file(request, predictor)
        return
    prompt = known(request, predictor.vocabulary)
    if request.explain:
        check_keras()
        from apps.textgen import explain

        explain.show(predictor, prompt)
        return
    sampling = Sampling(request.temperature, request.top_k, request.top_p)

    texts = [Text(request.stop, request.show_probabilities) for _ in range(request.samples)]
    streamed = request.samples == 1  # several texts are shown one after the other
    if streamed:
        print(prompt, end="", flush=True)
    for pieces, probabilities in predictor.stream([prompt] * request.samples, sampling, request.length, request.seed):
        for text, piece, row in zip(texts, pieces, probabilities.tolist(), strict=True):
            text.add(piece, row)
        if streamed:
            texts[0].show()
        if all(text.stopped for text in texts):
            break
    for number, text in enumerate(texts, start=1):
        if not streamed:
            print(f"--- {number} ---\n{prompt}", end="")
        text.show(whole=True)
        print()


def _answer_file(request: Request, predictor: Predictor) -> None:
    import pandas as pd  # takes longer to import than a text of a few lines takes to write

    from shared import large_tables

    sampling = Sampling(request.temperature, request.top_k, request.top_p)
    number, shards = read_shard(request.table.shard)
    numbers = itertools.count(number, shards)  # a row's place in the table: its text is the same in any shard

    def read(prompt: str) -> tuple[str, tuple[int, int]]:
        seed = request.seed, next(numbers)
        return known(replace(request, prompt=prompt, table=TableRequest()), predictor.vocabulary), seed

    def answer(examples: list[tuple[str, tuple[int, int]]]) -> pd.DataFrame:
        prompts, seeds = zip(*examples, strict=True) if examples else ([], [])
        answers = predictor(prompts, sampling, request.length, seeds, request.stop) if prompts else []
        return pd.DataFrame({"continuation": pd.array([one["text"] for one in answers], dtype="string")})

    count = large_tables.answer_file(
        request.table, request.prompt_column, lambda prompts: large_tables.answer_readable(prompts, read, answer), BATCH
    )
    print(f"{count:,} texts written by {predictor.folder}: {request.table.output}")


class Text:
    """One text while it is made, up to `stop`, and how much of it has been handed out."""

    def __init__(self, stop: str | None = None, coloured: bool = False):
        self.stop, self.coloured = stop, coloured
        self.text, self.probabilities, self.shown, self.stopped = "", [], 0, False

    def add(self, text: str, probabilities: list[float]) -> None:
        if self.stopped:
            return
        self.text += text
        self.probabilities.extend(probabilities)
        if self.stop and self.stop in self.text:
            self.text = self.text[: self.text.index(self.stop)]
            self.stopped = True

    def take(self, whole: bool = False) -> tuple[str, list[float]]:
        """What is new, and its probabilities, but for an end that may be the beginning of `stop`."""
        held_back = len(self.stop) - 1 if self.stop and not self.stopped and not whole else 0
        start, self.shown = self.shown, max(self.shown, len(self.text) - held_back)
        return self.text[start : self.shown], self.probabilities[start : self.shown]

    def show(self, whole: bool = False) -> None:
        """Print what `take` gives."""
        text, probabilities = self.take(whole)
        if self.coloured:
            _print_coloured(text, probabilities)
        else:
            print(text, end="", flush=True)


def _print_coloured(text: str, probabilities: list[float]) -> None:
    colours = ColorSystem.STANDARD if Console().is_terminal else None
    for character, probability in zip(text, probabilities, strict=True):
        style = Style.parse(COLOURS[how_likely(probability)])
        print(style.render(character, color_system=colours), end="")  # as it is: rich's own print would expand tabs
    sys.stdout.flush()


def how_likely(probability: float) -> str:
    """What a probability is called where a character is coloured by it."""
    return "likely" if probability > 0.5 else "possible" if probability > 0.1 else "unlikely"


def known(request: Request, vocabulary: list[str]) -> str:
    """The prompt, without what the network has never seen if that is to be skipped.

    Raises:
        UserError: if nothing of it is left, or if it has such characters and they are not to be skipped.
    """
    if request.prompt is None:
        return "\n" if "\n" in vocabulary else vocabulary[0]
    unknown = sorted(set(request.prompt) - set(vocabulary))
    if unknown and request.on_unknown == "error":
        raise UserError(
            f"--prompt has characters that the network has never seen: {' '.join(map(repr, unknown))}. "
            "Leave them out by hand or with --on-unknown skip."
        )
    prompt = "".join(character for character in request.prompt if character in vocabulary)
    if not prompt:
        raise UserError("--prompt has no character that the network knows; give one or more.")
    return prompt
