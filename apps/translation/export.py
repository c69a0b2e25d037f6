"""A run's model for other programs: make translation-export."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from apps.translation import data, text
from apps.translation.config import Config
from apps.translation.model import PADDED, split
from apps.translation.predict import DECODER, Predictor
from apps.translation.tokens import END, Vocabulary
from shared import export, runs
from shared.data import Splits
from shared.inference import ONNX
from shared.onnx_export import write_onnx
from shared.settings import ExportRequest

MAX_WRITTEN = 40  # tokens of an example's target that are compared


def export_run(request: ExportRequest) -> None:
    """Write a run's model in every format, each compared with the Keras model on validation pairs."""
    folder = runs.find("translation", request.run)
    vocabulary = Vocabulary.load(folder)  # the run's own: today's data may hold other tokens
    export.export_run(
        "translation", str(folder), Config, data.load, lambda config, *rest: exportable(config, vocabulary, *rest)
    )


def exportable(config: Config, vocabulary: Vocabulary, network: keras.Model, pairs: Splits) -> export.Exportable:
    """What `shared.export` needs to know; its examples are rows of validation pairs.

    The answers compared are log-probabilities of every token behind every beginning of the right target.
    """
    some = data.Pairs(*(part[: export.EXAMPLES] for part in pairs.validation))
    features, targets = text.vectorise(vocabulary, some)
    inputs = {name: rows.to_tensor().numpy() for name, rows in features.items()}
    inputs["target"], expected = inputs["target"][:, :MAX_WRITTEN], targets.to_tensor(PADDED).numpy()[:, :MAX_WRITTEN]

    def to_input(rows: list[int]) -> dict[str, np.ndarray]:
        return {name: ids[rows] for name, ids in inputs.items()}

    def ask_onnx(folder: Path, threads: int) -> export.Answer:
        predictor = Predictor(folder, threads)

        def one_token_after_the_other(rows: list[int]) -> np.ndarray:
            given, found = to_input(rows), []
            constants, states = predictor.encode(given["source"])
            for tokens in given["target"].T:
                log_probabilities, states, _ = predictor.step(tokens, states, constants)
                found.append(log_probabilities[:, END:])
            return np.stack(found, axis=1)

        return one_token_after_the_other

    def token_accuracy(log_probabilities: np.ndarray) -> float:
        return float(np.mean((log_probabilities.argmax(axis=-1) + END == expected)[expected > PADDED]))

    return export.Exportable(
        servable=servable_of(network),
        examples=[*range(len(some.sources))],
        to_input=to_input,
        metric="token_accuracy",
        score=token_accuracy,
        same=lambda one, other: (one.argmax(axis=-1) == other.argmax(axis=-1)).all(axis=1),
        write=lambda folder: write(config, network, vocabulary, folder),
        ask_onnx={ONNX: ask_onnx},
    )


def servable_of(network: keras.Model) -> keras.Model:
    """From a source and a target to the log-probability of each token, from `END` on, behind each beginning of the target."""
    inputs = {name: keras.Input(one.shape[1:], dtype=one.dtype, name=name) for name, one in network.input.items()}
    return keras.Model(inputs, ops.log_softmax(network(inputs), axis=-1)[..., END:], name="servable")


def write(config: Config, network: keras.Model, vocabulary: Vocabulary, folder: Path) -> None:
    """Write what `Predictor` reads: model.onnx, the encoder; decoder.onnx, which writes a token; the vocabulary."""
    encoder, decoder = split(config, network)
    write_onnx(encoder, folder / ONNX)
    write_onnx(decoder, folder / DECODER)
    vocabulary.save(folder)
