"""From the user's files to columns of numbers by time, a table for each place."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from apps.weather.config import Config
from apps.weather.times import looks_like_times, read_times, time_parts
from shared.cli import UserError
from shared.tables import read_numbers

CSV, PARQUET = (".csv", ".tsv", ".txt"), (".parquet",)
DECIMAL_COMMA = r"[+-]?\d+,\d+([eE][+-]?\d+)?"
THOUSANDS = r"[+-]?[1-9]\d{0,2},\d{3}"
MAX_REPEATED = 0.01  # fraction of the rows whose time stamp may have stood before
MAX_PLACES = 1_000  # a column with more different values names no place
POINTS = ["N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW"]
NO_DIRECTION = ["C", "CALM", "CV", "VAR", "VRB", "VARIABLE"]


class Measured(NamedTuple):
    """Of one place."""

    table: pd.DataFrame  # columns of numbers by time, rows as they came
    offset: pd.Series | None  # timedelta by time that makes UTC the local time; None: the times are local


def read_tables(path: Path) -> dict[str, pd.DataFrame]:
    """The tables of a file, or of all files in a folder, by the files' names.

    Raises:
        UserError: names every file that does not read.
    """
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in (*CSV[:2], *PARQUET)) if path.is_dir() else [path]
    if not files:
        raise UserError(f"--data {path}: expected .csv, .tsv or .parquet files in this folder; found none.")
    stems = len({file.stem for file in files}) == len(files)
    return for_each({file.stem if stems else file.name: file for file in files}, lambda _, file: _read_table(file))


def by_place(tables: dict[str, pd.DataFrame], column: str | None, one_place: bool = False) -> dict[str, pd.DataFrame]:
    """Tables by place: as they are, or divided by the column that names the place.

    Args:
        tables: by the names of their files.
        column: `--station-column`.
        one_place: True where a table without it is a place by itself all the same.

    Raises:
        UserError: for a table without the column.
    """
    if column is None:
        return tables
    places = defaultdict(list)
    for file, table in tables.items():
        if column in table:
            for place, rows in table.groupby(column):
                places[str(place)].append(rows.drop(columns=column))
        elif one_place:
            places[file].append(table)
        else:
            raise UserError(f"{file} has no column '{column}' (--station-column); it has {[*table.columns]}.")
    return {place: pd.concat(rows, ignore_index=True) for place, rows in places.items()}


def tidy(table: pd.DataFrame, name: str | Path) -> pd.DataFrame:
    """The times as a column, where they are the index; without columns of row numbers and of nothing.

    Raises:
        UserError: for a table without rows.
    """
    if len(table) == 0:
        raise UserError(f"{name} holds no rows; expected a table with a column of times and columns of numbers.")
    if not isinstance(table.index, pd.RangeIndex):
        table = table.reset_index(drop=table.index.name in table)
    unnamed = table.filter(regex="^Unnamed")
    counters = unnamed.select_dtypes("number")  # the numbers of the rows, as pandas writes them
    nothing = unnamed.columns[unnamed.isna().all()]  # behind a separator at the end of each line
    return table.drop(columns=counters.columns.union(nothing))


def for_each(things: dict[str, object], do: Callable) -> dict[str, object]:
    """What `do(name, thing)` makes of each; one UserError names all that it fails for."""
    done, wrong = {}, []
    for name, thing in things.items():
        try:
            done[name] = do(name, thing)
        except UserError as error:
            wrong.append(str(error))
    if len(wrong) > 1:
        raise UserError(f"{len(wrong)} of {len(things)} do not read:\n" + "\n".join(f"- {message}" for message in wrong))
    if wrong:
        raise UserError(wrong[0])
    return done


def by_time(place: str, table: pd.DataFrame, config: Config) -> Measured:
    """The columns of numbers of a table, by its times: all, or the target and `config.inputs`.

    Raises:
        UserError: for times that do not read or repeat each other, and for columns that hold no numbers.
    """
    try:
        return _by_time(place, table, config)
    except UnicodeError as error:  # bytes in a Parquet file, or half a surrogate pair
        raise UserError(f"{place}: {error.object[:60]!r} is no text. Correct it, or leave its column out.") from None


def _by_time(place: str, table: pd.DataFrame, config: Config) -> Measured:
    columns = _time_columns(table, place, config)
    times, offset = _times(table, columns, place)
    _refuse_repeated(table, columns, times, place)
    others = _chosen(table.drop(columns=columns), place, config)
    numbers = pd.DataFrame(index=table.index).join([_numbers(others[name], place) for name in others])
    numbers = numbers.drop(columns=_mostly_empty(numbers, place, config))
    if numbers.empty:
        raise UserError(f"{place}: expected columns of numbers beside '{columns[0]}'; found none.")
    if offset is not None:
        offset = offset.set_axis(times)
    return Measured(numbers.set_axis(pd.DatetimeIndex(times)), offset)


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix.lower() in CSV:
        table = read_numbers(path, fallback="latin-1")  # as older loggers write degrees
    elif path.suffix.lower() in PARQUET:
        table = _read_parquet(path)
    else:
        raise UserError(f"--data {path}: expected .csv, .tsv, .txt, .parquet or a folder of them; got '{path.suffix}'.")
    return tidy(table, path)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} does not parse as .parquet: {error}.") from None


def _time_columns(table: pd.DataFrame, place: str, config: Config) -> list[str]:
    for column in config.time_column:
        if column not in table:
            raise UserError(f"{place} has no column '{column}' (--time-column); it has {[*table.columns]}.")
    if config.time_column:
        return [*config.time_column]
    text_first = sorted(table.columns, key=lambda column: pd.api.types.is_numeric_dtype(table[column]))
    found = next((column for column in text_first if looks_like_times(table[column])), None)
    if found is not None:
        return [found]
    parts = " ".join(_quoted(time_parts(table)))
    raise UserError(
        f"{place}: no column reads as times; it has {[*table.columns]}. Name one with --time-column"
        + (f", or several that hold its parts: --time-column {parts}" if parts else "")
        + "."
    )


def _times(table: pd.DataFrame, columns: list[str], place: str) -> tuple[pd.Series, pd.Series | None]:
    ways = read_times(table[columns])
    times = ways[0].times
    names = " ".join(_quoted(columns))
    begins = " ".join(str(table[column].iloc[0]) for column in columns)
    if len(ways) > 1:
        raise UserError(
            f"{place}: column {names} can be read in two ways, with the day first or the month first; it begins with "
            f"'{begins}'. Write times as 2024-12-31 23:50."
        )
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        wrong = " ".join(str(table[column].iloc[row]) for column in columns)
        if row == 0 and times.isna().sum() == 1:
            raise UserError(f"{place}: row 1 has '{wrong}' as its time. It looks like a second header line: delete it.")
        raise UserError(
            f"{place}: column {names} does not read as times of one format and one zone; it begins with '{begins}', and row "
            f"{row + 1} has '{wrong}'. Correct it, or name the columns of the time with --time-column."
        )
    return ways[0]


def _refuse_repeated(table: pd.DataFrame, columns: list[str], times: pd.Series, place: str) -> None:
    """Raise a UserError if so many time stamps repeat that they are those of several places, or parts of times."""
    if times.duplicated().mean() <= MAX_REPEATED:
        return
    new = ~table.assign(**{"\0time": times}).duplicated()  # exports that overlap have some rows twice
    table, times = table[new], times[new]
    repeated = float(times.duplicated().mean())
    if repeated <= MAX_REPEATED:
        return
    others = table.drop(columns=columns)
    parts = time_parts(others)
    stations = [column for column in others if column not in parts and _tells_apart(others[column], times)]
    advice = [
        f"If {' and '.join(_quoted(parts))} is the rest of the time: --time-column {' '.join(_quoted([*columns, *parts]))}."
        if parts
        else "If the rest of the time stands in other columns: --time-column with all of them.",
        f"If the file holds several places: --station-column {' or '.join(_quoted(stations)) or 'NAME'}.",
    ]
    raise UserError(
        f"{place}: {repeated:.1%} of the time stamps in {' '.join(_quoted(columns))} have stood before with other values, "
        f"{times[times.duplicated()].iloc[0]} for one. {' '.join(advice)}"
    )


def _tells_apart(column: pd.Series, times: pd.Series) -> bool:
    """Whether a column of names or whole numbers has another value wherever a time stamp repeats."""
    if pd.api.types.is_float_dtype(column) or not 1 < column.nunique() <= MAX_PLACES:
        return False
    return bool(pd.DataFrame({"time": times, "place": column}).duplicated().mean() <= MAX_REPEATED)


def _quoted(columns: list[str]) -> list[str]:
    return [f"'{column}'" if " " in column or "(" in column else column for column in columns]


def _chosen(table: pd.DataFrame, place: str, config: Config) -> pd.DataFrame:
    """The inputs and the target, if inputs are named."""
    if not config.inputs:
        return table
    if missing := [column for column in config.inputs if column not in table]:
        raise UserError(f"{place} has no column '{missing[0]}' (--inputs); it has {[*table.columns]}.")
    return table[[column for column in table if column in (*config.inputs, config.target)]]


def _numbers(column: pd.Series, place: str) -> pd.DataFrame:
    """A column as numbers, with a decimal point or a decimal comma; what is empty, or all text, is missing.

    Points of the compass (NNW) become a vector: how far the wind comes from east and from north, 0 for calm.
    """
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(float).to_frame()
    text = column.astype(str).str.strip().where(column.notna(), "")
    if (directions := _compass(text, column.name)) is not None:
        return directions
    return _decimals(column, text, place).rename(column.name).to_frame()


def _compass(text: pd.Series, name: str) -> pd.DataFrame | None:
    known = text.str.upper()
    words = set(known.unique()) - {""}
    if not words & set(POINTS) or not words <= {*POINTS, *NO_DIRECTION}:
        return None
    angles = {point: 2 * np.pi * number / len(POINTS) for number, point in enumerate(POINTS)}
    waves = {"east": np.sin, "north": np.cos}
    parts = {
        f"{name}, from {side}": known.map({word: float(wave(angles[word])) if word in angles else 0.0 for word in words})
        for side, wave in waves.items()
    }
    return pd.DataFrame(parts, text.index)


def _decimals(column: pd.Series, text: pd.Series, place: str) -> pd.Series:
    found = pd.to_numeric(text, errors="coerce")
    has_comma = text.str.fullmatch(DECIMAL_COMMA)
    has_points = text[found.notna()].str.contains(".", regex=False).any()
    if has_comma.any() and (has_points or text[has_comma].str.fullmatch(THOUSANDS).all()):
        raise UserError(
            f"{place}: column '{column.name}' has commas that may stand for thousands or for decimals, for example "
            f"'{text[has_comma].iloc[0]}'. Write 1013 or 1.013."
        )
    with_comma = pd.to_numeric(text.where(has_comma, "").str.replace(",", "."), errors="coerce")
    found = found.fillna(with_comma)
    wrong = np.flatnonzero(found.isna() & (text != ""))
    if 0 < len(wrong) < len(column) / 2:
        units = " It looks like a second header line: delete it." if wrong.tolist() == [0] else ""
        raise UserError(
            f"{place}: column '{column.name}' has text among its numbers in {len(wrong)} rows, the first of them row "
            f"{wrong[0] + 1}: '{column.iloc[wrong[0]]}'. Write a number, or leave it empty where it is missing.{units}"
        )
    return found


def _mostly_empty(numbers: pd.DataFrame, place: str, config: Config) -> list[str]:
    missing = numbers.isna().mean()
    dropped = [name for name in numbers if missing[name] > 0.5]
    if config.target in dropped:
        raise UserError(
            f"{place}: --target '{config.target}' has a number in {1 - missing[config.target]:.0%} of the rows; half "
            "of them is the least. Name another column."
        )
    if dropped:
        print(f"{place}: columns without numbers in most rows are left out: {', '.join(dropped)}.")
    return dropped
