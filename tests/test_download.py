"""The first start with a network, of every app, with a host on loopback: downloads, broken connections, proxies, archives."""

import functools
import hashlib
import io
import re
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile

from apps.sentiment import data as sentiment
from apps.sentiment.config import PRESETS as SENTIMENT
from apps.speech import catalogue
from apps.speech import data as speech
from apps.speech.config import PRESETS as SPEECH
from apps.textgen import data as textgen
from apps.textgen.config import PRESETS as TEXTGEN
from apps.weather import data as weather
from apps.weather.config import PRESETS as WEATHER
from shared import download
from shared.cli import UserError

BYTES = np.random.default_rng(0).bytes(3_000_000)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A web server on loopback that serves `files` by path, remembers the requests, and breaks off after `at_most` bytes."""
    state = SimpleNamespace(files={}, asked=[], at_most=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append((self.path, self.headers.get("Range")))
            content = state.files.get(re.sub("^http://[^/]*", "", self.path))  # a proxy is asked with the whole address
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
            if content is None:
                return self.send_error(404)
            if start and start >= len(content):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            at_most = state.at_most.pop(0) if state.at_most else len(content)
            self.wfile.write(content[start : start + at_most])

        def log_message(self, *_):
            """Not into the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    yield state
    server.shutdown()
    server.server_close()


def serve(host, name, content, checksum=True):
    host.files[f"/{name}"] = content
    return download.Source(f"{host.address}/{name}", name, hashlib.sha256(content).hexdigest() if checksum else None)


def left():
    return sorted(path.name for path in download.folder().glob("*") if path.suffix != ".lock")


def test_a_file_is_downloaded_once(host):
    source = serve(host, "a.bin", BYTES)
    assert download.fetch(source).read_bytes() == BYTES
    assert download.fetch(source).read_bytes() == BYTES
    assert host.asked == [("/a.bin", "bytes=0-")]
    assert left() == ["a.bin"]


def test_a_broken_connection_is_taken_up_where_it_broke(host):
    host.at_most = [2_000_000, 500_000]
    assert download.fetch(serve(host, "a.bin", BYTES)).read_bytes() == BYTES
    starts = [int(asked[6:-1]) for _, asked in host.asked]
    assert starts[0] == 0
    assert sorted(set(starts)) == starts
    assert len(starts) == 3


def test_a_start_that_failed_leaves_what_the_next_one_goes_on_with(host):
    host.at_most = [2_000_000, 0]
    source = serve(host, "a.bin", BYTES)
    with pytest.raises(download.Unavailable, match=r"the connection broke .* bytes are kept, start again to go on"):
        download.fetch(source)
    assert left() == ["a.bin.part"]
    kept = (download.folder() / "a.bin.part").stat().st_size
    assert kept > 0
    assert download.fetch(source).read_bytes() == BYTES
    assert host.asked[-1] == ("/a.bin", f"bytes={kept}-")


def test_a_kill_between_the_last_byte_and_the_check_is_made_up_for(host):
    source = serve(host, "a.bin", BYTES)
    download.folder().mkdir(parents=True)
    (download.folder() / "a.bin.part").write_bytes(BYTES)
    assert download.fetch(source).read_bytes() == BYTES


def test_another_content_than_published_is_refused_and_removed(host):
    source = serve(host, "a.bin", BYTES)
    host.files["/a.bin"] = b"<html>Please log in"
    with pytest.raises(download.Unavailable, match=r"the 19 bytes .* are not the published file \(SHA-256 .*Start again"):
        download.fetch(source)
    assert left() == []
    host.files["/a.bin"] = BYTES
    assert download.fetch(source).read_bytes() == BYTES


def test_a_missing_file_and_a_dead_host_are_named(host):
    with pytest.raises(download.Unavailable, match="status 404"):
        download.fetch(download.Source(f"{host.address}/gone", "gone"))
    with pytest.raises(download.Unavailable, match=r"127.0.0.1:9 does not answer.*refused"):
        download.fetch(download.Source("http://127.0.0.1:9/a", "a"))
    assert left() == []


def test_a_proxy_is_asked_and_nobody_else(host, monkeypatch):
    monkeypatch.setenv("http_proxy", host.address)
    serve(host, "a.bin", BYTES)
    assert download.fetch(download.Source("http://nowhere.invalid/a.bin", "a.bin")).read_bytes() == BYTES
    assert host.asked == [("http://nowhere.invalid/a.bin", "bytes=0-")]


def archive(files, extra=()):
    """A .tar.gz of names and contents; `extra` are further `TarInfo`s."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, inside in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(inside)
            tar.addfile(info, io.BytesIO(inside))
        for info in extra:
            tar.addfile(info)
    return content.getvalue()


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("files", "extra"),
    [
        ({"a/b.txt": b"1", "../evil.txt": b"2"}, ()),
        ({"a/b.txt": b"1", "/tmp/evil.txt": b"2"}, ()),
        ({"a/b.txt": b"1"}, (link("a/c", "/etc/passwd"),)),
        ({"a/b.txt": b"1"}, (link("a/c", "b.txt", tarfile.LNKTYPE),)),
        ({"a/b.txt": b"1"}, (link("a/c", "", tarfile.FIFOTYPE),)),
    ],
)
def test_an_archive_that_leads_outside_leaves_nothing(host, files, extra, tmp_path):
    source = serve(host, "a.tar.gz", archive(files, extra))
    with pytest.raises(download.Unavailable, match=r"can't be unpacked .*link or lies outside"):
        download.fetch_archive(source)
    assert left() == []
    assert not list(tmp_path.rglob("evil.txt"))


def test_an_archive_is_unpacked_whole_though_an_earlier_attempt_was_killed(host):
    source = serve(host, "a.tar.gz", archive({"./a/b.txt": b"1", "a/c.txt": b"2"}))
    killed = download.folder() / "a.part"
    killed.mkdir(parents=True)
    (killed / "old.txt").touch()
    folder = download.fetch_archive(source)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.txt")} == {"a/b.txt", "a/c.txt"}
    assert left() == ["a"]
    assert download.fetch_archive(source) == folder
    assert len(host.asked) == 1


def test_a_cut_off_archive_is_reported_and_removed(host):
    with pytest.raises(download.Unavailable, match="can't be unpacked"):
        download.fetch_archive(serve(host, "a.tar.gz", archive({"a.txt": BYTES})[:-50_000]))
    assert left() == []


def wav(seed):
    content = io.BytesIO()
    soundfile.write(content, 0.1 * np.random.default_rng(seed).normal(size=8_000), 16_000, format="WAV")
    return content.getvalue()


@functools.cache
def recordings():
    """Three words by ten speakers, background noise and the two lists, as in the archive of Speech Commands."""
    files = {
        f"./{word}/{speaker:08x}_nohash_0.wav": wav([n, speaker])
        for n, word in enumerate(("go", "stop", "up"))
        for speaker in range(10)
    }
    files |= {"./_background_noise_/README.md": b"", "./LICENSE": b""}
    noise = io.BytesIO()
    soundfile.write(noise, 0.1 * np.random.default_rng(0).normal(size=480_000), 16_000, format="WAV")
    files["./_background_noise_/hum.wav"] = noise.getvalue()
    for name, speaker in (("validation_list.txt", 8), ("testing_list.txt", 9)):
        files[f"./{name}"] = "".join(f"{word}/{speaker:08x}_nohash_0.wav\n" for word in ("go", "stop", "up")).encode()
    return archive(files)


@functools.cache
def reviews():
    kinds = [(part, label, n) for part in ("train", "test") for label in ("neg", "pos") for n in range(20)]
    files = {f"aclImdb/{part}/{label}/{n}_1.txt": f"{part} {label} {n}".encode() for part, label, n in kinds}
    return archive(files | {"aclImdb/train/unsup/0_0.txt": b"no label", "aclImdb/README": b""})


@functools.cache
def station():
    times = pd.date_range("2009-01-01", periods=3_000, freq="10min")
    rows = pd.DataFrame({"Date Time": times.strftime("%d.%m.%Y %H:%M:%S"), "T (degC)": np.sin(np.arange(3_000) / 20)})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("jena_climate_2009_2016.csv", rows.to_csv(index=False))
    return content.getvalue()


def plays():
    return b"First Citizen:\nSpeak.\n" * 200


# module, its presets, where its source stands, what the host sends, name of the public dataset and of its flag
APPS = {
    "sentiment": (sentiment, SENTIMENT, (sentiment, "IMDB"), reviews, "imdb_reviews", "imdb"),
    "textgen": (textgen, TEXTGEN, (textgen, "SHAKESPEARE"), plays, "tiny_shakespeare", "shakespeare"),
    "speech": (speech, SPEECH, (catalogue, "SPEECH_COMMANDS"), recordings, "speech_commands_v0.02", "speech_commands"),
    "weather": (weather, WEATHER, (weather, "JENA"), station, "jena_2009_2016", "jena"),
}


@pytest.fixture(params=APPS)
def app(request, host, monkeypatch):
    """An app whose public dataset lies on the host, as a small copy."""
    module, presets, place, content, name, flag = APPS[request.param]
    published = getattr(*place)
    source = serve(host, published.name, content(), checksum=published.sha256 is not None)
    monkeypatch.setattr(*place, source)

    def load(dataset="auto"):
        return module.load(replace(presets["smoke"], dataset=dataset))

    return SimpleNamespace(load=load, source=source, name=name, flag=flag)


def test_the_first_start_downloads_and_the_second_does_not(app, host):
    first, second = app.load(), app.load(app.flag)
    assert first.name == second.name == app.name
    assert first.fingerprint == second.fingerprint
    assert len(host.asked) == 1
    assert not [name for name in left() if name.endswith((".part", ".tar.gz"))]


def test_what_breaks_is_reported_and_does_not_block_the_next_start(app, host, capsys):
    content = host.files[f"/{app.source.name}"]
    host.at_most = [len(content) // 2, 0]
    assert app.load().name == "sample"
    assert "is not available: 127.0.0.1" in capsys.readouterr().out
    host.at_most = [0]
    with pytest.raises(UserError, match=r"is not available: 127.0.0.1:\d+ does not answer"):
        app.load(app.flag)
    assert app.load().name == app.name


def test_a_damaged_file_is_reported_and_does_not_block_the_next_start(app, host):
    content = host.files[f"/{app.source.name}"]
    host.files[f"/{app.source.name}"] = content[: len(content) // 2]
    with pytest.raises(UserError, match=r"is not available: .*(not the published file|was damaged)"):
        app.load(app.flag)
    host.files[f"/{app.source.name}"] = content
    assert app.load(app.flag).name == app.name


def test_everything_of_the_archives_is_read(host, monkeypatch):
    monkeypatch.setattr(sentiment, "IMDB", serve(host, "aclImdb_v1.tar.gz", reviews()))
    train, test = sentiment._load_imdb(None)
    assert sorted(train.texts) == sorted(f"train {label} {n}" for label in ("neg", "pos") for n in range(20))
    assert all(label == ("pos" in text) for text, label in zip(test.texts, test.labels, strict=True))
    monkeypatch.setattr(catalogue, "SPEECH_COMMANDS", serve(host, "speech_commands_v0.02.tar.gz", recordings()))
    clips = speech.load(replace(SPEECH["default"], dataset="speech_commands"))
    assert clips.train.class_names == ("go", "stop", "up", "_silence_")
    assert np.bincount(clips.train.labels).tolist() == [8] * 4
    assert [source for source in clips.test.sources if "/" in source] == [
        f"{word}/00000009_nohash_0.wav" for word in ("go", "stop", "up")
    ]
    assert len(clips.noise) == 0.8 * 480_000
