"""Which values of a table of measurements cannot be: codes for missing, impossible ones, spikes."""

import re

import numpy as np
import pandas as pd

from shared.cli import UserError

# Of loggers and archives (DWD, NASA POWER); missing only where no other value lies near: a pressure may be 999.9 hPa.
MISSING_CODES = (-99999.0, -9999.0, -999.9, -999.0, -99.99, -99.9, -99.0, 999.9, 9999.0, 99999.0)
NEAR = 0.05  # of what lies between the 1 % and the 99 % quantile of the other values
MIN_REPEATS = 3  # of one value far outside, from which on it is reported
MAX_SPIKE = 100  # times as far from the median as all other values
MAX_IMPOSSIBLE = 0.02  # fraction of a column; beyond, it is another quantity than its name says
SPEED = re.compile(r"^(max\.? )?(wv|ws|wspm|wind[ _]?(speed|velocity))(?![a-z])", re.IGNORECASE)
DIRECTION = re.compile(r"^(wd|wind[ _]?dir(ection)?)(?![a-z])", re.IGNORECASE)
SIGNED = re.compile(r"change|tendency|trend|anomaly|difference|deviation|bias|error", re.IGNORECASE)
UNIT = re.compile(r"\s*[(\[]([^)\]]*)[)\]]\s*$")
UNITS = {"\N{DEGREE SIGN}C": "degC", "C": "degC", "\N{DEGREE SIGN}": "deg", "degrees": "deg", "mbar": "hPa"}
POSSIBLE = (  # how a quantity's name begins, its unit, least and greatest value that is physically possible
    (
        re.compile(r"^(t|tdew|tlog|temp|temperature|air[ _]temp(erature)?|dew[ _]?point)(?![a-z])", re.IGNORECASE),
        "degC",
        (-90, 65),
    ),
    (re.compile(r"^(t|temp|temperature|air[ _]temp(erature)?|dew[ _]?point)(?![a-z])", re.IGNORECASE), "K", (180, 345)),
    (re.compile(r"^(rh|humidity|rel(ative|\.)?[ _]?hum(idity)?)(?![a-z])", re.IGNORECASE), "%", (0, 110)),
    (re.compile(r"^(p|pres|pressure|air[ _]pressure|slp|msl)(?![a-z])", re.IGNORECASE), "hPa", (0, 1_100)),
    (SPEED, "m/s", (0, 120)),
    (DIRECTION, "deg", (0, 360)),
    (re.compile(r"^(rain|precip(itation)?)(?![a-z])", re.IGNORECASE), "mm", (0, 500)),
    (re.compile(r"^raining(?![a-z])", re.IGNORECASE), "s", (0, np.inf)),
)


def believable(table: pd.DataFrame, done: list[tuple[str, int]], place: str) -> pd.DataFrame:
    """Without infinite values, codes for missing and impossible values; what is dubious is reported or refused."""
    values = table.to_numpy(np.float64, copy=True)
    infinite = np.isinf(values)
    values[infinite] = np.nan
    done.append(("infinite values", int(infinite.sum())))
    codes = _codes(values)
    listed = ", ".join(f"{code:g}" for code in np.unique(values[codes]))
    values[codes] = np.nan
    done.append((f"values that are codes for missing{f' ({listed})' if listed else ''}", int(codes.sum())))
    for name, column in zip(table.columns, values.T, strict=True):
        done += _repeated_far_outside(column, name)
        done += _remove_impossible(column, name, place)
        _refuse_spikes(column, name, table.index, place)
    return pd.DataFrame(values, table.index, table.columns)


def _codes(values: np.ndarray) -> np.ndarray:
    """Where a value is a code for missing and no other of its column lies near; in 32 bits, as some files have them."""
    in_32_bits, codes = values.astype(np.float32), np.float32(MISSING_CODES)
    is_code = np.isin(in_32_bits, codes)
    for column in np.flatnonzero(is_code.any(axis=0)):
        others = values[~is_code[:, column] & ~np.isnan(values[:, column]), column]
        if len(others):
            low, high = np.quantile(others, (0.01, 0.99))
            alone = [code for code in codes if np.abs(others - code).min() > NEAR * (high - low)]
            is_code[:, column] = np.isin(in_32_bits[:, column], np.float32(alone))
    return is_code


def _remove_impossible(column: np.ndarray, name: str, place: str) -> list[tuple[str, int]]:
    """Put NaN into the column where a value can't be, for what the name says it is; and say how often."""
    bounds = possible(str(name))
    if bounds is None:
        return []
    impossible = (column < bounds[0]) | (column > bounds[1])
    count, known = int(impossible.sum()), int((~np.isnan(column)).sum())
    between = f"{bounds[0]:g} to {bounds[1]:g}"
    if count > MAX_IMPOSSIBLE * known:
        raise UserError(
            f"{place}: {count / known:.0%} of '{name}' lie outside of {between}, between which the quantity of this "
            f"name is possible, for example {column[impossible][0]:g}. Empty them if they are faults; if the column holds "
            "something else, give it another name, or change POSSIBLE in apps/weather/plausibility.py."
        )
    column[impossible] = np.nan
    return [(f"'{name}' outside of {between}, impossible", count)] if count else []


def possible(name: str) -> tuple[float, float] | None:
    """The bounds of the quantity that a column's name and unit tell, None for others."""
    unit = (UNIT.search(name) or ["", ""])[1]
    unit = UNITS.get(unit, unit)
    if SIGNED.search(name):
        return None
    return next((bounds for quantity, of_unit, bounds in POSSIBLE if of_unit == unit and quantity.match(name)), None)


def _repeated_far_outside(column: np.ndarray, name: str) -> list[tuple[str, int]]:
    """Values that repeat farther from all others than these lie apart: they may be codes."""
    values = column[~np.isnan(column)]
    found = []
    for end in (values.min(), values.max()) if len(values) else ():
        others = values[values != end]
        count = len(values) - len(others)
        if count >= MIN_REPEATS and len(others) and np.abs(others - end).min() > np.ptp(np.quantile(others, (0.01, 0.99))) > 0:
            found.append((f"'{name}' is {end:g}, far outside the rest; kept: empty it if it stands for missing", count))
    return found


def _refuse_spikes(column: np.ndarray, name: str, times: pd.DatetimeIndex, place: str) -> None:
    """Raise a UserError for a few values that are out of all proportion to the rest."""
    known = column[~np.isnan(column)]
    few = max(MIN_REPEATS, len(known) // 1_000)
    if len(known) <= 2 * few:
        return
    median = np.median(known)
    distance = np.abs(known - median)
    usual, largest = np.partition(distance, -few - 1)[-few - 1], distance.max()
    if usual > 0 and largest > MAX_SPIKE * usual:
        row = np.nanargmax(np.abs(column - median))
        raise UserError(
            f"{place}: '{name}' is {column[row]:g} at {times[row]}, {largest / usual:,.0f} times as far from its "
            f"median {median:g} as all others but {few}. Correct it, or leave it empty."
        )
