"""What stands before the application of shared/serve.py: limits, the token, figures and a log line for each request."""

import hmac
import json
import logging
import time

import prometheus_client
from fastapi import HTTPException
from fastapi.responses import JSONResponse

from shared.settings import ServeRequest

LOG = logging.getLogger("serve")
OPEN = ("/healthz", "/readyz")  # answered without a token


class Metrics:
    """What /metrics shows."""

    def __init__(self, registry: prometheus_client.CollectorRegistry):
        labels = ["path", "status"]
        self.requests = prometheus_client.Counter("requests", "Requests by path and status.", labels, registry=registry)
        self.seconds = prometheus_client.Histogram("request_seconds", "From request to answer.", ["path"], registry=registry)
        self.batch_sizes = prometheus_client.Histogram(
            "batch_size", "Examples in one call of the predictor.", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )


class Guard:
    """Stands before the application: refuses what is too large or has no token, counts, writes a log line for each request."""

    def __init__(self, app, settings: ServeRequest, metrics: Metrics):
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500 if scope["type"] == "http" else 403  # what the client gets where nothing is sent

        async def noting(message) -> None:
            nonlocal status
            status = 101 if message["type"] == "websocket.accept" else message.get("status", status)
            await send(message)

        try:
            if self._is_allowed(scope):
                await self.app(scope, self._limited(receive) if scope["type"] == "http" else receive, noting)
            else:
                refusal = JSONResponse({"detail": "A bearer token is needed."}, 401, {"WWW-Authenticate": "Bearer"})
                await refusal(scope, receive, noting)
        finally:
            seconds, path = time.perf_counter() - started, getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(seconds)
            entry = {"method": scope.get("method", "WEBSOCKET"), "path": scope["path"], "status": status, "ms": 1000 * seconds}
            LOG.info(json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **entry}))

    def _limited(self, receive):
        """`receive`, which ends with 413 when the body has become too large."""
        left = self.settings.max_megabytes * 1e6

        async def limited():
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"The body is larger than {self.settings.max_megabytes:g} MB.")
            return message

        return limited

    def _is_allowed(self, scope) -> bool:
        if self.settings.token is None or scope["path"] in OPEN:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"").removeprefix(b"Bearer ")
        return hmac.compare_digest(given, self.settings.token.encode())
