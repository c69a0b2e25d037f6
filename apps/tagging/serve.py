"""A run behind HTTP: make tagging-serve, then POST /predict {"texts": ["wake me at seven in new york"]}."""

from collections.abc import Callable
from typing import Annotated

import fastapi
from pydantic import BaseModel, Field

from apps.tagging.predict import Predictor, check
from apps.tagging.words import split_words
from shared import inference, serve
from shared.settings import ServeRequest


class Question(BaseModel):
    """What to tag."""

    texts: Annotated[list[str], Field(min_length=1, max_length=256, examples=[["wake me at seven in new york"]])]


class Span(BaseModel):
    """Words `first` to `last`, both included."""

    label: str
    first: int
    last: int
    text: str
    probability: float


class Answer(BaseModel):
    """Of one sentence."""

    tokens: list[str]
    tags: list[str]
    probabilities: list[float]
    spans: list[Span]


def serve_run(request: ServeRequest) -> None:
    """Serve a run until Ctrl-C."""
    predictor = Predictor(inference.find("tagging", request.run), request.threads)
    serve.serve("tagging", predictor, add_routes, load_page, request)


def add_routes(application: fastapi.FastAPI, _predictor: Predictor, batcher: serve.Batcher) -> None:
    """Add /predict."""

    @application.post("/predict")
    async def predict(question: Question) -> list[Answer]:
        sentences = [split_words(text) for text in question.texts]
        check(sentences)  # here, not in the batch: others' sentences may be in it
        return await batcher.ask(sentences)


def load_page() -> Callable[[Predictor], None]:
    """What builds the page for a browser."""
    from apps.tagging.demo import build

    return build
