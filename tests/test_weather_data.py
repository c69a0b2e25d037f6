"""The weather app's data: reading, cleaning, windows that do not leak; against pandas, Keras and arithmetic."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from apps.weather import data, sample
from apps.weather.batches import evaluation_batches, training_batches
from apps.weather.cleaning import MAX_GAP, clean, cut_in_time
from apps.weather.config import DEFAULT, PRESETS, Config
from apps.weather.windows import Windows
from shared.cli import UserError
from shared.settings import Recurrent

SHORT = replace(DEFAULT, data="own.csv", stride=2, history=6, horizon=4)
WINDOWS = Windows(history=6, horizon=4, stride=2)


def hours(rows, start="2024-01-01", step="1h"):
    return pd.date_range(start, periods=rows, freq=step)


def table_of(rows=300, **columns):
    rng = np.random.default_rng(0)
    numbers = {"temperature": rng.normal(10, 5, rows), "pressure (hPa)": rng.normal(1_000, 5, rows)}
    return pd.DataFrame({"time": hours(rows), **numbers, **columns})


def find_origins(segment_id, split, windows=WINDOWS, **options):
    """Of rows none of which is imputed."""
    return windows.find_origins(segment_id, np.zeros(len(segment_id), bool), split, **options)


def in_order(values, origins, windows=WINDOWS, forecast=(0,)):
    """All histories and targets, as batches of 16 give them."""
    batches = evaluation_batches(values, origins, windows, [*forecast], batch_size=16)
    return [np.concatenate(part) for part in zip(*batches, strict=True)]


def count(report, words):
    return int(report.loc[report["what"].str.contains(words, regex=False), "count"].sum())


def test_windows_equal_keras_own():
    windows = Windows(history=5, horizon=3, stride=1)
    values = np.random.default_rng(0).normal(size=(40, 2)).astype("float32")
    origins = find_origins(np.zeros(40, int), np.zeros(40, int), windows).train
    histories, targets = in_order(values, origins, windows, forecast=(1, 0))
    theirs = keras.utils.timeseries_dataset_from_array(values, None, sequence_length=8, batch_size=64)
    expected = np.concatenate([batch.numpy() for batch in theirs])
    np.testing.assert_array_equal(histories, expected[:, :5])
    np.testing.assert_array_equal(targets, expected[:, 5:, ::-1])


def test_steps_lie_so_many_rows_apart_and_windows_start_at_every_row():
    values = np.arange(60, dtype="float32")[:, None]
    histories, targets = in_order(values, find_origins(np.zeros(60, int), np.zeros(60, int)).train)
    assert histories[0, :, 0].tolist() == [0, 2, 4, 6, 8, 10]
    assert targets[0, :, 0].tolist() == [12, 14, 16, 18]
    assert histories[1, 0, 0] == 1
    assert len(histories) == 60 - WINDOWS.rows + 1


@pytest.mark.parametrize("windows", [WINDOWS, Windows(1, 1, 1), Windows(3, 2, 7), Windows(4, 5, 1)])
def test_origins_are_those_of_a_loop_over_rows(windows):
    rng = np.random.default_rng(0)
    segment_id = np.repeat([0, -1, 1, 2, -1, 3], [150, 9, 80, 60, 1, 100])
    split = np.repeat([0, 1, 2], [230, 80, 90])
    imputed = rng.random(400) < 0.1
    expected = [[], [], []]
    for origin in range(400):
        history = [origin - windows.stride * back for back in range(windows.history)]
        targets = [origin + windows.stride * ahead for ahead in range(1, windows.horizon + 1)]
        if min(history) < 0 or max(targets) >= 400 or imputed[origin]:
            continue
        segments, parts = {segment_id[row] for row in history + targets}, {split[row] for row in targets}
        if len(segments) == len(parts) == 1 and segments != {-1}:
            expected[parts.pop()].append(origin)
    found = windows.find_origins(segment_id, imputed, split)
    assert all(expected)
    assert [part.tolist() for part in found] == expected
    thinned = windows.find_origins(segment_id, imputed, split, window_stride=7)
    assert [part.tolist() for part in thinned] == [expected[0][::7], *expected[1:]]


def test_no_value_of_validation_or_test_can_be_reached_from_a_training_window():
    """Every value names its row, so what a window holds tells which part it comes from."""
    values = np.arange(400, dtype="float32")[:, None]
    split = np.repeat([0, 1, 2], [250, 70, 80])
    origins = find_origins(np.zeros(400, int), split)
    for part, chosen in enumerate(origins):
        histories, targets = in_order(values, chosen)
        assert (split[targets.astype(int)] == part).all()  # targets lie in their own part, all of them
        assert (split[histories.astype(int)] <= part).all()  # and the past alone is looked at
        assert histories.max() < targets.max()
    assert split[origins.validation[0]] == 0  # validation looks back across the split


def test_no_window_reaches_across_a_gap_or_into_another_place():
    segment_id = np.repeat([0, -1, 1, 2], [50, 5, 60, 40])
    origins = find_origins(segment_id, np.zeros(155, int)).train
    covered = segment_id[np.concatenate([WINDOWS.history_rows(origins), WINDOWS.target_rows(origins)], axis=1)]
    assert (covered >= 0).all()
    assert (covered == covered[:, :1]).all()
    assert len(origins) == sum(n - 2 * 9 for n in (50, 60, 40))


def test_no_origin_is_a_value_that_was_imputed_from_what_is_to_come():
    table = table_of(400)
    table.loc[[50, 51, 300], "temperature"] = np.nan
    table.to_csv("own.csv", index=False)
    series = data.load(SHORT)
    all_rows = np.concatenate(find_origins(series.segment_id, series.split))
    assert sorted({*all_rows} - {*np.concatenate(series.origins)}) == [50, 51, 300]


def test_a_step_is_an_hour_where_rows_are_closer_than_that_else_a_row():
    for minutes, rows in ((10, 6), (60, 1), (24 * 60, 1)):
        table_of(400).assign(time=hours(400, step=f"{minutes}min")).to_csv("own.csv", index=False)
        assert data.load(replace(SHORT, stride=None)).windows.stride == rows
    assert data.load(SHORT).windows == WINDOWS


def test_one_place_in_several_files_is_one_series():
    Path("folder").mkdir()
    table = table_of(300).assign(city="Jena")
    table.iloc[:100].to_csv("folder/2023.csv", index=False)
    table.iloc[100:].to_csv("folder/2024.csv", index=False)
    series = data.load(replace(SHORT, data="folder", station_column="city"))
    assert series.places == ("Jena",)
    np.testing.assert_allclose(series.values[:, 0], table["temperature"], rtol=1e-6)


def test_an_epoch_has_every_window_once_and_depends_on_its_number_alone():
    values = np.arange(100, dtype="float32")[:, None]
    origins = np.arange(20, 60)

    def epochs(first_epoch, count):
        batches = training_batches(values, origins, WINDOWS, [0], batch_size=16, seed=0, first_epoch=first_epoch)
        found = [np.asarray(targets)[:, 0, 0] for _, targets in batches.take(3 * count)]
        return [np.concatenate(found[first : first + 3]) for first in range(0, len(found), 3)]

    first, second = epochs(0, 2)
    np.testing.assert_array_equal(np.sort(first), origins + 2)
    assert not np.array_equal(first, second)
    [resumed] = epochs(1, 1)
    np.testing.assert_array_equal(resumed, second)


def test_the_split_is_that_of_the_benchmark():
    """Informer's and Autoformer's: int(0.7 n), int(0.2 n) at the end, the rest between."""
    split = cut_in_time(52_696, PRESETS["benchmark"].split)
    assert np.bincount(split).tolist() == [36_887, 5_270, 10_539]


def test_cleaning_says_what_it_did():
    table = table_of(200).set_index("time")
    table.iloc[20, 0] = -9999.0
    table.iloc[25, 1] = np.inf
    table.iloc[30, 1] = 5_000.0  # no pressure
    table = pd.concat([table.iloc[:60], table.iloc[60 + MAX_GAP : 100], table.iloc[101 + MAX_GAP :], table.iloc[5:7]])
    table.loc[pd.Timestamp("2024-01-02 03:20")] = [1.0, 1_000.0]
    [cleaned] = clean({"here": table}, DEFAULT)
    report = cleaned.report
    assert count(report, "rows read") == 190
    assert count(report, "repeated") == 2
    assert count(report, "between the steps") == 1
    assert count(report, "missing time stamps") == 13
    assert count(report, "codes for missing") == 1
    assert count(report, "'pressure (hPa)' outside") == 1
    assert count(report, "infinite") == 1
    assert count(report, "interpolated") == 9
    assert np.flatnonzero(cleaned.imputed.any(axis=1)).tolist() == [20, 25, 30, *range(60, 66), *range(100, 107)]
    assert count(report, "longer gaps") == 7
    assert cleaned.table.notna().all(axis=None)
    assert cleaned.segment_id.tolist() == [0] * 100 + [-1] * 7 + [1] * 93
    column = cleaned.table["temperature"]
    assert column.iloc[20] == pytest.approx((column.iloc[19] + column.iloc[21]) / 2)
    np.testing.assert_allclose(column.iloc[60:66], np.linspace(column.iloc[59], column.iloc[66], 8)[1:-1])


def test_a_gap_on_the_split_is_filled_from_its_own_side():
    table = pd.DataFrame({"load": np.arange(100.0)}, index=hours(100))
    table.iloc[68:73] = np.nan  # training ends with row 69
    column = clean({"here": table}, DEFAULT)[0].table["load"]
    assert column.iloc[66:75].tolist() == [66, 67, 67, 67, 73, 73, 73, 73, 74]


def test_wind_becomes_a_vector_and_time_a_circle():
    rows = 48
    table = table_of(rows, **{"wv (m/s)": np.full(rows, 2.0), "wd (deg)": np.linspace(0, 360, rows)}).set_index("time")
    calm = table.assign(
        **{"wv (m/s)": [*np.full(rows - 20, 2.0), *np.zeros(20)], "wd (deg)": [*np.zeros(rows - 20), *np.full(20, np.nan)]}
    )
    [calm] = clean({"here": calm}, DEFAULT)
    assert not calm.imputed.any(axis=None)
    assert calm.table["wv (m/s), from north"].iloc[-20:].tolist() == [0.0] * 20
    table = clean({"here": table}, DEFAULT)[0].table
    assert "wd (deg)" not in table
    np.testing.assert_allclose(np.hypot(table["wv (m/s), from east"], table["wv (m/s), from north"]), 2.0)
    assert table["wv (m/s), from north"].iloc[0] == pytest.approx(2.0)
    assert table["wv (m/s), from north"].iloc[-1] == pytest.approx(2.0)  # 360 degrees are 0
    noon = table.loc["2024-01-01 12:00"]
    assert noon["cosine of day"] == pytest.approx(-1)
    assert noon["sine of day"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("days", "known"), [(500, False), (540, True)])
def test_the_time_of_year_is_given_where_training_has_seen_a_year(days, known, capsys):
    pd.DataFrame({"time": hours(days, step="1D"), "sales": np.arange(days), "day of year": 1.0}).to_csv("own.csv", index=False)
    clock = ("sine of day", "cosine of day")
    of_year = ("sine of year", "cosine of year") if known else ()
    assert data.load(SHORT).columns == ("sales", "day of year", *clock, *of_year)
    assert ("The time of year is left out: training covers 349 days" in capsys.readouterr().out) != known


def test_a_place_without_training_rows_does_not_hide_the_time_of_year(capsys):
    Path("folder").mkdir()
    pd.DataFrame({"time": hours(50, start="2025-12-01", step="1D"), "sales": 1.0 * np.arange(50)}).to_csv(
        "folder/a.csv", index=False
    )
    pd.DataFrame({"time": hours(760, step="1D"), "sales": 1.0 * np.arange(760)}).to_csv("folder/b.csv", index=False)
    assert "sine of year" in data.load(replace(SHORT, data="folder")).columns


def test_the_past_of_a_forecast_is_not_cut():
    """A gap in it is filled from both sides wherever it lies, and all columns are there."""
    table = table_of(100)
    table.loc[70, "temperature"] = np.nan
    table.to_csv("own.csv", index=False)
    series = data.load_past("own.csv", SHORT)
    assert series.values[70, 0] == pytest.approx(table["temperature"][[69, 71]].mean(), rel=1e-5)
    assert series.split.max() == 0
    assert not any(map(len, series.origins))
    assert series.columns[-1] == "cosine of year"


def test_statistics_come_from_the_training_rows_alone():
    table_of(400).to_csv("own.csv", index=False)
    series = data.load(SHORT)
    mean, deviation = data.statistics(series)
    train = series.values[:280]
    np.testing.assert_allclose(mean, train.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(deviation, train.std(axis=0), rtol=1e-4)


@pytest.mark.parametrize(
    "form",
    ["comma", "semicolon", "decimal comma", "parquet", "latin-1", "german time", "zone", "fraction", "row numbers", "index"],
)
def test_own_tables_of_any_form(form):
    table = table_of(400)
    path = "own.csv"
    if form == "comma":
        table.to_csv(path, index=False)
    elif form == "semicolon":
        table.to_csv(path, index=False, sep=";")
    elif form == "decimal comma":
        table.to_csv(path, index=False, sep=";", decimal=",")
    elif form == "zone":
        table.assign(time=table["time"].dt.strftime("%Y-%m-%dT%H:%M:%S+01:00")).to_csv(path, index=False)
    elif form == "fraction":
        table.assign(time=table["time"].dt.strftime("%Y-%m-%d %H:%M:%S.000+02")).to_csv(path, index=False)
    elif form == "row numbers":
        table.to_csv(path)
    elif form == "index":  # its column of times has no name
        table.set_index("time").rename_axis(None).to_csv(path)
    elif form == "parquet":
        path = "own.parquet"
        table.to_parquet(path, index=False)
    elif form == "latin-1":
        table.rename(columns={"temperature": "temperature (\N{DEGREE SIGN}C)"}).to_csv(path, index=False, encoding="latin-1")
    else:
        table.assign(time=table["time"].dt.strftime("%d.%m.%Y %H:%M")).to_csv(path, index=False)
    series = data.load(replace(SHORT, data=path))
    assert len(series.values) == 400
    assert len(series.columns) == 4  # with the time of day
    assert series.times[0] == np.datetime64("2024-01-01")
    assert series.times[-1] == np.datetime64("2024-01-17T15:00")
    assert series.columns[series.target].startswith("temperature")
    np.testing.assert_allclose(series.values[:, series.target], table["temperature"], rtol=1e-5)


def test_several_places_in_a_file_or_a_folder():
    one, other = table_of(300).assign(city="Jena"), table_of(200).assign(city="Ulm")
    pd.concat([one, other]).sample(frac=1, random_state=0).to_csv("own.csv", index=False)
    series = data.load(replace(SHORT, station_column="city"))
    assert np.bincount(series.segment_id).tolist() == [300, 200]
    assert series.split[:300].tolist() == sorted(series.split[:300])
    assert (np.bincount(series.split[:300]) == [210, 30, 60]).all()
    assert series.split[300:].tolist() == series.split[:200].tolist()  # both end their training at the same time
    Path("folder").mkdir()
    one.drop(columns="city").to_csv("folder/jena.csv", index=False)
    other.drop(columns="city").to_csv("folder/ulm.csv", index=False)
    of_folder = data.load(replace(SHORT, data="folder"))
    np.testing.assert_array_equal(of_folder.values, series.values)


def with_text(word, row):
    table = table_of().astype({"pressure (hPa)": object})
    table.loc[row, "pressure (hPa)"] = word
    return table


def with_times(time, row):
    table = table_of()
    table["time"] = table["time"].astype(str)
    table.loc[row, "time"] = time
    table.to_csv("own.csv", index=False)


def changing_step():
    table = table_of(300)
    table.loc[200:, "time"] = table["time"][199] + pd.timedelta_range("10min", periods=100, freq="10min")
    return table


def with_day_or_month_first():
    return table_of(200).assign(time=hours(200, start="2024-02-03", step="1min").strftime("%m/%d/%Y %H:%M"))


def off_the_grid():
    table = table_of(300)
    table.loc[200:, "time"] += pd.Timedelta("20min")
    return table


def two_steps():
    Path("folder").mkdir()
    table_of(100).to_csv("folder/a.csv", index=False)
    table_of(100).assign(time=hours(100, step="2h")).to_csv("folder/b.csv", index=False)


@pytest.mark.parametrize(
    ("prepare", "flags", "message"),
    [
        (lambda: None, {}, "there is no such file or folder"),
        (lambda: Path("own.csv").write_text("a,b\n"), {}, "holds no rows"),
        (lambda: Path("own.csv").write_text("a,b\n1,2\n3,4\n"), {}, r"no column reads as times; it has \['a', 'b'\]"),
        (lambda: table_of().to_csv("own.csv"), {"time_column": ("when",)}, "no column 'when'"),
        (lambda: table_of().to_csv("own.csv"), {"time_column": ("pressure (hPa)",)}, "does not read as times"),
        (lambda: table_of().to_csv("own.csv"), {"target": "rain"}, "--target 'rain': there is no such column"),
        (lambda: table_of().to_csv("own.csv"), {"station_column": "city"}, "no column 'city'"),
        (lambda: pd.DataFrame({"time": hours(50), "word": "x"}).to_csv("own.csv"), {}, "expected columns of numbers"),
        (lambda: Path("own.xlsx").touch(), {"data": "own.xlsx"}, r"expected \.csv, \.tsv, \.txt, \.parquet"),
        (lambda: Path("own.parquet").write_bytes(b"PAR"), {"data": "own.parquet"}, "does not parse as .parquet"),
        (lambda: Path("empty").mkdir(), {"data": "empty"}, "found none"),
        (lambda: with_text("calm", 7).to_csv("own.csv"), {}, r"'pressure \(hPa\)' has text .* in 1 rows, .* row 8: 'calm'"),
        (
            lambda: with_times("01.01.2024", 5),
            {},
            r"begins with '2024-01-01 00:00:00', and row 6 has '01\.01\.2024'",
        ),
        (lambda: with_times("2024-01-01 05:00:00+02:00", 5), {}, r"one zone.* row 6 has '2024-01-01 05:00:00\+02:00'"),
        (
            lambda: changing_step().to_csv("own.csv"),
            {},
            r"the step changes.* the 100 from 2024-01-09 07:00:00 on",
        ),
        (lambda: table_of().iloc[:1].to_csv("own.csv"), {}, "1 different times"),
        (lambda: Path("own.csv").touch(), {}, "own.csv is empty; expected a header"),
        (lambda: with_text("1,013", 7).to_csv("own.csv"), {}, r"'pressure \(hPa\)' has commas .* for example '1,013'"),
        (lambda: table_of().iloc[::-1].to_csv("own.csv"), {"clean": False}, "in the order of their times"),
        (lambda: with_day_or_month_first().to_csv("own.csv"), {}, "can be read in two ways.*'02/03/2024 00:00'"),
        (lambda: off_the_grid().to_csv("own.csv"), {}, r"100 of 300 rows lie between .* at 2024-01-09 08:20:00"),
        (two_steps, {"data": "folder"}, r"one step between their rows; got 0 days 01:00:00 in a, 0 days 02:00:00 in b"),
    ],
)
def test_bad_tables_are_explained(prepare, flags, message):
    prepare()
    with pytest.raises(UserError, match=message):
        data.load(replace(SHORT, **flags))


def test_too_short_a_series_is_explained():
    table_of(60).to_csv("own.csv", index=False)
    with pytest.raises(UserError, match=f"no unbroken stretch for validation.* {data.shortest(WINDOWS, SHORT.split)} would do"):
        data.load(SHORT)


def test_a_part_whose_windows_all_overlap_is_warned_of(capsys):
    table_of(100).to_csv("own.csv", index=False)
    assert [len(part) for part in data.load(SHORT).origins] == [70 - 18, 10 - 6, 20 - 6]
    warnings = [line for line in capsys.readouterr().out.splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert "all 4 windows of validation overlap" in warnings[0]


@pytest.mark.parametrize(
    ("windows", "fractions"),
    [
        (WINDOWS, (0.7, 0.1)),
        (Windows(history=48, horizon=24, stride=1), (0.7, 0.1)),
        (Windows(history=48, horizon=24, stride=6), (0.85, 0.1)),
        (Windows(history=720, horizon=48, stride=1), (0.7, 0.1)),
    ],
)
def test_every_series_from_the_shortest_on_has_windows_in_all_parts(windows, fractions):
    def has_windows(rows):
        return all(map(len, find_origins(np.zeros(rows, int), cut_in_time(rows, fractions), windows)))

    shortest = data.shortest(windows, fractions)
    assert not has_windows(shortest - 1)
    assert all(map(has_windows, range(shortest, shortest + 200)))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"history": 0}, "--history is 1 or more; got 0"),
        ({"horizon": 0}, "--horizon is 1 or more; got 0"),
        ({"stride": 0}, "--stride is 1 or more; got 0"),
        ({"split": (0.9, 0.1)}, "leave something for test; got 0.9 0.1"),
        ({"split": (0.9, 0.0)}, "two fractions above 0"),
        ({"interval": 1.0}, "--interval lies between 0 and 1; got 1.0"),
        ({"head": "segments", "history": 96}, "are whole numbers of segments of 48 .* SEGMENT .* may be 24"),
        ({"head": "segments", "horizon": 96, "recurrent": Recurrent(num_layers=2)}, "one recurrent layer"),
        ({"head": "segments", "horizon": 96, "recurrent": Recurrent(residual=True)}, "one recurrent layer"),
        ({"recurrent": Recurrent(bidirectional=True)}, "--bidirectional does not work here"),
    ],
)
def test_bad_flags_are_explained(flags, message):
    with pytest.raises(UserError, match=message):
        Config(**flags)


def test_the_interval_names_the_quantiles():
    assert replace(SHORT, interval=0.9).quantiles == pytest.approx((0.05, 0.5, 0.95))
    assert replace(SHORT, interval=None).quantiles == (0.5,)
    assert Config(head="segments", horizon=96, recurrent=Recurrent(cell="lstm", units=8, dropout=0.5)).head == "segments"


@pytest.mark.usefixtures("offline")
def test_without_network_the_sample_stands_in(capsys):
    series = data.load(replace(DEFAULT, limit=3_000))
    assert series.name == "sample"
    assert "Going on with the SAMPLE" in capsys.readouterr().out
    with pytest.raises(UserError, match="Jena's weather is not available"):
        data.load(replace(DEFAULT, dataset="jena"))


def test_sample_is_weather():
    """Cycles of a day and a year, physics between temperature and humidity, and yesterday as a fair forecast."""
    table = sample.make_station().set_index("time").replace(-9999.0, np.nan)
    temperature = table["temperature (degC)"]
    by_hour = temperature.groupby(temperature.index.hour).mean()
    assert 12 <= by_hour.idxmax() <= 17
    by_month = temperature.groupby(temperature.index.month).mean()
    assert by_month.idxmax() in (7, 8)
    assert by_month.max() - by_month.min() > 12
    assert (table["dew point (degC)"] <= temperature + 1e-6)[table["dew point (degC)"].notna() & temperature.notna()].all()
    magnus = [
        6.112 * np.exp(17.62 * table[name] / (243.12 + table[name])) for name in ("dew point (degC)", "temperature (degC)")
    ]
    np.testing.assert_allclose((100 * magnus[0] / magnus[1]).dropna(), table["humidity (%)"][temperature.notna()], atol=1.0)
    yesterday = (temperature - temperature.shift(freq="1D")).abs().mean()
    half_a_day = (temperature - temperature.shift(freq="12h")).abs().mean()
    assert yesterday < 0.75 * half_a_day
    assert table.index.to_series().diff().nunique() > 1  # it has gaps
