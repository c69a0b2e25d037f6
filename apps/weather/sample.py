"""A generated weather station: for where there is no network and no data.

A year and a day have their cycles, fronts pass every few days (pressure falls, wind turns from south to west, it rains and
cools), and humidity follows from temperature by physics. Yesterday's weather is a good forecast, but one that can be beaten.
"""

import itertools

import numpy as np
import pandas as pd

STEP_MINUTES = 10
DAYS = 400


def make_station(days: int = DAYS, seed: int = 0) -> pd.DataFrame:
    """A table of ten-minute rows from the start of 2020, with gaps and missing codes as a real station has them."""
    rng = np.random.default_rng(seed)
    rows = days * 24 * 60 // STEP_MINUTES
    times = pd.date_range("2020-01-01", periods=rows, freq=f"{STEP_MINUTES}min")
    day = np.arange(rows) * STEP_MINUTES / (24 * 60)
    front = _fronts(day, rng)  # 0 in settled weather, towards 1 as a front comes near, falling off at once behind it
    cloud = np.clip(front + _wander(rows, hours=20, size=0.25, rng=rng), 0, 1)
    height = np.sin(2 * np.pi * (day - 0.25)) * 0.5 - 0.2 * np.cos(2 * np.pi * day / 365.25) + 0.1
    sun = 900 * np.clip(height, 0, None) * (1 - 0.75 * cloud)
    air_mass = _wander(rows, hours=60, size=3.0, rng=rng)
    swing = 5 * (1 - 0.7 * cloud) * (1 - 0.4 * np.cos(2 * np.pi * day / 365.25))
    temperature = (
        9 - 9 * np.cos(2 * np.pi * (day - 20) / 365.25) + swing * np.sin(2 * np.pi * (day - 0.38)) + air_mass + 3 * front
    ) + rng.normal(0, 0.1, rows)
    saturation = 6.112 * np.exp(17.62 * temperature / (243.12 + temperature))  # Magnus, in hPa
    dew_point = np.minimum(temperature - 0.2, 4 - 6 * np.cos(2 * np.pi * (day - 20) / 365.25) + 0.7 * air_mass + 4 * front)
    vapour = 6.112 * np.exp(17.62 * dew_point / (243.12 + dew_point))
    pressure = 1_000 + _wander(rows, hours=80, size=6.0, rng=rng) - 14 * front + rng.normal(0, 0.05, rows)
    speed = np.abs(2 + 6 * front + _wander(rows, hours=4, size=1.0, rng=rng))
    direction = (180 + 90 * np.where(np.gradient(front) < 0, 1.0, front) + _wander(rows, hours=10, size=40, rng=rng)) % 360
    rain = np.where((cloud > 0.8) & (rng.random(rows) < 0.3), rng.gamma(1.0, 0.3, rows), 0.0)
    table = pd.DataFrame(
        {
            "pressure (hPa)": pressure,
            "temperature (degC)": temperature,
            "dew point (degC)": dew_point,
            "humidity (%)": 100 * vapour / saturation,
            "wind speed (m/s)": speed,
            "wind direction (deg)": direction,
            "rain (mm)": rain,
            "sun (W/m2)": sun,
        }
    ).round(2)
    table.insert(0, "time", times)
    for column, count in (("wind speed (m/s)", 20), ("temperature (degC)", 5)):
        table.loc[rng.choice(rows, count, replace=False), column] = -9999.0
    gaps = [
        np.arange(start, start + length) for start, length in zip(rng.choice(rows - 200, 6), (1, 2, 3, 5, 12, 80), strict=True)
    ]
    return table.drop(index=np.unique(np.concatenate(gaps))).reset_index(drop=True)


def _wander(rows: int, hours: float, size: float, rng: np.random.Generator) -> np.ndarray:
    """Noise with a memory of so many hours and a standard deviation of `size` (an Ornstein-Uhlenbeck process)."""
    keep = float(np.exp(-STEP_MINUTES / 60 / hours))
    news = size * np.sqrt(1 - keep**2) * rng.normal(size=rows)
    return np.array([*itertools.accumulate(news.tolist(), lambda before, new: keep * before + new)])


def _fronts(day: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    front, passes = np.zeros(len(day)), 0.0
    while passes < day[-1]:
        passes += rng.uniform(2.0, 6.0)
        before = passes - day
        strength = rng.uniform(0.4, 1.0)
        front = np.maximum(
            front, strength * np.where(before > 0, np.exp(-np.abs(before) / 0.6), np.exp(-np.abs(before) / 0.15))
        )
    return front
