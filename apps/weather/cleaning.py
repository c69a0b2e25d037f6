"""What is done to a table of measurements before anything learns from it; every step is reported."""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from apps.weather.config import Config
from apps.weather.plausibility import DIRECTION, SPEED, UNIT, believable
from shared.cli import UserError

OTHER_STEPS = 10  # from so many rows on at another step than most, one after the other, it is no gap
MAX_GAP = 6  # rows that are missing in a row and get interpolated; no window reaches across a longer gap
MAX_BETWEEN = 0.05  # fraction of the rows that may lie between the steps, and are left out
NOTHING, DAY = np.timedelta64(0), pd.Timedelta(days=1)
TIME_OF_DAY, TIME_OF_YEAR = [[f"{wave} of {span}" for wave in ("sine", "cosine")] for span in ("day", "year")]
COSTLIEST = "of rows in longer gaps, those in which"


class Cleaned(NamedTuple):
    place: str
    table: pd.DataFrame  # regular rows by time, no value missing
    segment_id: np.ndarray  # (rows,) number of the unbroken stretch; -1: in a gap too long to fill
    split: np.ndarray  # (rows,) 0 train, 1 validation, 2 test
    imputed: pd.DataFrame  # columns as in `table`; True where a value was interpolated: it knows what comes after it
    report: pd.DataFrame


def clean(
    tables: dict[str, pd.DataFrame], config: Config, cut: bool = True, offsets: dict[str, pd.Series] | None = None
) -> list[Cleaned]:
    """Make the rows of every place's table (by time) regular and whole.

    In this order: rows are sorted, repeated time stamps go (the first stays), missing ones are put in (but for those of gaps
    longer than a day and than `MAX_GAP`), missing codes and impossible values become missing, gaps of at most
    `MAX_GAP` rows are interpolated, the rows of longer ones marked; wind becomes a vector, time of day and of year
    sine and cosine.

    Args:
        tables: columns of numbers by time, of each place.
        config: the settings. With `clean` False the rows stay as they are, and each place's are counted. Of all times that the
            places have together, the first `limit` are used.
        cut: True: train, validation and test end at the same time in all places. False: all rows belong to one part.
        offsets: of the places whose times are UTC, what is to be added for the local time, by time.

    Raises:
        UserError: for times without a step, or with one that changes, and for a column that is empty in a part.
    """
    if not config.clean:
        return [_as_they_are(table, place, config, cut) for place, table in tables.items()]
    regular = {place: _regular_rows(table, place) for place, table in tables.items()}
    steps = {place: step_of(table.index) for place, (table, _) in regular.items()}
    if len(set(steps.values())) > 1:
        found = ", ".join(f"{step} in {place}" for place, step in steps.items())
        raise UserError(f"All places have one step between their rows; got {found}. Bring all to one first.")
    times = np.unique(np.concatenate([table.index.to_numpy() for table, _ in regular.values()]))[: config.limit]
    part = cut_in_time(len(times), config.split) if cut else np.zeros(len(times), int)
    regular = {place: (table[: times[-1]], done) for place, (table, done) in regular.items() if table.index[0] <= times[-1]}
    return [
        _whole_values(table, done, place, part[np.searchsorted(times, table.index.to_numpy())], (offsets or {}).get(place))
        for place, (table, done) in regular.items()
    ]


def step_of(times: pd.DatetimeIndex) -> pd.Timedelta:
    """What most rows lie apart."""
    return pd.Series(times).diff().median()


def _as_they_are(table: pd.DataFrame, place: str, config: Config, cut: bool) -> Cleaned:
    if not np.isfinite(table.to_numpy()).all():
        raise UserError(
            f"{place} has empty or infinite values, and its rows are taken as they are (preset benchmark and --no-clean do "
            "so). Fill them, or train with --clean."
        )
    if len(table) < 2 or not table.index.is_monotonic_increasing:
        raise UserError(
            f"{place}: expected rows in the order of their times, as they are taken as they are (preset benchmark and "
            "--no-clean do so). Sort them, or train with --clean."
        )
    table = table.iloc[: config.limit]
    nothing = np.zeros(len(table), int)
    split = cut_in_time(len(table), config.split) if cut else nothing
    imputed = pd.DataFrame(False, table.index, table.columns)
    return Cleaned(place, table, nothing, split, imputed, _report(place, [("rows taken as they are", len(table))]))


def _regular_rows(table: pd.DataFrame, place: str) -> tuple[pd.DataFrame, list[tuple[str, int]]]:
    """A row at every step, but for those in gaps of more than a day, which no part is to be made of; and what was done."""
    done = [
        ("rows read", len(table)),
        ("rows earlier than the one before, sorted", int((np.diff(table.index) < NOTHING).sum())),
    ]
    table = table.sort_index(kind="stable")
    repeated = table.index.duplicated()
    done.append(("repeated time stamps, the first one kept", int(repeated.sum())))
    table = table[~repeated]
    step = step_of(table.index)
    if not len(table) > 2 or not step > pd.Timedelta(0):
        raise UserError(f"{place} has {len(table)} different times; expected a series of them.")
    _check_step(table.index, step, place)
    rows = (table.index[-1] - table.index[0]) // step + 1
    if rows > 20 * len(table):
        raise UserError(f"{place}: times are not regular; their median distance is {step}, which {rows} rows would have.")
    regular = pd.date_range(table.index[0], table.index[-1], freq=step)
    between = ~table.index.isin(regular)
    if between.mean() > MAX_BETWEEN:
        raise UserError(
            f"{place}: times are not regular. By their median distance of {step}, {between.sum()} of {len(table)} rows lie "
            f"between the steps, the first of them at {table.index[between][0]}. Bring all to one step first."
        )
    done.append((f"rows between the steps of {step}, left out", int(between.sum())))
    absent = ~regular.isin(table.index)
    lengths = _run_lengths(absent)
    long = absent & (lengths > MAX_GAP) & (lengths * step > DAY)
    done.append(("missing time stamps, put in", int((absent & ~long).sum())))
    if long.any():
        done.append(("missing time stamps in gaps of more than a day", int(long.sum())))
    return table.reindex(regular[~long]), done


def _whole_values(
    table: pd.DataFrame,
    done: list[tuple[str, int]],
    place: str,
    split: np.ndarray,
    offset: pd.Series | None,
) -> Cleaned:
    """No value missing or impossible, but in the rows of long gaps."""
    table = _wind_as_vector(believable(table, done, place))
    imputed = table.isna()
    missing = imputed.to_numpy().any(axis=1)
    lengths = _run_lengths(missing)
    too_long = missing & (lengths > MAX_GAP)
    done.append((f"rows interpolated, in gaps of at most {MAX_GAP}", int((missing & ~too_long).sum())))
    done.append(("rows in longer gaps, left out", int(too_long.sum())))
    done += _costliest(imputed[too_long])
    # Part by part: what is filled in for training must not come from what is to be forecast.
    table = pd.concat([table[split == part].interpolate(limit_direction="both") for part in np.unique(split)])
    values = table.to_numpy()
    done += [(f"'{column}' never changes", len(table)) for column in table.columns[(values == values[0]).all(axis=0)]]
    if len(empty := table.columns[np.isnan(values).any(axis=0)]):
        raise UserError(
            f"{place}: column '{empty[0]}' has no value at all in train, validation or test. Remove it, or name the columns to "
            "use with --inputs."
        )
    if offset is not None:
        done.append(("rows brought to UTC, as their offset from it changes", len(offset)))
    behind_gap = np.diff(table.index, prepend=table.index[:1]) > step_of(table.index)
    starts = ~too_long & (np.concatenate([[True], too_long[:-1]]) | behind_gap)
    segment_id = np.where(too_long, -1, np.cumsum(starts) - 1)
    table = _with_clock(table, offset)
    imputed = imputed.reindex(columns=table.columns, fill_value=False)
    return Cleaned(place, table, segment_id, split, imputed, _report(place, done))


def _costliest(missing: pd.DataFrame) -> list[tuple[str, int]]:
    """The column by whose gaps most rows are lost; rows in which all are missing are not for a column to answer."""
    missing = missing[~missing.all(axis=1)]
    counts = missing.sum()
    if not len(missing) or not counts.any():
        return []
    name = str(counts.idxmax()).split(", from ")[0]
    return [(f"{COSTLIEST} '{name}' is missing, most of all columns (--inputs names those to use)", int(counts.max()))]


def cut_in_time(rows: int, split: tuple[float, float]) -> np.ndarray:
    """The first rows are for training, the last for test; as the benchmark counts them (Zhou et al., 2021)."""
    train, test = int(rows * split[0]), int(rows * (1 - sum(split)) + 1e-9)
    return np.repeat(np.arange(3), [train, rows - train - test, test])


def _check_step(times: pd.DatetimeIndex, step: pd.Timedelta, place: str) -> None:
    """Raise a UserError if there is a stretch of rows at another step. Single ones are gaps, or rows to leave out."""
    steps = np.diff(times)
    lengths = _run_lengths(steps)
    other = np.flatnonzero((steps != step) & (lengths >= OTHER_STEPS))
    if len(other):
        first = other[0]
        raise UserError(
            f"{place}: the step changes. Most rows lie {step} apart, but the {lengths[first]} from {times[first]} on lie "
            f"{pd.Timedelta(steps[first])} apart. Bring all to one step first."
        )


def _report(place: str, done: list[tuple[str, int]]) -> pd.DataFrame:
    return pd.DataFrame([{"place": place, "what": what, "count": count} for what, count in done])


def _run_lengths(values: np.ndarray) -> np.ndarray:
    """For each row the length of the run of equal values that it lies in."""
    number = np.cumsum(np.concatenate([[0], values[1:] != values[:-1]]))
    return np.bincount(number)[number]


def _wind_as_vector(table: pd.DataFrame) -> pd.DataFrame:
    """Speed and direction (degrees, where it comes from) as a vector: 359 and 1 degree lie side by side, calm has none.

    Of several heights, each speed goes with the direction whose name ends as its own: wind_speed_10m, wind_direction_10m.
    """
    directions = {_height(column, DIRECTION): column for column in table if DIRECTION.match(column) and ", from " not in column}
    speeds = {column: _height(column, SPEED) for column in table if SPEED.match(column)}
    only = next(iter(directions.values())) if len(directions) == 1 else None
    pairs = {speed: directions.get(height, only) for speed, height in speeds.items() if directions.get(height, only)}
    parts = {}
    for speed, direction in pairs.items():
        length, angle = table[speed].to_numpy(), np.deg2rad(table[direction].to_numpy())
        for name, wave in (("east", np.sin), ("north", np.cos)):
            parts[f"{speed}, from {name}"] = np.where(length == 0, 0.0, length * wave(angle))
    return table.drop(columns=[*set(pairs.values())]).assign(**parts)


def _height(column: str, quantity: re.Pattern) -> str:
    """What stands behind the quantity and before the unit."""
    return UNIT.sub("", column)[quantity.match(column).end() :].strip(" _.").lower()


def _with_clock(table: pd.DataFrame, offset: pd.Series | None) -> pd.DataFrame:
    times = table.index
    if offset is not None:
        known = offset[~offset.index.duplicated()].sort_index()
        times = times + pd.TimedeltaIndex(known.reindex(times, method="ffill").bfill())
    day = (times - times.normalize()) / DAY
    year = (times.day_of_year - 1 + day) / 365.2425
    names = [*TIME_OF_DAY, *TIME_OF_YEAR]
    turns = (wave(2 * np.pi * turn) for turn in (day, year) for wave in (np.sin, np.cos))
    return table.assign(**dict(zip(names, turns, strict=True)))
