"""A run behind HTTP: make textgen-serve, then POST /predict {"prompts": ["ROMEO:"]}, or /stream {"prompt": "ROMEO:"}."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal, NamedTuple

import fastapi
from fastapi import HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from apps.textgen.config import Request
from apps.textgen.predict import Predictor, Text, known
from apps.textgen.sampling import Sampling
from shared import inference, serve
from shared.settings import ServeRequest

MAX_STREAMS = 64  # texts that are streamed at a time
END = "event: end\ndata: {}\n\n"  # the last event of a stream

Prompt = Annotated[str, Field(max_length=10_000, examples=["ROMEO:"])]


class Options(BaseModel):
    """How to write; what is wrong with a value is said as the command line says it."""

    length: Annotated[int, Field(le=10_000)] = Request.length
    temperature: float = Request.temperature
    top_k: int | None = Request.top_k
    top_p: float = Request.top_p
    seed: int = Request.seed
    stop: Annotated[str, Field(max_length=1_000)] | None = Request.stop
    on_unknown: Literal["error", "skip"] = Request.on_unknown

    def example(self, prompt: str, place: int, vocabulary: list[str]) -> "Example":
        """One prompt of a question.

        Raises:
            UserError: what the command line says of the options and the prompt.
        """
        request = Request(prompt, **self.model_dump(include=set(Options.model_fields)))
        sampling = Sampling(self.temperature, self.top_k, self.top_p)
        return Example(known(request, vocabulary), (self.seed, place), sampling, self.length, self.stop)


class Question(Options):
    """What to write on after, side by side."""

    prompts: Annotated[list[Prompt], Field(min_length=1, max_length=serve.MAX_BATCH, fail_fast=True)]


class OneQuestion(Options):
    """What to write on after, a few characters at a time."""

    prompt: Prompt


class Answer(BaseModel):
    """What follows a prompt, and how sure the network was of each of its characters."""

    text: str
    probabilities: list[float]


class Example(NamedTuple):
    """A prompt, and how to go on after it."""

    prompt: str
    seed: tuple[int, int]  # that of its question, and its place in it
    sampling: Sampling
    length: int
    stop: str | None


def serve_run(request: ServeRequest) -> None:
    """Serve a run until Ctrl-C."""
    predictor = Predictor(inference.find("textgen", request.run), request.threads)
    serve.serve("textgen", predictor, add_routes, load_page, request)


def add_routes(application: fastapi.FastAPI, predictor: Predictor, batcher: serve.Batcher) -> None:
    """Add /predict and /stream."""
    batcher.predictor = lambda examples: write(predictor, examples)
    streams = Streams(predictor)

    @application.post("/predict")
    async def predict(question: Question) -> list[Answer]:
        prompts = enumerate(question.prompts)
        return await batcher.ask([question.example(prompt, place, predictor.vocabulary) for place, prompt in prompts])

    @application.post("/stream")
    async def stream(question: OneQuestion) -> StreamingResponse:
        """Server-sent events, `data: {"text": ..., "probabilities": [...]}` each; the last one is `event: end`."""
        example = question.example(question.prompt, 0, predictor.vocabulary)
        streams.check_room()
        return StreamingResponse(streams.events(example), media_type="text/event-stream")


def load_page() -> Callable[[Predictor], None]:
    """What builds the page for a browser."""
    from apps.textgen.demo import build

    return build


def write(predictor: Predictor, examples: list[Example]) -> list[dict]:
    """An answer for each; those that are written in the same way are written side by side."""
    groups = defaultdict(list)
    for number, (_, _, *options) in enumerate(examples):
        groups[tuple(options)].append(number)
    answers = {}
    for (sampling, length, stop), numbers in groups.items():
        prompts, seeds = ([examples[number][field] for number in numbers] for field in range(2))
        answers |= zip(numbers, predictor(prompts, sampling, length, seeds, stop), strict=True)
    return [answers[number] for number in range(len(examples))]


class Streams:
    """Texts that are sent while they are written. They take turns in one thread, 32 characters at a time."""

    def __init__(self, predictor: Predictor):
        self.predictor, self.running = predictor, 0
        self.thread = ThreadPoolExecutor(1, "streams")

    def check_room(self) -> None:
        """Raise an HTTPException, 503, if no further text can be streamed."""
        if self.running >= MAX_STREAMS:
            raise HTTPException(503, "Too many texts are streamed; try again.", {"Retry-After": str(serve.RETRY_AFTER)})

    async def events(self, example: Example) -> AsyncIterator[str]:
        """The events of one text. Nothing further is written for a client that goes away: this is cancelled then."""
        prompt, seed, sampling, length, stop = example
        text, chunks = Text(stop), self.predictor.stream([prompt], sampling, length, [seed])
        self.running += 1
        try:
            while not text.stopped and (chunk := await self._next(chunks)):
                (piece,), probabilities = chunk
                text.add(piece, probabilities[0].tolist())
                if event := _event(text):
                    yield event
            yield _event(text, whole=True) + END
        finally:
            self.running -= 1

    async def _next(self, chunks):
        """What comes next; None at the end."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, next, chunks, None)


def _event(text: Text, whole: bool = False) -> str:
    """What is new of a text; nothing where nothing is."""
    piece, probabilities = text.take(whole)
    return f"data: {json.dumps({'text': piece, 'probabilities': probabilities})}\n\n" if piece else ""
