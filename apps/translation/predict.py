"""Ask a trained run: make translation-predict ARGS='"station" --beam 5'."""

import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np

from apps.translation.config import Request
from apps.translation.tokens import END, PADDING, START, Vocabulary
from shared import inference, runs
from shared.beam import Hypothesis, check_beam, search
from shared.cli import UserError, standard_input

DECODER = "decoder.onnx"
LENGTH_PENALTY = 1.0  # of the beam search: hypotheses are compared by their mean log-probability per token
BATCH = 64
MAX_SOURCE = 1_000  # tokens; a recurrence forgets long before
END_SHOWN = "<end>"
SHOWN = ["text", "score", "probability"]  # of a hypothesis


class Predictor:
    """Translates with a run's ONNX files: needs ONNX Runtime and NumPy, not TensorFlow.

        predictor = Predictor(Path("runs/translation/2026-11-28_07-47-06"))
        predictor(["station"], beam=2)
        [{"source": "station", "text": "S T EY SH AH N", "hypotheses": [
            {"text": "S T EY SH AH N", "score": -0.02, "probability": 0.87, "tokens": [8, 7, 20, 31, 4, 5]},
            {"text": "S T AE SH AH N", "score": -0.41, "probability": 0.06, "tokens": [8, 7, 17, 31, 4, 5]}]}]

    model.onnx reads the source once, decoder.onnx writes a token at each call; the beam search is `shared.beam`'s.

    Args:
        folder: the run folder.
        threads: see `shared.inference.OnnxModel`.
    """

    def __init__(self, folder: Path, threads: int | None = None):
        self.folder = Path(folder)
        self.network = inference.OnnxModel(self.folder / inference.ONNX, threads)
        self.decoder = inference.OnnxModel(self.folder / DECODER, threads)
        self.vocabulary = Vocabulary.load(self.folder)
        self.states = [name for name in self.decoder.inputs if name.startswith("states")]

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        return runs.read_json(self.folder / "metrics.json")

    def __call__(self, texts: list[str], beam: int = Request.beam) -> list[dict[str, Any]]:
        """The best translations of each text, as many as the beam is wide, the best first.

        Raises:
            UserError: for a text that is empty or too long, and for a beam that is wider than the vocabulary.
        """
        check_beam(beam, len(self.vocabulary.target))
        self.check(texts)
        answers: list[dict] = [{}] * len(texts)
        for rows in _batches(texts):
            for row, found in zip(rows, self.search([texts[row] for row in rows], beam), strict=True):
                answers[row] = {
                    "source": texts[row],
                    "text": self.vocabulary.target.decode(found[0].tokens),
                    "hypotheses": [self._described(one) for one in found],
                }
        return answers

    def search(self, texts: list[str], beam: int) -> list[list[Hypothesis]]:
        """The n best of each text, as ids."""
        ids = self.vocabulary.encode_sources(texts)
        constants, states = self.encode(ids, beam)
        limits = self.vocabulary.limits((ids > PADDING).sum(axis=1))
        options = {"start": START, "end": END, "max_length": limits, "length_penalty": LENGTH_PENALTY}
        return search(lambda tokens, states: self.step(tokens, states, constants)[:2], states, len(texts), beam=beam, **options)

    def encode(self, source: np.ndarray, copies: int = 1) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """What stays the same at every step of a source, ids `(n, time)`, padded, and its first states; each `copies` times."""
        found = {"source": source, **self.network(source=source)}
        found = {name: np.repeat(one, copies, axis=0) for name, one in found.items()}
        constants = {name: found[name] for name in self.decoder.inputs if name in ("source", "memory")}
        return constants, [found[name] for name in self.states]

    def step(self, tokens: np.ndarray, states: list[np.ndarray], constants: dict[str, np.ndarray]):
        """Read tokens `(n,)`: log-probabilities of the next ones `(n, vocabulary)`, new states, attention `(n, source_time)`.

        Without attention the last one is None.
        """
        given = dict(zip(self.states, states, strict=True))
        found = self.decoder(tokens=tokens[:, None].astype(np.int32), **given, **constants)
        return found["log_probabilities"], [found[f"new_{name}"] for name in self.states], found.get("attention")

    def attend(self, text: str, target: list[int]) -> tuple[np.ndarray, list[str], list[str]]:
        """Where the decoder looks while it writes the ids `target`, see `apps.translation.answers.attend`.

        Raises:
            UserError: if the run has no attention.
        """
        if "memory" not in self.decoder.inputs:
            raise UserError(f"{self.folder} was trained with --attention none: there is nothing to draw.")
        weights = []
        constants, states = self.encode(self.vocabulary.encode_sources([text]))
        for token in (START, *target):
            _, states, looked = self.step(np.array([token]), states, constants)
            weights.append(looked[0])
        source = self.vocabulary.source.pieces(self.vocabulary.source.encode(text))
        return np.stack(weights), source, [*self.vocabulary.target.pieces(target), END_SHOWN]

    def check(self, texts: list[str]) -> None:
        """Raise a UserError for what cannot be translated."""
        for text in texts:
            tokens = len(self.vocabulary.source.encode(text))
            if not tokens:
                raise UserError(f"The text {text[:40]!r} is empty. Write something.")
            if tokens > MAX_SOURCE:
                raise UserError(
                    f"The text {text[:40]!r} ... has {tokens:,} tokens; {MAX_SOURCE:,} are the most. Cut it into sentences."
                )

    def _described(self, found: Hypothesis) -> dict[str, Any]:
        text = self.vocabulary.target.decode(found.tokens)
        probability = float(np.exp(found.log_probability))
        return {"text": text, "score": found.score, "probability": probability, "tokens": found.tokens.tolist()}


def _batches(texts: list[str]) -> list[np.ndarray]:
    """Rows of texts that are about equally long."""
    order = np.argsort([*map(len, texts)], kind="stable")
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def predict(request: Request) -> None:
    """Print translations, with `--best` several of each; with `--file`, write a table."""
    if request.table.file:
        _answer_file(request)
        return
    texts = _read(request)
    predictor = Predictor(inference.find("translation", request.run))
    explainer = load_explainer(predictor) if request.explain else None
    for answer in predictor(texts, request.beam):
        _show(answer, request, predictor)
        if request.attention:
            _draw(answer, predictor)
        for line in explainer.lines(answer) if explainer else ():
            print(f"   {line}")


def load_explainer(predictor: Predictor):
    """The run's `apps.translation.explain.Explainer`; imports Keras.

    Raises:
        UserError: if it is not installed.
    """
    from shared.explaining import check_keras

    check_keras()
    from apps.translation import explain

    return explain.load(predictor.folder, predictor.vocabulary)


def _show(answer: dict[str, Any], request: Request, predictor: Predictor) -> None:
    if unknown := predictor.vocabulary.source.unknown(answer["source"]):
        print(f"warning: training did not hold {', '.join(map(repr, unknown[:10]))}", file=sys.stderr)
    if request.best == 1:
        print(answer["text"])
        return
    import pandas as pd  # takes longer to import than a text takes to answer

    from shared.report import print_table

    best = pd.DataFrame(answer["hypotheses"][: request.best], columns=SHOWN).set_index("text")
    print_table(best, answer["source"], "text")


def _draw(answer: dict[str, Any], predictor: Predictor) -> None:
    from apps.translation import heatmap
    from shared.explaining import new_picture

    file = new_picture("attention")
    heatmap.save(file, *predictor.attend(answer["source"], answer["hypotheses"][0]["tokens"]), "Where the decoder looked")
    print(f"Drawn: {file}", file=sys.stderr)


def _read(request: Request) -> list[str]:
    if sys.stdin.isatty() and not request.texts:
        print("A text a line, then Ctrl-D:", file=sys.stderr)
    texts = [line.strip() for line in request.texts or standard_input() if line.strip()]
    if not texts:
        raise UserError("No text to translate. Give some as arguments, with --file, or on standard input.")
    return texts


def _answer_file(request: Request) -> None:
    import pandas as pd

    from shared import large_tables

    predictor = Predictor(inference.find("translation", request.run))
    check_beam(request.beam, len(predictor.vocabulary.target))

    def read(text: str) -> str:
        predictor.check([text])
        return text

    def answer(texts: list[str]) -> pd.DataFrame:
        found = [row["hypotheses"][0] for row in predictor(texts, request.beam)] if texts else []
        return pd.DataFrame(found, columns=SHOWN).rename(columns={"text": "target"})

    count = large_tables.answer_file(
        request.table, request.text_column, lambda texts: large_tables.answer_readable(texts, read, answer)
    )
    print(f"{count:,} texts translated by {predictor.folder}: {request.table.output}")
