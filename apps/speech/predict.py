"""Ask a trained run: make speech-predict ARGS='clip.wav'."""

import shlex
import sys
from pathlib import Path

import keras
import numpy as np
import soundfile
from rich.console import Console
from rich.progress import Progress

from apps.speech import audio, stream  # stream's imports register the layers that the saved model is made of
from apps.speech.config import Config, Request
from shared import runs
from shared.cli import UserError

TOP = 3
BLOCK_SECONDS = 2.0  # of a recording at a time
LONG = 1.5  # a recording of so many clips' length, or more, may hold more than one word


def predict(request: Request) -> None:
    """Print label, probability and runners-up of each clip; or the commands in a stream, as they are detected."""
    folder, metrics = runs.load("speech", request.run)
    config = runs.read_config(folder, Config)
    waveforms, problems = _read_clips(request.clips, config)
    if request.stream:
        audio.check_header(Path(request.stream))
    if waveforms or not request.clips:
        _answer(request, folder, config, metrics, waveforms)
    if problems:
        raise UserError("\n".join([f"{len(problems)} of {len(request.clips)} recordings could not be answered.", *problems]))


def _read_clips(clips: tuple[str, ...], config) -> tuple[dict, list[str]]:
    """Waveforms `(samples,)` by name, and what is wrong with the recordings that cannot be read."""
    waveforms, problems = {}, []
    for clip in clips:
        try:
            waveform = audio.read(Path(clip), config.sample_rate)
        except UserError as problem:
            problems.append(str(problem))
            continue
        if len(waveform) >= LONG * config.samples:
            print(
                f"{clip} lasts {len(waveform) / config.sample_rate:.1f} s; the answer is about its loudest "
                f"{config.clip_seconds:g} s alone. For all commands in it: --stream {shlex.quote(clip)}",
                file=sys.stderr,
            )
        waveforms[clip] = audio.fit_length(waveform, config.samples)
    return waveforms, problems


def _answer(request: Request, folder: Path, config, metrics: dict, waveforms: dict) -> None:
    model = keras.models.load_model(folder / "model.keras", compile=False)
    if waveforms:
        _name_words(waveforms, model, metrics["class_names"])
        return
    source = stream.make_source(config, model, request.carry_state)
    threshold = metrics["stream"]["threshold"] if request.threshold is None else request.threshold
    detector = stream.Detector(metrics["class_names"], source.seconds_per_posterior, threshold)
    how = "The state is carried from frame to frame" if request.carry_state else "A window slides over the sound"
    print(f"{how}; a command counts from a probability of {threshold:.2f}.", file=sys.stderr)
    blocks = _microphone(config) if request.microphone else _blocks(Path(request.stream), config)
    for block in blocks:
        for event in detector.push(*source.push(block)):
            print(f"{event.seconds:8.2f} s  {event.word}  {event.probability:.2f}", flush=True)


def _name_words(waveforms: dict, model, class_names: list[str]) -> None:
    """Print label, probability and runners-up of each clip."""
    probabilities = model.predict(np.stack([*waveforms.values()]), batch_size=64, verbose=0)
    for clip, row in zip(waveforms, probabilities, strict=True):
        best = row.argsort()[::-1][:TOP]
        first, *others = (f"{class_names[number]} {row[number]:.3f}" for number in best)
        print(f"{clip}: {first}   ({', '.join(others)})")


def _blocks(path: Path, config):
    """A recording block by block, with its progress on a terminal; silence follows, so that its last word is complete."""
    console = Console(stderr=True)
    # Commands go to standard output: only a terminal's may pass through the progress bar.
    options = {"transient": True, "disable": not console.is_terminal, "redirect_stdout": sys.stdout.isatty()}
    with Progress(console=console, **options) as progress:
        task = progress.add_task(path.name, total=soundfile.info(path).duration)
        for block in audio.read_blocks(path, config.sample_rate, BLOCK_SECONDS):
            yield block
            progress.advance(task, len(block) / config.sample_rate)
    yield np.zeros(config.samples // 2, np.float32)


def _microphone(config):
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: PortAudio itself is missing
        raise UserError(
            f"--microphone needs the package sounddevice ({error}): .venv/bin/pip install -e '.[microphone]'"
        ) from None
    step = config.sample_rate // 10
    try:
        with sounddevice.InputStream(config.sample_rate, step, channels=1, dtype="float32") as microphone:
            while True:
                yield microphone.read(step)[0][:, 0]
    except sounddevice.PortAudioError as error:
        raise UserError(f"The microphone cannot be read: {error}.") from None
