"""Tables of the weather app as people have them: times in many forms, several places, codes, units, gaps; against pandas."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from apps.weather import data
from apps.weather.cleaning import clean
from apps.weather.config import DEFAULT, PRESETS
from apps.weather.plausibility import possible
from shared.cli import UserError

ROWS = 2_400
OWN = replace(DEFAULT, data="own.csv", stride=1, history=6, horizon=4)
TIMES = pd.Series(pd.date_range("2024-02-01", periods=ROWS, freq="1h"))  # over the change of clocks in March


def table_of(**columns):
    rng = np.random.default_rng(0)
    numbers = {"temperature": rng.normal(10, 5, ROWS), "load": rng.normal(1_000, 5, ROWS)}
    return pd.DataFrame({"time": TIMES, **numbers} | columns)


def load(table, **flags):
    table.to_csv("own.csv", index=False)
    return data.load(replace(OWN, **flags))


def count(series, words):
    return int(series.cleaning.loc[series.cleaning["what"].str.contains(words, regex=False), "count"].sum())


@pytest.mark.parametrize(
    "times",
    [
        *(
            TIMES.dt.strftime(form)
            for form in (
                "%Y%m%d%H",
                "%Y%m%d%H%M",
                "%d-%m-%Y %H:%M",
                "%m/%d/%Y %I:%M %p",
                "%d/%m/%Y %I:%M:%S %p",
                "%d.%m.%y %H:%M",
            )
        ),
        (TIMES - pd.Timestamp(0)) // pd.Timedelta("1s"),
        (TIMES - pd.Timestamp(0)) // pd.Timedelta("1ms"),
    ],
    ids=["digits", "with minutes", "day-month", "AM/PM", "day first, AM/PM", "two-digit years", "seconds", "milliseconds"],
)
def test_times_in_many_forms(times):
    series = load(table_of(time=times))
    np.testing.assert_array_equal(series.times, TIMES.to_numpy().astype(series.times.dtype))
    assert series.columns[:2] == ("temperature", "load")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_offsets_that_change_become_utc_and_the_clock_stays_local(form):
    local = TIMES.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
    table = table_of(time=local)
    if form == "csv":
        table.to_csv("own.csv", index=False)
    else:
        table.to_parquet("own.parquet", index=False)
    series = data.load(replace(OWN, data=f"own.{form}"))
    np.testing.assert_array_equal(series.times, TIMES.to_numpy().astype(series.times.dtype))
    assert count(series, "brought to UTC") == ROWS
    expected = np.cos(2 * np.pi * local.dt.hour / 24)
    np.testing.assert_allclose(series.values[:, series.columns.index("cosine of day")], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"date": TIMES.dt.strftime("%d.%m.%Y"), "hour": TIMES.dt.hour}, ("date", "hour")),
        ({"date": TIMES.dt.strftime("%Y-%m-%d"), "clock time": TIMES.dt.strftime("%H:%M")}, ("date", "clock time")),
        ({"YEAR": TIMES.dt.year, "MO": TIMES.dt.month, "DY": TIMES.dt.day, "HR": TIMES.dt.hour}, ("YEAR", "MO", "DY", "HR")),
    ],
)
def test_a_time_spread_over_columns(columns, names):
    table = table_of().drop(columns="time").assign(**columns)
    series = load(table, time_column=names)
    np.testing.assert_array_equal(series.times, TIMES.to_numpy().astype(series.times.dtype))
    flags = " ".join(f"'{name}'" if " " in name else name for name in names)
    with pytest.raises(UserError, match=f"--time-column {flags}"):
        load(table)


def test_two_stations_in_a_file_are_not_one_series():
    both = pd.concat([table_of(city="Jena"), table_of(city="Ulm", load=1.0 * np.arange(ROWS))])
    with pytest.raises(UserError, match=r"50\.0% of the time stamps .* --station-column city"):
        load(both)
    assert load(both, station_column="city").places == ("Jena", "Ulm")
    overlapping = pd.concat([table_of(), table_of()[-200:]])  # an export that has some rows twice
    assert count(load(overlapping), "repeated") == 200


def test_a_file_of_one_place_is_enough_to_forecast_from():
    table_of().to_csv("own.csv", index=False)
    assert data.load_past("own.csv", replace(OWN, station_column="city")).places == ("own",)


def test_a_meter_that_counts_in_millions_keeps_its_steps():
    meter = 45_000_000 + np.cumsum(np.random.default_rng(0).uniform(0.1, 1.0, ROWS)).round(2)
    series = load(table_of(meter=meter), target="meter")
    assert len(np.unique(series.values[:, series.target])) == ROWS
    mean, deviation = data.statistics(series)
    expected = (meter - meter[:1_680].mean()) / meter[:1_680].std()
    np.testing.assert_allclose((series.values - mean)[:, series.target] / deviation[series.target], expected, atol=1e-6)


@pytest.mark.parametrize("column", ["u10 (m/s)", "return (%)", "sun elevation (deg)", "pressure change (hPa)", "load"])
def test_signed_columns_stay(column):
    signed = np.random.default_rng(1).normal(0, 10, ROWS)
    series = load(table_of(**{column: signed}))
    np.testing.assert_allclose(series.values[:, series.columns.index(column)], signed)
    assert possible(column) is None


def test_what_is_possible_goes_by_quantity_and_unit():
    assert possible("T (degC)") == possible("dew point (\N{DEGREE SIGN}C)") == (-90, 65)
    assert possible("rh (%)") == possible("relative_humidity_2m (%)") == (0, 110)
    assert possible("wind_speed_10m (m/s)") == possible("max. wv (m/s)") == (0, 120)
    assert possible("Tpot (K)") is None


def test_a_column_that_limits_would_empty_is_refused():
    oven = np.random.default_rng(0).normal(50, 10, ROWS)
    with pytest.raises(UserError, match=r"7% of 'temperature \(degC\)' lie outside of -90 to 65.*give it another name"):
        load(table_of(**{"temperature (degC)": oven}))


@pytest.mark.parametrize("code", [-999.0, -99.0, -99.99, 999.9, 9999.0])
def test_codes_are_missing_only_where_no_other_value_lies_near(code):
    rows = [50, 51, 700]
    table = table_of(signed=np.linspace(-1_500, 12_000, ROWS))
    table.loc[rows, ["temperature", "signed"]] = code
    series = load(table)
    found = series.imputed[:, [series.columns.index(name) for name in ("temperature", "signed")]]
    assert np.flatnonzero(found[:, 0]).tolist() == rows
    assert not found[:, 1].any()
    assert count(series, f"codes for missing ({code:g})") == 3


def test_what_repeats_far_outside_is_reported_and_a_spike_refused():
    table = table_of()
    table.loc[[5, 90, 1_500], "load"] = -77.0
    assert count(load(table), "'load' is -77, far outside the rest") == 3
    table.loc[20, "temperature"] = 1e9
    with pytest.raises(UserError, match=r"'temperature' is 1e\+09 at 2024-02-01 20:00:00"):
        load(table)


def test_inputs_are_chosen_and_gaps_elsewhere_block_nothing():
    table = table_of(ozone=np.arange(ROWS) % 11.0, note="x")
    table.loc[300:800, "ozone"] = np.nan
    table.loc[7, "note"] = "3"
    every = load(table.drop(columns="note"))
    assert count(every, "those in which 'ozone' is missing") == (every.segment_id < 0).sum() == 501
    series = load(table, inputs=("load",), target="temperature")
    assert series.columns[:3] == ("temperature", "load", "sine of day")
    assert (series.segment_id == 0).all()
    with pytest.raises(UserError, match=r"no column 'rain' \(--inputs\)"):
        load(table, inputs=("rain",))


def test_two_wind_heights_go_with_their_own_directions():
    columns = {
        "wind_speed_10m": 2.0,
        "wind_direction_10m": 90.0,
        "wind_speed_100m (m/s)": 5.0,
        "wind_direction_100m (deg)": 180.0,
    }
    table = table_of(**columns).set_index("time").iloc[:100]
    row = clean({"here": table}, DEFAULT)[0].table.iloc[0]
    assert row["wind_speed_10m, from east"] == pytest.approx(2)
    assert row["wind_speed_100m (m/s), from north"] == pytest.approx(-5)
    assert not [name for name in row.index if "direction" in name]


def test_points_of_the_compass_become_a_vector():
    words = np.resize(["N", "NNW", "e", "calm"], ROWS)
    series = load(table_of(wd=words))
    east, north = (series.values[:4, series.columns.index(f"wd, from {side}")] for side in ("east", "north"))
    np.testing.assert_allclose(east, [0, -np.sin(np.pi / 8), 1, 0], atol=1e-12)
    np.testing.assert_allclose(north, [1, np.cos(np.pi / 8), 0, 0], atol=1e-12)


def test_a_gap_of_a_year_belongs_to_no_part():
    table = table_of()
    table.loc[1_600:, "time"] += pd.Timedelta(days=365)
    series = load(table)
    assert np.bincount(series.split).tolist() == [1_680, 240, 480]
    assert np.flatnonzero(np.diff(series.segment_id)).tolist() == [1_599]
    assert count(series, "gaps of more than a day") == 365 * 24


@pytest.mark.parametrize(
    ("columns", "target", "message"),
    [
        ({"load": np.nan}, "load", "--target 'load' has a number in 0% of the rows"),
        ({"load": "much"}, "load", "--target 'load' has a number in 0% of the rows"),
        ({"load": 3.0}, "load", "the target 'load' never changes in training"),
    ],
)
def test_a_target_that_can_not_be_forecast(columns, target, message):
    with pytest.raises(UserError, match=message):
        load(table_of(**columns), target=target)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("time,load\n,kW\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n", "row 1 has 'nan' as its time.*second header line"),
        ("Station Jena\ntime,load\n2024-01-01,1\n", "If it is a title, delete it: the header is line 2"),
        ("Station Jena, 2024\ntime,a,b\n2024-01-01,1,2\n2024-01-02,2,3\n", "If line 1 is a title, delete it"),
        ("time load\n2024-01-01 1\n", "spaces separate none"),
        ("time,load\n2024-01-01,1\n2024-01-02,1,013\n", "line 3 has 3 columns, the header 2"),
        ("time,load\n2024-01-01,\n", "expected columns of numbers"),
    ],
)
def test_bad_heads_are_explained(content, message):
    Path("own.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        data.load(OWN)


def test_utf_16_upper_case_and_a_separator_behind_each_line():
    lines = table_of().to_csv(index=False, sep=";").splitlines()
    Path("own.CSV").write_text("".join(f"{line};\n" for line in lines), encoding="utf-16")
    assert data.load(replace(OWN, data="own.CSV")).columns[:2] == ("temperature", "load")


def test_every_broken_file_of_a_folder_is_named():
    Path("folder").mkdir()
    table_of().to_csv("folder/good.csv", index=False)
    Path("folder/empty.csv").touch()
    Path("folder/short.csv").write_text("time load\n1 2\n")
    with pytest.raises(UserError, match=r"(?s)2 of 3 do not read:.*empty\.csv.*short\.csv"):
        data.load(replace(OWN, data="folder"))


def test_rows_taken_as_they_are_stay_all():
    series = load(pd.concat([table_of(), table_of()[-1:]]), **{**vars(PRESETS["benchmark"]), "data": "own.csv"})
    assert len(series.values) == ROWS + 1
    with pytest.raises(UserError, match="preset benchmark and --no-clean do so"):
        load(table_of(load=[np.nan, *range(ROWS - 1)]), clean=False)


def test_a_bad_file_is_answered_before_tensorflow_is_imported():
    Path("own.csv").write_text("time load\n2024-01-01 1\n")
    code = (
        "import sys; from apps.weather import __main__ as commands\n"
        "for command in (commands.train, commands.check, commands.backtest):\n"
        "    for file in ('own.csv', 'nowhere.csv'):\n"
        "        try: command(['--data', file])\n"
        "        except Exception as error: print(type(error).__name__, 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    root = Path(data.__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(root)})
    assert answer.stdout.split() == ["UserError", "False", "False"] * 6, answer.stderr
    assert not Path("runs").exists()


def test_a_time_far_from_the_others_is_said_before_rows_are_put_in_between():
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta([1, 2, 3, 10**16 - 1], unit="us")
    with pytest.raises(
        UserError, match=r"times are not regular; their median distance is .*, which 9999999999999999 rows would have"
    ):
        data.load_past(pd.DataFrame({"time": times, "load": [1.0, 2.0, 3.0, 4.0]}), OWN)


def test_a_column_of_nothing_but_nothing_is_no_time():
    with pytest.raises(UserError, match="no column reads as times"):
        data.load_past(pd.DataFrame({"epoch": [np.nan] * 3, "load": [np.nan] * 3}), OWN)
