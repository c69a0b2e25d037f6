"""Tables of any size: read in parts, answered, and written in parts, at constant memory."""

import codecs
import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from rich import progress
from rich.console import Console

from shared import tables
from shared.cli import UserError
from shared.data import new_file
from shared.settings import TableRequest, read_shard

ROWS = 2_048  # of a part
READ = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
WRITTEN = (".csv", ".jsonl", ".parquet")
PROBLEM = "problem"


def answer_file(
    request: TableRequest, column: str, answer: Callable[[list[str]], pd.DataFrame], rows_at_a_time: int | None = None
) -> int:
    """Write a table with the rows of another one and answers beside them, with a progress bar. Returns the number of rows.

    The table is read twice: first to count its rows, so that what is wrong with it is said before anything is answered.

    Args:
        request: which table, where to, and which of its rows. The new file appears when it is whole.
        column: what is answered. It is the only column of a .txt file.
        answer: from the texts of that column to a table of as many rows. Where a column of the answers has the name of one of
            the table's, "_predicted" is added to it.
        rows_at_a_time: rows that are answered at a time; None: `ROWS`.

    Raises:
        UserError: for a file that cannot be read, has no such column, or would be overwritten. Also at the end, when all is
            written, if a column "problem" of the answers says that some rows have none; see `answer_readable`.
    """
    source, output, (number, shards) = Path(request.file), new_file("--output", request.output), read_shard(request.shard)
    if output.suffix.lower() not in WRITTEN:
        raise UserError(f"--output {output}: the name ends in one of {', '.join(WRITTEN)}.")
    columns, total = _look(source, column)
    if not total:
        raise UserError(f"{source} holds no row.")
    written, problems = 0, 0
    with (
        _Writer(output) as writer,
        contextlib.closing(_read(source, column, (rows_at_a_time or ROWS) * shards)) as parts,
        _progress() as bar,
    ):
        task = bar.add_task(source.name, total=len(range(number, total, shards)))
        for rows in _shard(parts, number, shards):
            rows = rows.reindex(columns=columns)  # objects on lines need not all have the same
            answers = answer([_text(value) for value in rows[column]])
            writer.write(_join(rows, answers, source))
            written += len(rows)
            problems += int(answers[PROBLEM].notna().sum()) if PROBLEM in answers else 0
            bar.advance(task, len(rows))
        if not written:  # a shard beyond the last row
            writer.write(_join(pd.DataFrame(columns=columns, dtype=object), answer([]), source))
    if problems:
        raise UserError(
            f"{problems:,} of {written:,} rows could not be answered; {output} says why, in the column '{PROBLEM}'."
        )
    return written


def answer_readable(texts: list[str], read: Callable[[str], Any], answer: Callable[[list[Any]], pd.DataFrame]) -> pd.DataFrame:
    """Answers to the texts that can be read; those to the others are empty, and a column "problem" says why.

    Args:
        texts: `n` of them.
        read: from a text to what is answered; raises a UserError if it cannot.
        answer: from what was read, maybe nothing, to a table of as many rows and always the same columns.
    """
    examples, problems = {}, {}
    for place, text in enumerate(texts):
        try:
            examples[place] = read(text)
        except UserError as problem:
            problems[place] = str(problem)
    answers = answer([*examples.values()]).set_axis([*examples])
    return answers.reindex(range(len(texts))).assign(**{PROBLEM: pd.Series(problems, dtype="string")})


def labels(answers: list[dict[str, Any]], names: list[str]) -> pd.DataFrame:
    """What a classifier's Predictor answers as a table `(n, 1 + classes)`: the label, and the probability of each class."""
    probabilities = np.array([[one["probabilities"][name] for name in names] for one in answers]).reshape(-1, len(names))
    table = pd.DataFrame(probabilities, columns=[f"probability_{name}" for name in names])
    table.insert(0, "label", pd.array([one["label"] for one in answers], dtype="string"))
    return table


def _look(source: Path, column: str) -> tuple[list[str], int]:
    """All columns of a table, and how many rows it has."""
    columns, rows = {}, 0
    with contextlib.closing(_read(source, column, ROWS)) as parts:
        for part in parts:
            if not part.columns.is_unique:
                twice = part.columns[part.columns.duplicated()][0]
                raise UserError(f"{source} has several columns that are called '{twice}'. Rename all but one.")
            columns |= dict.fromkeys(part.columns)
            rows += len(part)
    if columns and column not in columns:
        raise UserError(f"{source} has no column '{column}'; it has {', '.join(map(str, columns))}.")
    return [*columns], rows


def _shard(parts: Iterator[pd.DataFrame], number: int, shards: int) -> Iterator[pd.DataFrame]:
    """Of the rows in all parts, every `shards`-th one from `number` on."""
    before = 0
    for part in parts:
        mine = part.iloc[(number - before) % shards :: shards].reset_index(drop=True)
        before += len(part)
        if len(mine):
            yield mine


def _text(value: object) -> str:
    """Nothing for None and NaN."""
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)


def _join(rows: pd.DataFrame, answers: pd.DataFrame, source: Path) -> pd.DataFrame:
    answers = answers.rename(columns={name: f"{name}_predicted" for name in answers if name in rows})
    if taken := [name for name in answers if name in rows]:
        raise UserError(f"{source} has a column '{taken[0]}', which answers would be written to. Rename it.")
    return rows.join(answers)


def _progress() -> progress.Progress:
    console = Console(stderr=True)
    return progress.Progress(console=console, transient=True, disable=not console.is_terminal)


def _read(path: Path, column: str, rows: int) -> Iterator[pd.DataFrame]:
    """The rows in parts of so many, or fewer; values of .csv, .tsv and .txt as text."""
    kind = path.suffix.lower()
    if kind not in READ:
        raise UserError(f"--file {path}: the name ends in one of {', '.join(READ)}.")
    try:
        with path.open("rb") as opened:
            if kind == ".parquet":
                for batch in parquet.ParquetFile(opened).iter_batches(rows):
                    yield batch.to_pandas(integer_object_nulls=True)
            elif kind == ".jsonl":
                yield from _objects(opened, rows)
            elif kind == ".txt":
                yield from _lines(opened, column, rows)
            else:
                yield from _separated(path, opened, rows)
    except UnicodeDecodeError as error:
        raise UserError(f"--file {path} is not UTF-8 (byte {error.start}). Convert it: iconv -f latin1 -t utf-8") from None
    except (pd.errors.ParserError, pa.ArrowInvalid, ValueError) as error:
        raise UserError(f"--file {path} does not parse: {error}") from None
    except OSError as error:
        raise UserError(f"--file {path} can't be read: {error.strerror}.") from None


def _objects(opened, rows: int) -> Iterator[pd.DataFrame]:
    """Values as they are: pandas's own reader makes fractions of whole numbers where some are missing."""
    lines = enumerate(codecs.iterdecode(opened, "utf-8-sig"), start=1)
    objects = (_object(number, line) for number, line in lines if line.strip())
    while part := list(itertools.islice(objects, rows)):
        yield pd.DataFrame(part, dtype=object)


def _object(number: int, line: str) -> dict[str, Any]:
    found = tables.read_object(number, line)
    return {name: _whole(value) if isinstance(value, str) else value for name, value in found.items()}


def _whole(text: str) -> str:
    """Half a surrogate pair, as a cut emoji leaves it, becomes U+FFFD: no file can hold it."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _lines(opened, column: str, rows: int) -> Iterator[pd.DataFrame]:
    lines = (line.strip() for line in codecs.iterdecode(opened, "utf-8-sig"))
    texts = (line for line in lines if line)
    while part := list(itertools.islice(texts, rows)):
        yield pd.DataFrame({column: part})


def _separated(path: Path, opened, rows: int) -> Iterator[pd.DataFrame]:
    with path.open(encoding="utf-8-sig") as lines:
        header = next((line for line in lines if line.strip()), "")
    if not header:
        return
    separator = tables.sniff(path) if any(mark in header for mark in tables.SEPARATORS) else ","  # one column alone
    # The header is read as a row: as a header, it would let longer rows silently shift their columns.
    options = {"header": None, "dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
    names = None
    with pd.read_csv(opened, sep=separator, chunksize=rows, **options) as parts:
        for part in parts:
            if names is None:
                names, part = part.iloc[0].tolist(), part.iloc[1:]
            yield part.set_axis(names, axis=1)


class _Writer:
    """Writes tables with the same columns, one behind the other, into one file, which appears when all went well.

    Raises:
        UserError: if another process is writing that file.
    """

    def __init__(self, file: Path):
        self.file, self.beside, self.parquet = file, file.with_name(f"{file.name}.part"), None
        self.kind = file.suffix.lower()

    def __enter__(self) -> "_Writer":
        try:
            self.opened = open(self.beside, "xb")
        except FileExistsError:
            raise UserError(
                f"--output {self.file} is being written by another process. Name another file: each shard needs one of its "
                f"own. (If that process was killed, remove {self.beside}.)"
            ) from None
        return self

    def write(self, table: pd.DataFrame) -> None:
        if self.kind == ".parquet":
            self._write_parquet(table)
        elif self.kind == ".jsonl":
            if len(table):  # else pandas writes an empty line
                table.to_json(self.opened, orient="records", lines=True, force_ascii=False, date_format="iso")
        else:
            table.to_csv(self.opened, index=False, header=self.opened.tell() == 0)

    def _write_parquet(self, table: pd.DataFrame) -> None:
        schema = self.parquet.schema if self.parquet else None
        try:
            batch = pa.Table.from_pandas(table, schema, preserve_index=False)
        except pa.ArrowException as error:
            reason = " ".join(map(str, error.args))
            raise UserError(f"The rows do not fit into one .parquet table ({reason}). Name a .csv or .jsonl file.") from None
        self.parquet = self.parquet or parquet.ParquetWriter(self.opened, batch.schema)
        self.parquet.write_table(batch)

    def __exit__(self, error, *_):
        if self.parquet:
            self.parquet.close()
        self.opened.close()
        if error:
            self.beside.unlink()
        else:
            self.beside.rename(self.file)
