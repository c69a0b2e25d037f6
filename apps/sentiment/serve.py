"""A run behind HTTP: make sentiment-serve, then POST /predict {"texts": ["..."]}."""

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
    serve.serve("sentiment", predictor, add_routes, add_page, request)


def add_routes(application: fastapi.FastAPI, _predictor: Predictor, batcher: serve.Batcher) -> None:
    """Add /predict."""

    @application.post("/predict")
    async def predict(question: Question) -> list[Answer]:
        if any(not text.strip() for text in question.texts):
            raise UserError("No text to judge: one of the texts is empty.")
        return await batcher.ask(question.texts)


def add_page(application: fastapi.FastAPI, predictor: Predictor) -> None:
    """Add the page for a browser, at /."""
    from apps.sentiment.demo import build  # gradio takes seconds to import
    from shared.demo import mount

    mount(application, "sentiment", predictor, build)
