"""Tables of any size: read in parts, answered, and written in parts, at constant memory."""

import codecs
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from rich import progress
from rich.console import Console

from shared import tables
from shared.cli import UserError
from shared.data import new_file

ROWS = 2_048  # of a part
READ = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
WRITTEN = (".csv", ".jsonl", ".parquet")


def answer_file(
    source: Path, output: Path, column: str, answer: Callable[[list[str]], pd.DataFrame], shard: tuple[int, int] = (0, 1)
) -> int:
    """Write a table with the rows of another one and answers beside them, with a progress bar. Returns the number of rows.

    Args:
        source: a table with a header (.csv, .tsv), objects on lines (.jsonl), .parquet, or texts on lines (.txt, whose only
            column is called as `column`).
        output: a new file, whose ending says how it is written. It appears when it is whole.
        column: what is answered.
        answer: from the texts of that column to a table of as many rows.
        shard: (k, n): only the rows k, k + n, k + 2 n, ... are answered and written.

    Raises:
        UserError: for a file that cannot be read, has no such column, or would be overwritten.
    """
    new_file("--output", output)
    if output.suffix.lower() not in WRITTEN:
        raise UserError(f"--output {output}: the name ends in one of {', '.join(WRITTEN)}.")
    beside, rows, before = output.with_name(f"{output.name}.part"), 0, 0
    try:
        with _Writer(beside, output.suffix.lower()) as writer, _progress() as bar:
            for part in _read(source, column, bar):
                if column not in part:
                    raise UserError(f"{source} has no column '{column}'; it has {', '.join(map(str, part.columns))}.")
                mine = part.iloc[(shard[0] - before) % shard[1] :: shard[1]].reset_index(drop=True)
                before += len(part)
                if len(mine):
                    writer.write(mine.join(answer(mine[column].tolist())))
                    rows += len(mine)
        if not rows:
            raise UserError(f"{source} holds no row" + (f" of shard {shard[0]}/{shard[1]}." if shard != (0, 1) else "."))
        beside.rename(output)
    finally:
        beside.unlink(missing_ok=True)
    return rows


def read_shard(text: str | None) -> tuple[int, int]:
    """ "2/8" as (2, 8); all rows, (0, 1), for None.

    Raises:
        UserError: if it is not two whole numbers, the first the smaller one.
    """
    try:
        number, count = map(int, (text or "0/1").split("/"))
    except ValueError:
        number, count = -1, 0
    if not 0 <= number < count:
        raise UserError(f"--shard is K/N, with K from 0 to N - 1, for example 0/8; got {text}.")
    return number, count


def _progress() -> progress.Progress:
    console = Console(stderr=True)
    return progress.Progress(console=console, transient=True, disable=not console.is_terminal)


def _read(path: Path, column: str, bar: progress.Progress) -> Iterator[pd.DataFrame]:
    """The rows in parts, all values as text."""
    kind = path.suffix.lower()
    if kind not in READ:
        raise UserError(f"--file {path}: the name ends in one of {', '.join(READ)}.")
    try:
        with bar.open(path, "rb", description=path.name) as opened:
            if kind == ".parquet":
                for batch in parquet.ParquetFile(opened).iter_batches(ROWS):
                    yield batch.to_pandas()
            elif kind == ".jsonl":
                yield from pd.read_json(opened, lines=True, chunksize=ROWS, dtype=False)
            elif kind == ".txt":
                yield from _lines(opened, column)
            else:
                yield from _separated(path, opened)
    except UnicodeDecodeError as error:
        raise UserError(f"--file {path} is not UTF-8 (byte {error.start}). Convert it: iconv -f latin1 -t utf-8") from None
    except (pd.errors.ParserError, pa.ArrowInvalid, ValueError) as error:
        raise UserError(f"--file {path} does not parse: {error}") from None
    except OSError as error:
        raise UserError(f"--file {path} can't be read: {error.strerror}.") from None


def _lines(opened, column: str) -> Iterator[pd.DataFrame]:
    lines = (line.strip() for line in codecs.iterdecode(opened, "utf-8-sig"))
    texts = (line for line in lines if line)
    while part := list(itertools.islice(texts, ROWS)):
        yield pd.DataFrame({column: part})


def _separated(path: Path, opened) -> Iterator[pd.DataFrame]:
    separator = tables.sniff(path)
    # The header is read as a row: as a header, it would let longer rows silently shift their columns.
    options = {"header": None, "dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    names = None
    for part in pd.read_csv(opened, sep=separator, chunksize=ROWS, **options):
        if names is None:
            names, part = part.iloc[0].tolist(), part.iloc[1:]
        yield part.set_axis(names, axis=1)


class _Writer:
    """Writes tables with the same columns, one behind the other, into one file."""

    def __init__(self, file: Path, kind: str):
        self.file, self.kind, self.parquet = file, kind, None

    def __enter__(self) -> "_Writer":
        self.opened = open(self.file, "wb")
        return self

    def write(self, table: pd.DataFrame) -> None:
        if self.kind == ".parquet":
            batch = pa.Table.from_pandas(table, preserve_index=False)
            self.parquet = self.parquet or parquet.ParquetWriter(self.opened, batch.schema)
            self.parquet.write_table(batch)
        elif self.kind == ".jsonl":
            table.to_json(self.opened, orient="records", lines=True, force_ascii=False)
        else:
            table.to_csv(self.opened, index=False, header=self.opened.tell() == 0)

    def __exit__(self, *_):
        if self.parquet:
            self.parquet.close()
        self.opened.close()
