"""A run's model for other programs: make speech-export."""

from pathlib import Path

import keras
import numpy as np

from apps.speech import audio, data
from apps.speech.config import Config
from apps.speech.features import ConvolvedLogMelSpectrogram, LogMelSpectrogram
from apps.speech.model import build_streamer  # its imports register the layers that the saved model is made of
from apps.speech.predict import STREAMER, Predictor
from shared import export
from shared.data import Splits
from shared.inference import ONNX
from shared.onnx_export import in_float32, write_onnx
from shared.settings import ExportRequest


def export_run(request: ExportRequest) -> None:
    """Write a run's model in every format, each compared with the Keras model on validation clips."""
    export.export_run("speech", request.run, Config, data.load, exportable)


def exportable(config: Config, servable: keras.Model, speech: Splits) -> export.Exportable:
    """What `shared.export` needs to know; its examples are validation clips."""
    clips = speech.validation
    rows = slice(None, None, -(-len(clips.labels) // export.EXAMPLES))  # they may be in the order of their words
    waveforms, labels = audio.to_float(clips.waveforms[rows]), clips.labels[rows]
    return export.Exportable(
        servable=servable,
        examples=list(waveforms),
        to_input=np.stack,
        metric="accuracy",
        score=lambda probabilities: float(np.mean(probabilities.argmax(axis=1) == labels)),
        same=lambda one, other: one.argmax(axis=1) == other.argmax(axis=1),
        write=lambda folder: write(config, servable, folder),
        ask_onnx=lambda folder, threads: Predictor(folder, threads).probabilities,
    )


def write(config: Config, servable: keras.Model, folder: Path) -> None:
    """Write what `Predictor` reads: model.onnx and, for a network that can carry its state through a stream, streamer.onnx."""
    write_onnx(servable, folder / ONNX, replace=_without_fft)
    if config.streamable:
        streamer = in_float32(build_streamer(config, servable.get_layer("network")))
        write_onnx(streamer, folder / STREAMER, replace=_without_fft)


def _without_fft(layer: keras.layers.Layer) -> keras.layers.Layer:
    return ConvolvedLogMelSpectrogram.from_config(layer.get_config()) if isinstance(layer, LogMelSpectrogram) else layer
