"""The weather app has to reach its numbers. Minutes: make test-all.

Those on real weather are skipped where it does not lie in the file JENA_2020.
"""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from apps.weather import baseline, data, scoring, train, windows
from apps.weather.config import DEFAULT, PRESETS

pytestmark = pytest.mark.slow
JENA = Path(os.environ.get("JENA_2020", "jena_2020.csv"))
needs_jena = pytest.mark.skipif(not JENA.exists(), reason=f"Jena's weather of 2020 is not there as {JENA}")


@needs_jena
@pytest.mark.parametrize(("horizon", "published"), [(96, 0.259), (192, 0.309), (336, 0.377), (720, 0.465)])
def test_repeating_the_last_value_gives_the_published_error_of_the_benchmark(horizon, published):
    config = replace(PRESETS["benchmark"], data=str(JENA.resolve()), horizon=horizon, segment_length=48)
    series = data.load(config)
    mean, deviation = data.statistics(series)
    values, columns = ((series.values - mean) / deviation).astype("float32"), list(range(len(series.columns)))
    starts = windows.split(series.piece, series.filled, series.borders, config).test
    assert len(columns) == 21
    assert len(starts) == 10_539 - horizon + 1

    def repeat(rows):
        return baseline.last_value(values, rows, columns, config)[..., None]

    errors = scoring.measure(repeat, values, starts, columns, 0, config)
    assert errors.squared.mean() == pytest.approx(published, abs=0.0006)


@needs_jena
def test_default_preset_of_weather_beats_the_naive_forecasts_and_its_intervals_hold():
    config = replace(DEFAULT, data=str(JENA.resolve()))
    metrics = json.loads((train.train(config) / "metrics.json").read_text())
    assert metrics["test_mae_target"] < 0.76 * metrics["last_value_mae_target"]
    assert metrics["test_mae_target"] < 0.85 * metrics["yesterday_mae_target"]
    assert 0.77 < metrics["test_coverage"] < 0.83


@needs_jena
def test_the_autoregressive_decoder_is_as_good_as_the_direct_head():
    error = {}
    for head in ("direct", "autoregressive"):
        folder = train.train(replace(DEFAULT, data=str(JENA.resolve()), head=(head,), history=(24,), epochs=1))
        error[head] = json.loads((folder / "metrics.json").read_text())["test_mae_target"]
    print(error)
    assert error["autoregressive"] < 1.05 * error["direct"]


@pytest.mark.speed
def test_windows_come_five_times_as_fast_as_from_keras():
    """Against `keras.utils.timeseries_dataset_from_array`: random order, 144 steps of 21 columns each, batches of 256."""
    values = np.random.default_rng(0).normal(size=(50_000, 21)).astype("float32")
    config = replace(DEFAULT, every=1, history=(120,), horizon=24, batch_size=256)
    starts = windows.split(np.zeros(50_000, int), np.zeros(50_000, bool), np.zeros(50_000, int), config).train
    ours = iter(windows.training_batches(values, starts, config)[0])
    theirs = iter(
        keras.utils.timeseries_dataset_from_array(values, None, sequence_length=144, batch_size=256, shuffle=True).repeat()
    )

    def windows_a_second(batches):
        next(batches)
        started = time.perf_counter()
        for _ in range(60):
            next(batches)
        return 60 * 256 / (time.perf_counter() - started)

    turns = [(windows_a_second(ours), windows_a_second(theirs)) for _ in range(5)]
    ratio = np.median([fast / slow for fast, slow in turns])
    print(f"windows a second: {np.median(turns, axis=0).round()}, {ratio:.1f} times")
    assert ratio > 5
