"""Where a dataset comes from, in this order: the user's own files, the public dataset, a generated sample.

Neither TensorFlow nor Keras is imported here before it is needed, so that a mistake in the user's files is reported at once.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from shared.cli import UserError

Loaded = TypeVar("Loaded")


class Source(NamedTuple):
    """A public file, its name on this machine, and the SHA-256 it must have; None where nobody publishes one."""

    url: str
    name: str
    sha256: str | None = None


class Unavailable(UserError):
    """The public dataset can neither be read on this machine nor be downloaded. The message gives the reason and the fix."""


class Splits(NamedTuple):
    """A dataset cut in three. What each part is made of is the app's business."""

    train: object
    validation: object
    test: object
    name: str  # goes into metrics, report and plots: a sample's number can't be taken for a benchmark's
    fingerprint: str


def public_or_sample(
    choice: str, title: str, public: Callable[[], Loaded], sample: Callable[[], Loaded], about_sample: str
) -> Loaded:
    """The public dataset or, where it is not available, the generated sample, with a banner that gives the reason.

    Args:
        choice: `--dataset`: "auto", "sample", or the public dataset's name.
        title: of the public dataset, for messages.
        public: loads it; raises `Unavailable`.
        sample: makes the sample.
        about_sample: what the sample is, for the banner: "generated reviews".

    Raises:
        UserError: if the public dataset was asked for by name and is not available.
    """
    if choice == "sample":
        return sample()
    try:
        return public()
    except Unavailable as reason:
        if choice != "auto":
            raise UserError(f"{title} is not available: {reason}. Without --dataset, a sample is used.") from None
        print(f"{'=' * 80}\n{title} is not available: {reason}.\nGoing on with the SAMPLE, {about_sample}.")
        print(f"Its results show that the program works, nothing about {title}.\n{'=' * 80}")
    return sample()


def read_prepared(name: str, splits: list[str]) -> list[Callable[[], Iterator[dict]]] | None:
    """What TensorFlow Datasets has prepared on this machine, in whatever version. Nothing is downloaded.

    Args:
        name: as in the TFDS catalogue, with the variant where there is one: "imdb_reviews/plain_text".
        splits: names of splits.

    Returns:
        For each split a function that starts an iterator over its examples, dicts of NumPy values; None where the dataset
        lies neither in `TFDS_DATA_DIR` nor, if that is not set, in ~/tensorflow_datasets.

    Raises:
        Unavailable: if it lies there but can't be read; by the iterators too.
    """
    folder = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser() / name
    versions = sorted(path.parent for path in folder.glob("*/dataset_info.json"))
    if not versions:
        return None
    try:
        import tensorflow_datasets as tfds

        parts = tfds.builder_from_directory(versions[-1]).as_dataset(split=splits)
    except Exception as error:  # a damaged folder fails in many ways, all the way into protocol buffers
        raise _unreadable(versions[-1], error) from error
    return [lambda part=part: _examples(part, versions[-1]) for part in parts]


def _examples(part, folder: Path) -> Iterator[dict]:
    try:
        yield from part.as_numpy_iterator()
    except Exception as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> Unavailable:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Unavailable(f"the prepared dataset in {folder} can't be read ({reason}); remove that folder")


def existing_path(flag: str, path: str) -> Path:
    """The user's file or folder.

    Raises:
        UserError: if it is not there.
    """
    if not Path(path).exists():
        raise UserError(f"{flag} {path}: there is no such file or folder (looked from {Path.cwd()}).")
    return Path(path)


def new_file(flag: str, path: str | Path) -> Path:
    """A file that is to be written.

    Raises:
        UserError: if it exists already, or its folder does not.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{flag} {path} exists already; nothing was overwritten. Name another file.")
    if not path.parent.is_dir():
        raise UserError(f"{flag} {path}: the folder {path.parent} does not exist. Make it first.")
    return path


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
