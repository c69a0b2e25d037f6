"""A run's model for other programs: make tagging-export."""

from pathlib import Path

import keras
import numpy as np

from apps.tagging import data
from apps.tagging.config import Config
from apps.tagging.predict import SCORES, VOCABULARY, Predictor
from apps.tagging.validation import scores_of
from apps.tagging.words import Vocabulary
from shared import export, runs
from shared.chain import viterbi
from shared.data import Splits
from shared.inference import ONNX
from shared.onnx_export import write_onnx
from shared.settings import ExportRequest


def export_run(request: ExportRequest) -> None:
    """Write a run's model in every format, each compared with the Keras model on validation sentences."""
    folder = runs.find("tagging", request.run)
    vocabulary = Vocabulary.load(folder / VOCABULARY)  # the run's own: today's data may hold other words
    export.export_run("tagging", str(folder), Config, data.load, lambda _, *rest: exportable(vocabulary, *rest))


def exportable(vocabulary: Vocabulary, servable: keras.Model, sentences: Splits) -> export.Exportable:
    """What `shared.export` needs to know; its examples are validation sentences. The answers compared are emissions."""
    tokens, tags = (part[: export.EXAMPLES] for part in sentences.validation[:2])
    lengths = np.array([len(one) for one in tokens])
    scores, shown = scores_of(servable), np.arange(lengths.max()) < lengths[:, None]
    numbers = {tag: number for number, tag in enumerate(vocabulary.tags)}
    expected = np.zeros(shown.shape, int)
    expected[shown] = [numbers.get(tag, -1) for one in tags for tag in one]

    def to_length(ids: np.ndarray) -> np.ndarray:
        return np.pad(ids, [(0, 0), (0, lengths.max() - ids.shape[1]), *[(0, 0)] * (ids.ndim - 2)])

    def decoded(emissions: np.ndarray) -> np.ndarray:
        return viterbi(emissions, lengths, scores)

    def ask_onnx(folder: Path, threads: int) -> export.Answer:
        predictor = Predictor(folder, threads)
        return lambda examples: to_length(predictor.emissions(examples))

    return export.Exportable(
        servable=servable,
        examples=tokens,
        to_input=lambda examples: keras.tree.map_structure(to_length, vocabulary.encode(examples)),
        metric="token_accuracy",
        score=lambda emissions: float(np.mean((decoded(emissions) == expected)[shown])),
        same=lambda one, other: (decoded(one) == decoded(other)).all(axis=1),
        write=lambda folder: write(servable, vocabulary, folder),
        ask_onnx={ONNX: ask_onnx},
    )


def write(servable: keras.Model, vocabulary: Vocabulary, folder: Path) -> None:
    """Write what `Predictor` reads: model.onnx, from ids to emissions, the vocabulary, and the scores of pairs of tags."""
    write_onnx(servable, folder / ONNX)
    vocabulary.save(folder / VOCABULARY)
    scores_of(servable).save(folder / SCORES)
