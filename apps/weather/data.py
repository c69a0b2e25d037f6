"""Weather: your own table, Jena's station, or a generated one; as one array of regular rows."""

import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from apps.weather.cleaning import COSTLIEST, TIME_OF_DAY, TIME_OF_YEAR, Cleaned, clean, cut_in_time, step_of
from apps.weather.config import Config
from apps.weather.reading import by_place, by_time, for_each, read_tables, tidy
from apps.weather.sample import make_station
from apps.weather.windows import Origins, Windows
from shared.cli import UserError
from shared.data import Source, Unavailable, existing_path, fingerprint, public_or_sample

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
    segment_id: np.ndarray  # (rows,) number of the unbroken stretch of one place; -1: cannot be used
    imputed: np.ndarray  # (rows, columns) True where a value was interpolated: nothing to be judged by
    split: np.ndarray  # (rows,) 0 train, 1 validation, 2 test
    target: int  # column to forecast
    name: str
    fingerprint: str
    cleaning: pd.DataFrame  # what was done, a row for each kind
    step: pd.Timedelta  # from one row to the next
    places: tuple[str, ...]
    place: np.ndarray  # (rows,) number of the place, as in `places`
    windows: Windows  # how they lie
    origins: Origins  # the forecast origins of each part; none where the series is the past of one forecast

    @property
    def clock(self) -> list[int]:
        """Numbers of the columns that tell the time."""
        return [number for number, name in enumerate(self.columns) if name in (*TIME_OF_DAY, *TIME_OF_YEAR)]


def load(config: Config) -> Series:
    """Load and clean, cut every place's rows in time into train, validation and test, and find the forecast origins.

    Raises:
        UserError: for a file that is not there or holds no series, or one that is too short for `config.history`.
    """
    if config.data:
        path = existing_path("--data", config.data)
        name, tables = path.resolve().name, by_place(read_tables(path), config.station_column)
    else:
        name, tables = public_or_sample(
            config.dataset,
            "Jena's weather",
            public=lambda: ("jena_2009_2016", {"jena": _read_jena()}),
            sample=lambda: ("sample", {"sample": make_station()}),
            about_sample="a generated station",
        )
    stations = _cleaned(tables, config, cut=True)
    if config.clean:
        stations = _without_unseen_seasons(stations)
    series = _joined(name, stations, config)
    if np.ptp(series.values[series.split == 0, series.target]) == 0:
        target = series.columns[series.target]
        raise UserError(f"{name}: the target '{target}' never changes in training. Name another with --target.")
    imputed = series.imputed.any(axis=1)
    origins = series.windows.find_origins(series.segment_id, imputed, series.split, config.window_stride)
    series = series._replace(origins=origins)
    _check_origins(series, config)
    return series


def load_past(table: str | Path | pd.DataFrame, config: Config) -> Series:
    """Load and clean the past of a forecast: all rows belong to one part, and there are no origins.

    Args:
        table: a file, a folder of them, or the table itself.
        config: the settings of the run that is asked.

    Raises:
        UserError: for a file that is not there or holds no series.
    """
    if isinstance(table, pd.DataFrame):
        name, tables = "the table", {"the table": tidy(table, "the table")}
    else:
        path = existing_path("--data", table)
        name, tables = path.resolve().name, read_tables(path)
    inputs = (*config.inputs, *([config.target] if config.inputs and config.target else []))
    config = replace(config, target=None, inputs=inputs, limit=None)
    return _joined(name, _cleaned(by_place(tables, config.station_column, one_place=True), config, cut=False), config)


def _cleaned(tables: dict[str, pd.DataFrame], config: Config, cut: bool) -> list[Cleaned]:
    measured = for_each(tables, lambda place, table: by_time(place, table, config))
    offsets = {place: offset for place, (_, offset) in measured.items() if offset is not None}
    return clean({place: table for place, (table, _) in measured.items()}, config, cut, offsets)


def _joined(name: str, stations: list[Cleaned], config: Config) -> Series:
    """All places, one behind the other."""
    columns = tuple(stations[0].table.columns)
    for station in stations:
        if set(station.table.columns) != set(columns):
            raise UserError(f"{name}: all places have the same columns; '{station.place}' has {[*station.table.columns]}.")
    values = np.concatenate([station.table[[*columns]].to_numpy(np.float64) for station in stations])
    segments, last = [], -1
    for station in stations:
        segments.append(np.where(station.segment_id < 0, -1, station.segment_id + last + 1))
        last = max(last, segments[-1].max())
    step, none = step_of(stations[0].table.index), np.zeros(0, int)
    return Series(
        values=values,
        columns=columns,
        times=np.concatenate([station.table.index.to_numpy() for station in stations]),
        segment_id=np.concatenate(segments),
        imputed=np.concatenate([station.imputed[[*columns]].to_numpy() for station in stations]),
        split=np.concatenate([station.split for station in stations]),
        target=_choose_target(columns, config),
        name=name,
        fingerprint=fingerprint([values.tobytes(), *(column.encode() for column in columns)]),
        cleaning=pd.concat([station.report for station in stations], ignore_index=True),
        step=step,
        places=tuple(station.place for station in stations),
        place=np.repeat(np.arange(len(stations)), [len(station.table) for station in stations]),
        windows=Windows(config.history, config.horizon, config.stride or max(1, round(HOUR / step))),
        origins=Origins(none, none, none),
    )


def _without_unseen_seasons(stations: list[Cleaned]) -> list[Cleaned]:
    """Without the time of year, if no place's training rows cover a whole one: what November is cannot be learned in May."""
    trained = [station.table.index[station.split == 0] for station in stations]
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


def _read_jena() -> pd.DataFrame:
    """The station's years 2009 to 2016, a CSV in a zip."""
    from shared.download import fetch  # a tenth of a second that predict does without

    file = fetch(JENA)
    try:
        with zipfile.ZipFile(file) as archive, archive.open(archive.namelist()[0]) as content:
            return pd.read_csv(content)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        file.unlink()
        raise Unavailable(f"{file} was damaged ({error}) and is removed; start again to download it") from None


def forecast_columns(config: Config, series: Series) -> list[int]:
    """Numbers of the columns that are forecast: the target or, with `--head segments`, all that do not tell the time."""
    every = [number for number in range(len(series.columns)) if number not in series.clock]
    return every if config.head == "segments" else [series.target]


def statistics(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column over the training rows alone."""
    known = series.values[(series.split == 0) & (series.segment_id >= 0)]
    deviation = known.std(axis=0)
    return known.mean(axis=0), np.where(deviation > 0, deviation, 1.0)


def _check_origins(series: Series, config: Config) -> None:
    """Raise a UserError if a part has no window; say so if it has too few to choose or judge by."""
    windows = series.windows
    for part, found in zip(("training", "validation", "test"), series.origins, strict=True):
        if not len(found):
            raise UserError(
                f"{series.name}: no unbroken stretch for {part} is as long as a window of --history {windows.history} and "
                f"--horizon {windows.horizon} steps of --stride {windows.stride} rows. There are {len(series.values)} rows; "
                f"without a gap {shortest(windows, config.split)} would do. Give more rows, or lower one of them."
                f"{_costliest(series)}"
            )
    for part, found in (("validation", series.origins.validation), ("test", series.origins.test)):
        if np.ptp(found) < windows.stride * windows.horizon:
            print(f"WARNING: all {len(found)} windows of {part} overlap: what is chosen or measured on them is mostly chance.")


def _costliest(series: Series) -> str:
    """The columns by whose gaps most rows are left out, as the cleaning reports them."""
    rows = series.cleaning[series.cleaning["what"].str.startswith(COSTLIEST) & (series.cleaning["count"] > 0)]
    return "".join(f" {row.place}: {row.what}: {row.count:,} rows." for row in rows.itertuples(index=False))


def shortest(windows: Windows, split: tuple[float, float]) -> int:
    """Rows of one place without a gap from which on, in every length, each part has a window."""
    targets = windows.stride * (windows.horizon - 1) + 1
    needed = np.array([windows.rows, targets, targets])  # in train, validation and test
    # Parts are whole rows, so a longer series may have a row less for validation: down from a length that surely does.
    rows = int(np.max((needed + 2) / [*split, 1 - sum(split)]))
    while np.all(np.bincount(cut_in_time(rows - 1, split), minlength=3) >= needed):
        rows -= 1
    return rows
