"""The server before any Predictor: batches, limits, refusals, figures, and its end."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings, strategies
from pydantic import StrictInt

from shared import serve
from shared.cli import UserError
from shared.settings import ServeRequest

REPOSITORY = Path(__file__).parent.parent


class Doubles:
    """Stands for a Predictor: doubles numbers, once it is let go."""

    folder = Path("runs/doubles/1")

    def __init__(self):
        self.calls, self.may_answer = [], threading.Event()
        self.may_answer.set()

    def __call__(self, examples):
        self.calls.append(examples)
        self.may_answer.wait(10)
        if any(example < 0 for example in examples):
            raise UserError(f"{min(examples)} is below 0; give a number above it.")
        return [2 * example for example in examples]


def add_routes(application, _predictor, batcher):
    @application.post("/predict")
    async def predict(numbers: list[StrictInt]) -> list[int]:
        return await batcher.ask(numbers)


@pytest.fixture
def predictor():
    found = Doubles()
    yield found
    found.may_answer.set()


def client_of(predictor, **options):
    return TestClient(serve.make_app("doubles", predictor, add_routes, ServeRequest(**options)))


@pytest.fixture
def client(predictor):
    with client_of(predictor) as found:
        yield found


def wait_until(happened):
    for _ in range(500):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within five seconds")


def test_an_answer_for_each_example(client):
    assert client.post("/predict", json=[1, 2, 3]).json() == [2, 4, 6]
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "run": "runs/doubles/1"}
    assert "/predict" in client.get("/openapi.json").json()["paths"]


def test_what_comes_while_the_predictor_is_busy_is_asked_together(client, predictor):
    predictor.may_answer.clear()
    with ThreadPoolExecutor() as threads:
        first = threads.submit(client.post, "/predict", json=[0])
        wait_until(lambda: predictor.calls)
        others = [threads.submit(client.post, "/predict", json=[n]) for n in range(1, 4)]
        wait_until(lambda: 'batch_size_bucket{le="1.0"} 1.0' in client.get("/metrics").text)
        time.sleep(0.2)
        predictor.may_answer.set()
        assert [one.result().json() for one in (first, *others)] == [[0], [2], [4], [6]]
    assert [sorted(call) for call in predictor.calls] == [[0], [1, 2, 3]]


def test_a_wrong_example_fails_alone(client, predictor):
    predictor.may_answer.clear()
    with ThreadPoolExecutor() as threads:
        first = threads.submit(client.post, "/predict", json=[0])
        wait_until(lambda: predictor.calls)
        good, bad = (threads.submit(client.post, "/predict", json=[n]) for n in (5, -5))
        time.sleep(0.2)
        predictor.may_answer.set()
        assert first.result().json() == [0]
        assert good.result().json() == [10]
        assert bad.result().status_code == 422
        assert bad.result().json() == {"detail": "-5 is below 0; give a number above it."}
    assert client.post("/predict", json=[1]).json() == [2]


def test_a_full_queue_is_answered_with_503(predictor):
    with client_of(predictor, queue=2) as client, ThreadPoolExecutor() as threads:
        predictor.may_answer.clear()
        first = threads.submit(client.post, "/predict", json=[0])
        wait_until(lambda: predictor.calls)
        waiting = threads.submit(client.post, "/predict", json=[1, 2])
        wait_until(lambda: client.get("/readyz").status_code == 503)
        refused = client.post("/predict", json=[3])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        predictor.may_answer.set()
        assert [first.result().json(), waiting.result().json()] == [[0], [2, 4]]
    assert [3] not in predictor.calls


def test_what_no_queue_can_hold_is_not_to_be_tried_again(predictor):
    with client_of(predictor, queue=2) as client:
        answer = client.post("/predict", json=[1, 2, 3])
        assert (answer.status_code, "retry-after" in answer.headers) == (422, False)
        assert answer.json() == {"detail": "A request holds at most 2 examples (--queue); got 3."}


def test_too_slow_an_answer_is_504_and_what_no_one_waits_for_is_not_computed(predictor):
    with client_of(predictor, timeout=0.2) as client, ThreadPoolExecutor() as threads:
        predictor.may_answer.clear()
        first = threads.submit(client.post, "/predict", json=[0])
        wait_until(lambda: predictor.calls)
        late = client.post("/predict", json=[1])
        assert (late.status_code, first.result().status_code) == (504, 504)
        predictor.may_answer.set()
        assert client.post("/predict", json=[2]).json() == [4]
    assert predictor.calls == [[0], [2]]


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_body_is_413(predictor, chunked):
    body = b"[" + b"1," * 1000 + b"1]"
    with client_of(predictor, max_megabytes=0.001) as client:
        content = iter([body[:900], body[900:]]) if chunked else body
        refused = client.post("/predict", content=content, headers={"Content-Type": "application/json"})
        assert (refused.status_code, refused.json()) == (413, {"detail": "The body is larger than 0.001 MB."})
        assert client.post("/predict", json=[1]).json() == [2]


def test_a_token_is_asked_for_where_one_was_given(predictor):
    with client_of(predictor, token="secret") as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            refused = client.post("/predict", json=[1], headers=headers)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert client.get("/metrics").status_code == 401
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        assert client.post("/predict", json=[1], headers={"Authorization": "Bearer secret"}).json() == [2]


def test_metrics_count_requests_errors_and_batches(client):
    client.post("/predict", json=[1, 2])
    client.post("/predict", json="odd")
    client.get("/nowhere")
    text = client.get("/metrics").text
    for line in (
        'requests_total{path="/predict",status="200"} 1.0',
        'requests_total{path="/predict",status="422"} 1.0',
        'requests_total{path="other",status="404"} 1.0',
        'request_seconds_count{path="/predict"} 2.0',
        "batch_size_sum 2.0",
    ):
        assert line in text


def test_a_failure_is_counted_as_500(client, predictor):
    predictor.calls = None  # an error that no one foresaw
    with pytest.raises(AttributeError):
        client.post("/predict", json=[1])
    assert 'requests_total{path="/predict",status="500"} 1.0' in client.get("/metrics").text


BODIES = strategies.one_of(
    strategies.binary(max_size=200),
    strategies.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    strategies.recursive(
        strategies.none() | strategies.booleans() | strategies.floats() | strategies.text(max_size=20),
        lambda inner: (
            strategies.lists(inner, max_size=4) | strategies.dictionaries(strategies.text(max_size=9), inner, max_size=4)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(body=BODIES, kind=strategies.sampled_from(["application/json", "text/plain", "multipart/form-data; boundary=x", ""]))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_malformed_bodies_are_refused_and_the_server_lives(client, body, kind):
    answer = client.post("/predict", content=body, headers={"Content-Type": kind})
    assert 400 <= answer.status_code < 500 or all(type(number) is int for number in json.loads(body))
    assert client.post("/predict", json=[1]).json() == [2]


SLOW = """
import sys, time
from pathlib import Path
from shared import serve
from shared.settings import ServeRequest
from test_serve import add_routes
class Slow:
    folder = Path("runs/slow/1")
    def __call__(self, examples):
        time.sleep(1)
        return examples
serve.serve("slow", Slow(), add_routes, None, ServeRequest(port=0))
"""


def test_sigterm_lets_running_requests_end():
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    server = subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    url = re.search(r"http://\S+", server.stdout.readline())[0]
    assert httpx2.get(f"{url}/healthz", timeout=20).json() == {"status": "ok"}
    with ThreadPoolExecutor() as threads:
        running = threads.submit(httpx2.post, f"{url}/predict", json=[7], timeout=20)
        time.sleep(0.5)
        server.send_signal(signal.SIGTERM)
        assert running.result().json() == [7]
    _, log = server.communicate(timeout=20)
    _, entry = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", "/predict", 200)
    assert entry["ms"] > 500
    with pytest.raises(httpx2.ConnectError):
        httpx2.post(f"{url}/predict", json=[7])


def test_a_port_in_use_is_said(predictor):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"--host 127\.0\.0\.1 --port {port} cannot be listened on: Address already in use"
        ):
            serve.serve("doubles", predictor, add_routes, None, ServeRequest(port=port))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 70_000}, "--port is at most 65535; got 70000"),
        ({"queue": 0}, "--queue is 1 or more; got 0"),
        ({"page": True, "token": "x"}, "--page and --token do not go together"),
        ({"timeout": 0.0}, r"--timeout is above 0; got 0\.0"),
        ({"max_megabytes": float("nan")}, "--max-megabytes is above 0; got nan"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        ServeRequest(**options)
