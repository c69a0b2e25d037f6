"""Text: your own file or folder, Tiny Shakespeare, or the source code of Python's standard library."""

import codecs
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from apps.textgen.characters import Text, in_chunks
from apps.textgen.config import Config
from shared.cli import UserError
from shared.data import Source, Splits, existing_path, fingerprint, public_or_sample, read_prepared, write_array
from shared.download import fetch
from shared.tables import MARKS

SHAKESPEARE = Source(
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    name="tiny_shakespeare.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
SAMPLE_CHARACTERS = 1_000_000
CHUNK = 1 << 22  # bytes that are held in memory at a time


def load(config: Config) -> Splits:
    """Load train, validation and test, each a `Text`: one piece of the whole each, in that order.

    With `--split 90/10` test is validation.

    Raises:
        UserError: for a file that is not there, is empty, is neither UTF-8 nor marked UTF-16, or is too short to train on.
    """
    if config.data:
        name, documents = Path(config.data).resolve().name, _read_own(existing_path("--data", config.data))
    else:
        name, documents = public_or_sample(
            config.dataset,
            "Tiny Shakespeare",
            public=lambda: ("tiny_shakespeare", iter([iter([_read_shakespeare()])])),
            sample=lambda: ("sample", _read_standard_library()),
            about_sample="the source code of Python's standard library",
        )
    text = _take(_store(documents), config.limit)
    if len(text.characters) == 0:
        raise UserError(f"{name} is empty; expected text.")
    train, rest = _cut(text, int(0.9 * len(text.characters)))
    validation, test = (rest, rest) if config.split == "90/10" else _cut(rest, (len(rest.characters) + 1) // 2)
    content = (array.tobytes() for part in (train, rest) for array in (*in_chunks(part.characters), part.document_lengths))
    splits = Splits(train, validation, test, name, fingerprint(content))
    _check_length(splits, config)
    return splits


def _check_length(text: Splits, config: Config) -> None:
    """Raise a UserError if the training text does not fill one batch, or if another part has nothing to predict."""
    streams = config.training.batch_size
    least, found = streams * config.sequence_length, count_targets(text.train)
    if found < least or not count_targets(text.validation) or not count_targets(text.test):
        raise UserError(
            f"{text.name} has {found} characters to predict in training; one batch is --batch-size {streams} streams "
            f"of --sequence-length {config.sequence_length}, so {least} are needed. The shortest text that works has "
            f"{max(-(-(least + 1) * 10 // 9), 31)} characters. Give more, or lower --batch-size or --sequence-length."
        )


def count_targets(text: Text) -> int:
    """Characters to predict: all but each document's first."""
    return int(np.maximum(text.document_lengths - 1, 0).sum())


def block_size(text: Text) -> int:
    """Neighbouring characters whose nats are kept as one sum: 1,000, or fewer in a short text, which gets 50 blocks.

    Characters that stand near each other are easy or hard together: as single examples they would count too much.
    """
    return int(np.clip(len(text.characters) // 50, 1, 1_000))


def _read_shakespeare() -> str:
    """Tiny Shakespeare, 1,115,394 characters: as TensorFlow Datasets has prepared it, cut in three, or as it is published."""
    if parts := read_prepared("tiny_shakespeare", ["train", "validation", "test"]):
        return "".join(row["text"].decode() for rows in parts for row in rows())
    return fetch(SHAKESPEARE).read_text(encoding="utf-8")


def _read_standard_library() -> Iterator[Iterator[str]]:
    """Python's own modules in alphabetical order, up to a million characters: real text that is on every machine."""
    count = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py")):
        content = path.read_text(encoding="utf-8")
        count += len(content)
        if count > SAMPLE_CHARACTERS:
            return
        yield iter([content])


def _read_own(path: Path) -> Iterator[Iterator[str]]:
    files = [path]
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.suffix.lower() == ".txt"]
    if not files:
        raise UserError(f"--data '{path}': there is no .txt file in this folder. Give one file, or rename those in it to .txt.")
    return (_read_file(file) for file in files)


def _read_file(path: Path) -> Iterator[str]:
    """The content, a chunk at a time, with line ends as \\n."""
    carry = ""
    for text, is_last in _decode(path):
        text = carry + text
        carry = text[-1:] if text.endswith("\r") and not is_last else ""  # its \n may stand in the next chunk
        yield text.removesuffix(carry).replace("\r\n", "\n").replace("\r", "\n")


def _decode(path: Path) -> Iterator[tuple[str, bool]]:
    """The content of a UTF-8 file, or of a UTF-16 file that begins with a byte order mark; whether a chunk is the last."""
    with path.open("rb") as file:
        head = file.read(3)
        encoding = next((encoding for mark, encoding in MARKS.items() if head.startswith(mark)), "utf-8")
        decoder = codecs.getincrementaldecoder(encoding)()
        file.seek(position := 0)
        while content := file.read(CHUNK):
            yield _decode_chunk(decoder, content, path, position), False
            position += len(content)
        yield _decode_chunk(decoder, b"", path, position), True


def _decode_chunk(decoder: codecs.IncrementalDecoder, content: bytes, path: Path, position: int) -> str:
    converted = f"'{path}' > '{path.stem}-utf8{path.suffix}'"
    try:
        text = decoder.decode(content, final=not content)
    except UnicodeDecodeError as error:
        if error.encoding.startswith("utf-16"):
            raise UserError(f"{path} begins as UTF-16, but {error.reason}. Save it again, as UTF-8.") from None
        raise UserError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#x} after {position} bytes or more). If it is "
            f"Latin-1, convert it: iconv -f latin1 -t utf-8 {converted}"
        ) from None
    if "\0" in text:
        raise UserError(
            f"{path} is a binary file (it holds a zero after {position} bytes or more); expected UTF-8 text. If it is "
            f"UTF-16, convert it: iconv -f utf-16le -t utf-8 {converted}"
        )
    return text


def _store(documents: Iterable[Iterable[str]]) -> Text:
    lengths = []

    def chunks() -> Iterator[np.ndarray]:
        for document in documents:
            lengths.append(0)
            for piece in document:
                lengths[-1] += len(piece)
                yield np.frombuffer(piece.encode("utf-32-le"), "<u4")

    characters = write_array(chunks(), "<u4")
    return Text(characters, np.array(lengths, np.int64))


def _take(text: Text, limit: int | None) -> Text:
    return text if limit is None else _cut(text, limit)[0]


def _cut(text: Text, position: int) -> tuple[Text, Text]:
    """What stands before a position and what from there on; a document that it cuts through becomes two."""
    ends = np.cumsum(text.document_lengths)
    before = np.clip(position - (ends - text.document_lengths), 0, text.document_lengths)
    after = text.document_lengths - before
    return (
        Text(text.characters[:position], before[before > 0]),
        Text(text.characters[position:], after[after > 0]),
    )
