"""A run behind HTTP: FastAPI and uvicorn in front of an app's Predictor.

    request -> body small enough? token? -> examples (422 if they are wrong) -> queue (503 if it is full)
            -> one thread takes what waits, many examples at once, and asks the predictor -> answers (504 if it took too long)

An app's `serve.py` says what a request looks like: `add_routes`.
"""

import asyncio
import contextlib
import importlib.util
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import fastapi
import prometheus_client
import uvicorn
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse

from shared.cli import UserError
from shared.guard import LOG, Guard, Metrics
from shared.settings import ServeRequest

MAX_BATCH = 32  # examples that the predictor is asked for at once
RETRY_AFTER = 1  # seconds
PING_TIMEOUT = 120.0  # seconds until a websocket that is silent counts as gone
KEEP_ALIVE = 60  # seconds: uvicorn's 5 cut connections off under load, between two requests
LOCAL = ("127.0.0.1", "localhost", "::1")


class Waiting(NamedTuple):
    """An example in the queue, and where its answer goes."""

    example: Any
    answer: asyncio.Future


class Batcher:
    """Asks the predictor for the examples of several requests at once: whatever came while it was busy.

    Args:
        predictor: from a list of examples to a list of answers; called in a thread of its own.
        settings: `queue`, examples that may wait; `timeout`, seconds until an answer.
        sizes: gets the number of examples of each call.
    """

    def __init__(self, predictor: Callable[[list], list], settings: ServeRequest, sizes: prometheus_client.Histogram):
        self.predictor, self.settings, self.sizes = predictor, settings, sizes
        self.queue = asyncio.Queue(settings.queue)
        self.thread = ThreadPoolExecutor(1, "predictor")

    async def ask(self, examples: list) -> list:
        """The answers to some examples.

        Raises:
            HTTPException: 422 for more than the queue can hold, 503 if it has no room for them now, 504 if the answers take
                too long.
            UserError: what the predictor says of a wrong example.
        """
        if len(examples) > self.settings.queue:
            raise HTTPException(422, f"A request holds at most {self.settings.queue} examples (--queue); got {len(examples)}.")
        if self.queue.qsize() + len(examples) > self.settings.queue:
            raise HTTPException(503, "Too many requests are waiting; try again.", {"Retry-After": str(RETRY_AFTER)})
        loop = asyncio.get_running_loop()
        waiting = [Waiting(example, loop.create_future()) for example in examples]
        for one in waiting:
            self.queue.put_nowait(one)
        try:
            async with asyncio.timeout(self.settings.timeout):
                return [await one.answer for one in waiting]
        except TimeoutError:
            raise HTTPException(504, f"No answer within {self.settings.timeout:g} seconds.") from None
        finally:
            for one in waiting:
                one.answer.cancel()  # who has no one waiting for it is not computed

    async def run(self) -> None:
        """Answer for ever."""
        while True:
            batch = [await self.queue.get()]
            while len(batch) < MAX_BATCH and not self.queue.empty():
                batch.append(self.queue.get_nowait())
            batch = [one for one in batch if not one.answer.done()]
            if batch:
                self.sizes.observe(len(batch))
                await self._answer(batch)

    async def _answer(self, batch: list[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self.thread, self.predictor, [one.example for one in batch])
        except Exception as error:  # of a wrong example, which must not fail those beside it: each is asked alone
            if len(batch) > 1:
                for one in batch:
                    await self._answer([one])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)


def make_app(name: str, predictor, add_routes: Callable[[fastapi.FastAPI, Any, Batcher], None], settings: ServeRequest):
    """The web application of an app's run.

    Args:
        name: of the app.
        predictor: its Predictor.
        add_routes: `(application, predictor, batcher)`; adds /predict, which gets its answers from `batcher.ask`.
        settings: see there.
    """
    registry = prometheus_client.CollectorRegistry()
    metrics = Metrics(registry)
    batcher = Batcher(predictor, settings, metrics.batch_sizes)

    @contextlib.asynccontextmanager
    async def lifespan(_app) -> AsyncIterator[None]:
        answering = asyncio.create_task(batcher.run())
        yield
        answering.cancel()
        batcher.thread.shutdown()

    application = fastapi.FastAPI(title=name, lifespan=lifespan)
    application.add_middleware(Guard, settings=settings, metrics=metrics)

    @application.exception_handler(UserError)
    async def wrong_input(_request, error: UserError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    @application.exception_handler(RequestValidationError)
    async def wrong_form(_request, error: RequestValidationError) -> JSONResponse:
        found = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        return JSONResponse({"detail": "; ".join(found)}, 422)  # FastAPI's own answer repeats the body, which may be no text

    @application.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @application.get("/readyz")
    async def readyz() -> dict[str, str]:
        if batcher.queue.full():
            raise HTTPException(503, "Too many requests are waiting.")
        return {"status": "ready", "run": str(predictor.folder)}

    @application.get("/metrics")
    async def show_metrics() -> PlainTextResponse:
        return PlainTextResponse(prometheus_client.generate_latest(registry))

    add_routes(application, predictor, batcher)
    return application


def serve(
    name: str,
    predictor,
    add_routes: Callable[[fastapi.FastAPI, Any, Batcher], None],
    load_page: Callable[[], Callable],
    settings: ServeRequest,
) -> None:
    """Serve until Ctrl-C or SIGTERM; requests that have begun are answered first.

    Args:
        name: of the app.
        predictor: its Predictor.
        add_routes: see `make_app`.
        load_page: gives the `build` of the app's demo.py; called with `--page` alone, as gradio takes seconds to import.
        settings: see there.

    Raises:
        UserError: if the address cannot be listened on, or the page cannot be shown.
    """
    application = make_app(name, predictor, add_routes, settings)
    if settings.page:
        if importlib.util.find_spec("gradio") is None:
            raise UserError(f"--page needs gradio. make {name}-demo installs it.")
        from shared.demo import mount

        mount(application, name, predictor, load_page())
    try:
        listening = socket.create_server((settings.host, settings.port))
    except OSError as error:
        raise UserError(
            f"--host {settings.host} --port {settings.port} cannot be listened on: {error.strerror}. Name another port."
        ) from None
    # Each connection inherits it; asyncio sees no TCP in a socket made here, and small answers would wait 40 ms for Nagle.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    LOG.setLevel(logging.INFO)
    url = "http://{}:{}".format(*listening.getsockname()[:2])
    print(f"{predictor.folder} is served at {url}  (/docs, /metrics). Ctrl-C ends it.", flush=True)
    if settings.token is None and settings.host not in LOCAL:
        print("warning: whoever reaches this address may ask; --token limits that.", file=sys.stderr)
    options = {
        "log_config": None,
        "access_log": False,
        "timeout_graceful_shutdown": round(settings.timeout) + 1,
        "timeout_keep_alive": KEEP_ALIVE,
        "ws_max_size": round(1e6 * settings.max_megabytes),  # of one message
        "ws_ping_timeout": PING_TIMEOUT,  # who waits for sound to be computed is not read from, so seems not to answer
    }
    uvicorn.Server(uvicorn.Config(application, **options)).run(sockets=[listening])
