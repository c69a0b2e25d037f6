"""A run's model for other programs: make sentiment-export."""

from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from apps.sentiment import data, text  # noqa: F401  text registers `standardize`, which the saved model names
from apps.sentiment.config import Config
from apps.sentiment.predict import VOCABULARY, Predictor
from apps.sentiment.words import Vocabulary, normalize
from shared import export
from shared.data import Splits
from shared.inference import ONNX
from shared.onnx_export import write_onnx
from shared.settings import ExportRequest


def export_run(request: ExportRequest) -> None:
    """Write a run's model in every format, each compared with the Keras model on validation reviews."""
    export.export_run("sentiment", request.run, Config, data.load, exportable)


def exportable(config: Config, servable: keras.Model, reviews: Splits) -> export.Exportable:
    """What `shared.export` needs to know; its examples are validation reviews."""
    texts, labels = (part[: export.EXAMPLES] for part in (reviews.validation.texts, reviews.validation.labels))
    return export.Exportable(
        servable=servable,
        examples=texts,
        to_input=lambda examples: np.array(normalize(examples), dtype=object),
        metric="accuracy",
        score=lambda probabilities: float(np.mean(probabilities.argmax(axis=1) == labels)),
        same=lambda one, other: one.argmax(axis=1) == other.argmax(axis=1),
        write=lambda folder: write(config, servable, folder),
        ask_onnx={ONNX: lambda folder, threads: Predictor(folder, threads).probabilities},
        litert=lambda: for_litert(config, servable),
    )


def write(config: Config, servable: keras.Model, folder: Path) -> None:
    """Write what `Predictor` reads: model.onnx, from ids to probabilities, and the vocabulary, from texts to ids."""
    write_onnx(from_ids(servable), folder / ONNX)
    vocabulary_of(config, servable).save(folder / VOCABULARY)


def for_litert(config: Config, servable: keras.Model) -> export.LiteRt:
    """One review at a time, its sequence padded to the whole length; a bag may be of any size."""
    vocabulary, length = vocabulary_of(config, servable), config.sequence_length

    def ask(model):
        def one(review):
            ids = vocabulary.encode([review])
            ids["sequence"] = np.pad(ids["sequence"], ((0, 0), (0, length - ids["sequence"].shape[1])))
            return model(**ids)["probabilities"]

        return lambda reviews: np.concatenate([one(review) for review in normalize(reviews)])

    return export.LiteRt(from_ids(servable), {"sequence": (1, length), "bag": (1, 1)}, ask)


def from_ids(servable: keras.Model) -> keras.Model:
    """The part of a servable from ids to probabilities."""
    network = servable.get_layer("network")
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(ops.mean(network.output, axis=1))
    return keras.Model(network.input, probabilities, name="probabilities_from_ids")


def vocabulary_of(config: Config, servable: keras.Model) -> Vocabulary:
    """What a servable knows, for plain Python."""
    vectorizer = servable.get_layer("vectorizer")
    lookups = vectorizer.get_layer("ngrams").layers if config.ngrams else []
    keys = [np.array(one.get_vocabulary()[2:], np.int64) for one in lookups if isinstance(one, layers.IntegerLookup)]
    return Vocabulary(vectorizer.get_layer("words").get_vocabulary(), keys, config.sequence_length)
