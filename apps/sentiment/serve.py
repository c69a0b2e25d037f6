"""A run behind HTTP: make sentiment-serve, then POST /predict {"texts": ["..."]}."""

from collections.abc import Callable
from typing import Annotated

import fastapi
from pydantic import BaseModel, Field

from apps.sentiment.predict import Predictor
from shared import inference, serve
from shared.cli import UserError
from shared.settings import ServeRequest


class Question(BaseModel):
    """What to label."""

    texts: Annotated[list[str], Field(min_length=1, max_length=256, examples=[["A slow start, but what an ending."]])]


class Answer(BaseModel):
    """Of one text."""

    label: str
    probability: float
    probabilities: dict[str, float]


def serve_run(request: ServeRequest) -> None:
    """Serve a run until Ctrl-C."""
    predictor = Predictor(inference.find("sentiment", request.run), request.threads)
    serve.serve("sentiment", predictor, add_routes, load_page, request)


def add_routes(application: fastapi.FastAPI, _predictor: Predictor, batcher: serve.Batcher) -> None:
    """Add /predict."""

    @application.post("/predict")
    async def predict(question: Question) -> list[Answer]:
        if any(not text.strip() for text in question.texts):
            raise UserError("No text to judge: one of the texts is empty.")
        return await batcher.ask(question.texts)


def load_page() -> Callable[[Predictor], None]:
    """What builds the page for a browser."""
    from apps.sentiment.demo import build

    return build
