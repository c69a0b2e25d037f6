"""Weather: your own table, Jena's station, or a generated one; as one array of regular rows."""

import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from apps.weather.cleaning import COSTLIEST, TIME_OF_YEAR, Cleaned, clean, cut_in_time, step_of
from apps.weather.config import Config
from apps.weather.reading import by_time, for_each, read_tables
from apps.weather.sample import make_station
from shared.cli import UserError
from shared.data import Unavailable, existing_path, fingerprint
from shared.download import Source, fetch

JENA = Source(
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/jena_climate_2009_2016.csv.zip",
    name="jena_climate_2009_2016.csv.zip",
)
HOUR, YEAR = pd.Timedelta(hours=1), pd.Timedelta(days=365)
TARGETS = ("t (degc)", "temp")  # how the column begins that --target is where none is named


class Series(NamedTuple):
    """Rows at a regular step; where there are several places, one behind the other."""

    values: np.ndarray  # (rows, columns) float64, in the data's own units: a meter at 45,000,000 has no decimals in 32 bits
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
        config: the settings.
        cut: False where all rows are the past of one forecast; they then belong to one part.

    Raises:
        UserError: for a file that is not there or holds no series.
    """
    if config.data:
        path = existing_path("--data", config.data)
        name, tables = path.resolve().name, read_tables(path, config, one_place=not cut)
    else:
        name, tables = _read_public(config)
    measured = for_each(tables, lambda place, table: by_time(place, table, config))
    offsets = {place: offset for place, (_, offset) in measured.items() if offset is not None}
    stations = clean({place: table for place, (table, _) in measured.items()}, config, cut, offsets)
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
    target = _choose_target(columns, config)
    borders = np.concatenate([station.borders for station in stations])
    if cut and np.ptp(values[borders == 0, target]) == 0:
        raise UserError(f"{name}: the target '{columns[target]}' never changes in training. Name another with --target.")
    return Series(
        values,
        columns,
        np.concatenate([station.table.index.to_numpy() for station in stations]),
        np.concatenate(pieces),
        np.concatenate([station.imputed[[*columns]].to_numpy() for station in stations]),
        borders,
        target,
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
    """Raise a UserError if a part has no window; say so if it has too few to choose or judge by."""
    for part, found in zip(("training", "validation", "test"), starts, strict=True):
        if not len(found):
            raise UserError(
                f"{series.name}: no unbroken stretch for {part} is as long as a window of --history {config.longest_history} "
                f"and --horizon {config.horizon} steps of --every {config.every} rows. There are {len(series.values)} rows; "
                f"without a gap {shortest(config)} would do. Give more rows, or lower one of them.{_costliest(series)}"
            )
    for part, found in (("validation", starts.validation), ("test", starts.test)):
        if np.ptp(found) < config.every * config.horizon:
            print(f"WARNING: all {len(found)} windows of {part} overlap: what is chosen or measured on them is mostly chance.")


def _costliest(series: Series) -> str:
    """The columns by whose gaps most rows are left out, as the cleaning reports them."""
    rows = series.cleaning[series.cleaning["what"].str.startswith(COSTLIEST) & (series.cleaning["count"] > 0)]
    return "".join(f" {row.place}: {row.what}: {row.count:,} rows." for row in rows.itertuples(index=False))


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
    known = series.values[(series.borders == 0) & (series.piece >= 0)]
    deviation = known.std(axis=0)
    return known.mean(axis=0), np.where(deviation > 0, deviation, 1.0)
