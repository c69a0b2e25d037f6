"""Speech behind HTTP: recordings and waveforms as the Predictor answers them, streams as the detector does."""

import io
import json
import re
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx2
import keras
import numpy as np
import pytest
import soundfile
import websockets.exceptions
import websockets.sync.client
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from apps.speech import audio
from apps.speech import serve as speech_serve
from apps.speech.config import PRESETS
from apps.speech.export import write
from apps.speech.model import build_model, build_servable
from apps.speech.predict import Predictor
from apps.speech.stream import Detector
from shared import runs, serve
from shared.settings import ServeRequest

REPOSITORY = Path(__file__).parent.parent
SMOKE = PRESETS["smoke"]
TINY = replace(SMOKE, dataset="sample", filters=(4,), recurrent=replace(SMOKE.recurrent, units=4))
NAMES = ["go", "left", "stop", "_unknown_"]
RATE = TINY.sample_rate


@pytest.fixture(scope="module")
def sound():
    """Ten seconds of hisses and tones, each its own, with silence between them."""
    rng, times = np.random.default_rng(0), np.arange(RATE // 2) / RATE
    hisses = [0.1 * rng.normal(size=len(times)) for _ in range(5)]
    tones = [0.3 * np.sin(2 * np.pi * hertz * times) for hertz in (200, 700, 1_500, 3_000, 5_000)]
    pieces = [piece for pair in zip(hisses, tones, strict=True) for piece in pair]
    return np.float32(np.concatenate([np.append(piece, np.zeros(RATE // 2)) for piece in pieces]))


@pytest.fixture(scope="module")
def predictor(sound, tmp_path_factory):
    """Of a finished run of a network that was never trained."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    network = build_model(TINY, len(NAMES), rng.normal(size=TINY.mels), rng.uniform(50, 100, TINY.mels))
    logits, last = network.predict_on_batch(sound.reshape(-1, RATE)), network.layers[-1]
    last.set_weights([3 * last.kernel / logits.std(axis=0), -3 * logits.mean(axis=0) / logits.std(axis=0)])  # no word prevails
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("served"))
        with runs.open_run("speech", TINY, {"data": "sample", "data_fingerprint": "0"}) as opened:
            servable = build_servable(network)
            servable.save(opened.path / "model.keras")
            write(TINY, servable, opened.path)
            metrics = {"app": "speech", "dataset": "sample", "preset": "smoke", "class_names": NAMES}
            folder = opened.finish(metrics | {"stream": {"window": {"threshold": 0.3}}})
        return Predictor(folder.absolute())


@pytest.fixture
def client(predictor):
    with client_of(predictor) as found:
        yield found


def client_of(predictor, **options):
    application = serve.make_app("speech", predictor, speech_serve.add_routes, ServeRequest(**options))
    return TestClient(application, raise_server_exceptions=False)  # what went wrong is answered with 500, as in service


def recorded(samples, rate, kind):
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format=kind)
    return content.getvalue()


def post_file(client, content, name="clip.wav"):
    return client.post("/predict/file", files={"file": (name, content)})


def detected(predictor, samples, threshold=0.3):
    """What `apps.speech.stream` finds in samples that are all there."""
    source = predictor.source()
    detector = Detector(NAMES, source.seconds_per_posterior, threshold)
    return [event._asdict() for event in detector.push(*source.push(samples))]


def heard(stream, samples, frame, count):
    """The first `count` messages that frames of so many samples are answered with."""
    for start in range(0, len(samples), frame):
        stream.send_bytes(samples[start : start + frame].astype("<f4").tobytes())
    return [stream.receive_json() for _ in range(count)]


def test_waveforms_are_answered_as_the_predictor_answers_them(client, predictor, sound):
    waveforms = [sound[:RATE], sound[RATE : RATE + 9_000], sound[:20_000]]
    answers = client.post("/predict", json={"waveforms": [one.tolist() for one in waveforms]}).json()
    for answer, expected in zip(answers, predictor(waveforms), strict=True):
        assert answer["label"] == expected["label"]
        assert answer["probability"] == pytest.approx(expected["probability"], abs=1e-6)
        assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
    assert "16,000 samples per second" in client.get("/openapi.json").text


@pytest.mark.parametrize("name", ["a.wav", "b.FLAC", "c.ogg", "d.mp3", "nameless", "flac.wav", "odd.raw"])
def test_a_recording_is_answered_as_the_predictor_answers_the_file(client, predictor, sound, name):
    """Of another rate, in stereo, whatever its name says."""
    kind = {"nameless": "OGG", "flac.wav": "FLAC", "odd.raw": "WAV"}.get(name, name[2:].upper())
    content = recorded(np.stack([sound[:44_100], np.zeros(44_100)], axis=1), 44_100, kind)
    file = Path(f"kept.{kind}")
    file.write_bytes(content)
    [expected] = predictor([file])
    answer = post_file(client, content, name)
    assert answer.status_code == 200, answer.text
    assert answer.json()["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)


def test_a_wrong_recording_is_422_with_the_message_of_the_command_line(client, sound):
    flac = bytearray(recorded(sound[:RATE], RATE, "FLAC"))
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)  # the number of samples, which is not known while it is written into a pipe
    floats = io.BytesIO()
    soundfile.write(floats, [0.0, np.nan], RATE, format="WAV", subtype="FLOAT")
    for content, message in (
        (b"no sound at all", "The file is no audio, whatever its name says"),
        (b"", "The file is no audio, whatever its name says"),
        (recorded(sound[:0], RATE, "WAV"), "The file is a recording of length 0"),
        (recorded(sound[:RATE], RATE, "WAV")[:-9], "The file is cut off: 32,044 bytes by its header, 32,035 there"),
        (floats.getvalue(), "The file holds samples that are no numbers"),
        (recorded(sound[: 2 * RATE], RATE, "OGG"), "The file lasts 2.0 s; the answer would be about its loudest 1 s alone"),
        (bytes(flac), "The file does not say how long it is"),
    ):
        answer = post_file(client, content)
        assert (answer.status_code, message in answer.json()["detail"]) == (422, True), answer.text


def test_a_short_file_that_would_become_long_is_not_decoded(client, predictor, monkeypatch):
    monkeypatch.setattr(audio, "read", lambda *_: pytest.fail("decoded"))
    hour = recorded(np.zeros(3_600 * 8_000, np.int16), 8_000, "FLAC")
    assert len(hour) < 1e6
    assert "lasts 3600.0 s" in post_file(client, hour).json()["detail"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"waveforms": [[0.1, NaN]]}', "A waveform holds samples that are no numbers"),
        ('{"waveforms": [[0.1, 1e999]]}', "A waveform holds samples that are no numbers"),
        ('{"waveforms": [[1e300]]}', "A waveform holds floating-point samples up to 1,000"),
        ('{"waveforms": [[0], [3000]]}', "A waveform holds floating-point samples up to 3,000; expected -1 to 1"),
        (f'{{"waveforms": [[{"0," * 24_000}0]]}}', "A waveform lasts 1.5 s; the answer would be about its loudest 1 s alone"),
        ('{"waveforms": [[[0.1, 0.2]]]}', "body.waveforms.0.0: Input should be a valid number"),
        ('{"waveforms": [0.1, 0.2]}', "body.waveforms.0: Input should be a valid list"),
        ('{"waveforms": [[]]}', "body.waveforms.0: List should have at least 1 item"),
        ('{"waveforms": []}', "body.waveforms: List should have at least 1 item"),
        ('{"waveforms": [["a", "b", "c"]]}', "body.waveforms.0.0: Input should be a valid number"),
        (f'{{"waveforms": [[1{"0" * 400}]]}}', "body.waveforms.0.0: Input should be a valid number"),
        ('{"waveforms": null}', "body.waveforms: Input should be a valid list"),
        ("{}", "body.waveforms: Field required"),
    ],
)
def test_a_wrong_waveform_is_422(client, body, message):
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, message in answer.json()["detail"]) == (422, True), answer.text[:300]
    assert answer.json()["detail"].count(";") <= 1  # one problem, not one for each sample


def test_malformed_requests_are_refused_and_the_server_lives(client, sound):
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\nabc\r\n--x--\r\n'
    for path, options in (
        ("/predict/file", {"data": {"file": "text"}}),
        ("/predict/file", {"files": {"other": b"abc"}}),
        ("/predict/file", {"json": {"file": "text"}}),
        ("/predict/file", {"content": b"--x\r\nodd", "headers": form}),
        ("/predict/file", {"content": b"abc", "headers": {"Content-Type": "multipart/form-data"}}),
        ("/predict/file", {"content": part % b"a\0/../../b.wav", "headers": form}),
        (
            "/predict/file",
            {"content": part % b"+2AA-.wav", "headers": {"Content-Type": form["Content-Type"] + "; charset=utf-7"}},
        ),
        ("/predict/file", {"content": part % (b"a" * 5_000 + b".wav"), "headers": form}),
        ("/predict", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        ("/predict", {"content": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}),
        ("/predict", {"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}),
        ("/stream", {"json": {}}),
    ):
        assert 400 <= client.post(path, **options).status_code < 500, (path, options)
    assert post_file(client, recorded(sound[:RATE], RATE, "WAV")).status_code == 200


def test_too_large_a_recording_is_413(predictor, sound):
    with client_of(predictor, max_megabytes=0.02) as client:
        assert post_file(client, recorded(sound[:RATE], RATE, "WAV")).status_code == 413
        assert post_file(client, recorded(sound[:RATE], RATE, "OGG")).status_code == 200


@pytest.mark.parametrize("frame", [777, 16_000, 10**6])
def test_a_streams_commands_are_those_of_the_detector(client, predictor, sound, frame):
    expected = detected(predictor, sound)
    assert len(expected) > 3
    with client.websocket_connect("/stream") as stream:
        events = heard(stream, sound, frame, len(expected))
    for event, other in zip(events, expected, strict=True):
        assert event == other | {"probability": pytest.approx(other["probability"], abs=1e-5)}


def test_a_stream_may_have_a_threshold_of_its_own(client, predictor, sound):
    expected = detected(predictor, sound, threshold=0.0)
    assert [one["seconds"] for one in expected] != [one["seconds"] for one in detected(predictor, sound)]
    with client.websocket_connect("/stream?threshold=0&mode=window") as stream:
        events = heard(stream, sound, RATE, len(expected))
    assert [one["seconds"] for one in events] == [one["seconds"] for one in expected]


def test_a_stream_of_another_rate_is_resampled(client, predictor, sound):
    other = audio.resample(sound, RATE, 44_100)
    expected = detected(predictor, audio.resample(other, 44_100, RATE))
    with client.websocket_connect("/stream?rate=44100") as stream:
        events = heard(stream, np.concatenate([other, np.zeros(4_410)]), 4_410, len(expected))  # the resampler holds some back
    for event, one in zip(events, expected, strict=True):
        assert event == one | {"probability": pytest.approx(one["probability"], abs=0.01)}


def test_streams_know_nothing_of_each_other(client, predictor, sound):
    expected, others = detected(predictor, sound), detected(predictor, sound[::-1])
    assert [one["seconds"] for one in expected] != [one["seconds"] for one in others]
    with client.websocket_connect("/stream") as stream, client.websocket_connect("/stream") as other:
        for start in range(0, len(sound), RATE):
            stream.send_bytes(sound[start : start + RATE].tobytes())
            other.send_bytes(sound[::-1][start : start + RATE].tobytes())
        for events, one in ((expected, stream), (others, other)):
            assert [one.receive_json()["seconds"] for _ in events] == [event["seconds"] for event in events]


@pytest.mark.parametrize(
    ("path", "frame", "reason"),
    [
        ("/stream", bytes(7), "A frame holds float32 samples, little-endian, 4 bytes each; got 7 bytes."),
        ("/stream", "text", "A frame holds float32 samples, little-endian, 4 bytes each; got text."),
        ("/stream", np.float32([np.nan]).tobytes(), "A frame holds samples that are no numbers"),
        ("/stream", np.float32([3e38]).tobytes(), "A frame holds floating-point samples up to 300,000"),
        ("/stream?rate=3999", bytes(4), "rate is 4000 to 384000 samples per second; got 3999."),
        ("/stream?threshold=1.5", bytes(4), "threshold is a probability, 0 to 1; got 1.5."),
        ("/stream?mode=carried", bytes(4), "--mode carried is none of this network's: window."),
    ],
)
def test_a_wrong_frame_ends_the_stream_with_1003_and_a_reason(client, path, frame, reason):
    with client.websocket_connect(path) as stream:
        (stream.send_text if isinstance(frame, str) else stream.send_bytes)(frame)
        with pytest.raises(WebSocketDisconnect) as end:
            stream.receive_json()
    assert (end.value.code, end.value.reason[: len(reason)]) == (1003, reason)
    assert len(end.value.reason) <= 123
    assert client.get("/healthz").status_code == 200


def test_the_end_of_a_connection_frees_everything(client, sound, monkeypatch):
    streams, made = weakref.WeakSet(), speech_serve.CommandStream

    class Watched(made):
        def __init__(self, *args):
            super().__init__(*args)
            streams.add(self)

    monkeypatch.setattr(speech_serve, "CommandStream", Watched)
    with client.websocket_connect("/stream") as stream:
        heard(stream, sound, 1_600, 1)
        assert len(streams) == 1
        stream.send_bytes(sound.tobytes())  # it leaves while this is computed
    wait_until(lambda: not streams)


class Pause:
    """Stands for a function that takes long."""

    def __init__(self, result):
        self.result, self.begun, self.may_end, self.ended = result, threading.Event(), threading.Event(), threading.Event()

    def __call__(self, *_):
        self.begun.set()
        self.may_end.wait(5)
        self.ended.set()
        return self.result


def test_a_recording_that_is_read_keeps_no_one_waiting(client, sound, monkeypatch):
    pause = Pause(sound[:RATE])
    monkeypatch.setattr(audio, "read", pause)
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(post_file, client, recorded(sound[:RATE], RATE, "WAV"))
        assert pause.begun.wait(5)
        assert client.get("/healthz").status_code == 200
        assert not pause.ended.is_set()
        pause.may_end.set()
        assert reading.result().status_code == 200


def test_a_stream_that_is_computed_keeps_no_one_waiting(client, predictor, sound, monkeypatch):
    pause = Pause(np.full((5, len(NAMES)), 0.25, np.float32))
    monkeypatch.setattr(predictor, "probabilities", pause)
    with client.websocket_connect("/stream") as stream:
        stream.send_bytes(sound[: RATE // 2 + 4 * RATE // 10].tobytes())  # five windows
        assert pause.begun.wait(5)
        assert client.get("/healthz").status_code == 200
        assert not pause.ended.is_set()
        pause.may_end.set()


def test_a_stream_needs_the_token_too_and_is_counted(predictor, sound):
    with client_of(predictor, token="secret") as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/stream", headers=headers):
                pass
            assert (refused.value.status_code, refused.value.headers["www-authenticate"]) == (401, "Bearer")
        bearer = {"Authorization": "Bearer secret"}
        with client.websocket_connect("/stream", headers=bearer) as stream:
            heard(stream, sound, RATE, 1)
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/stream?rate=odd", headers=bearer):
            pass
        assert post_file(client, b"").status_code == 401
        counted = lambda: client.get("/metrics", headers=bearer).text  # noqa: E731
        wait_until(lambda: 'requests_total{path="/stream",status="101"} 1.0' in counted())
        assert 'requests_total{path="/stream",status="403"} 1.0' in counted()
        assert 'requests_total{path="other",status="401"} 3.0' in counted()


def test_of_too_many_streams_the_last_is_refused_until_one_ends(predictor, sound):
    with client_of(predictor, queue=1) as client:
        with client.websocket_connect("/stream") as stream:
            heard(stream, sound, RATE, 1)
            with client.websocket_connect("/stream") as other, pytest.raises(WebSocketDisconnect) as refused:
                other.receive_json()
            assert (refused.value.code, refused.value.reason) == (1013, "Too many streams are open; try again.")
        wait_until(lambda: 'requests_total{path="/stream",status="101"} 2.0' in client.get("/metrics").text)
        with client.websocket_connect("/stream") as stream:
            heard(stream, sound, RATE, 1)


def wait_until(happened):
    for _ in range(500):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within five seconds")


def test_the_command_serves_recordings_and_streams(predictor, sound):
    """Through uvicorn; TensorFlow is not imported."""
    command = [sys.executable, "-m", "apps.speech", "serve", "--run", str(predictor.folder), "--port", "0", "--token", "secret"]
    bearer = {"Authorization": "Bearer secret"}
    expected = detected(predictor, sound)
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            url = re.search(r"http://\S+", server.stdout.readline())[0]
            form = {"file": ("clip.wav", recorded(sound[:RATE], RATE, "WAV"))}
            assert httpx2.post(f"{url}/predict/file", files=form, headers=bearer, timeout=20).json()["label"] in NAMES
            address = url.replace("http", "ws") + "/stream"
            with (
                pytest.raises(websockets.exceptions.InvalidStatus, match="401"),
                websockets.sync.client.connect(address),
            ):
                pass
            with websockets.sync.client.connect(address, additional_headers=bearer) as stream:
                stream.send(sound.tobytes())
                events = [json.loads(stream.recv(timeout=20)) for _ in expected]
                assert [event["word"] for event in events] == [event["word"] for event in expected]
                stream.send(bytes(3))
                with pytest.raises(websockets.exceptions.ConnectionClosedError, match=r"1003 .* got 3 bytes"):
                    stream.recv(timeout=20)
        finally:
            server.terminate()
