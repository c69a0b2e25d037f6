"""Generated dates: a phrase such as "friday, 3 may 1998" in, "1998-05-03" out.

Made so that attention has work to do: year, month and day stand in another order in almost every form, so that each character
of the target looks at a place of the source that only the source itself tells.
"""

import datetime

import numpy as np

FIRST_DAY, DAYS = datetime.date(1930, 1, 1), 36_525  # up to 2029: two digits tell the century
MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# {d} day, {th} the same as an ordinal, {m} month, {mmm} its first three letters, {n} its number, {y} year, {yy} its last two
# digits, {w} day of the week.
FORMS = (
    "the {th} of {m} {y}",
    "{m} {d} {yy}",
    "{w}, {d} {m} {y}",
    "{d}.{n}.{y}",
    "{m} the {th}, {y}",
    "{w} the {th} of {mmm} {yy}",
    "in {y}, on {mmm} {d}",
    "{d} {mmm} {yy}",
    "{w}, {m} {th}, {y}",
)
ENDINGS = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}


def make_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Generate phrases and the dates that they name, as ISO 8601 writes them; no phrase comes twice."""
    rng, pairs = np.random.default_rng(seed), {}
    while len(pairs) < count:
        date = FIRST_DAY + datetime.timedelta(days=int(rng.integers(DAYS)))
        pairs[_write(FORMS[rng.integers(len(FORMS))], date)] = date.isoformat()
    return [*pairs.items()]


def _write(form: str, date: datetime.date) -> str:
    month = MONTHS[date.month - 1]
    return form.format(
        d=date.day,
        th=f"{date.day}{ENDINGS.get(date.day, 'th')}",
        m=month,
        mmm=month[:3],
        n=date.month,
        y=date.year,
        yy=f"{date.year % 100:02}",
        w=WEEKDAYS[date.weekday()],
    )
