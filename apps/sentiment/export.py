"""A run's model for other programs: make sentiment-export."""

from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from apps.sentiment import data, text  # noqa: F401  text registers `standardize`, which the saved model names
from apps.sentiment.config import Config
from apps.sentiment.data import Reviews
from apps.sentiment.predict import VOCABULARY, Predictor
from apps.sentiment.words import Vocabulary, normalize
from shared import export, runs
from shared.inference import ONNX
from shared.onnx_export import write_onnx
from shared.settings import ExportRequest


def export_run(request: ExportRequest) -> None:
    """Write a run's model in every format, each compared with the Keras model on validation reviews."""
    export.use_one_thread()
    folder, _ = runs.load("sentiment", request.run)
    config = runs.read_config(folder, Config)
    servable = keras.models.load_model(folder / "model.keras", compile=False)
    reviews = data.load(config)
    export.write_all(folder, exportable(config, servable, reviews.validation), reviews)


def exportable(config: Config, servable: keras.Model, reviews: Reviews) -> export.Exportable:
    """What `shared.export` needs to know; `reviews` are those of validation."""
    servable = export.in_float32(servable)
    texts, labels = reviews.texts[: export.EXAMPLES], reviews.labels[: export.EXAMPLES]
    return export.Exportable(
        servable=servable,
        examples=texts,
        to_input=lambda examples: np.array(normalize(examples), dtype=object),
        metric="accuracy",
        score=lambda probabilities: float(np.mean(probabilities.argmax(axis=1) == labels)),
        same=lambda one, other: one.argmax(axis=1) == other.argmax(axis=1),
        write=lambda folder: write(config, servable, folder),
        ask_onnx=lambda folder, threads: Predictor(folder, threads).probabilities,
    )


def write(config: Config, servable: keras.Model, folder: Path) -> None:
    """Write what `Predictor` reads: model.onnx, from ids to probabilities, and the vocabulary, from texts to ids."""
    network, vectorizer = servable.get_layer("network"), servable.get_layer("vectorizer")
    probabilities = layers.Softmax(name="probabilities")(ops.mean(network.output, axis=1))
    write_onnx(keras.Model(network.input, probabilities), folder / ONNX)
    ngrams = [
        layer.get_vocabulary()[2:]
        for layer in (vectorizer.get_layer("ngrams").layers if config.ngrams else [])
        if isinstance(layer, layers.IntegerLookup)
    ]
    words = vectorizer.get_layer("words").get_vocabulary()
    Vocabulary(words, [np.array(keys, np.int64) for keys in ngrams], config.sequence_length).save(folder / VOCABULARY)
