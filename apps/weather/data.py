"""Weather: your own table, Jena's station, or a generated one; as one array of regular rows."""

import csv
import zipfile
import zlib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from apps.weather.cleaning import TIME_OF_YEAR, Cleaned, clean, cut_in_time, step_of
from apps.weather.config import Config
from apps.weather.sample import make_station
from shared.cli import UserError
from shared.data import Unavailable, existing_path, fingerprint
from shared.download import Source, fetch

JENA = Source(
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/jena_climate_2009_2016.csv.zip",
    name="jena_climate_2009_2016.csv.zip",
)
TIME_FORMATS = (
    "ISO8601",
    *(f"{date}{time}" for date in ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y") for time in (" %H:%M:%S", " %H:%M", "")),
)
HOUR, YEAR = pd.Timedelta(hours=1), pd.Timedelta(days=365)
ZONE = (
    r"(:\d\d(?:[.,]\d+)?)\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)$"  # behind a time; the clock of the place is kept, the zone is dropped
)
DECIMAL_COMMA = r"[+-]?\d+,\d+([eE][+-]?\d+)?"
THOUSANDS = r"[+-]?[1-9]\d{0,2},\d{3}"
TARGETS = ("t (degc)", "temp")  # how the column begins that --target is where none is named


class Series(NamedTuple):
    """Rows at a regular step; where there are several places, one behind the other."""

    values: np.ndarray  # (rows, columns), in the data's own units
    columns: tuple[str, ...]
    times: np.ndarray  # (rows,) datetime64
    piece: np.ndarray  # (rows,) number of the unbroken stretch of one place; -1: can't be used
    imputed: np.ndarray  # (rows, columns) True where a value was interpolated: no truth to be judged by
    borders: np.ndarray  # (rows,) 0 train, 1 validation, 2 test
    target: int  # column to forecast
    name: str
    fingerprint: str
    cleaning: pd.DataFrame  # what was done, a row for each kind
    step: pd.Timedelta  # from one row to the next
    places: tuple[str, ...]
    place: np.ndarray  # (rows,) number of the place, as in `places`

    @property
    def filled(self) -> np.ndarray:
        """`(rows,)`, True where any value of a row was interpolated: it knows what comes next."""
        return self.imputed.any(axis=1)


def load(config: Config, cut: bool = True) -> Series:
    """Load and clean, and cut every place's rows in time into train, validation and test.

    Args:
        config: the knobs.
        cut: False where all rows are the past of one forecast; they then belong to one part.

    Raises:
        UserError: for a file that is not there or holds no series.
    """
    if config.data:
        path = existing_path("--data", config.data)
        name, tables = path.resolve().name, _read_own(path, config)
    else:
        name, tables = _read_public(config)
    stations = clean({place: _by_time(table, place, config) for place, table in tables.items()}, config, cut)
    if cut and config.clean:
        stations = _without_unseen_seasons(stations)
    columns = tuple(stations[0].table.columns)
    for station in stations:
        if set(station.table.columns) != set(columns):
            raise UserError(f"{name}: all places have the same columns; '{station.place}' has {[*station.table.columns]}.")
    values = np.concatenate([station.table[[*columns]].to_numpy(np.float64) for station in stations])
    pieces, last = [], -1
    for station in stations:
        pieces.append(np.where(station.piece < 0, -1, station.piece + last + 1))
        last = max(last, pieces[-1].max())
    return Series(
        values,
        columns,
        np.concatenate([station.table.index.to_numpy() for station in stations]),
        np.concatenate(pieces),
        np.concatenate([station.imputed[[*columns]].to_numpy() for station in stations]),
        np.concatenate([station.borders for station in stations]),
        _choose_target(columns, config),
        name,
        fingerprint([values.tobytes(), *(column.encode() for column in columns)]),
        pd.concat([station.report for station in stations], ignore_index=True),
        step_of(stations[0].table.index),
        tuple(station.place for station in stations),
        np.repeat(np.arange(len(stations)), [len(station.table) for station in stations]),
    )


def _without_unseen_seasons(stations: list[Cleaned]) -> list[Cleaned]:
    """Without the time of year, if no place's training rows cover a whole one: what November is can't be learned in May."""
    trained = [station.table.index[station.borders == 0] for station in stations]
    span = max(times.max() - times.min() for times in trained if len(times))
    if span >= YEAR:
        return stations
    print(f"The time of year is left out: training covers {span.days} days, less than a year.")
    return [station._replace(table=station.table.drop(columns=TIME_OF_YEAR)) for station in stations]


def _choose_target(columns: tuple[str, ...], config: Config) -> int:
    if config.target is not None:
        if config.target not in columns:
            raise UserError(f"--target '{config.target}': there is no such column; there are {', '.join(columns)}.")
        return columns.index(config.target)
    lowered = [column.lower() for column in columns]
    return next((row for name in TARGETS for row, column in enumerate(lowered) if column.startswith(name)), 0)


def _by_time(table: pd.DataFrame, place: str, config: Config) -> pd.DataFrame:
    """The numeric columns of a table, by its times."""
    column = _time_column(table, place, config)
    times, *other_ways = read_times(table[column])
    if other_ways:
        raise UserError(
            f"{place}: column '{column}' can be read in two ways, with the day first or the month first; it begins with "
            f"'{table[column].iloc[0]}'. Write times as 2024-12-31 23:50."
        )
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise UserError(
            f"{place}: column '{column}' does not read as times of one format and one zone; it begins with "
            f"'{table[column].iloc[0]}', and row {row + 1} has '{table[column].iloc[row]}'. Mend it, or --time-column."
        )
    others = table.drop(columns=column)
    numbers = pd.DataFrame({name: _numbers(others[name], place) for name in others}, index=table.index)
    dropped = [name for name in numbers if numbers[name].isna().mean() > 0.5]
    if dropped:
        print(f"{place}: columns without numbers in most rows are left out: {', '.join(dropped)}.")
    numbers = numbers.drop(columns=dropped)
    if numbers.empty:
        raise UserError(f"{place}: expected columns of numbers beside '{column}'; found none.")
    return numbers.set_axis(pd.DatetimeIndex(times))


def _numbers(column: pd.Series, place: str) -> pd.Series:
    """A column as numbers, with a decimal point or a decimal comma; what is empty, or all text, is missing."""
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(float)
    found = pd.to_numeric(column, errors="coerce")
    text = column.astype(str).str.strip()
    has_comma = text.str.fullmatch(DECIMAL_COMMA)
    has_points = text[found.notna()].str.contains(".", regex=False).any()
    if has_comma.any() and (has_points or text[has_comma].str.fullmatch(THOUSANDS).all()):
        raise UserError(
            f"{place}: column '{column.name}' has commas that may stand for thousands or for decimals, for example "
            f"'{text[has_comma].iloc[0]}'. Write 1013 or 1.013."
        )
    with_comma = pd.to_numeric(text.where(has_comma, "").str.replace(",", "."), errors="coerce")
    found = found.fillna(with_comma)
    wrong = np.flatnonzero(found.isna() & column.notna())
    if 0 < len(wrong) < len(column) / 2:
        raise UserError(
            f"{place}: column '{column.name}' has text among its numbers in {len(wrong)} rows, the first of them row "
            f"{wrong[0] + 1}: '{column.iloc[wrong[0]]}'. Write a number, or leave it empty where it is missing."
        )
    return found


def _time_column(table: pd.DataFrame, place: str, config: Config) -> str:
    if config.time_column is not None:
        if config.time_column not in table:
            raise UserError(f"{place} has no column '{config.time_column}' (--time-column); it has {[*table.columns]}.")
        return config.time_column
    for column in table.columns:
        sample = table[column].iloc[:100]
        if not pd.api.types.is_numeric_dtype(sample) and read_times(sample)[0].notna().mean() > 0.5:
            return column
    raise UserError(f"{place}: no column reads as times; it has {[*table.columns]}. Name one with --time-column.")


def read_times(column: pd.Series) -> list[pd.Series]:
    """A column as times, of one format and one zone all through; what is not of the format that fits most rows is NaT.

    In more ways than one, where it can be read with the day first and with the month first.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        return [column.dt.tz_localize(None)]
    text = column.astype(str)
    zone = text.str.extract(ZONE)[1].fillna("")
    text = text.where(zone == zone.iloc[0]).str.replace(ZONE, r"\1", regex=True)
    tried = [pd.to_datetime(text, format=form, errors="coerce") for form in TIME_FORMATS]
    most = max(times.notna().sum() for times in tried)
    first, *others = (times for times in tried if times.notna().sum() == most)
    return [first, *(times for times in others if not times.equals(first))]


def _read_own(path: Path, config: Config) -> dict[str, pd.DataFrame]:
    """Tables by place."""
    files = sorted(file for file in path.iterdir() if file.suffix in (".csv", ".parquet")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"--data {path}: expected .csv or .parquet files in this folder; found none.")
    tables = {file.stem if len({f.stem for f in files}) == len(files) else file.name: _read_table(file) for file in files}
    if config.station_column is None:
        return tables
    places = defaultdict(list)
    for file, table in tables.items():
        if config.station_column not in table:
            raise UserError(f"{file} has no column '{config.station_column}' (--station-column); it has {[*table.columns]}.")
        for place, rows in table.groupby(config.station_column):
            places[str(place)].append(rows.drop(columns=config.station_column))
    return {place: pd.concat(rows, ignore_index=True) for place, rows in places.items()}


def _read_table(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            if not isinstance(table.index, pd.RangeIndex):
                table = table.reset_index()  # times may stand there
        elif path.suffix == ".csv":
            table = _read_csv(path)
        else:
            raise UserError(f"--data {path}: expected .csv, .parquet or a folder of them; got '{path.suffix}'.")
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(f"{path} does not parse as {path.suffix}: {error}.") from None
    if len(table) == 0:
        raise UserError(f"{path} holds no rows; expected a table with a column of times and columns of numbers.")
    counters = table.filter(regex="^Unnamed").select_dtypes("number")  # the numbers of the rows, as pandas writes them
    return table.drop(columns=counters.columns)


def _read_csv(path: Path) -> pd.DataFrame:
    """Comma, semicolon or tab; UTF-8, or Latin-1 as older loggers write degrees."""
    try:
        return pd.read_csv(path, sep=None, engine="python", encoding="utf-8-sig")
    except UnicodeDecodeError:
        return pd.read_csv(path, sep=None, engine="python", encoding="latin-1")


def _read_public(config: Config) -> tuple[str, dict[str, pd.DataFrame]]:
    if config.dataset != "sample":
        try:
            return "jena_2009_2016", {"jena": _read_jena(fetch(JENA))}
        except Unavailable as reason:
            if config.dataset == "jena":
                raise UserError(f"Jena's weather is not available: {reason}. Give --data, or leave --dataset out.") from None
            print(f"{'=' * 80}\nJena's weather is not available: {reason}.\nGoing on with the SAMPLE, a generated station.")
            print(f"Its numbers say that the program works, nothing about real weather.\n{'=' * 80}")
    return "sample", {"sample": make_station()}


def _read_jena(file: Path) -> pd.DataFrame:
    """The station's years 2009 to 2016, a CSV in a zip."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open(archive.namelist()[0]) as content:
            return pd.read_csv(content)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        file.unlink()
        raise Unavailable(f"{file} was damaged ({error}) and is removed; start again to download it") from None


def with_step(config: Config, series: Series) -> Config:
    """The config with `every` said in rows: an hour's, where it is None."""
    return replace(config, every=config.every or max(1, round(HOUR / series.step)))


def check_windows(series: Series, starts, config: Config) -> None:
    """Raise a UserError if a part has no window."""
    for part, found in zip(("training", "validation", "test"), starts, strict=True):
        if not len(found):
            raise UserError(
                f"{series.name}: no unbroken stretch for {part} is as long as a window of --history {config.longest_history} "
                f"and --horizon {config.horizon} steps of --every {config.every} rows. There are {len(series.values)} rows; "
                f"without a gap {shortest(config)} would do. Give more rows, or lower one of them."
            )
    for part, found in (("validation", starts.validation), ("test", starts.test)):
        if np.ptp(found) < config.every * config.horizon:
            print(f"WARNING: all {len(found)} windows of {part} overlap: what is chosen or measured on them is mostly chance.")


def shortest(config: Config) -> int:
    """Rows of one place without a gap from which on, in every length, each part has a window."""
    targets = config.every * (config.horizon - 1) + 1
    needed = np.array([config.every * config.longest_history + targets, targets, targets])  # in train, validation and test
    test_share = 1 - config.train_share - config.validation_share
    # Parts are whole rows, so a longer series may have a row less for validation: down from a length that surely does.
    rows = int(np.max((needed + 2) / [config.train_share, config.validation_share, test_share]))
    while np.all(np.bincount(cut_in_time(rows - 1, config), minlength=3) >= needed):
        rows -= 1
    return rows


def statistics(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column over the training rows alone."""
    known = series.values[(series.borders == 0) & (series.piece >= 0)].astype(np.float64)
    deviation = known.std(axis=0)
    return known.mean(axis=0), np.where(deviation > 0, deviation, 1.0)
