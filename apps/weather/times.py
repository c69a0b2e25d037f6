"""The times of a table: the format is found in a sample, and all rows are read in it once."""

from typing import NamedTuple

import pandas as pd

DATES = ("%d.%m.%Y", "%d.%m.%y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%d-%b-%Y", "%d %b %Y")
CLOCKS = (" %H:%M:%S", " %H:%M", "", " %I:%M:%S %p", " %I:%M %p")
FORMATS = "ISO8601", *(date + clock for date in DATES for clock in CLOCKS)
STAMPS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # by the number of digits
YEARS = pd.Timestamp("1800"), pd.Timestamp("2200")  # other years: the digits are another number
UNIX = {"s": (1e8, 1e11), "ms": (1e11, 1e14), "us": (1e14, 1e17), "ns": (1e17, 9e18)}  # from 1973 on
PARTS = ("year", "month", "day", "hour", "minute", "second")
TIME_NAME = r"(?i)time|date|datum|zeit|epoch|unix|\bts\b|\bdt\b"
PART_NAME = r"(?i)(year|yr|month|mo|day|dy|hour|hr|h|minute|min|second|sec|std|stunde|time|uhrzeit|zeit)s?(\W.*)?"
ZONE = r"(:\d\d(?:[.,]\d+)?)\s*(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)$"  # behind a time
NO_OFFSET = pd.Timedelta(0)
SAMPLED = 1_000  # rows, evenly spread


class Times(NamedTuple):
    """The place's own clock; UTC where its offset from UTC changes, by daylight saving time for one."""

    times: pd.Series  # datetime64, NaT where a row does not read
    offset: pd.Series | None  # timedelta of each row that makes UTC the local time; None: the times are local


def read_times(columns: pd.DataFrame) -> list[Times]:
    """Columns as times of one format; what is not of the format that fits most rows is NaT.

    One column with dates and times, or with digits (2024123123), or with seconds since 1970; or several: a date, then its time
    or its hours, minutes and seconds; or year, month, day, hours, minutes, seconds.

    Returns:
        The times; in more ways than one where they read with the day first and with the month first.
    """
    numeric = [pd.api.types.is_numeric_dtype(columns.iloc[:, place]) for place in range(columns.shape[1])]
    if len(numeric) >= 3 and all(numeric):
        parts = columns.iloc[:, : len(PARTS)].set_axis(PARTS[: len(numeric)], axis=1)
        return [Times(pd.to_datetime(parts, errors="coerce"), None)]
    first, *others = (columns.iloc[:, place] for place in range(len(numeric)))
    units, later = iter(PARTS[3:]), pd.Series(NO_OFFSET, columns.index)
    for column, is_number in zip(others, numeric[1:], strict=True):
        if is_number:
            later = later + pd.to_timedelta(column, unit=next(units))
        else:
            first = first.astype(str).str.strip() + " " + column.astype(str).str.strip()
    ways = _read_column(first)
    return ways if len(numeric) == 1 else [Times(times + later, offset) for times, offset in ways]


def looks_like_times(column: pd.Series) -> bool:
    """Whether the first rows of a column read as times. Numbers do by their digits, or by the column's name too."""
    sample = column.iloc[:100]
    if pd.api.types.is_numeric_dtype(sample):
        named = pd.Series([str(column.name)]).str.contains(TIME_NAME).item()
        read = read_times(sample.to_frame()) if named else [Times(_read_digits(_digits(sample)), None)]
        return bool(read[0].times.notna().mean() > 0.5 and read[0].times.nunique() > 1)
    return bool(read_times(sample.to_frame())[0].times.notna().mean() > 0.5)


def time_parts(table: pd.DataFrame) -> list[str]:
    """The columns that hold clock times, or whose names and values are those of a part of a time, such as year or hour."""
    return [column for column in table.columns if _is_part(table[column])]


def _is_part(column: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(column):
        known, named = column.dropna(), pd.Series([str(column.name)]).str.fullmatch(PART_NAME).item()
        return bool(named and (known == known.round()).all() and known.between(0, 2200).all())
    return bool(column.astype(str).str.match(r"\s*\d?\d(:\d\d)").mean() > 0.5)


def _read_column(column: pd.Series) -> list[Times]:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        local = column.dt.tz_localize(None)
        return [_on_one_clock(local, local - column.dt.tz_convert("UTC").dt.tz_localize(None))]
    if pd.api.types.is_datetime64_any_dtype(column):
        return [Times(column, None)]
    text = _digits(column) if pd.api.types.is_numeric_dtype(column) else column.astype(str).str.strip()
    if text.iloc[:: max(1, len(text) // SAMPLED)].str.fullmatch(r"\d+(\.\d+)?").mean() > 0.5:
        return [Times(_read_digits(text, unix=True), None)]
    if not text.str.slice(-6).str.contains("[Z+-]|UTC|GMT").any():
        return [Times(times, None) for times in _read_text(text)]
    zone = text.str.extract(ZONE)[1]
    if zone.isna().all():
        return [Times(times, None) for times in _read_text(text)]
    offset = zone.map({name: _offset(name) for name in zone.dropna().unique()}).astype("timedelta64[ns]")
    if zone.isna().mean() > 0.5:
        text, offset = text.where(zone.isna()), offset.fillna(NO_OFFSET)
    clock = text.where(offset.notna()).str.replace(ZONE, r"\1", regex=True)
    return [_on_one_clock(times, offset) for times in _read_text(clock)]


def _offset(zone: str) -> pd.Timedelta:
    """From +02, +0200, +02:00, Z."""
    digits = zone[1:].replace(":", "").ljust(4, "0")
    if not digits.isdigit():
        return NO_OFFSET
    return (-1 if zone[0] == "-" else 1) * pd.Timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))


def _on_one_clock(local: pd.Series, offset: pd.Series) -> Times:
    known = local.notna()
    return Times(local, None) if offset[known].nunique() <= 1 else Times(local - offset, offset)


def _read_text(text: pd.Series) -> list[pd.Series]:
    """All readings of the formats that fit most rows of a sample."""
    if (times := _parse(text, FORMATS[0])).notna().all():  # no other begins with the year
        return [times]
    sample = text.iloc[:: max(1, len(text) // SAMPLED)]
    fitting = [int(_parse(sample, form).notna().sum()) for form in FORMATS]
    chosen = [form for form, fits in zip(FORMATS, fitting, strict=True) if fits == max(fitting)] if max(fitting) else []
    read = [_parse(text, form) for form in (chosen if len(chosen) < len(FORMATS) else FORMATS[:1])]
    if not read:
        return [pd.Series(pd.NaT, text.index, dtype="datetime64[ns]")]
    most = max(times.notna().sum() for times in read)
    first, *others = (times for times in read if times.notna().sum() == most)
    return [first, *(times for times in others if not times.equals(first))]


def _parse(text: pd.Series, form: str) -> pd.Series:
    return pd.to_datetime(text, format=form, errors="coerce")


def _digits(column: pd.Series) -> pd.Series:
    """Numbers as text; whole ones without a decimal point."""
    whole = column.dropna()
    if (whole == whole.round()).all() and whole.abs().max() < 2**53:
        return column.astype("Int64").astype(str)
    return column.astype(str)


def _read_digits(text: pd.Series, unix: bool = False) -> pd.Series:
    """2024123123 by its number of digits; if that is no date and `unix`, as what went by since 1970."""
    length = int(text.str.len().median()) if text.notna().any() else 0
    if length in STAMPS:
        times = _parse(text.where(text.str.len() == length), STAMPS[length])
        if times.between(*YEARS).mean() > 0.5:
            return times.where(times.between(*YEARS))
    numbers = pd.to_numeric(text, errors="coerce")
    unit = next((unit for unit, (low, high) in UNIX.items() if low <= numbers.median() < high), None)
    if not unix or unit is None:
        return pd.Series(pd.NaT, text.index, dtype="datetime64[ns]")
    low, high = UNIX[unit]
    return pd.to_datetime(numbers.where(numbers.between(low, high)), unit=unit).astype("datetime64[ns]").dt.round("us")
