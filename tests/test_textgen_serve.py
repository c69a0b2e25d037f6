"""Text over HTTP: answers, what is written side by side, refusals, streams, and what odd requests do to the server."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import keras
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings, strategies

from apps.textgen import export, serve
from apps.textgen.config import DEFAULT, RECURRENT, Request
from apps.textgen.model import build_generator, build_servable
from apps.textgen.predict import Predictor
from apps.textgen.sampling import CHUNK, Sampling
from shared.serve import make_app
from shared.settings import ServeRequest

TINY = replace(DEFAULT, embedding_dim=4, recurrent=replace(RECURRENT, units=6))
VOCABULARY = ["\n", " ", "1", "a", "b", "c", "d", "e", "Ä", "\N{GRINNING FACE}"]
WILD = {"temperature": 2.0, "top_k": 7, "top_p": 0.9}
LONG = 10_000


class Network:
    """Counts the prompts of each call; a call waits until it is let go."""

    def __init__(self, network):
        self.network, self.inputs = network, network.inputs
        self.calls, self.may_answer = [], threading.Event()
        self.may_answer.set()

    def __call__(self, **inputs):
        self.calls.append(len(inputs["ids"]))
        self.may_answer.wait(10)
        return self.network(**inputs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a training leaves for the predictor, of random weights that are large enough that the text wanders."""
    keras.utils.set_random_seed(0)
    network = build_generator(TINY, len(VOCABULARY) + 2)
    network.set_weights([weight * 3 + 0.1 for weight in network.get_weights()])
    folder = tmp_path_factory.mktemp("served")
    export.write(TINY, build_servable(TINY, VOCABULARY, network), folder)
    return folder


@pytest.fixture
def predictor(folder):
    found = Predictor(folder)
    found.network = Network(found.network)
    yield found
    found.network.may_answer.set()


@pytest.fixture
def application(predictor):
    return make_app("textgen", predictor, serve.add_routes, ServeRequest())


@pytest.fixture
def client(application):
    with TestClient(application) as found:
        yield found


def ask(client, *prompts, **options):
    answer = client.post("/predict", json={"prompts": prompts} | options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client, path="/predict", **body):
    answer = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    return answer.json()["detail"]


def texts(answers):
    return [answer["text"] for answer in answers]


def events_of(stream):
    """The data of each event but the last, which is `end`."""
    *events, last, rest = stream.split("\n\n")
    assert (last, rest) == ("event: end\ndata: {}", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def wait_until(happened):
    for _ in range(500):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within five seconds")


def test_answers_are_those_of_the_predictor(client, predictor):
    prompts = ["ab", "ab", "bad"]
    for options, expected in (
        ({}, predictor(prompts, Sampling(Request.temperature))),
        (WILD | {"length": 70, "seed": 3, "stop": "ea"}, predictor(prompts, Sampling(**WILD), 70, 3, "ea")),
    ):
        found = ask(client, *prompts, **options)
        assert texts(found) == texts(expected)
        for one, other in zip(found, expected, strict=True):
            assert one["probabilities"] == pytest.approx(other["probabilities"])
    assert len(texts(expected)[0]) < 70


def test_questions_are_written_side_by_side_and_answered_as_each_by_itself(client, predictor):
    network = predictor.network
    questions = [
        (["ab", "cd"], WILD | {"seed": 1, "length": 40}),
        (["ab"], WILD | {"seed": 2, "length": 40}),
        (["ab"], WILD | {"seed": 1, "length": 40, "stop": "a"}),
    ]
    alone = [ask(client, *prompts, **options) for prompts, options in questions]
    assert alone[0][0]["text"] != alone[1][0]["text"]
    network.calls.clear()
    network.may_answer.clear()
    with ThreadPoolExecutor() as threads:
        first = threads.submit(ask, client, "e", length=1)
        wait_until(lambda: network.calls)
        others = [threads.submit(ask, client, *prompts, **options) for prompts, options in questions]
        time.sleep(0.3)
        network.may_answer.set()
        assert len(first.result()) == 1
        for found, expected in zip(others, alone, strict=True):
            assert texts(found.result()) == texts(expected)
    assert network.calls.count(3) == 40  # the prompts of the first two questions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": [""]}, "--prompt is empty; give one character or more."),
        ({"prompts": ["ab", "axyz"]}, "--prompt has characters that the network has never seen: 'x' 'y' 'z'. "),
        ({"prompts": ["xyz"], "on_unknown": "skip"}, "--prompt has no character that the network knows"),
        ({"prompts": ["\ud800"]}, "body.prompts.0: Input should be a valid string"),
        ({"length": 0}, "--length is 1 or more; got 0."),
        ({"length": LONG + 1}, "body.length: Input should be less than or equal to 10000"),
        ({"temperature": -1}, "--temperature is 0 or more, and finite; got -1.0."),
        ({"top_k": 0}, "--top-k is 1 or more; got 0."),
        ({"top_p": 1.5}, "--top-p lies above 0 and is at most 1; got 1.5."),
        ({"seed": -1}, "--seed is 0 or more and below 2147483648; got -1."),
        ({"prompts": []}, "body.prompts: List should have at least 1 item"),
        ({"prompts": ["a"] * 33}, "body.prompts: List should have at most 32 items"),
        ({"prompts": ["a" * (LONG + 1)]}, "body.prompts.0: String should have at most 10000 characters"),
        ({"prompts": "ab"}, "body.prompts: Input should be a valid list"),
        ({"temperature": "hot"}, "body.temperature: Input should be a valid number"),
        ({"temperature": {"a": [1]}}, "body.temperature: Input should be a valid number"),
        ({"on_unknown": "ask"}, "body.on_unknown: Input should be 'error' or 'skip'"),
    ],
)
def test_what_is_wrong_is_said_as_the_command_says_it(client, options, message):
    assert message in refused(client, **({"prompts": ["ab"]} | options))
    prompts = options.pop("prompts", ["ab"])
    if isinstance(prompts, list) and len(prompts) in (1, 2):
        assert message.replace("prompts.0", "prompt") in refused(client, "/stream", prompt=prompts[-1], **options)


def test_unknown_characters_are_skipped_on_request(client):
    assert ask(client, "xaxbx", on_unknown="skip") == ask(client, "ab")


@pytest.mark.parametrize("stop", [None, "ab", "\n1"])
def test_a_stream_gives_the_text_in_pieces(client, stop):
    options = WILD | {"length": 100, "stop": stop}
    answer = client.post("/stream", json={"prompt": "ab"} | options)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = events_of(answer.text)
    [expected] = ask(client, "ab", **options)
    assert "".join(event["text"] for event in events) == expected["text"]
    assert [one for event in events for one in event["probabilities"]] == pytest.approx(expected["probabilities"])
    if stop is None:
        assert [len(event["text"]) for event in events] == [CHUNK, CHUNK, CHUNK, 100 - 3 * CHUNK]


def test_other_requests_are_answered_during_a_stream(client, predictor):
    predictor.network.may_answer.clear()
    with ThreadPoolExecutor() as threads:
        streamed = threads.submit(client.post, "/stream", json={"prompt": "ab", "length": 40})
        assert client.get("/healthz").json() == {"status": "ok"}
        assert "network has never seen" in refused(client, prompts=["x"])
        assert not streamed.done()
        predictor.network.may_answer.set()
        assert len(events_of(streamed.result().text)) == 2


def test_too_many_streams_are_answered_with_503(client, predictor, monkeypatch):
    monkeypatch.setattr(serve, "MAX_STREAMS", 1)
    predictor.network.may_answer.clear()
    with ThreadPoolExecutor() as threads:
        streamed = threads.submit(client.post, "/stream", json={"prompt": "ab"})
        wait_until(lambda: predictor.network.calls)
        answer = client.post("/stream", json={"prompt": "ab"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        predictor.network.may_answer.set()
        events_of(streamed.result().text)
    events_of(client.post("/stream", json={"prompt": "ab"}).text)


def test_nothing_is_written_for_a_client_that_went_away(application, predictor):
    body = json.dumps({"prompt": "ab", "length": LONG}).encode()
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/stream", "query_string": b"", "headers": headers, "asgi": {}}

    async def leave_after_two_events():
        received, gone = asyncio.Queue(), asyncio.Event()
        received.put_nowait({"type": "http.request", "body": body, "more_body": False})
        sent = []

        async def receive():
            if received.empty():
                await gone.wait()
                return {"type": "http.disconnect"}
            return received.get_nowait()

        async def send(message):
            sent.append(message)
            if len(sent) == 3:  # the headers, and two events
                gone.set()

        await asyncio.wait_for(application(scope, receive, send), 20)
        calls = len(predictor.network.calls)
        await asyncio.sleep(0.2)
        assert len(predictor.network.calls) <= calls + CHUNK

    asyncio.run(leave_after_two_events())
    assert len(predictor.network.calls) < 10 * CHUNK  # of 10,000
    with TestClient(application) as client:
        assert len(events_of(client.post("/stream", json={"prompt": "ab", "length": 40}).text)) == 2


VALUES = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.floats() | strategies.integers() | strategies.text(max_size=5),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [*serve.Question.model_fields, "prompt"]


@given(body=strategies.dictionaries(strategies.sampled_from(FIELDS), VALUES, max_size=4), good=strategies.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_malformed_requests_are_refused_and_the_server_lives(client, body, good):
    body = ({"prompts": ["ab"], "prompt": "ab", "length": 5} if good else {}) | body
    for path in ("/predict", "/stream"):
        answer = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert answer.status_code in (200, 422), answer.text
    assert len(ask(client, "ab", length=3)) == 1
