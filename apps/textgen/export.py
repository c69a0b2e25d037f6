"""A run's model for other programs: make textgen-export."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from scipy.special import softmax

from apps.textgen import characters, data
from apps.textgen.characters import Text
from apps.textgen.config import Config
from apps.textgen.predict import VOCABULARY, Predictor
from shared import export, litert_export, rnn
from shared.data import Splits
from shared.inference import ONNX
from shared.onnx_export import write_onnx
from shared.settings import ExportRequest

LENGTH = 256  # characters that an example has, in a text that is twice as long or longer


def export_run(request: ExportRequest) -> None:
    """Write a run's model in every format, each compared with the Keras model on pieces of the validation text."""
    export.export_run("textgen", request.run, Config, data.load, exportable)


def exportable(config: Config, servable: keras.Model, text: Splits) -> export.Exportable:
    """What `shared.export` needs to know; its examples are pieces of the validation text."""
    examples, following = pieces(text.validation)
    numbers = np.arange(len(examples))
    targets = characters.encode(Text(following, np.array([len(following)])), _vocabulary(servable)).characters
    return export.Exportable(
        servable=servable,
        examples=examples,
        to_input=lambda examples: np.array(examples, dtype=object),
        metric="nats_per_character",
        score=lambda probabilities: float(-np.log(probabilities[numbers, targets]).mean()),
        same=lambda one, other: one.argmax(axis=1) == other.argmax(axis=1),
        write=lambda folder: write(config, servable, folder),
        ask_onnx={ONNX: ask_onnx},
        litert=lambda: one_step(config, servable),
    )


def pieces(text: Text) -> tuple[list[str], np.ndarray]:
    """Pieces of one length, from the start of a text to its end, and the code points after them, `(n,)`.

    They may overlap, and the end of a document may stand in one.
    """
    length = min(LENGTH, len(text.characters) // 2)
    starts = np.unique(np.linspace(0, len(text.characters) - length - 1, export.EXAMPLES).astype(int))
    found = ["".join(map(chr, text.characters[start : start + length])) for start in starts]
    return found, text.characters[starts + length]


def write(config: Config, servable: keras.Model, folder: Path) -> None:
    """Write what `Predictor` reads: model.onnx, from ids and states to logits and states, and the vocabulary."""
    write_onnx(servable.get_layer("network"), folder / ONNX)
    (folder / VOCABULARY).write_text(json.dumps(_vocabulary(servable)) + "\n", encoding="utf-8")


def ask_onnx(folder: Path, threads: int) -> Callable[[list[str]], np.ndarray]:
    """From texts of one length to the probabilities of the next character, `(n, num_ids)`."""
    predictor = Predictor(folder, threads)
    return lambda texts: softmax(predictor.read(predictor.encode(texts))[0], axis=1)


def one_step(config: Config, servable: keras.Model) -> export.LiteRt:
    """The network for a phone: one character in, the logits of the next one out, the state carried outside."""
    vocabulary = {character: number for number, character in enumerate(_vocabulary(servable), start=characters.UNKNOWN + 1)}
    states = [
        f"states_{layer}_{n}"
        for layer in range(config.recurrent.num_layers)
        for n in range(rnn.STATES_PER_LAYER[config.recurrent.cell])
    ]

    def ask(step):
        def probabilities(texts):
            return np.concatenate([softmax(read(text), axis=1) for text in texts])

        def read(text):
            memory = {name: np.zeros((1, config.recurrent.units), np.float32) for name in states}
            for character in text:
                number = vocabulary.get(character, characters.UNKNOWN)
                found = step(ids=np.array([[number]], np.int32), **memory)
                memory = {name: found[f"new_{name}"] for name in states}
            return found["logits"][:, 0]

        return probabilities

    shapes = {"ids": (1, 1)} | {name: (1, config.recurrent.units) for name in states}
    return export.LiteRt(litert_export.one_step(servable.get_layer("network")), shapes, ask)


def _vocabulary(servable: keras.Model) -> list[str]:
    return servable.get_layer("characters").get_vocabulary()[2:]
