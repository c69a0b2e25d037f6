"""Where a dataset comes from, in this order: the user's own files, the public dataset, a generated sample.

Neither TensorFlow nor Keras is imported here before it is needed, so that a mistake in the user's files is reported at once.
"""

import hashlib
import os
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shared.cli import UserError

PROBE_SECONDS = 3.0


class Unavailable(Exception):
    """The public dataset is neither prepared on this machine nor to be had from its host. The message says why."""


class Splits(NamedTuple):
    """A dataset cut in three. What each part is made of is the app's business."""

    train: object
    validation: object
    test: object
    name: str  # goes into metrics, report and plots: a sample's number can't be taken for a benchmark's
    fingerprint: str


def load_tfds(name: str, splits: list[str], host: str) -> list:
    """Read a dataset of TensorFlow Datasets, downloading it only where that can succeed.

    `tfds.load` with no network tries for minutes and leaves partial folders behind, so this first looks whether the
    dataset lies prepared in `TFDS_DATA_DIR` (else in ~/tensorflow_datasets), then whether its host answers.

    Args:
        name: as in the TFDS catalogue.
        splits: names of splits.
        host: where its files come from, to be asked on port 80.

    Returns:
        One `tf.data.Dataset` a split.

    Raises:
        Unavailable: if it is not prepared and the host does not answer, or the download fails.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.util import DownloadError

    folder = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    prepared = any((folder / name).glob("**/dataset_info.json"))
    if not prepared and (reason := _silence(host)):
        raise Unavailable(f"it is not prepared in {folder}, and {reason}")
    try:
        return list(tfds.load(name, split=splits, data_dir=folder, download=not prepared))
    except (OSError, DownloadError) as error:
        raise Unavailable(f"reading or downloading it failed ({error})") from error


def get_file(url: str) -> Path:
    """A public file, from Keras's cache (~/.keras/datasets) or downloaded into it.

    Raises:
        Unavailable: if it is not there and its host does not answer, or the download fails.
    """
    import keras

    name, host = url.rsplit("/", 1)[1], url.split("/")[2]
    cached = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "datasets" / name
    if not cached.exists() and (reason := _silence(host)):
        raise Unavailable(f"it is not in {cached.parent}, and {reason}")
    try:
        return Path(keras.utils.get_file(name, url))
    except Exception as error:  # Keras raises a plain Exception where a download fails
        raise Unavailable(f"downloading it failed ({error})") from error


def _silence(host: str) -> str | None:
    """Why `host` can't be reached, or None if it answers."""
    try:
        socket.create_connection((host, 80), timeout=PROBE_SECONDS).close()
    except OSError as error:
        return f"{host} does not answer ({error})"
    return None


def existing_path(flag: str, path: str) -> Path:
    """The user's file or folder.

    Raises:
        UserError: if it is not there.
    """
    if not Path(path).exists():
        raise UserError(f"{flag} {path}: there is no such file or folder (looked from {Path.cwd()}).")
    return Path(path)


def fingerprint(parts: Iterable[bytes]) -> str:
    """A short name for exactly this content: 16 hexadecimal digits of SHA-256."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:16]


def write_array(chunks: Iterable[np.ndarray], dtype: str) -> np.ndarray:
    """Put chunks one behind the other into a file that goes away by itself, and map it into memory."""
    count = 0
    with tempfile.TemporaryFile() as file:
        for chunk in chunks:
            file.write(chunk.astype(dtype).tobytes())
            count += len(chunk)
        file.flush()
        return np.memmap(file, dtype, mode="r", shape=(count,)) if count else np.zeros(0, dtype)
