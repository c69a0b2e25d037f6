"""A run behind HTTP: make translation-serve, then POST /predict {"texts": ["station"]}."""

from collections.abc import Callable
from typing import Annotated

import fastapi
from pydantic import BaseModel, Field

from apps.translation.predict import Predictor
from shared import inference, serve
from shared.settings import ServeRequest


class Question(BaseModel):
    """What to translate."""

    texts: Annotated[list[str], Field(min_length=1, max_length=64, examples=[["station"]])]


class Translation(BaseModel):
    """One of the n best: `score` is its log-probability per token."""

    text: str
    score: float
    probability: float


class Answer(BaseModel):
    """Of one text: the best translation, and the n best."""

    source: str
    text: str
    hypotheses: list[Translation]


def serve_run(request: ServeRequest) -> None:
    """Serve a run until Ctrl-C."""
    predictor = Predictor(inference.find("translation", request.run), request.threads)
    serve.serve("translation", predictor, add_routes, load_page, request)


def add_routes(application: fastapi.FastAPI, predictor: Predictor, batcher: serve.Batcher) -> None:
    """Add /predict."""

    @application.post("/predict")
    async def predict(question: Question) -> list[Answer]:
        predictor.check(question.texts)  # here, not in the batch: others' texts may be in it
        return await batcher.ask(question.texts)


def load_page() -> Callable[[Predictor], None]:
    """What builds the page for a browser."""
    from apps.translation.demo import build

    return build
