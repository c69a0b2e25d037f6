"""The weather app as a user meets it, made tiny; its losses, intervals and baselines against scikit-learn and arithmetic."""

import itertools
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_pinball_loss

from apps.weather import backtest, baseline, data, intervals, predict, report, sample, scoring, train, windows
from apps.weather.config import DEFAULT, PRESETS
from apps.weather.model import PinballLoss, build_calibrated, build_model, build_servable, quantiles_in_order
from shared import runs
from shared.cli import UserError

TINY = replace(DEFAULT, preset="smoke", data="own.csv", limit=2_500, every=6, head=("direct",), history=(12,), horizon=6)
TINY = replace(TINY, units=8, epochs=2, batch_size=64)
HEADS = {
    "direct": {},
    "autoregressive": {"head": ("autoregressive",)},
    "segments": {"head": ("segments",), "segment_length": 3},
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A finished run on the generated station, made where no other test works."""
    here = tmp_path_factory.mktemp("weather")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        sample.make_station(days=30).to_csv("own.csv", index=False)
        return here / train.train(TINY)


@pytest.fixture
def beside_the_run(run_folder, monkeypatch):
    monkeypatch.chdir(run_folder.parent.parent.parent)
    return run_folder


def test_run_folder_is_whole(run_folder):
    files = {path.name for path in run_folder.iterdir()}
    assert files == {
        *("config.json", "environment.json", "metrics.json", "history.csv", "by_step.csv", "by_month.csv", "by_hour.csv"),
        *("model.keras", "report.md", "logs", "plots"),
    }
    plots = {path.stem for path in (run_folder / "plots").iterdir()}
    assert plots == {"error_by_step", "error_by_time", "forecasts", "training", "worst"}
    metrics = json.loads((run_folder / "metrics.json").read_text())
    for who in ("validation", "test", "baseline", "last_value", "yesterday"):
        assert all(metrics[f"{who}_{name}"] > 0 for name in ("mse", "mae", "mae_target"))
    lead = metrics["lead"]
    baselines = [metrics[f"{who}_mae"] for who in ("baseline", "last_value", "yesterday")]
    assert lead["mean"] == pytest.approx(min(baselines) - metrics["test_mae"], abs=1e-6)
    assert metrics["beats_baseline"] == (lead["low"] > 0) == (lead["verdict"] == "better")
    assert 0.5 < metrics["test_coverage"] < 1
    with zipfile.ZipFile(run_folder / "model.keras") as model:  # predict loads it without knowing the optimizer
        assert "AdamW" not in model.read("config.json").decode()


def test_figures_are_those_of_the_saved_model_in_the_datas_own_unit(beside_the_run):
    metrics = json.loads((beside_the_run / "metrics.json").read_text())
    model = keras.models.load_model(beside_the_run / "model.keras", compile=False)
    series = data.load(TINY)
    starts = windows.split(series.piece, series.filled, series.borders, TINY).test
    history = np.stack([series.values[start - 66 : start + 1 : 6] for start in starts])
    target = np.where(series.imputed, np.nan, series.values)[:, series.target]
    truth = np.stack([target[start + 6 : start + 37 : 6] for start in starts])
    known = ~np.isnan(truth)
    forecast = model.predict_on_batch(history)[:, :, 0]
    assert metrics["test_mae_target"] == pytest.approx(np.nanmean(np.abs(forecast[..., 1] - truth)), rel=1e-3)
    inside = (truth >= forecast[..., 0]) & (truth <= forecast[..., 2])
    assert metrics["test_coverage"] == pytest.approx(inside[known].mean(), abs=0.005)
    last = history[:, -1:, series.target]
    assert metrics["last_value_mae_target"] == pytest.approx(np.nanmean(np.abs(last - truth)), rel=1e-4)
    yesterday = np.stack([series.values[start + 6 - 144 : start + 37 - 144 : 6, series.target] for start in starts])
    assert metrics["yesterday_mae_target"] == pytest.approx(np.nanmean(np.abs(yesterday - truth)), rel=1e-4)
    by_step = pd.read_csv(beside_the_run / "by_step.csv", index_col="step")
    assert by_step.loc[3, "last value"] == pytest.approx(np.nanmean(np.abs(last[:, 0] - truth[:, 2])), rel=1e-4)


@pytest.mark.parametrize("heads", [("direct", "autoregressive"), ("segments",)])
def test_every_head_trains_and_is_saved(heads):
    sample.make_station(days=30).to_csv("own.csv", index=False)
    options = {"segment_length": 3} if "segments" in heads else {"num_layers": 2, "residual": True, "normalization": "layer"}
    folder = train.train(replace(TINY, epochs=1, cell="lstm", channels="all", head=heads, **options))
    model = keras.models.load_model(folder / "model.keras", compile=False)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["forecast"] == metrics["columns"][:-2]  # all but the time of day
    assert model.output_shape == (None, TINY.horizon, len(metrics["forecast"]), 3)


@pytest.mark.parametrize("head", HEADS)
def test_quantiles_never_cross_and_start_from_the_last_value(head):
    config = replace(TINY, **HEADS[head], quantiles=(0.05, 0.2, 0.5, 0.9))
    model = build_calibrated(config, build_model(config, 3, [2, 0]))
    rng = np.random.default_rng(0)
    history = rng.normal(size=(5, config.longest_history, 3)).astype("float32")
    quantiles = model.predict_on_batch(history)
    assert quantiles.shape == (5, config.horizon, 2, 4)
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    # Another level of a column changes nothing but the level of its forecast
    moved = model.predict_on_batch(history + np.float32([3.0, 5.0, -1.0]))
    np.testing.assert_allclose(moved - quantiles, np.broadcast_to([[-1.0], [3.0]], (5, 6, 2, 1)) + np.zeros(4), atol=1e-4)


def test_quantiles_in_order_by_hand():
    config = replace(TINY, quantiles=(0.1, 0.3, 0.5, 0.9))
    raw = np.array([[0.0, 1.0, 5.0, -2.0]], "float32")
    soft = np.log1p(np.exp([0.0, 1.0, -2.0]))
    expected = [5 - soft[1] - soft[0], 5 - soft[1], 5, 5 + soft[2]]
    np.testing.assert_allclose(quantiles_in_order(config, raw)[0], expected, rtol=1e-5)


def test_pinball_loss_equals_scikit_learns():
    rng = np.random.default_rng(0)
    truth, forecast = rng.normal(size=(50, 4, 2)).astype("float32"), rng.normal(size=(50, 4, 2, 3)).astype("float32")
    quantiles = (0.1, 0.5, 0.8)
    expected = [mean_pinball_loss(truth.ravel(), forecast[..., n].ravel(), alpha=q) for n, q in enumerate(quantiles)]
    assert float(PinballLoss(quantiles)(truth, forecast[..., None, :])) == pytest.approx(np.mean(expected), rel=1e-5)


def test_an_autoregressive_decoder_goes_on_from_its_own_forecast_or_from_what_it_is_told():
    config = replace(TINY, head=("autoregressive",), dropout=0.0)
    network = build_model(config, 1, [0])
    rng = np.random.default_rng(0)
    history = rng.normal(size=(4, config.longest_history, 1)).astype("float32")
    nothing, forced = np.zeros((4, config.horizon, 1), "float32"), np.ones((4, config.horizon, 1), "float32")
    alone = network.predict_on_batch({"history": history, "truth": nothing, "forced": nothing})
    # Given its own medians, it forecasts the same; given something else, it differs from the second step on.
    again = network.predict_on_batch({"history": history, "truth": alone[..., 0, 1], "forced": forced})
    np.testing.assert_allclose(again, alone, atol=1e-5)
    other = network.predict_on_batch({"history": history, "truth": alone[..., 0, 1] + 1, "forced": forced})
    np.testing.assert_allclose(other[:, 0], alone[:, 0], atol=1e-5)
    assert (np.abs(other[:, 1:] - alone[:, 1:]).max(axis=(1, 2, 3, 4)) > 1e-4).all()


def test_calibration_makes_intervals_hold_what_they_promise():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(6_000, 3, 1)) * [[0.5], [1.0], [4.0]]
    forecast = np.broadcast_to([-1.0, 0.0, 1.0], (6_000, 3, 1, 3))
    widening = intervals.fit_widening(truth[:3_000], forecast[:3_000], (0.1, 0.5, 0.9), coverage=0.8)
    moved = forecast[3_000:] + widening
    inside = (truth[3_000:] >= moved[..., 0]) & (truth[3_000:] <= moved[..., 2])
    np.testing.assert_allclose(inside.mean(axis=0)[:, 0], 0.8, atol=0.025)
    np.testing.assert_allclose(moved[0, :, 0, 2], 1.2816 * np.array([0.5, 1.0, 4.0]), rtol=0.1)  # the normal's 90 % quantile
    np.testing.assert_array_equal(widening[..., 1], 0)


def test_calibration_layer_never_crosses_the_median():
    layer = intervals.Calibration(middle=1)
    quantiles = np.array([[[[1.0, 2.0, 3.0]]]], "float32")
    layer(quantiles)
    layer.set_weights([np.array([[[5.0, 0.0, -5.0]]])])
    np.testing.assert_array_equal(layer(quantiles), [[[[2.0, 2.0, 2.0]]]])


def test_several_calibrated_quantiles_never_cross_and_the_outer_ones_stay():
    layer = intervals.Calibration(middle=2)
    rng = np.random.default_rng(0)
    quantiles = np.sort(rng.normal(size=(200, 2, 1, 6)), axis=-1).astype("float32")
    layer(quantiles)
    widening = np.broadcast_to([1.0, 0.4, 0.0, -0.3, -0.6, -1.0], (2, 1, 6)).astype("float32")
    layer.set_weights([widening])
    moved = np.asarray(layer(quantiles))
    assert (np.diff(quantiles + widening, axis=-1) < 0).any()
    assert (np.diff(moved, axis=-1) >= 0).all()
    np.testing.assert_array_equal(moved[..., 2], quantiles[..., 2])
    np.testing.assert_allclose(moved[..., -1], np.maximum(quantiles[..., -1] - 1, quantiles[..., 2]))
    np.testing.assert_allclose(moved[..., 0], np.minimum(quantiles[..., 0] + 1, quantiles[..., 2]))


def test_what_was_filled_in_counts_neither_in_scores_nor_in_calibration():
    rng = np.random.default_rng(0)
    config = replace(TINY, every=1, horizon=2)
    values = rng.normal(size=(60, 2)).astype("float32")
    observed = np.where(rng.random((60, 2)) < 0.3, np.float32("nan"), values)
    starts = np.arange(20, 50)
    errors = scoring.measure(lambda rows: np.zeros((len(rows), 2, 2, 3)), observed, starts, [0, 1], 1, config)
    truth = np.stack([observed[start + 1 : start + 3] for start in starts])
    np.testing.assert_allclose(errors.absolute, np.nanmean(np.abs(truth), axis=0), rtol=1e-6)
    assert errors.by_window["mse"].mean() == pytest.approx(np.nanmean(truth**2), rel=1e-6)
    np.testing.assert_array_equal(np.isnan(errors.target_inside), np.isnan(truth[..., 1]))
    wild = np.where(np.isnan(truth), 1e9, truth)
    forecast = np.broadcast_to([-1.0, 0.0, 1.0], (30, 2, 2, 3))
    found = intervals.fit_widening(truth, forecast, (0.1, 0.5, 0.9), 0.8)
    assert not np.allclose(found, intervals.fit_widening(wild, forecast, (0.1, 0.5, 0.9), 0.8))
    known = np.sort(np.abs(truth[:, 0, 0][~np.isnan(truth[:, 0, 0])]) - 1)
    assert found[0, 0, 2] == pytest.approx(known[int(np.ceil((len(known) + 1) * 0.8)) - 1], rel=1e-5)


@pytest.mark.parametrize("forecast", [[1], [2, 0]])
def test_linear_baseline_equals_scikit_learns_ridge_on_all_windows(forecast, monkeypatch):
    monkeypatch.setattr(baseline, "PENALTIES", (50.0,))
    config = replace(TINY, every=2, history=(2, 5), horizon=3)
    values = np.cumsum(np.random.default_rng(0).normal(size=(6_000, 3)), axis=0).astype("float32")
    starts = windows.split(np.zeros(6_000, int), np.zeros(6_000, bool), np.repeat([0, 1, 2], [5_000, 500, 500]), config)
    linear = baseline.Linear(values, values, starts, forecast, config)
    mae = {}
    for length in config.history:
        for place, channel in enumerate(forecast):
            columns = slice(None) if len(forecast) == 1 else slice(channel, channel + 1)

            def windows_of(rows, columns=columns, channel=channel, length=length):
                past = np.stack([values[row - 2 * (length - 1) : row + 1 : 2, columns] - values[row, columns] for row in rows])
                ahead = np.stack([values[row + 2 : row + 7 : 2, channel] - values[row, channel] for row in rows])
                return past.reshape(len(rows), -1).astype(float), ahead.astype(float)

            ridge = Ridge(50.0).fit(*windows_of(starts.train))
            kernel, bias = linear.maps[length][place]
            np.testing.assert_allclose(kernel, ridge.coef_.T, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(bias, ridge.intercept_, rtol=1e-6, atol=1e-9)
            inputs, truth = windows_of(starts.validation)
            mae.setdefault(length, []).append(np.abs(ridge.predict(inputs) - truth).mean())
    assert linear.errors == pytest.approx({length: np.mean(found) for length, found in mae.items()}, rel=1e-4)
    assert linear.best == min(linear.errors, key=linear.errors.get)


def test_steps_beyond_the_most_inputs_have_no_weight(monkeypatch):
    monkeypatch.setattr(baseline, "MAX_INPUTS", 7)
    config = replace(TINY, every=1, history=(5,), horizon=2)
    values = np.random.default_rng(0).normal(size=(600, 3)).astype("float32")
    starts = windows.split(np.zeros(600, int), np.zeros(600, bool), np.repeat([0, 1, 2], 200), config)
    kernel, _ = baseline.Linear(values, values, starts, [0], config).weights(5)
    assert kernel.shape == (15, 2)
    assert (kernel[:9] == 0).all()
    assert (kernel[9:12] != 0).all()


def test_a_counter_at_45_million_is_seen_in_steps_of_one_and_no_quantile_lies_below_the_bound():
    config = replace(TINY, linear="none")
    mean, deviation = np.array([45_000_000.0]), np.array([30.0])
    calibrated = build_calibrated(config, build_model(config, 1, [0]))
    servable = build_servable(config, calibrated, mean, deviation, [0], 0)
    counter = 45_000_000.0 + np.arange(12.0)[None, :, None]
    expected = calibrated.predict_on_batch((counter - mean) / deviation).astype(float) * 30.0 + 45_000_000.0
    found = servable.predict_on_batch(counter)
    np.testing.assert_allclose(found - 45_000_000.0, expected - 45_000_000.0, atol=1e-4)
    assert np.ptp(np.diff(np.asarray(servable.get_layer("normalization")(counter)), axis=1)) < 1e-6
    bound = replace(config, lower_bound=45_000_011.0)
    build_servable(bound, calibrated, mean, deviation, [0], 0).save("bound.keras")
    bounded = keras.models.load_model("bound.keras", compile=False).predict_on_batch(counter)
    np.testing.assert_array_equal(bounded, np.maximum(found, 45_000_011.0))
    assert (found < 45_000_011.0).any()


def test_training_windows_are_thinned_out_the_others_are_not():
    parts = np.zeros(900, int), np.zeros(900, bool), np.repeat([0, 1, 2], 300)
    every, some = windows.split(*parts, TINY), windows.split(*parts, replace(TINY, window_stride=7))
    np.testing.assert_array_equal(some.train, every.train[::7])
    np.testing.assert_array_equal(some.validation, every.validation)
    np.testing.assert_array_equal(some.test, every.test)


def test_a_short_test_part_does_not_tell_who_is_better():
    config = replace(TINY, every=1)

    def errors(mae):
        return scoring.Errors(*[np.zeros(1)] * 5, {"mae": mae, "mse": 9 - mae})

    block = config.longest_history + config.horizon
    ours = np.random.default_rng(0).uniform(size=20 * block)
    assert scoring.lead(errors(ours), errors(ours + 0.1), config).verdict == "better"
    assert scoring.lead(errors(ours), errors(ours + 0.1), replace(config, preset="benchmark")).verdict == "worse"  # by MSE
    theirs = ours[: 2 * block] + np.where(np.arange(2 * block), 0.1, -0.1)
    assert scoring.lead(errors(ours[: 2 * block]), errors(theirs), config).verdict == "draw"


def test_a_bad_file_is_answered_before_tensorflow_is_imported():
    code = """
import sys
from apps.weather import train
sys.argv = ["train", "--data", "nowhere.csv"]
try:
    train.main()
except Exception as error:
    print(type(error).__name__, "tensorflow" in sys.modules or "keras" in sys.modules)
"""
    root = Path(train.__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert found.stdout.split() == ["UserError", "False"], found.stderr
    assert not Path("runs").exists()


def test_servable_speaks_the_datas_own_units():
    config, rng = TINY, np.random.default_rng(0)
    mean, deviation = np.array([10.0, 1_000.0], "float32"), np.array([5.0, 8.0], "float32")
    calibrated = build_calibrated(config, build_model(config, 2, [1]))
    servable = build_servable(config, calibrated, mean, deviation, [1], 0)
    normalised = rng.normal(size=(3, config.longest_history, 2)).astype("float32")
    assert servable.get_layer("normalization").compute_dtype == servable.get_layer("units").compute_dtype == "float64"
    expected = calibrated.predict_on_batch(normalised) * 8.0 + 1_000.0
    np.testing.assert_allclose(servable.predict_on_batch(normalised * deviation + mean), expected, rtol=1e-5)


def test_naive_rivals_by_hand():
    config = replace(TINY, every=2, horizon=3)
    values = np.arange(100, dtype="float32")[:, None] * [1.0, 10.0]
    starts = np.array([40, 41])
    assert baseline.last_value(values, starts, [1], config)[:, :, 0].tolist() == [[400] * 3, [410] * 3]
    of_yesterday = baseline.same_time_yesterday(values, starts, [0], config, day=4)
    assert of_yesterday[0, :, 0].tolist() == [38, 40, 38]  # 42 - 4; 44 - 4; 46 - 8: what is still to come can't be used


def test_linear_rival_finds_a_linear_law():
    rng = np.random.default_rng(0)
    values = np.zeros((3_000, 1), "float32")
    for row in range(2, 3_000):
        values[row] = values[row - 1] + 0.5 * (values[row - 1] - values[row - 2]) + rng.normal()
    config = replace(TINY, every=1, history=(2, 4), horizon=1)
    starts = windows.split(np.zeros(3_000, int), np.zeros(3_000, bool), np.repeat([0, 1, 2], 1_000), config)
    linear = baseline.Linear(values, values, starts, [0], config)
    found = linear.predict(values, starts.test)[:, 0, 0]
    expected = 1.5 * values[starts.test, 0] - 0.5 * values[starts.test - 1, 0]
    assert np.abs(found - expected).mean() < 0.1


@pytest.mark.parametrize("forecast", [[1], [2, 0]])
def test_a_network_whose_recurrence_is_silent_says_what_the_linear_rival_says(forecast):
    config = replace(TINY, every=2, history=(5,), horizon=3)
    values = np.cumsum(np.random.default_rng(0).normal(size=(600, 3)), axis=0).astype("float32")
    starts = windows.split(np.zeros(600, int), np.zeros(600, bool), np.repeat([0, 1, 2], 200), config)
    linear = baseline.Linear(values, values, starts, forecast, config)
    network = build_model(config, 3, forecast, ridges=[linear.weights(5)])
    head = network.get_layer("direct_5").get_layer("head")
    head.set_weights([0 * weight for weight in head.get_weights()])
    quantiles = scoring.forecaster(build_calibrated(config, network), values, config)(starts.test)
    np.testing.assert_allclose(quantiles[..., 1], linear.predict(values, starts.test), atol=1e-4)
    assert not network.get_layer("direct_5").get_layer("linear").trainable_weights


def test_several_networks_are_averaged_each_of_which_sees_the_end_of_the_window():
    config = replace(TINY, head=("direct", "autoregressive"), history=(3, 12))
    together = build_model(config, 2, [1])
    rng = np.random.default_rng(0)
    history = rng.normal(size=(4, 12, 2)).astype("float32")
    apart = []
    for head, length in itertools.product(config.head, config.history):
        alone = replace(config, head=(head,), history=(length,))
        network = build_model(alone, 2, [1])
        network.set_weights(together.get_layer(f"{head}_{length}").get_weights())
        apart.append(build_calibrated(alone, network).predict_on_batch(history[:, -length:]))
    assert together.output_shape[-2] == len(apart)
    averaged = build_calibrated(config, together).predict_on_batch(history)
    np.testing.assert_allclose(averaged, np.mean(apart, axis=0), atol=1e-5)


def test_measuring_by_hand():
    config = replace(TINY, every=1, horizon=2)
    values = np.arange(20, dtype="float32")[:, None] * [1.0, 2.0]
    starts = np.array([5, 6, 7])

    def says(rows):
        truth = scoring.truth_of(values, rows, [0, 1], config)
        return truth[..., None] + np.array([-1.0, 0.5, 0.6])

    errors = scoring.measure(says, values, starts, [0, 1], 1, config)
    np.testing.assert_allclose(errors.squared, 0.25)
    np.testing.assert_allclose(errors.target_absolute, 0.5)
    assert errors.target_inside.all()
    np.testing.assert_allclose(errors.target_width, 1.6)
    assert scoring.summarise("test", errors, 4.0, config) == {"test_mse": 0.25, "test_mae": 0.5, "test_mae_target": 2.0}


def test_error_by_place_and_the_name_of_an_error():
    table = sample.make_station(days=20)[["time", "temperature (degC)"]]
    pd.concat([table.assign(city="A"), table.assign(city="B")]).to_csv("own.csv", index=False)
    series = data.load(replace(TINY, station_column="city"))
    starts = windows.split(series.piece, series.filled, series.borders, TINY).test
    own = np.where(series.place[starts] == 0, 1.0, 5.0)[:, None] * [1.0, np.nan]
    errors = {"test": scoring.Errors(None, None, own, None, None, {})}
    found = report.by_place(errors, series, starts, unit=2.0)
    assert found["network"].to_dict() == {"A": 2.0, "B": 10.0}
    assert report.mae_of("temperature (degC)") == "MAE, degC"
    assert report.mae_of("OT") == "MAE of OT"


def test_a_part_whose_windows_all_overlap_is_warned_of(capsys):
    series = data.load(replace(TINY, data=None, dataset="sample"))
    starts = windows.Starts(np.arange(500), np.array([600]), np.arange(700, 900))
    data.check_windows(series, starts, TINY)
    assert "WARNING: all 1 windows of validation overlap" in capsys.readouterr().out


def test_worst_days_do_not_overlap():
    errors = scoring.Errors(*[np.zeros((1, 1))] * 2, np.array([[5.0], [9.0], [8.0], [1.0]]), *[np.zeros((4, 1))] * 2, {})
    starts = np.array([0, 10, 20, 100])
    config = replace(TINY, every=1, horizon=15)
    assert report.worst_days(errors, starts, config).tolist() == [1, 3]


def test_predict_writes_table_and_plot_with_columns_in_any_order(beside_the_run, capsys):
    table = pd.read_csv("own.csv").iloc[:2_000]
    table[table.columns[::-1]].to_csv("new.csv", index=False)
    predict.predict(predict.Request("new.csv", output="ahead.csv"))
    found = pd.read_csv("ahead.csv", parse_dates=["time"])
    assert len(found) == TINY.horizon
    newest = pd.to_datetime(table["time"]).iloc[-1]
    assert (found["time"] - newest).tolist() == [pd.Timedelta(hours=hour) for hour in range(1, 7)]
    assert (found["temperature (degC), 10%"] <= found["temperature (degC), 90%"]).all()
    assert Path("ahead.png").stat().st_size > 3_000
    table.to_csv("in_order.csv", index=False)
    series = data.load(replace(TINY, data="in_order.csv", limit=None))
    model = keras.models.load_model(beside_the_run / "model.keras", compile=False)
    expected = model.predict_on_batch(series.values[None, -67::6])[0, :, 0]
    names = [f"temperature (degC), {share}%" for share in (10, 50, 90)]
    np.testing.assert_allclose(found[names], expected, rtol=1e-4)
    with pytest.raises(UserError, match="exists already; nothing was overwritten"):
        predict.predict(predict.Request("new.csv", output="ahead.csv"))
    more = pd.read_csv("own.csv").iloc[:2_003]
    more.loc[2_000:, "temperature (degC)"] = -9999.0
    more.to_csv("newer.csv", index=False)
    capsys.readouterr()
    predict.predict(predict.Request("newer.csv", output="again.csv"))
    assert f"The newest 3 rows are not whole; this is the forecast from {newest.isoformat()}" in capsys.readouterr().out
    assert pd.read_csv("again.csv")["time"].tolist() == pd.read_csv("ahead.csv")["time"].tolist()


def test_predict_names_missing_columns_and_too_few_rows(beside_the_run):
    table = pd.read_csv("own.csv")
    table.drop(columns="rain (mm)").to_csv("less.csv", index=False)
    with pytest.raises(UserError, match=r"lacks columns that the run was trained on: rain \(mm\)"):
        predict.predict(predict.Request("less.csv", output="x.csv"))
    table.iloc[:30].to_csv("short.csv", index=False)
    with pytest.raises(UserError, match="the newest 67 rows"):
        predict.predict(predict.Request("short.csv", output="x.csv"))
    table[pd.to_datetime(table["time"]).dt.minute == 0].to_csv("hourly.csv", index=False)
    with pytest.raises(UserError, match=r"hourly\.csv has a row every 0 days 01:00:00; the run .* every 0 days 00:10:00"):
        predict.predict(predict.Request("hourly.csv", output="x.csv"))
    Path("two").mkdir()
    for name in "ab":
        table.to_csv(f"two/{name}.csv", index=False)
    with pytest.raises(UserError, match="holds several places, a, b"):
        predict.predict(predict.Request("two", output="x.csv"))
    with pytest.raises(UserError, match=r"a name that ends in \.csv"):
        predict.predict(predict.Request("own.csv", output="x.png"))
    assert not Path("x.csv").exists()


def test_runs_names_the_metric(beside_the_run, capsys):
    runs.main()
    row = next(line for line in capsys.readouterr().out.splitlines() if beside_the_run.name in line)
    assert "mae" in row


def test_benchmark_preset_takes_the_rows_as_they_are():
    config = replace(PRESETS["benchmark"], data="own.csv", limit=None)
    table = sample.make_station(days=30).dropna()
    table.to_csv("own.csv", index=False)
    series = data.load(config)
    assert len(series.values) == len(table)
    assert len(series.columns) == len(table.columns) - 1
    assert series.values.min() == -9999.0


@pytest.mark.parametrize("number", [2, 3, 7])
def test_backtest_judges_on_disjoint_equal_stretches_of_time_in_all_places(number):
    """Two places, one of which begins a third later: parts are cut by time, not by a place's rows."""
    table = sample.make_station(days=9)[["time", "temperature (degC)"]]
    pd.concat([table.assign(city="A"), table[400:].assign(city="B")]).to_csv("own.csv", index=False)
    config = replace(TINY, station_column="city", limit=None, backtest=number)
    times, tests = np.unique(data.load(config).times), []
    for fold in backtest.folds(len(times), config):
        series = data.load(fold)
        tests.append(np.unique(series.times[series.borders == 2]))
        assert series.times[series.borders == 0].max() < series.times[series.borders == 1].min()
        assert series.times[series.borders == 1].max() < tests[-1].min()
        for place in range(2):
            assert np.isin(tests[-1], series.times[(series.borders == 2) & (series.place == place)]).all()
    assert {len(test) for test in tests} == {len(times) // (2 * number)}
    np.testing.assert_array_equal(np.concatenate(tests), times[-sum(map(len, tests)) :])


@pytest.mark.slow
def test_backtest_retrains_on_growing_histories():
    sample.make_station(days=30).to_csv("own.csv", index=False)
    folder = backtest.backtest(replace(TINY, limit=None, epochs=1, backtest=2))
    finished = sorted(Path("runs/weather").glob("2*"))
    limits = [json.loads((run / "config.json").read_text())["limit"] for run in finished]
    assert limits == [3_240, 4_320]
    table = pd.read_csv(folder / "backtest.csv", index_col="run")
    scores = [json.loads((run / "metrics.json").read_text())["test_mae_target"] for run in finished]
    np.testing.assert_allclose(table["test_mae_target"], [*scores, np.mean(scores), np.std(scores, ddof=1)], rtol=1e-6)
