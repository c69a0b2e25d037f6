"""Which word is it? python -m apps.speech.predict clip.wav other.flac (or: make speech-predict ARGS='clip.wav')."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from shared import cli, runs
from shared.cli import UserError, check_at_least

TOP = 3
PIECE_SECONDS = 2.0  # of a recording at a time


@dataclass(frozen=True)
class Request:
    clips: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Recordings of a word each: WAV, FLAC or OGG, any sample rate and number of channels."""
    stream: str | None = None
    """A long recording; prints the commands in it with their times."""
    microphone: bool = False
    """Listen until Ctrl-C (needs the package sounddevice)."""
    threshold: float | None = None
    """Probability from which a command counts, for --stream and --microphone. None: the one chosen on validation."""
    run: str | None = None
    """Run folder to ask; None: the newest finished run."""

    def __post_init__(self):
        check_at_least(0, self, "threshold")
        if (given := bool(self.clips) + bool(self.stream) + self.microphone) != 1:
            raise UserError(f"Give recordings of a word each, or --stream FILE, or --microphone; got {given} of the three.")


def predict(request: Request) -> None:
    """Print label, probability and runners-up of each clip; or the commands in a stream, as they are heard."""
    folder = runs.find("speech", request.run)
    metrics = runs.read_json(folder / "metrics.json")
    print(f"Asking {folder}, trained on {metrics['dataset']} (preset {metrics['preset']}).", file=sys.stderr)

    import keras

    from apps.speech import stream  # its imports register the layers that the saved model is made of
    from apps.speech.config import Config

    config = runs.read_config(folder, Config)
    model = keras.models.load_model(folder / "model.keras", compile=False)
    if request.clips:
        _name_words(request.clips, config, model, metrics["class_names"])
        return
    ear = stream.make_ear(config, model)
    threshold = metrics["stream_threshold"] if request.threshold is None else request.threshold
    detector = stream.Detector(metrics["class_names"], ear.seconds_per_posterior, threshold)
    how = "frame by frame, the state carried on" if stream.carries_state(config) else "in a window that slides"
    print(f"Listening {how}; a command counts from a probability of {threshold:.2f}.", file=sys.stderr)
    pieces = _microphone(config) if request.microphone else _pieces(request.stream, config)
    for piece in pieces:
        for event in detector.hear(*ear.hear(piece)):
            print(f"{event.seconds:8.2f} s  {event.word}  {event.probability:.2f}", flush=True)


def _name_words(clips: tuple[str, ...], config, model, class_names: list[str]) -> None:
    """Print label, probability and runners-up of each clip; those that can't be read are told of in a UserError, at the end."""
    import numpy as np

    from apps.speech import audio

    readable, waveforms, problems = [], [], []
    for clip in clips:
        try:
            waveforms.append(audio.fit_length(audio.read(Path(clip), config.sample_rate), config.samples))
            readable.append(clip)
        except UserError as problem:
            problems.append(str(problem))
    if readable:
        for clip, row in zip(readable, model.predict(np.stack(waveforms), batch_size=64, verbose=0), strict=True):
            best = row.argsort()[::-1][:TOP]
            first, *others = (f"{class_names[number]} {row[number]:.3f}" for number in best)
            print(f"{clip}: {first}   ({', '.join(others)})")
    if problems:
        raise UserError("\n".join([f"{len(problems)} of {len(clips)} recordings could not be answered.", *problems]))


def _pieces(path: str, config):
    """A recording piece by piece; silence follows it, so that its last word is heard to the end."""
    import numpy as np

    from apps.speech import audio

    sound, size = audio.read(Path(path), config.sample_rate), round(PIECE_SECONDS * config.sample_rate)
    sound = np.pad(sound, (0, config.samples // 2))
    return (sound[start : start + size] for start in range(0, len(sound), size))


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
        raise UserError(f"The microphone can't be read: {error}.") from None


def main() -> None:
    predict(tyro.cli(Request, description=__doc__))


if __name__ == "__main__":
    cli.run(main)
