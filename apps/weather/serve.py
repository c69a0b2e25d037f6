"""A run behind HTTP: make weather-serve, then POST /predict {"rows": [{"time": ..., ...}, ...]} or a file to /predict/file."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Annotated, Any

import fastapi
import pandas as pd
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from apps.weather.predict import Predictor
from apps.weather.reading import CSV, PARQUET
from shared import inference, serve
from shared.cli import UserError
from shared.settings import ServeRequest

EXAMPLE = [{"time": "2024-12-31 23:40", "T (degC)": -0.4}, {"time": "2024-12-31 23:50", "T (degC)": -0.5}]


class Question(BaseModel):
    """The newest rows of a table, with the columns of the training data."""

    rows: Annotated[list[dict[str, Any]], Field(fail_fast=True, examples=[EXAMPLE])]


class Answer(BaseModel):
    """Of one table: the quantiles of each column that is forecast, at each time."""

    target: str
    origin: str
    times: list[str]
    forecast: dict[str, dict[str, list[float]]]


def serve_run(request: ServeRequest) -> None:
    """Serve a run until Ctrl-C."""
    predictor = Predictor(inference.find("weather", request.run), request.threads)
    serve.serve("weather", predictor, add_routes, load_page, request)


def add_routes(application: fastapi.FastAPI, _predictor: Predictor, batcher: serve.Batcher) -> None:
    """Add /predict and /predict/file. Tables are read and cleaned in the batcher's thread."""

    @application.post("/predict")
    async def predict(question: Question) -> Answer:
        [answer] = await batcher.ask([await run_in_threadpool(to_table, question.rows)])
        return answer

    @application.post("/predict/file")
    async def predict_file(file: fastapi.UploadFile) -> Answer:
        """A CSV or Parquet file."""
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder, f"table{suffix_of(file.filename)}")
            await run_in_threadpool(table.write_bytes, await file.read())
            try:
                [answer] = await batcher.ask([table])
            except UserError as error:
                raise UserError(str(error).replace(f"{folder}/", "")) from None
        return answer


def load_page() -> Callable[[Predictor], None]:
    """What builds the page for a browser."""
    from apps.weather.demo import build

    return build


def to_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows of a question as a table.

    Raises:
        UserError: for a value that is an object or a list, and for a name that is no text.
    """
    for number, row in enumerate(rows, start=1):
        for column, value in row.items():
            if isinstance(value, dict | list):
                found = json.dumps(value)[:60]
                raise UserError(f"the table: row {number} has {found} as {column!r}; expected a number, a text or null.")
    try:
        return pd.DataFrame(rows)
    except UnicodeEncodeError as error:
        raise UserError(f"the table: {error.object[:60]!r} is no text: it has half a surrogate pair. Correct it.") from None


def suffix_of(name: str | None) -> str:
    """The ending of a file's name.

    Raises:
        UserError: for one that tells no table.
    """
    suffix = PurePath(name or "").suffix.lower()
    if suffix not in (*CSV, *PARQUET):
        raise UserError(f"file {name!r}: expected .csv, .tsv, .txt or .parquet; got {suffix!r}.")
    return suffix
