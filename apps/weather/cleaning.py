"""What is done to a table of measurements before anything learns from it, and said aloud."""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from apps.weather.config import Config
from shared.cli import UserError

MISSING_CODES = (-9999.0, -999.9, -99.99, 9999.0)
POSSIBLE = {  # by the unit in a column's name: least and greatest value that is physically possible
    "degC": (-90.0, 65.0),
    "K": (180.0, 345.0),
    "%": (0.0, 110.0),
    "mbar": (0.0, 1_100.0),
    "hPa": (0.0, 1_100.0),
    "m/s": (0.0, 120.0),
    "deg": (0.0, 360.0),
    "mm": (0.0, 500.0),
    "s": (0.0, np.inf),
}
OTHER_STEPS = 10  # from so many rows on at another step than most, one after the other, it is no gap
MOST_BETWEEN = 0.05  # share of the rows that may lie between the steps, and are left out
NOTHING, DAY = np.timedelta64(0), pd.Timedelta(days=1)
TIME_OF_DAY, TIME_OF_YEAR = [[f"{wave} of {span}" for wave in ("sine", "cosine")] for span in ("day", "year")]
UNIT = re.compile(r"\(([^)]*)\)\s*$")
SPEED = re.compile(r"^(max\.? )?(wv\b|wind[ _]?(speed|velocity))", re.IGNORECASE)
DIRECTION = re.compile(r"^(wd\b|wind[ _]?dir)", re.IGNORECASE)


class Cleaned(NamedTuple):
    place: str
    table: pd.DataFrame  # regular rows by time, no value missing
    piece: np.ndarray  # (rows,) number of the unbroken stretch; -1: in a gap too long to fill
    borders: np.ndarray  # (rows,) 0 train, 1 validation, 2 test
    imputed: pd.DataFrame  # columns as in `table`; True where a value was interpolated: it knows what comes after it
    report: pd.DataFrame

    @property
    def filled(self) -> np.ndarray:
        """`(rows,)`, True where any value of a row was interpolated."""
        return self.imputed.to_numpy().any(axis=1)


def clean(tables: dict[str, pd.DataFrame], config: Config, cut: bool = True) -> list[Cleaned]:
    """Make the rows of every place's table (by time) regular and whole.

    In this order: rows are sorted, repeated time stamps go (the first stays), missing ones are put in, missing codes and
    impossible values become missing, gaps of at most `config.longest_gap` rows are interpolated, the rows of longer ones
    marked; wind becomes a vector, time of day and of year sine and cosine. Train, validation and test end at the same time in
    all places, and only the first `config.limit` times are used. With `config.clean` False the rows stay as they are, and each
    place's are counted; with `cut` False all rows belong to one part.

    Raises:
        UserError: for times without a step, or with one that changes, and for a column that is empty in a part.
    """
    if not config.clean:
        return [_as_they_are(table, place, config, cut) for place, table in tables.items()]
    regular = {place: _regular_rows(table, place, config) for place, table in tables.items()}
    steps = {place: step_of(table.index) for place, (table, _) in regular.items()}
    if len(set(steps.values())) > 1:
        found = ", ".join(f"{step} in {place}" for place, step in steps.items())
        raise UserError(f"All places have one step between their rows; got {found}. Bring all to one first.")
    times = np.unique(np.concatenate([table.index.to_numpy() for table, _ in regular.values()]))[: config.limit]
    part = cut_in_time(len(times), config) if cut else np.zeros(len(times), int)
    regular = {place: (table[: times[-1]], done) for place, (table, done) in regular.items() if table.index[0] <= times[-1]}
    return [
        _whole_values(table, done, place, part[np.searchsorted(times, table.index.to_numpy())], config)
        for place, (table, done) in regular.items()
    ]


def step_of(times: pd.DatetimeIndex) -> pd.Timedelta:
    """What most rows lie apart."""
    return pd.Series(times).diff().median()


def _as_they_are(table: pd.DataFrame, place: str, config: Config, cut: bool) -> Cleaned:
    if not np.isfinite(table.to_numpy()).all():
        raise UserError(f"{place} has empty or infinite values; without cleaning there can be none. Leave --no-clean out.")
    if len(table) < 2 or not table.index.is_monotonic_increasing:
        raise UserError(f"{place}: expected rows in the order of their times, as there is no cleaning. Leave --no-clean out.")
    table = table.iloc[: config.limit]
    nothing = np.zeros(len(table), int)
    borders = cut_in_time(len(table), config) if cut else nothing
    imputed = pd.DataFrame(False, table.index, table.columns)
    return Cleaned(place, table, nothing, borders, imputed, _report(place, [("rows taken as they are", len(table))]))


def _regular_rows(table: pd.DataFrame, place: str, config: Config) -> tuple[pd.DataFrame, list[tuple[str, int]]]:
    """A row at every step; and what was done."""
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
    regular = pd.date_range(table.index[0], table.index[-1], freq=step)
    between = ~table.index.isin(regular)
    if between.mean() > MOST_BETWEEN:
        raise UserError(
            f"{place}: times are not regular. By their median distance of {step}, {between.sum()} of {len(table)} rows lie "
            f"between the steps, the first of them at {table.index[between][0]}. Bring all to one step first."
        )
    done.append((f"rows between the steps of {step}, left out", int(between.sum())))
    if len(regular) > 20 * len(table):
        raise UserError(
            f"{place}: times are not regular; their median distance is {step}, which {len(regular)} rows would have."
        )
    done.append(("missing time stamps, put in", int((~regular.isin(table.index)).sum())))
    return table.reindex(regular), done


def _whole_values(table: pd.DataFrame, done: list[tuple[str, int]], place: str, borders: np.ndarray, config: Config) -> Cleaned:
    """No value missing or impossible, but in the rows of long gaps."""
    infinite = ~np.isfinite(table) & table.notna()
    done.append(("infinite values", int(infinite.to_numpy().sum())))
    codes = table.isin(MISSING_CODES)
    done.append(
        (f"values that are codes for missing ({', '.join(f'{code:g}' for code in MISSING_CODES)})", int(codes.to_numpy().sum()))
    )
    table = table.mask(codes | infinite)
    for column in table:
        if bounds := POSSIBLE.get((UNIT.search(column) or ["", ""])[1]):
            impossible = (table[column] < bounds[0]) | (table[column] > bounds[1])
            if impossible.any():
                done.append((f"'{column}' outside of {bounds[0]:g} to {bounds[1]:g}, impossible", int(impossible.sum())))
                table[column] = table[column].mask(impossible)
    table = _wind_as_vector(table)
    imputed = table.isna()
    missing = imputed.any(axis=1).to_numpy()
    lengths = _run_lengths(missing)
    too_long = missing & (lengths > config.longest_gap)
    done.append((f"rows interpolated, in gaps of at most {config.longest_gap}", int((missing & ~too_long).sum())))
    done.append(("rows in longer gaps, left out", int(too_long.sum())))
    # Part by part: what is filled in for training must not come from what is to be forecast.
    table = pd.concat([table[borders == part].interpolate(limit_direction="both") for part in np.unique(borders)])
    done += [(f"'{column}' never changes", len(table)) for column in table if table[column].nunique() == 1]
    if empty := [column for column in table if table[column].isna().any()]:
        raise UserError(f"{place}: column '{empty[0]}' has no value at all in train, validation or test; remove it.")
    starts = np.diff(np.concatenate([[True], too_long]).astype(int)) < 0
    piece = np.where(too_long, -1, np.cumsum(starts) - 1)
    table = _with_clock(table)
    imputed = imputed.reindex(columns=table.columns, fill_value=False)
    return Cleaned(place, table, piece, borders, imputed, _report(place, done))


def cut_in_time(rows: int, config: Config) -> np.ndarray:
    """The first rows are for training, the last for test; as the benchmark counts them (Zhou et al., 2021)."""
    train, test = int(rows * config.train_share), int(rows * (1 - config.train_share - config.validation_share) + 1e-9)
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
    """Speed and direction (degrees, where it comes from) as a vector: 359 and 1 degree lie side by side, calm has none."""
    direction = next((column for column in table if DIRECTION.match(column)), None)
    speeds = [column for column in table if SPEED.match(column)]
    if direction is None or not speeds:
        return table
    angle = np.deg2rad(table[direction])
    parts = {}
    for speed in speeds:
        for name, wave in (("east", np.sin), ("north", np.cos)):
            parts[f"{speed}, from {name}"] = (table[speed] * wave(angle)).mask(table[speed] == 0, 0.0)
    return table.drop(columns=[direction]).assign(**parts)


def _with_clock(table: pd.DataFrame) -> pd.DataFrame:
    times = table.index
    day = (times - times.normalize()) / DAY
    year = (times.day_of_year - 1 + day) / 365.2425
    names = [*TIME_OF_DAY, *TIME_OF_YEAR]
    turns = (wave(2 * np.pi * turn) for turn in (day, year) for wave in (np.sin, np.cos))
    return table.assign(**dict(zip(names, turns, strict=True)))
