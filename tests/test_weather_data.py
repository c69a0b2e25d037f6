"""The weather app's data: reading, cleaning, windows that do not leak; against pandas, Keras and arithmetic."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from apps.weather import data, sample, windows
from apps.weather.cleaning import clean, cut_in_time
from apps.weather.config import DEFAULT, PRESETS, Config
from shared.cli import UserError

SHORT = replace(DEFAULT, data="own.csv", every=2, history=(6,), horizon=4, batch_size=16)


def hours(rows, start="2024-01-01", step="1h"):
    return pd.date_range(start, periods=rows, freq=step)


def table_of(rows=300, **columns):
    rng = np.random.default_rng(0)
    numbers = {"temperature": rng.normal(10, 5, rows), "pressure (hPa)": rng.normal(1_000, 5, rows)}
    return pd.DataFrame({"time": hours(rows), **numbers, **columns})


def split(piece, borders, config):
    """Of rows none of which is filled in."""
    return windows.split(piece, np.zeros(len(piece), bool), borders, config)


def count(report, words):
    return int(report.loc[report["what"].str.contains(words, regex=False), "count"].sum())


def test_windows_equal_keras_own():
    config = replace(DEFAULT, every=1, history=(5,), horizon=3, batch_size=7)
    values = np.random.default_rng(0).normal(size=(40, 2)).astype("float32")
    piece, borders = np.zeros(40, int), np.zeros(40, int)
    starts = split(piece, borders, config).train
    found = [np.concatenate(part) for part in zip(*windows.batches_in_order(values, starts, config), strict=True)]
    theirs = keras.utils.timeseries_dataset_from_array(values, None, sequence_length=8, batch_size=64)
    expected = np.concatenate([batch.numpy() for batch in theirs])
    np.testing.assert_array_equal(found[0], expected[:, :5])
    np.testing.assert_array_equal(found[1], expected[:, 5:])


def test_steps_lie_so_many_rows_apart_and_windows_start_at_every_row():
    values = np.arange(60, dtype="float32")[:, None]
    starts = split(np.zeros(60, int), np.zeros(60, int), SHORT).train
    history, target = next(iter(windows.batches_in_order(values, starts, SHORT)))
    assert np.asarray(history)[0, :, 0].tolist() == [0, 2, 4, 6, 8, 10]
    assert np.asarray(target)[0, :, 0].tolist() == [12, 14, 16, 18]
    assert np.asarray(history)[1, 0, 0] == 1


def test_no_value_of_validation_or_test_can_be_reached_from_a_training_window():
    """Every value names its row, so what a window holds tells which part it comes from."""
    rows = 400
    values = np.arange(rows, dtype="float32")[:, None]
    borders = np.repeat([0, 1, 2], [250, 70, 80])
    starts = split(np.zeros(rows, int), borders, SHORT)
    for part, chosen in enumerate(starts):
        history, target = (np.concatenate(x) for x in zip(*windows.batches_in_order(values, chosen, SHORT), strict=True))
        assert (borders[target.astype(int)] == part).all()  # targets lie in their own part, all of them
        assert (borders[history.astype(int)] <= part).all()  # and the past alone is looked at
        assert history.max() < target.max()
    assert borders[np.asarray(starts.validation)[0]] == 0  # validation looks back across the border


def test_no_window_reaches_across_a_gap_or_into_another_place():
    piece = np.repeat([0, -1, 1, 2], [50, 5, 60, 40])
    starts = split(piece, np.zeros(155, int), SHORT).train
    back, ahead = 2 * np.arange(-5, 1), 2 * np.arange(1, 5)
    covered = piece[starts[:, None] + np.concatenate([back, ahead])]
    assert (covered >= 0).all()
    assert (covered == covered[:, :1]).all()
    possible = [n - 2 * 9 for n in (50, 60, 40)]
    assert len(starts) == sum(possible)


def test_no_window_starts_from_a_value_that_was_filled_in_from_what_is_to_come():
    table = table_of(400)
    table.loc[[50, 51, 300], "temperature"] = np.nan
    table.to_csv("own.csv", index=False)
    series = data.load(SHORT)
    starts = np.concatenate(windows.split(series.piece, series.filled, series.borders, SHORT))
    whole = np.concatenate(split(series.piece, series.borders, SHORT))
    assert sorted(set(whole) - set(starts)) == [50, 51, 300]


def test_a_step_is_an_hour_where_rows_are_closer_than_that_else_a_row():
    for minutes, rows in ((10, 6), (60, 1), (24 * 60, 1)):
        table_of(400).assign(time=hours(400, step=f"{minutes}min")).to_csv("own.csv", index=False)
        assert data.with_step(DEFAULT, data.load(replace(SHORT, every=None))).every == rows
    assert data.with_step(SHORT, data.load(SHORT)).every == 2


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
    starts = np.arange(20, 60)
    batches, steps = windows.training_batches(values, starts, SHORT)
    two = [np.asarray(target)[:, 0, 0] for _, target in batches.take(2 * steps)]
    first, second = np.concatenate(two[:steps]), np.concatenate(two[steps:])
    np.testing.assert_array_equal(np.sort(first), starts + 2)
    assert not np.array_equal(first, second)
    resumed = windows.training_batches(values, starts, SHORT, first_epoch=1)[0].take(steps)
    np.testing.assert_array_equal(np.concatenate([np.asarray(target)[:, 0, 0] for _, target in resumed]), second)


def test_teacher_forcing_falls_to_none():
    config = replace(SHORT, head=("autoregressive",), epochs=10, teacher_forcing=0.8, horizon=20, history=(2,), batch_size=64)
    values, starts = np.zeros((2_000, 1), "float32"), np.arange(50, 1_900)
    batches, steps = windows.training_batches(values, starts, config)
    forced = [np.asarray(x["forced"]).mean() for x, _ in windows.for_network(batches, [0], config, steps).take(10 * steps)]
    assert np.mean(forced[:10]) == pytest.approx(0.8, abs=0.05)
    assert np.mean(forced[len(forced) // 2 - 5 : len(forced) // 2 + 5]) == pytest.approx(0.4, abs=0.05)
    assert np.mean(forced[-10:]) < 0.05
    evaluated = windows.for_network(windows.batches_in_order(values, starts, config), [0], config)
    assert np.asarray(next(iter(evaluated))[0]["forced"]).max() == 0


def test_borders_are_those_of_the_benchmark():
    """Informer's and Autoformer's: int(0.7 n), int(0.2 n) at the end, the rest between."""
    borders = cut_in_time(52_696, PRESETS["benchmark"])
    assert np.bincount(borders).tolist() == [36_887, 5_270, 10_539]


def test_cleaning_says_what_it_did():
    table = table_of(200).set_index("time")
    table.iloc[20, 0] = -9999.0
    table.iloc[25, 1] = np.inf
    table.iloc[30, 1] = 5_000.0  # no pressure
    table = pd.concat([table.iloc[:60], table.iloc[61:100], table.iloc[120:], table.iloc[5:7]])
    table.loc[pd.Timestamp("2024-01-02 03:20")] = [1.0, 1_000.0]
    [cleaned] = clean({"here": table}, replace(DEFAULT, longest_gap=3))
    report = cleaned.report
    assert count(report, "rows read") == 182
    assert count(report, "repeated") == 2
    assert count(report, "between the steps") == 1
    assert count(report, "missing time stamps") == 21
    assert count(report, "codes for missing") == 1
    assert count(report, "'pressure (hPa)' outside") == 1
    assert count(report, "infinite") == 1
    assert count(report, "interpolated") == 4
    assert np.flatnonzero(cleaned.filled).tolist() == [20, 25, 30, 60, *range(100, 120)]
    assert count(report, "longer gaps") == 20
    assert cleaned.table.notna().all(axis=None)
    assert cleaned.piece.tolist() == [0] * 100 + [-1] * 20 + [1] * 80
    column = cleaned.table["temperature"]
    assert column.iloc[20] == pytest.approx((column.iloc[19] + column.iloc[21]) / 2)
    assert column.iloc[60] == pytest.approx((column.iloc[59] + column.iloc[61]) / 2)


def test_a_gap_on_the_border_is_filled_from_its_own_side():
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
    assert not calm.filled.any()
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
    series = data.load(SHORT, cut=False)
    assert series.values[70, 0] == pytest.approx(table["temperature"][[69, 71]].mean(), rel=1e-5)
    assert series.borders.max() == 0
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
    assert np.bincount(series.piece).tolist() == [300, 200]
    assert series.borders[:300].tolist() == sorted(series.borders[:300])
    assert (np.bincount(series.borders[:300]) == [210, 30, 60]).all()
    assert series.borders[300:].tolist() == series.borders[:200].tolist()  # both end their training at the same time
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
    series = data.load(SHORT)
    with pytest.raises(UserError, match=f"no unbroken stretch for validation.* {data.shortest(SHORT)} would do"):
        data.check_windows(series, windows.split(series.piece, series.filled, series.borders, SHORT), SHORT)


@pytest.mark.parametrize(
    "config",
    [SHORT, replace(DEFAULT, every=1), replace(DEFAULT, every=6, train_share=0.85), replace(PRESETS["benchmark"], horizon=48)],
)
def test_every_series_from_the_shortest_on_has_windows_in_all_parts(config):
    def has_windows(rows):
        return all(len(part) for part in split(np.zeros(rows, int), cut_in_time(rows, config), config))

    shortest = data.shortest(config)
    assert not has_windows(shortest - 1)
    assert all(map(has_windows, range(shortest, shortest + 200)))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"history": (0,)}, "--history is a length of 1 step or more"),
        ({"history": (48, 24)}, "in rising order"),
        ({"train_share": 0.9, "validation_share": 0.1}, "leave nothing for test"),
        ({"quantiles": (0.9, 0.5)}, "in rising order"),
        ({"quantiles": (0.1, 0.9)}, "0.5 among them"),
        ({"head": ()}, "--head is one kind of head"),
        ({"head": ("direct", "direct")}, "several different ones; got direct direct"),
        ({"head": ("segments",)}, "are whole numbers of --segment-length 48"),
        ({"head": ("segments",), "num_layers": 2}, "one recurrent layer"),
        ({"quantiles": (0.1, 0.5)}, "some below and some above"),
        ({"backtest": 2, "resume": True}, "Leave one out"),
        ({"head": ("segments",), "segment_length": 24, "residual": True}, "knows no --residual"),
        ({"teacher_forcing": 2.0}, "--teacher-forcing"),
        ({"activation": "relu"}, "--activation relu"),
    ],
)
def test_bad_flags_are_explained(flags, message):
    with pytest.raises(UserError, match=message):
        Config(**flags)


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
