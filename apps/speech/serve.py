"""A run behind HTTP: make speech-serve, then POST a recording to /predict/file, waveforms to /predict, or stream to /stream."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import fastapi
import numpy as np
import soundfile
import soxr
from fastapi import UploadFile, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from apps.speech import audio
from apps.speech.config import Config
from apps.speech.predict import BLOCK_SECONDS, LONG, Predictor
from apps.speech.stream import Detector, Event
from shared import inference, serve
from shared.cli import UserError
from shared.settings import ServeRequest

MIN_RATE, MAX_RATE = 4_000, 384_000  # samples per second of a stream
UNSUPPORTED, TRY_AGAIN = 1003, 1013  # websocket: data that cannot be used; too many streams
MAX_REASON = 123  # bytes that a websocket's end has for its reason

Waveform = Annotated[list[float], Field(min_length=1, fail_fast=True)]


class Question(BaseModel):
    """What to recognise."""

    waveforms: Annotated[list[Waveform], Field(min_length=1, max_length=256, fail_fast=True, examples=[[[0.0, 0.01, -0.01]]])]
    """Samples from -1 to 1."""


class Answer(BaseModel):
    """Of one clip."""

    label: str
    probability: float
    probabilities: dict[str, float]


class CommandStream:
    """The commands in what one client sends.

    Args:
        predictor: of the run.
        rate: the client's samples per second; None: those of the run.
        mode: see `apps.speech.config.Request`; None: as the network was trained to.
        threshold: probability from which a command counts; None: the one chosen on validation.

    Raises:
        UserError: for a rate that nothing can be resampled from, a mode that is not this network's, a threshold that is none.
    """

    def __init__(self, predictor: Predictor, rate: int | None, mode: str | None = None, threshold: float | None = None):
        self.source, names = predictor.source(mode), predictor.metrics["class_names"]
        threshold = predictor.threshold(mode) if threshold is None else threshold
        if not 0 <= threshold <= 1:
            raise UserError(f"threshold is a probability, 0 to 1; got {threshold}.")
        self.detector = Detector(names, self.source.seconds_per_posterior, threshold)
        if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
            raise UserError(f"rate is {MIN_RATE} to {MAX_RATE} samples per second; got {rate}.")
        sample_rate = predictor.config.sample_rate
        self.rate = rate or sample_rate
        self.resampler = soxr.ResampleStream(self.rate, sample_rate, 1, dtype="float32")  # the same rate: as it came

    def blocks(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """Samples `(n,)` in pieces that take little memory."""
        size = round(BLOCK_SECONDS * self.rate)
        return (samples[start : start + size] for start in range(0, len(samples), size))

    def push(self, samples: np.ndarray) -> list[Event]:
        """The commands in samples `(n,)` that follow those before."""
        audio.check_samples("A frame", samples)
        resampled = np.clip(self.resampler.resample_chunk(samples), -1, 1)
        return list(self.detector.push(*self.source.push(resampled)))


def serve_run(request: ServeRequest) -> None:
    """Serve a run until Ctrl-C."""
    predictor = Predictor(inference.find("speech", request.run), request.threads)
    serve.serve("speech", predictor, add_routes, load_page, request)


def add_routes(application: fastapi.FastAPI, predictor: Predictor, batcher: serve.Batcher) -> None:
    """Add /predict, /predict/file and /stream."""
    config, places = predictor.config, asyncio.Semaphore(batcher.settings.queue)  # as many streams as examples may wait

    @application.post("/predict", description=f"Waveforms of {config.sample_rate:,} samples per second.")
    async def predict(question: Question) -> list[Answer]:
        waveforms = [np.array(waveform) for waveform in question.waveforms]
        for waveform in waveforms:
            _check_seconds("A waveform", len(waveform) / config.sample_rate, config)
            audio.check_samples("A waveform", waveform)
        return await batcher.ask(waveforms)

    @application.post("/predict/file", description="A recording: WAV, FLAC, OGG or MP3, of any rate and number of channels.")
    async def predict_file(file: UploadFile) -> Answer:
        suffix = Path(file.filename or "").suffix.lower()
        waveform = await run_in_threadpool(_read, file.file, suffix, config)
        [answer] = await batcher.ask([waveform])
        return answer

    @application.websocket("/stream")
    async def stream(
        websocket: WebSocket, rate: int | None = None, mode: str | None = None, threshold: float | None = None
    ) -> None:
        with contextlib.suppress(WebSocketDisconnect):  # the client leaves while it is sent something
            await websocket.accept()
            if places.locked():
                await websocket.close(TRY_AGAIN, "Too many streams are open; try again.")
                return
            async with places:
                await send_commands(websocket, rate, mode, threshold)

    async def send_commands(websocket: WebSocket, *how) -> None:
        loop = asyncio.get_running_loop()
        try:
            commands = CommandStream(predictor, *how)
            async for samples in _frames(websocket):
                for block in commands.blocks(samples):
                    for event in await loop.run_in_executor(batcher.thread, commands.push, block):
                        await websocket.send_json(event._asdict())
        except UserError as problem:
            await websocket.close(UNSUPPORTED, str(problem)[:MAX_REASON])


def load_page() -> Callable[[Predictor], None]:
    """What builds the page for a browser."""
    from apps.speech.demo import build

    return build


async def _frames(websocket: WebSocket) -> AsyncIterator[np.ndarray]:
    """The samples `(n,)` of each frame, until the client leaves.

    Raises:
        UserError: for a frame that holds no samples.
    """
    while (message := await websocket.receive())["type"] != "websocket.disconnect":
        content = message.get("bytes")
        if content is None or len(content) % 4:
            got = "text" if content is None else f"{len(content)} bytes"
            raise UserError(f"A frame holds float32 samples, little-endian, 4 bytes each; got {got}.")
        yield np.frombuffer(content, "<f4")


def _read(content: BinaryIO, suffix: str, config: Config) -> np.ndarray:
    """The samples `(n,)` of an uploaded recording; its length is looked at before it is decoded.

    Raises:
        UserError: if it is none, or too long for one clip.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recording").with_suffix(suffix if suffix in audio.SUFFIXES else "")
        with path.open("wb") as file:
            shutil.copyfileobj(content, file)
        try:
            audio.check_header(path)
            _check_seconds("The file", soundfile.info(path).duration, config)
            return audio.read(path, config.sample_rate)
        except UserError as problem:
            raise UserError(str(problem).replace(str(path), "The file")) from None


def _check_seconds(name: str, seconds: float, config: Config) -> None:
    """Raise a UserError for what may hold more than one word."""
    if seconds >= LONG * config.clip_seconds:
        raise UserError(
            f"{name} lasts {seconds:.1f} s; the answer would be about its loudest {config.clip_seconds:g} s alone. "
            "For all commands in it: the websocket /stream."
        )
