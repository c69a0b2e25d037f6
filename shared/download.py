"""A public file, downloaded once: with a progress bar, gone on with where it broke off, checked, unpacked."""

import hashlib
import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from shared.data import Source, Unavailable

CHUNK = 1 << 16  # bytes
TIMEOUT = (5.0, 60.0)  # seconds for the connection, and for each further piece
ATTEMPTS = 5  # in one start; each goes on where the one before broke off
GONE_ON_WITH = requests.codes.partial_content
NOTHING_LEFT = requests.codes.requested_range_not_satisfiable


def folder() -> Path:
    """Where downloads are kept: Keras's cache, `~/.keras/datasets` or `datasets` in KERAS_HOME."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "datasets"


def fetch(source: Source) -> Path:
    """The file as it lies in `folder()`, downloaded into it if need be. Proxies are taken from the environment.

    Raises:
        Unavailable: if the host does not answer, the connection breaks for good, or the content is not what it has to be.
    """
    file = folder() / source.name
    if file.exists():
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"{file.parent} can't be made ({error}); name another with KERAS_HOME") from None
    with FileLock(f"{file}.lock"):  # another process may be downloading it
        if not file.exists():
            part = file.with_name(file.name + ".part")
            _download(source.url, part)
            _check(part, source.sha256)
            part.rename(file)
    return file


def fetch_archive(source: Source) -> Path:
    """As `fetch`, of a .tar.gz: the folder that it was unpacked into. The archive itself is not kept."""
    unpacked = folder() / source.name.removesuffix(".tar.gz")
    if not unpacked.exists():
        archive = fetch(source)
        print(f"Unpacking {archive} ...", flush=True)
        try:
            unpack(archive, unpacked)
        except (tarfile.TarError, EOFError) as error:
            archive.unlink()
            raise Unavailable(f"{source.url} can't be unpacked ({error}); it was removed. Start again to download it") from None
        archive.unlink()
    return unpacked


def unpack(archive: Path, destination: Path) -> None:
    """Unpack a tar file whole or not at all. Nothing but files and folders inside `destination` is written.

    Raises:
        tarfile.TarError: for a damaged archive, a link, a device, or a name that leads outside.
    """
    beside = destination.with_name(destination.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)  # of an attempt that was killed
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _write_member(tar, member, beside)
        beside.rename(destination)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, destination: Path) -> None:
    name = PurePosixPath(member.name)
    if not (member.isfile() or member.isdir()) or name.is_absolute() or ".." in name.parts:
        raise tarfile.TarError(f"'{member.name}' is a link or lies outside the archive's folder")
    path = destination / name
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(member) as content, path.open("wb") as file:
        shutil.copyfileobj(content, file)


def _download(url: str, part: Path) -> None:
    """Fill `part`. A connection that breaks is taken up again, as long as something comes."""
    print(f"Downloading {url} into {part.parent} (once) ...", flush=True)
    for _ in range(ATTEMPTS):
        before = _size(part)
        try:
            return _go_on(url, part)
        except requests.RequestException as error:
            reason = f"{urlsplit(url).netloc} does not answer, or the connection broke ({_in_words(error)})"
        if _size(part) <= before:
            break
    kept = f"; {_size(part):,} bytes are kept, start again to go on from there" if _size(part) else ""
    raise Unavailable(reason + kept)


def _go_on(url: str, part: Path) -> None:
    """One attempt, from the first byte that is not in `part`."""
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={_size(part)}-"}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == NOTHING_LEFT and _size(part):
            return
        answer.raise_for_status()
        resumed = answer.status_code == GONE_ON_WITH
        done = _size(part) if resumed else 0
        total = done + int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
        with part.open("ab" if resumed else "wb") as file, _progress() as progress:
            task = progress.add_task(part.name.removesuffix(".part"), total=total, completed=done)
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                progress.advance(task, len(chunk))


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True))


def _check(part: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        size = _size(part)
        part.unlink()
        raise Unavailable(
            f"the {size:,} bytes that were downloaded are not the published file (SHA-256 {found[:12]}..., expected "
            f"{sha256[:12]}...) and were removed. Start again; if it happens again, something on the way changes what is sent"
        )


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _in_words(error: requests.RequestException) -> str:
    """The innermost reason: the outer ones repeat the address."""
    if error.response is not None:
        return f"status {error.response.status_code}"
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__
