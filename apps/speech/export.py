"""A run's model for other programs: make speech-export."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from apps.speech import audio, data
from apps.speech.config import Config
from apps.speech.features import ConvolvedLogMelSpectrogram, LogMelSpectrogram
from apps.speech.model import build_features, build_streamer  # its imports register the layers that the saved model is made of
from apps.speech.predict import STREAMER, Predictor, load_streamer
from apps.speech.stream import CarriedState
from shared import export, litert_export
from shared.data import Splits
from shared.inference import ONNX
from shared.onnx_export import in_float32, named, write_onnx
from shared.settings import ExportRequest


def export_run(request: ExportRequest) -> None:
    """Write a run's model in every format, each compared with the Keras model on validation clips."""
    export.export_run("speech", request.run, Config, data.load, exportable)


def exportable(config: Config, servable: keras.Model, speech: Splits) -> export.Exportable:
    """What `shared.export` needs to know; its examples are validation clips."""
    clips = speech.validation
    rows = slice(None, None, -(-len(clips.labels) // export.EXAMPLES))  # they may be in the order of their words
    waveforms, labels = audio.to_float(clips.waveforms[rows]), clips.labels[rows]
    ask_onnx = {ONNX: lambda folder, threads: Predictor(folder, threads).probabilities}
    if config.streamable:
        ask_onnx[STREAMER] = lambda folder, threads: as_stream(config, clips.class_names, load_streamer(folder, threads))
    return export.Exportable(
        servable=servable,
        examples=list(waveforms),
        to_input=np.stack,
        metric="accuracy",
        score=lambda probabilities: float(np.mean(probabilities.argmax(axis=1) == labels)),
        same=lambda one, other: one.argmax(axis=1) == other.argmax(axis=1),
        write=lambda folder: write(config, servable, folder),
        ask_onnx=ask_onnx,
        litert=(lambda: for_phones(config, servable, clips.class_names)) if config.streamable else None,
        int8=(lambda: for_microcontrollers(config, servable)) if config.streamable else None,
    )


def write(config: Config, servable: keras.Model, folder: Path) -> None:
    """Write what `Predictor` reads: model.onnx and, for a network that can carry its state through a stream, streamer.onnx."""
    write_onnx(servable, folder / ONNX, replace=_without_fft)
    if config.streamable:
        write_onnx(streamer_of(config, servable), folder / STREAMER, replace=_without_fft)


def streamer_of(config: Config, servable: keras.Model, from_mfcc: bool = False) -> keras.Model:
    """The servable's network, to compute a stream block by block."""
    return in_float32(build_streamer(config, servable.get_layer("network"), from_mfcc))


def as_stream(config: Config, class_names, streamer) -> Callable[[list[np.ndarray]], np.ndarray]:
    """From clips to what a streamer answers at the last frame of each, `(n, classes)`; the servable answers the same."""
    step = config.frames_per_output * config.hop_length  # samples from one posterior to the next
    last = config.samples // step

    def answer(clip: np.ndarray) -> np.ndarray:
        source = CarriedState(config, len(class_names), streamer)
        sound = np.append(clip, np.zeros(config.samples, np.float32))  # the last frames look past the end
        outputs = [source.push(block) for block in np.split(sound, range(step, len(sound), step))]
        return np.concatenate([posteriors for _, posteriors in outputs])[last]

    return lambda clips: np.stack([answer(clip) for clip in clips])


def for_phones(config: Config, servable: keras.Model, class_names) -> export.LiteRt:
    """One step: the sound up to the next posterior in, the posterior out, the state carried outside."""
    step = litert_export.one_step(keras.models.clone_model(streamer_of(config, servable), clone_function=_without_fft))
    samples = audio.fft_length(config.window_length) + (config.frames_per_output - 1) * config.hop_length
    shapes = shapes_of(step) | {"waveform": (1, samples)}
    return export.LiteRt(step, shapes, lambda model: as_stream(config, class_names, model))


def for_microcontrollers(config: Config, servable: keras.Model) -> export.LiteRt:
    """The same from the coefficients, which have a signal processor's own code there; powers would not bear 8 bits."""
    step = litert_export.one_step(streamer_of(config, servable, from_mfcc=True))
    shapes = shapes_of(step) | {"mfcc": (1, config.frames_per_output, config.mels)}
    features = build_features(config)

    def ask(model):
        def answer(mfcc: np.ndarray) -> np.ndarray:
            found = {f"new_{name}": np.zeros(shape, np.float32) for name, shape in shapes.items() if name != "mfcc"}
            for block in np.split(mfcc, len(mfcc) // config.frames_per_output):
                memory = {name: found[f"new_{name}"] for name in shapes if name != "mfcc"}
                found = model(mfcc=block[None], **memory)
            return found["probabilities"][0, 0]

        def answers(clips: list[np.ndarray]) -> np.ndarray:
            mfcc = features.predict_on_batch(np.stack(clips))["mfcc"]
            after = -mfcc.shape[1] % config.frames_per_output  # frames that the last posterior does not see
            return np.stack([answer(one) for one in np.pad(mfcc, ((0, 0), (0, after), (0, 0)))])

        return answers

    return export.LiteRt(step, shapes, ask)


def shapes_of(step: keras.Model) -> dict[str, tuple[int, ...]]:
    """The sizes of a step's inputs at batch size 1, by their names in ONNX."""
    return {name: (1, *tensor.shape[1:]) for name, tensor in named(step.input, "").items()}


def _without_fft(layer: keras.layers.Layer) -> keras.layers.Layer:
    return ConvolvedLogMelSpectrogram.from_config(layer.get_config()) if isinstance(layer, LogMelSpectrogram) else layer
