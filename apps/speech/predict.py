"""Ask a trained run: make speech-predict ARGS='clip.wav'."""

import functools
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.progress import Progress

from apps.speech import audio
from apps.speech.config import Config, Mode, Request
from apps.speech.stream import CarriedState, Detector, SlidingWindow, sources
from shared import inference, runs
from shared.cli import UserError
from shared.explaining import check_keras, new_picture, warn_if_incomplete

TOP = 3
BATCH = 64
STREAMER = "streamer.onnx"
BLOCK_SECONDS = 2.0  # of a recording at a time
LONG = 1.5  # a recording of so many clips' length, or more, may hold more than one word
HOW_READ = {
    "window": "A window slides over the sound",
    "carried": "The state is carried from frame to frame",
    "reset": "The state is carried from frame to frame until there is silence",
}


class Predictor:
    """Names the word in clips with a run's ONNX file: needs ONNX Runtime and NumPy, not TensorFlow.

        predictor = Predictor(Path("runs/speech/2026-11-28_07-46-10"))
        predictor(["clip.wav"])
        [{"label": "go", "probability": 0.93, "probabilities": {"down": 0.01, "go": 0.93, ...}}]

    Args:
        folder: the run folder.
        threads: see `shared.inference.OnnxModel`.
    """

    def __init__(self, folder: Path, threads: int | None = None):
        self.folder, self.threads = Path(folder), threads
        self.network = inference.OnnxModel(self.folder / inference.ONNX, threads)

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        return runs.read_json(self.folder / "metrics.json")

    @functools.cached_property
    def config(self) -> Config:
        return runs.read_config(self.folder, Config)

    def __call__(self, clips: list[np.ndarray | Path | str]) -> list[dict[str, Any]]:
        """An answer for each clip: a file, or a waveform `(n,)` from -1 to 1 with `config.sample_rate` samples per second.

        Raises:
            UserError: for a file that cannot be read, or an array that is no such waveform.
        """
        names = self.metrics["class_names"]
        waveforms = [audio.fit_length(self._waveform(clip), self.config.samples) for clip in clips]
        by_name = [dict(zip(names, row.tolist(), strict=True)) for row in self.probabilities(waveforms)]
        labels = [max(row, key=row.get) for row in by_name]
        return [
            {"label": label, "probability": row[label], "probabilities": row}
            for label, row in zip(labels, by_name, strict=True)
        ]

    def probabilities(self, waveforms: list[np.ndarray] | np.ndarray) -> np.ndarray:
        """`(n, classes)` of waveforms `(n, config.samples)`."""
        batches = [np.asarray(waveforms[start : start + BATCH]) for start in range(0, len(waveforms), BATCH)]
        return np.concatenate([self.network(waveform=batch)["probabilities"] for batch in batches])

    def source(self, mode: Mode | None = None) -> SlidingWindow | CarriedState:
        """What turns a stream's samples into posteriors.

        Raises:
            UserError: for a mode that the network cannot read a stream in.
        """
        mode = mode or self.config.mode
        found = sources(self.config, self.metrics["class_names"], self.probabilities, load_streamer(self.folder, self.threads))
        if mode not in found:
            raise UserError(
                f"--mode {mode} is none of this network's: {', '.join(found)}. Train one with --preset streaming that reads "
                "each frame once; reset also needs the class _silence_."
            )
        return found[mode]()

    def threshold(self, mode: Mode | None = None) -> float:
        """The probability from which a command counts, chosen on validation."""
        return self.metrics["stream"][mode or self.config.mode]["threshold"]

    def _waveform(self, clip: np.ndarray | Path | str) -> np.ndarray:
        if not isinstance(clip, np.ndarray):
            return audio.read(Path(clip), self.config.sample_rate)
        if clip.ndim != 1:
            raise UserError(
                f"A waveform is an array of the shape (n,), of one channel; got {clip.shape}. Give the mean of its channels."
            )
        audio.check_samples("A waveform", clip.astype(np.float32))
        return clip.astype(np.float32)


def load_streamer(folder: Path, threads: int | None = None) -> inference.OnnxModel | None:
    """The ONNX file that carries its state through a stream; None for a network that has to see a whole clip."""
    return inference.OnnxModel(folder / STREAMER, threads) if (folder / STREAMER).exists() else None


def predict(request: Request) -> None:
    """Print label, probability and runners-up of each clip; or the commands in a stream, as they are detected.

    With `--file`, write a table.
    """
    folder = inference.find("speech", request.run)
    if request.table.file:
        _answer_file(request, Predictor(folder))
        return
    waveforms, problems = _read_clips(request.clips, runs.read_config(folder, Config))
    if request.stream:
        audio.check_header(Path(request.stream))
    if waveforms:
        _name_words(waveforms, Predictor(folder), request.explain)
    elif not request.clips:
        _detect_commands(request, Predictor(folder))
    if problems:
        raise UserError("\n".join([f"{len(problems)} of {len(request.clips)} recordings could not be answered.", *problems]))


def _read_clips(clips: tuple[str, ...], config: Config) -> tuple[dict, list[str]]:
    """Waveforms by name, and what is wrong with the recordings that cannot be read."""
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
        waveforms[clip] = waveform
    return waveforms, problems


def _name_words(waveforms: dict[str, np.ndarray], predictor: Predictor, explain: bool) -> None:
    """Print label, probability and runners-up of each clip; with `explain`, draw why."""
    answers = dict(zip(waveforms, predictor([*waveforms.values()]), strict=True))
    for clip, answer in answers.items():
        ranked = sorted(answer["probabilities"].items(), key=lambda pair: -pair[1])[:TOP]
        first, *others = (f"{name} {probability:.3f}" for name, probability in ranked)
        print(f"{clip}: {first}   ({', '.join(others)})")
    if explain:
        _explain(waveforms, answers, predictor)


def _explain(waveforms: dict[str, np.ndarray], answers: dict[str, dict], predictor: Predictor) -> None:
    check_keras()
    from apps.speech import explain

    config, explainer, explanations = predictor.config, explain.load(predictor.folder), {}
    for clip, answer in answers.items():
        waveform, number = audio.fit_length(waveforms[clip], config.samples), [*answer["probabilities"]].index(answer["label"])
        found = explainer(waveform, number)
        explanations[f"{Path(clip).name}: {answer['label']} {answer['probability']:.3f}"] = found
        warn_if_incomplete(found.attribution)
    file = new_picture("explanation")
    explain.draw(file, explanations, config)
    print(f"What in the sound made the answers: {file}")


def _answer_file(request: Request, predictor: Predictor) -> None:
    import pandas as pd  # takes longer to import than a clip takes to answer

    from shared import large_tables

    folder, config, names = Path(request.table.file).parent, predictor.config, predictor.metrics["class_names"]

    def read(path: str) -> tuple[np.ndarray, float]:
        if not path:
            raise UserError("No path is given.")
        try:
            waveform = audio.read(folder / path, config.sample_rate)
        except OSError as error:  # what is no path may be too long for one
            raise UserError(f"{path[:80]} can't be read: {error.strerror}.") from None
        return audio.fit_length(waveform, config.samples), len(waveform) / config.sample_rate

    def answer(clips: list[tuple[np.ndarray, float]]) -> pd.DataFrame:
        answers = predictor([waveform for waveform, _ in clips]) if clips else []
        table = large_tables.labels(answers, names)
        table.insert(0, "seconds", np.array([seconds for _, seconds in clips], float))
        return table

    count = large_tables.answer_file(
        request.table, request.clip_column, lambda paths: large_tables.answer_readable(paths, read, answer), BATCH
    )
    print(f"{count:,} recordings answered by {predictor.folder}: {request.table.output}")


def _detect_commands(request: Request, predictor: Predictor) -> None:
    """Print the commands in a recording, or said to the microphone, as they are detected."""
    config, metrics = predictor.config, predictor.metrics
    source = predictor.source(request.mode)
    threshold = predictor.threshold(request.mode) if request.threshold is None else request.threshold
    detector = Detector(metrics["class_names"], source.seconds_per_posterior, threshold)
    how = HOW_READ[request.mode or config.mode]
    print(f"{how}; a command counts from a probability of {threshold:.2f}.", file=sys.stderr)
    blocks = _microphone(config) if request.microphone else _blocks(Path(request.stream), config)
    for block in blocks:
        for event in detector.push(*source.push(block)):
            print(f"{event.seconds:8.2f} s  {event.word}  {event.probability:.2f}", flush=True)


def _blocks(path: Path, config: Config) -> Iterator[np.ndarray]:
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


def _microphone(config: Config) -> Iterator[np.ndarray]:
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
