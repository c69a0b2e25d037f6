"""The user's own table as text: CSV and its kin, JSON Lines; an error names its place and its fix."""

import codecs
import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from shared.cli import UserError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
SNIFFED = 64 * 1024  # characters
QUOTED = r'^"([^"]*(?:""[^"]*)*)"$'


def read_text(path: Path, fallback: str | None = None) -> str:
    """The content of a UTF-8 file, or of a UTF-16 file that begins with a byte order mark; lines end in a line feed.

    Args:
        path: a file.
        fallback: the encoding of a file that is not UTF-8, for example "latin-1"; None: such a file is refused.

    Raises:
        UserError: for another encoding, or what is no text. It names the byte, its line and the cure.
    """
    raw = Path(path).read_bytes()
    encoding = next((encoding for mark, encoding in MARKS.items() if raw.startswith(mark)), "utf-8")
    if encoding != "utf-16" and b"\0" in raw:
        raise UserError(
            f"{path} holds a zero byte (byte {raw.index(0)}), so it is no UTF-8 text. A spreadsheet has to be saved as CSV; "
            f"UTF-16 has to be converted: iconv -f utf-16le -t utf-8 '{path}' > '{path.stem}-utf8{path.suffix}'"
        )
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        if not fallback:
            raise UserError(_wrong_encoding(path, error)) from None
        text = raw.decode(fallback)
    return text.replace("\r\n", "\n")


def sniff(path: Path) -> str:
    """The separator of a table's columns.

    Raises:
        UserError: if there is none.
    """
    with open(path, encoding="utf-8-sig", newline="") as opened:
        return _sniff(opened.read(SNIFFED), path)


def read_table(path: Path, fallback: str | None = None) -> pd.DataFrame:
    """Read .jsonl (an object on each line) or a table with a header and columns separated by comma, semicolon, tab or |.

    Args:
        path: a file.
        fallback: see `read_text`.

    Returns:
        A table of strings, "" where there is nothing, columns named as in the header.

    Raises:
        UserError: for what does not parse. It names the line.
    """
    text = read_text(path, fallback)
    if not text.strip():
        raise UserError(f"{path} is empty; expected a header and rows.")
    return _read_json_lines(text, path) if path.suffix.lower() == ".jsonl" else _read_separated(text, path)


def read_numbers(path: Path, fallback: str | None = None) -> pd.DataFrame:
    """Read a table as `read_table` does, but columns of numbers as such, and NaN where there is nothing.

    A tenth of the time and a third of the memory of strings, where there are millions of rows.
    """
    text = read_text(path, fallback)
    lines = _lines(text[:SNIFFED])
    if not lines:
        raise UserError(f"{path} is empty; expected a header and rows.")
    separator = _sniff(text[:SNIFFED], path)
    header, *others = csv.reader(lines[:2], delimiter=separator)
    if not others:
        return pd.DataFrame(columns=_names(pd.Series(header)))
    if len(others[0]) != len(header):
        raise UserError(
            f"{path}: line 1 has {len(header)} columns, line 2 has {len(others[0])}. If line 1 is a title, delete it: the "
            "first line names the columns."
        )
    try:
        # The header is left out: beside it, longer rows would silently shift their columns.
        rows = pd.read_csv(io.BytesIO(text.encode()), sep=separator, header=None, skiprows=_line_of(text, 1), low_memory=False)
    except pd.errors.ParserError as error:
        raise UserError(f"{path} does not parse: {_explain(str(error), separator)}") from None
    return rows.set_axis(_names(pd.Series(header)), axis=1)


def _line_of(text: str, row: int) -> int:
    """Lines before the given one of those that are not empty."""
    return [number for number, line in enumerate(text[:SNIFFED].split("\n")) if line.strip()][row]


def _wrong_encoding(path: Path, error: UnicodeDecodeError) -> str:
    line = error.object.count(b"\n", 0, error.start) + 1
    column = error.start - error.object.rfind(b"\n", 0, error.start)
    if error.encoding.startswith("utf-16"):
        return f"{path} begins as UTF-16 and is not (byte {error.start}): {error.reason}. Write it again, as UTF-8."
    return (
        f"{path} is not UTF-8 (byte {error.start} is {error.object[error.start]:#x}; line {line}, byte {column} of it). If it "
        f"is Latin-1, convert it: iconv -f latin1 -t utf-8 '{path}' > '{path.stem}-utf8{path.suffix}'"
    )


def _read_json_lines(text: str, path: Path) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = read_object(number, line)
        except ValueError as error:
            raise UserError(f"{path} does not parse as JSON Lines: {error}.") from None
        rows.append({name: _string(value) for name, value in row.items()})
    return pd.DataFrame(rows, dtype=str).fillna("")


def read_object(number: int, line: str) -> dict:
    """A line of JSON Lines, with its number; raises a ValueError that names the line if it is no object."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"line {number} is no object: {line[:60]}")
    return found


def _string(value: object) -> str:
    """As a string; nothing for null and NaN. Half a surrogate pair, as a cut emoji leaves it, becomes U+FFFD."""
    if value is None or value != value:
        return ""
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read_separated(text: str, path: Path) -> pd.DataFrame:
    separator = _sniff(text[:SNIFFED], path)
    quoted = '"' in text
    if quoted and _quotes_are_stray(text, separator):
        rows = _parse(text, separator, path, csv.QUOTE_NONE)
        rows = rows.apply(lambda column: column.where(~column.str.fullmatch(QUOTED), column.str[1:-1].str.replace('""', '"')))
    else:
        rows = _parse(text, separator, path, csv.QUOTE_MINIMAL)
        if quoted:
            _tell_joined(rows, path)
    return rows.iloc[1:].set_axis(_names(rows.iloc[0]), axis=1).reset_index(drop=True)


def _sniff(text: str, path: Path) -> str:
    """The separator by which most rows have as many columns as the header; of several, the one that gives most columns."""
    sample = _lines(text)[:100]

    def score(separator: str) -> tuple[float, int]:
        widths = [len(row) for row in csv.reader(sample, delimiter=separator)]
        return widths.count(widths[0]) / len(widths) if widths[0] > 1 else 0.0, widths[0]

    try:
        best = max(SEPARATORS, key=score)
    except csv.Error:
        raise UserError(f"{path} has a carriage return alone within a line. End lines in a line feed.") from None
    if score(best)[0] == 0:
        raise UserError(
            f"{path}: the first line, '{sample[0][:80]}', holds no {', no '.join(SEPARATORS.values())}, so it names one column "
            "alone. Separate the columns by one of these"
            + ("; spaces separate none" if " " in sample[0].strip() else "")
            + (
                f". If it is a title, delete it: the header is line {header} then."
                if (header := _line_of_header(sample))
                else "."
            )
        )
    return best


def _line_of_header(lines: list[str]) -> int | None:
    """The line with the first of several columns, where the first has one alone."""
    return next((number for number, line in enumerate(lines, start=1) if any(mark in line for mark in SEPARATORS)), None)


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def _quotes_are_stray(text: str, separator: str) -> bool:
    """Whether each line is a row by itself, and quotes, read as such, would not fit between the separators."""
    lines = _lines(text)
    if len({line.count(separator) for line in lines}) > 1:
        return False
    try:
        return not all(True for _ in csv.reader((line + "\n" for line in lines), delimiter=separator, strict=True))
    except csv.Error:
        return True


def _parse(text: str, separator: str, path: Path, quoting: int) -> pd.DataFrame:
    try:
        # The header is read as a row: as a header, it would let longer rows silently shift their columns.
        return pd.read_csv(
            io.BytesIO(text.encode()), sep=separator, header=None, dtype=str, keep_default_na=False, quoting=quoting
        )
    except pd.errors.ParserError as error:
        raise UserError(f"{path} does not parse: {_explain(str(error), separator)}") from None


def _explain(error: str, separator: str) -> str:
    if longer := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", error):
        expected, line, found = longer.groups()
        name = SEPARATORS[separator]
        return (
            f"line {line} has {found} columns, the header {expected}. Put a text that holds a {name} between double quotes, or "
            f"take the surplus {name} away."
        )
    if opened := re.search(r"EOF inside string starting at row (\d+)", error):
        return f"the double quote that row {opened[1]} opens is never closed. Close it, or take it away."
    return f"{error}."


def _tell_joined(rows: pd.DataFrame, path: Path) -> None:
    joined = np.flatnonzero(rows.apply(lambda column: column.str.contains("\n")).any(axis=1))
    if joined.size:
        shown = ", ".join(str(row) for row in joined[:5])
        print(f"{path}: {joined.size:,} of {len(rows) - 1:,} rows run over several lines, between double quotes: row {shown}.")


def _names(header: pd.Series) -> list[str]:
    """As pandas names columns: one without a name "Unnamed: 2", by its place; a second "t" becomes "t.1"."""
    names = [name.strip() or f"Unnamed: {place}" for place, name in enumerate(header)]
    return [f"{name}.{names[:place].count(name)}" if name in names[:place] else name for place, name in enumerate(names)]
