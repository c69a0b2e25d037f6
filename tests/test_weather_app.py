"""The weather app as a user meets it, made tiny; its losses, intervals and baselines against scikit-learn and arithmetic."""

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_pinball_loss

from apps.weather import __main__ as commands
from apps.weather import backtest, baseline, config, data, intervals, predict, report, sample, scoring, segments, train, watch
from apps.weather.batches import for_network, training_batches
from apps.weather.config import DEFAULT, PRESETS, Request
from apps.weather.model import PinballLoss, build_model, build_servable, in_order, median_error, unforced
from apps.weather.segments import set_linear
from apps.weather.windows import Windows
from shared import export, runs
from shared.cli import UserError
from shared.training import Training

WATCHED = DRAWN = True

TINY = replace(
    DEFAULT,
    preset="smoke",
    data="own.csv",
    limit=2_500,
    stride=6,
    history=12,
    horizon=6,
    recurrent=replace(DEFAULT.recurrent, units=8),
    training=Training(epochs=2, batch_size=64),
)
BASELINES = {"baseline", "last value", "same time yesterday"}


def forecast_of(network, config, history, num_forecast=1):
    """Quantiles of a network that is not told any target."""
    inputs = unforced(config, keras.ops.convert_to_tensor(history, "float32"), num_forecast)
    return network.predict_on_batch({name: np.asarray(value) for name, value in inputs.items()})


def run(config, **settings):
    """Train; `settings` replace those of the training."""
    config = replace(config, training=replace(config.training, **settings))
    return train.train(config, data.load(config))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A finished run on the generated station, made where no other test works."""
    here = tmp_path_factory.mktemp("weather")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        sample.make_station(days=30).to_csv("own.csv", index=False)
        return here / run(TINY)


@pytest.fixture
def beside_the_run(run_folder, monkeypatch):
    monkeypatch.chdir(run_folder.parent.parent.parent)
    return run_folder


@pytest.fixture
def segments_of_3(monkeypatch):
    """SegRNN's segments are short enough for a tiny window."""
    monkeypatch.setattr(config, "SEGMENT", 3)
    monkeypatch.setattr(segments, "SEGMENT", 3)
    monkeypatch.setattr(watch, "SEGMENT", 3)


def of_one_piece(split, windows, **options):
    """Forecast origins of rows without a gap, by the part that each row belongs to."""
    return windows.find_origins(np.zeros(len(split), int), np.zeros(len(split), bool), split, **options)


def test_run_folder_is_whole(run_folder):
    files = {path.name for path in run_folder.iterdir()}
    assert files == {
        *("config.json", "environment.json", "metrics.json", "history.csv", "by_step.csv", "by_month.csv", "by_hour.csv"),
        *("model.keras", "model.onnx", "report.md", "logs", "plots"),
    }
    plots = {path.stem for path in (run_folder / "plots").iterdir()}
    recurrence = {"states", "gates", "gradient_through_time", "loss_by_context"}  # and units, if some follow anything
    errors = {"error_by_step", "error_by_time", "forecasts", "worst", "worst_explained"}
    assert plots - {"units"} == errors | recurrence | {"training"}
    with zipfile.ZipFile(run_folder / "model.keras") as model:  # export loads it without knowing the optimizer
        assert "Adam" not in model.read("config.json").decode()


def test_metrics_keep_the_contract(run_folder):
    metrics = runs.read_json(run_folder / "metrics.json")
    assert (metrics["metric"], metrics["higher_is_better"], metrics["split"]) == ("mae", False, "test")
    assert set(metrics["validation"]) == {"network"}
    assert set(metrics["test"]) == {"network", *BASELINES}
    for found in (*metrics["validation"].values(), *metrics["test"].values()):
        assert all(found[name] > 0 for name in ("mae", "mse", "mae_target"))
    network, lead = metrics["test"]["network"], metrics["lead"]
    strongest = min(metrics["test"][who]["mae"] for who in BASELINES)
    assert lead["mean"] == pytest.approx(strongest - network["mae"], abs=1e-6)
    [by_mse] = metrics["other_leads"]  # of the target alone there is no other mae
    assert by_mse["metric"] == "mse"
    assert by_mse["mean"] == pytest.approx(min(metrics["test"][who]["mse"] for who in BASELINES) - network["mse"], abs=1e-6)
    assert metrics["beats_baseline"] == (lead["low"] > 0 and by_mse["low"] > 0)
    assert metrics["interval"] == 0.8
    assert 0.5 < network["coverage"] < 1
    assert f"The interval holds {network['coverage']:.1%} of the targets (80% asked)" in (run_folder / "report.md").read_text()


def test_figures_are_those_of_the_saved_model_in_the_datas_own_unit(beside_the_run):
    test = runs.read_json(beside_the_run / "metrics.json")["test"]
    model = keras.models.load_model(beside_the_run / "model.keras", compile=False)
    series = data.load(TINY)
    origins = series.origins.test
    history = np.stack([series.values[origin - 66 : origin + 1 : 6] for origin in origins])
    measured = np.where(series.imputed, np.nan, series.values)[:, series.target]
    targets = np.stack([measured[origin + 6 : origin + 37 : 6] for origin in origins])
    known = ~np.isnan(targets)
    forecast = model.predict_on_batch(history)[:, :, 0]
    assert test["network"]["mae_target"] == pytest.approx(np.nanmean(np.abs(forecast[..., 1] - targets)), rel=1e-3)
    inside = (targets >= forecast[..., 0]) & (targets <= forecast[..., 2])
    assert test["network"]["coverage"] == pytest.approx(inside[known].mean(), abs=0.005)
    assert test["network"]["width"] == pytest.approx((forecast[..., 2] - forecast[..., 0]).mean(), rel=1e-3)
    last = history[:, -1:, series.target]
    assert test["last value"]["mae_target"] == pytest.approx(np.nanmean(np.abs(last - targets)), rel=1e-4)
    yesterday = np.stack([series.values[origin + 6 - 144 : origin + 37 - 144 : 6, series.target] for origin in origins])
    assert test["same time yesterday"]["mae_target"] == pytest.approx(np.nanmean(np.abs(yesterday - targets)), rel=1e-4)
    by_step = pd.read_csv(beside_the_run / "by_step.csv", index_col="step")
    assert by_step.loc[3, "last value"] == pytest.approx(np.nanmean(np.abs(last[:, 0] - targets[:, 2])), rel=1e-4)


@pytest.mark.usefixtures("segments_of_3", "unwatched")
@pytest.mark.parametrize(
    ("head", "interval", "options"),
    [
        ("autoregressive", None, {"cell": "lstm", "num_layers": 2, "residual": True, "normalization": "layer"}),
        ("segments", 0.9, {"cell": "lstm"}),
    ],
)
def test_every_head_trains_and_is_saved(head, interval, options, monkeypatch):
    monkeypatch.setattr(export, "write_after_training", lambda *_: None)  # test_weather_export.py does so with every head
    sample.make_station(days=30).to_csv("own.csv", index=False)
    tiny = replace(TINY, limit=1_500, head=head, interval=interval, recurrent=replace(TINY.recurrent, **options))
    folder = run(tiny, epochs=1)
    model = keras.models.load_model(folder / "model.keras", compile=False)
    metrics = runs.read_json(folder / "metrics.json")
    # The autoregressive head forecasts the target; segments all but the time of day.
    assert metrics["forecast"] == (metrics["columns"][:-2] if head == "segments" else [metrics["target"]])
    assert model.output_shape == (None, TINY.horizon, len(metrics["forecast"]), 1 if interval is None else 3)
    assert ("interval" in metrics) == ("coverage" in metrics["test"]["network"]) == (interval is not None)


@pytest.mark.usefixtures("segments_of_3")
@pytest.mark.parametrize("head", ["autoregressive", "segments"])
def test_quantiles_never_cross_and_start_from_the_last_value(head):
    tiny = replace(TINY, head=head)
    model = build_model(tiny, 3, [2, 0])
    history = np.random.default_rng(0).normal(size=(5, tiny.history, 3)).astype("float32")
    quantiles = forecast_of(model, tiny, history, 2)
    assert quantiles.shape == (5, tiny.horizon, 2, 3)
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    # Another level of a column changes nothing but the level of its forecast
    moved = forecast_of(model, tiny, history + np.float32([3.0, 5.0, -1.0]), 2)
    np.testing.assert_allclose(moved - quantiles, np.broadcast_to([[-1.0], [3.0]], (5, 6, 2, 1)) + np.zeros(3), atol=1e-4)


def test_the_time_of_day_is_read_as_it_is():
    model = build_model(TINY, 2, [0], clock=[1])
    history = np.random.default_rng(0).normal(size=(5, TINY.history, 2)).astype("float32")
    quantiles = forecast_of(model, TINY, history)
    np.testing.assert_allclose(forecast_of(model, TINY, history + np.float32([3.0, 0.0])), quantiles + 3, atol=1e-4)
    assert np.abs(forecast_of(model, TINY, history + np.float32([0.0, 3.0])) - quantiles).max() > 0.01


def test_the_decoder_reads_its_own_forecast_or_the_target_that_is_forced():
    config = replace(TINY, recurrent=replace(TINY.recurrent, dropout=0.0))
    network = build_model(config, 1, [0])
    history = np.random.default_rng(0).normal(size=(4, config.history, 1)).astype("float32")
    alone, forced = forecast_of(network, config, history), np.ones((4, config.horizon, 1), "float32")
    # Given its own medians, it forecasts the same; given something else, it differs from the second step on.
    again = network.predict_on_batch({"history": history, "targets": alone[..., 1], "forced": forced})
    np.testing.assert_allclose(again, alone, atol=1e-5)
    other = network.predict_on_batch({"history": history, "targets": alone[..., 1] + 1, "forced": forced})
    np.testing.assert_allclose(other[:, 0], alone[:, 0], atol=1e-5)
    assert (np.abs(other[:, 1:] - alone[:, 1:]).max(axis=(1, 2, 3)) > 1e-4).all()


def test_forcing_falls_from_always_to_never_and_validation_is_not_forced():
    windows, values = Windows(history=3, horizon=20, stride=1), np.zeros((400, 1), "float32")
    origins = np.arange(10, 370)

    def forced(first_epoch, steps):
        found = training_batches(values, origins, windows, [0], 36, seed=0, first_epoch=first_epoch)
        found = for_network(found, "autoregressive", 0, first_step=10 * first_epoch, steps=steps)
        return np.array([inputs["forced"].numpy().mean() for inputs, _ in found.take(10)])

    np.testing.assert_allclose(forced(0, 100), 1 - np.arange(10) / 100, atol=0.06)
    np.testing.assert_allclose(forced(9, 100), 1 - np.arange(90, 100) / 100, atol=0.06)
    assert not forced(0, None).any()


def test_quantiles_in_order_by_hand_and_none_can_cross():
    soft = np.log1p(np.exp([1.0, -2.0]))
    np.testing.assert_allclose(in_order(np.float32([[1.0, 5.0, -2.0]])), [[5 - soft[0], 5, 5 + soft[1]]], rtol=1e-5)
    np.testing.assert_array_equal(in_order(np.float32([[-7.0]])), [[-7.0]])
    wild = np.random.default_rng(0).normal(scale=100, size=(1_000, 3)).astype("float32")
    assert (np.diff(in_order(wild), axis=-1) >= 0).all()


def test_pinball_loss_equals_scikit_learns():
    rng = np.random.default_rng(0)
    targets, forecast = rng.normal(size=(50, 4, 2)).astype("float32"), rng.normal(size=(50, 4, 2, 3)).astype("float32")
    quantiles = (0.1, 0.5, 0.8)
    expected = [mean_pinball_loss(targets.ravel(), forecast[..., n].ravel(), alpha=q) for n, q in enumerate(quantiles)]
    assert float(PinballLoss(quantiles)(targets, forecast)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_calibration_makes_intervals_hold_what_they_promise():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(6_000, 3, 1)) * [[0.5], [1.0], [4.0]]
    forecast = np.broadcast_to([-1.0, 0.0, 1.0], (6_000, 3, 1, 3))
    widening = intervals.fit_widening(targets[:3_000], forecast[:3_000], coverage=0.8)
    assert widening.shape == (3, 1)
    low, high = -1 - widening, 1 + widening
    inside = (targets[3_000:] >= low) & (targets[3_000:] <= high)
    np.testing.assert_allclose(inside.mean(axis=0)[:, 0], 0.8, atol=0.025)
    np.testing.assert_allclose(high[:, 0], 1.2816 * np.array([0.5, 1.0, 4.0]), rtol=0.1)  # the normal's 90 % quantile


def test_calibration_layer_never_crosses_the_median_and_leaves_a_point_forecast():
    layer = intervals.Calibration()
    quantiles = np.array([[[[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]]]], "float32")
    np.testing.assert_array_equal(layer(quantiles), quantiles)
    layer.set_weights([np.array([[-5.0], [0.5]])])
    np.testing.assert_array_equal(layer(quantiles), [[[[2.0, 2.0, 2.0]], [[0.5, 2.0, 3.5]]]])
    point = np.ones((1, 2, 1, 1), "float32")
    np.testing.assert_array_equal(intervals.Calibration()(point), point)


def test_imputed_values_count_neither_in_scores_nor_in_calibration():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 2)).astype("float32")
    observed = np.where(rng.random((60, 2)) < 0.3, np.float32("nan"), values)
    windows, origins = Windows(history=3, horizon=2, stride=1), np.arange(20, 50)
    errors = scoring.measure(lambda rows: np.zeros((len(rows), 2, 2, 3)), observed, windows, origins, 1)
    targets = np.stack([observed[origin + 1 : origin + 3] for origin in origins])
    np.testing.assert_allclose(errors.absolute, np.nanmean(np.abs(targets), axis=0), rtol=1e-6)
    assert errors.by_window["mae_target"].mean() == pytest.approx(np.nanmean(np.abs(targets[..., 1])), rel=1e-6)
    assert errors.by_window["mse"].mean() == pytest.approx(np.nanmean(targets**2), rel=1e-6)
    np.testing.assert_array_equal(np.isnan(errors.target_inside), np.isnan(targets[..., 1]))
    wild = np.where(np.isnan(targets), 1e9, targets)
    forecast = np.broadcast_to([-1.0, 0.0, 1.0], (30, 2, 2, 3))
    found = intervals.fit_widening(targets, forecast, 0.8)
    assert not np.allclose(found, intervals.fit_widening(wild, forecast, 0.8))
    known = np.sort(np.abs(targets[:, 0, 0][~np.isnan(targets[:, 0, 0])]) - 1)
    assert found[0, 0] == pytest.approx(known[int(np.ceil((len(known) + 1) * 0.8)) - 1], rel=1e-5)


@pytest.mark.parametrize(("forecast", "alone", "metric"), [([1], False, "mae"), ([2, 0], True, "mse"), ([1], True, "mae")])
def test_linear_baseline_equals_scikit_learns_ridge_on_all_windows(forecast, alone, metric, monkeypatch):
    monkeypatch.setattr(baseline, "PENALTIES", (50.0,))
    values = np.cumsum(np.random.default_rng(0).normal(size=(6_000, 3)), axis=0).astype("float32")
    windows = Windows(history=5, horizon=3, stride=2)
    origins = of_one_piece(np.repeat([0, 1, 2], [5_000, 500, 500]), windows)
    linear = baseline.Linear(values, values, origins, forecast, windows, metric, alone)
    errors, ridges = {3: [], 5: []}, {3: [], 5: []}  # the whole history, and its later half
    for length, channel in ((length, channel) for length in errors for channel in forecast):
        columns = slice(channel, channel + 1) if alone else slice(None)

        def windows_of(rows, columns=columns, channel=channel, length=length):
            past = np.stack([values[row - 2 * (length - 1) : row + 1 : 2, columns] - values[row, columns] for row in rows])
            ahead = np.stack([values[row + 2 : row + 7 : 2, channel] - values[row, channel] for row in rows])
            return past.reshape(len(rows), -1).astype(float), ahead.astype(float)

        ridges[length].append(Ridge(50.0).fit(*windows_of(origins.train)))
        inputs, targets = windows_of(origins.validation)
        off = np.abs(ridges[length][-1].predict(inputs) - targets)
        errors[length].append((off if metric == "mae" else off**2).mean())
    assert linear.history == min(errors, key=lambda length: np.mean(errors[length]))
    for (kernel, bias), expected in zip(linear.maps, ridges[linear.history], strict=True):
        np.testing.assert_allclose(kernel, expected.coef_.T, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(bias, expected.intercept_, rtol=1e-6, atol=1e-9)


def test_steps_beyond_the_most_inputs_are_not_read(monkeypatch):
    monkeypatch.setattr(baseline, "MAX_INPUTS", 7)  # two steps of three columns
    values = np.random.default_rng(0).normal(size=(600, 3)).astype("float32")
    windows = Windows(history=5, horizon=2, stride=1)
    origins = of_one_piece(np.repeat([0, 1, 2], 200), windows)
    linear = baseline.Linear(values, values, origins, [0], windows, "mae")
    assert linear.history <= 2
    assert linear.maps[0][0].shape == (3 * linear.history, 2)


def test_linear_baseline_finds_a_linear_law():
    rng = np.random.default_rng(0)
    values = np.zeros((3_000, 1), "float32")
    for row in range(2, 3_000):
        values[row] = values[row - 1] + 0.5 * (values[row - 1] - values[row - 2]) + rng.normal()
    windows = Windows(history=4, horizon=1, stride=1)
    origins = of_one_piece(np.repeat([0, 1, 2], 1_000), windows)
    linear = baseline.Linear(values, values, origins, [0], windows, "mae")
    found = linear.predict(values, origins.test)[:, 0, 0]
    expected = 1.5 * values[origins.test, 0] - 0.5 * values[origins.test - 1, 0]
    assert np.abs(found - expected).mean() < 0.1


@pytest.mark.usefixtures("segments_of_3")
@pytest.mark.parametrize("forecast", [[1], [2, 0]])
def test_segments_whose_recurrence_is_silent_say_what_the_linear_baseline_says(forecast, monkeypatch):
    monkeypatch.setattr(baseline, "MAX_INPUTS", 5)  # of the network's 6 steps
    tiny = replace(TINY, head="segments", history=6, horizon=3)
    values = np.cumsum(np.random.default_rng(0).normal(size=(600, 3)), axis=0).astype("float32")
    windows = Windows(history=6, horizon=3, stride=2)
    origins = of_one_piece(np.repeat([0, 1, 2], 200), windows)
    linear = baseline.Linear(values, values, origins, forecast, windows, "mae", alone=True)
    network = build_model(tiny, 3, forecast)
    set_linear(network, linear)
    head = network.get_layer("head")
    head.set_weights([0 * weight for weight in head.get_weights()])
    quantiles = forecast_of(network, tiny, values[windows.history_rows(origins.test)], len(forecast))
    np.testing.assert_allclose(quantiles[..., 1], linear.predict(values, origins.test), atol=1e-4)
    widths = np.diff(quantiles, axis=-1)  # the recurrence's alone
    np.testing.assert_allclose(widths, np.log(2), atol=1e-4)
    assert not network.get_layer("linear").trainable_weights


@pytest.mark.usefixtures("segments_of_3")
def test_segments_of_a_single_column_do_not_read_the_clock():
    sample.make_station(days=12)[["time", "temperature (degC)"]].to_csv("own.csv", index=False)
    tiny = replace(TINY, head="segments", stride=1)
    experiment = train.prepare(tiny, data.load(tiny))
    assert (experiment.forecast, len(experiment.data.columns)) == ([0], 3)
    assert experiment.network.get_layer("linear").get_weights()[0].any()


def test_the_cheapest_baselines_by_hand():
    windows = Windows(history=1, horizon=3, stride=2)
    values = np.arange(100, dtype="float32")[:, None] * [1.0, 10.0]
    origins = np.array([40, 41])
    assert baseline.last_value(values, origins, [1], windows)[:, :, 0].tolist() == [[400] * 3, [410] * 3]
    of_yesterday = baseline.same_time_yesterday(values, origins, [0], windows, rows_per_day=4)
    assert of_yesterday[0, :, 0].tolist() == [38, 40, 38]  # 42 - 4; 44 - 4; 46 - 8: what is still to come can't be used


def test_a_counter_at_45_million_is_seen_in_steps_of_one_and_no_quantile_lies_below_the_bound():
    mean, deviation = np.array([45_000_000.0]), np.array([30.0])
    network = build_model(TINY, 1, [0])
    servable = build_servable(TINY, network, mean, deviation, [0], 0)
    counter = 45_000_000.0 + np.arange(12.0)[None, :, None]
    expected = forecast_of(network, TINY, (counter - mean) / deviation).astype(float) * 30.0 + 45_000_000.0
    found = servable.predict_on_batch(counter)
    np.testing.assert_allclose(found - 45_000_000.0, expected - 45_000_000.0, atol=1e-4)
    assert np.ptp(np.diff(np.asarray(servable.get_layer("normalization")(counter)), axis=1)) < 1e-6
    bound = replace(TINY, lower_bound=45_000_011.0)
    build_servable(bound, network, mean, deviation, [0], 0).save("bound.keras")
    bounded = keras.models.load_model("bound.keras", compile=False).predict_on_batch(counter)
    np.testing.assert_array_equal(bounded, np.maximum(found, 45_000_011.0))
    assert (found < 45_000_011.0).any()


def test_the_bound_is_the_targets_and_calibration_is_saved_with_the_model():
    rng = np.random.default_rng(0)
    mean, deviation = np.array([0.0, 10.0, 0.0]), np.array([1.0, 5.0, 2.0])
    servable = build_servable(replace(TINY, lower_bound=4.0), build_model(TINY, 3, [2, 1]), mean, deviation, [2, 1], 1)
    history = rng.normal(size=(20, TINY.history, 3)) * deviation + mean
    before = servable.predict_on_batch(history)
    assert before[:, :, 1].min() == 4.0
    assert before[:, :, 0].min() < 0
    widening = rng.uniform(size=(TINY.horizon, 2))
    servable.get_layer("calibration").set_weights([widening])
    servable.save("calibrated.keras")
    after = keras.models.load_model("calibrated.keras", compile=False).predict_on_batch(history)
    np.testing.assert_array_equal(after, servable.predict_on_batch(history))
    np.testing.assert_allclose(after[:, :, 0, 2], before[:, :, 0, 2] + 2 * widening[:, 0], rtol=1e-5)  # in the data's unit
    np.testing.assert_allclose(after[:, :, 0, 0], before[:, :, 0, 0] - 2 * widening[:, 0], rtol=1e-5)


def test_servable_speaks_the_datas_own_units_and_mixed_precision_is_the_networks_alone():
    rng = np.random.default_rng(0)
    mean, deviation = np.array([10.0, 1_000.0], "float32"), np.array([5.0, 8.0], "float32")
    network = build_model(TINY, 2, [1])
    keras.config.set_dtype_policy("mixed_bfloat16")
    servable = build_servable(TINY, network, mean, deviation, [1], 0)
    computed = {name: servable.get_layer(name).compute_dtype for name in ("normalization", "calibration", "units")}
    assert computed == {"normalization": "float64", "calibration": "float32", "units": "float64"}
    normalised = rng.normal(size=(3, TINY.history, 2)).astype("float32")
    expected = forecast_of(network, TINY, normalised) * 8.0 + 1_000.0
    np.testing.assert_allclose(servable.predict_on_batch(normalised * deviation + mean), expected, rtol=1e-5)


def test_a_short_test_part_does_not_tell_who_is_better():
    windows = Windows(history=12, horizon=6, stride=1)
    block = 18

    def errors(mae):
        return scoring.Errors(*[np.zeros(1)] * 5, {"mae": mae, "mse": 9 - mae})

    ours = np.random.default_rng(0).uniform(size=20 * block)
    assert scoring.lead(errors(ours), errors(ours + 0.1), windows, "mae").verdict == "better"
    assert scoring.lead(errors(ours), errors(ours + 0.1), windows, "mse").verdict == "worse"
    theirs = ours[: 2 * block] + np.where(np.arange(2 * block), 0.1, -0.1)
    assert scoring.lead(errors(ours[: 2 * block]), errors(theirs), windows, "mae").verdict == "draw"


def test_baselines_are_beaten_only_by_every_measure():
    """Ahead by mae, behind by mse; of several columns the target's own mae counts too, in its unit."""
    windows = Windows(history=12, horizon=6, stride=1)
    ours = np.random.default_rng(0).uniform(size=20 * 18)

    def errors(ahead, columns):
        by_window = {"mae": ours - ahead, "mse": ours + 0.2 * ahead, "mae_target": ours - ahead}
        return scoring.Errors(np.zeros((6, columns)), np.zeros((6, columns)), None, None, None, by_window)

    for columns, others in ((1, ["mse"]), (3, ["mse", "mae_target"])):
        given = {"baseline": errors(0, columns), "last value": errors(-0.3, columns), "network": errors(0.1, columns)}
        found = scoring.leads(given, windows, report.NAMES, "mae", unit=8.0)
        assert found["beats_baseline"] is False
        assert (found["lead"]["verdict"], found["lead"]["baseline"]) == ("better", "the strongest baseline (linear)")
        assert [of["metric"] for of in found["other_leads"]] == others
        by_mse = found["other_leads"][0]  # by it, the last value is the strongest
        assert (by_mse["verdict"], by_mse["baseline"]) == ("worse", "the strongest baseline (last value)")
    assert found["other_leads"][1]["mean"] == pytest.approx(0.1 * 8)


def test_steps_at_which_a_baseline_is_ahead_are_named():
    skill = pd.Series([-0.08, -0.01, 0.2, 0.3], [1, 2, 3, 4])
    expected = "A baseline is ahead of the network at 2 of 4 steps (1, 2), by at most 8.0%."
    assert report.steps_behind(skill) == expected
    assert report.steps_behind(skill[2:]) == ""


def test_the_loss_in_degrees_is_the_absolute_error_of_the_targets_median():
    rng = np.random.default_rng(0)
    targets, forecast = rng.normal(size=(5, 4, 2)).astype("float32"), rng.normal(size=(5, 4, 2, 3)).astype("float32")
    expected = 8 * np.abs(targets[:, :, 1] - forecast[:, :, 1, 1]).mean()
    assert np.mean(median_error(1, 8.0)(targets, forecast)) == pytest.approx(expected, rel=1e-5)


def test_errors_by_month_leave_gaps_where_there_is_no_data_and_no_curve_leaves_its_axis(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(report, "save_figure", lambda figure, *_: figures.append(figure))
    of_months = pd.DataFrame({"network": [1.0, 2.0, 1.0], "linear": [1.5, 1.0, 1.0]}, [1, 11, 12])
    of_hours = pd.DataFrame({"network": np.full(24, 1.0), "linear": np.full(24, 9.0)}, range(24))
    report.plot_by_time(tmp_path / "x.png", {"month": of_months, "hour": of_hours}, "", "MAE")
    months, hours = figures[0].axes
    np.testing.assert_array_equal(np.isnan(months.get_lines()[0].get_ydata()), [False, *[True] * 9, False, False])
    for axes in (months, hours):
        low, high = axes.get_ylim()
        assert low == 0
        assert high > 9
        assert all(float(tick).is_integer() for tick in axes.get_xticks())
    report.plt.close(figures[0])


def test_titles_say_what_a_plot_shows(beside_the_run, tmp_path, monkeypatch):
    titles = {}

    def record(*args):
        (file,) = (arg for arg in args if isinstance(arg, Path))
        titles[file.stem] = args[-1]

    folder, series = shutil.copytree(beside_the_run, tmp_path / "run"), data.load(TINY)
    monkeypatch.setattr(report, "save_figure", record)
    monkeypatch.setattr(report, "plot_history", record)
    metrics = runs.read_json(folder / "metrics.json")
    observed = series.values[:, [series.target]]
    nothing = scoring.measure(lambda rows: np.zeros((len(rows), 6, 1, 3)), observed, series.windows, series.origins.test, 0)
    report.write(folder, metrics, series, dict.fromkeys(metrics["test"], nothing), 1.0)
    servable = keras.models.load_model(folder / "model.keras", compile=False)
    report.plot_forecasts(folder, series, nothing, servable, 0)
    assert "(test)" not in titles["training"]
    assert "(test)" in titles["error_by_step"]
    assert titles["worst"] != titles["forecasts"]
    report.plt.close("all")


def test_measuring_by_hand():
    values = np.arange(20, dtype="float32")[:, None] * [1.0, 2.0]
    origins = np.array([5, 6, 7])

    def says(rows):
        return values[rows[:, None] + [1, 2]][..., None] + np.array([-1.0, 0.5, 0.6])

    errors = scoring.measure(says, values, Windows(history=3, horizon=2, stride=1), origins, 1)
    np.testing.assert_allclose(errors.squared, 0.25)
    np.testing.assert_allclose(errors.target_absolute, 0.5)
    assert errors.target_inside.all()
    np.testing.assert_allclose(errors.target_width, 1.6)
    assert scoring.summarise(errors, 4.0) == {"mse": 0.25, "mae": 0.5, "mae_target": 2.0}


def test_error_by_place_and_the_name_of_an_error():
    table = sample.make_station(days=20)[["time", "temperature (degC)"]]
    pd.concat([table.assign(city="A"), table.assign(city="B")]).to_csv("own.csv", index=False)
    series = data.load(replace(TINY, station_column="city"))
    own = np.where(series.place[series.origins.test] == 0, 1.0, 5.0)[:, None] * [1.0, np.nan]
    errors = {"network": scoring.Errors(None, None, own, None, None, {})}
    found = report.by_place(errors, series, unit=2.0)
    assert found["network"].to_dict() == {"A": 2.0, "B": 10.0}
    assert report.mae_of("temperature (degC)") == "MAE, degC"
    assert report.mae_of("OT") == "MAE of OT"


def test_worst_windows_do_not_overlap():
    errors = scoring.Errors(*[np.zeros((1, 1))] * 2, np.array([[5.0], [9.0], [8.0], [1.0]]), *[np.zeros((4, 1))] * 2, {})
    windows = Windows(history=1, horizon=15, stride=1)
    assert report.worst_windows(errors, np.array([0, 10, 20, 100]), windows).tolist() == [1, 3]


def test_predict_writes_table_and_plot_with_columns_in_any_order(beside_the_run, capsys):
    table = pd.read_csv("own.csv").iloc[:2_000]
    table[table.columns[::-1]].to_csv("new.csv", index=False)
    predict.predict(Request("new.csv", output="ahead.csv", plot=True))
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
    names = [f"temperature (degC), {percent}%" for percent in (10, 50, 90)]
    np.testing.assert_allclose(found[names], expected, rtol=1e-4)
    with pytest.raises(UserError, match="exists already; nothing was overwritten"):
        predict.predict(Request("new.csv", output="ahead.csv"))
    more = pd.read_csv("own.csv").iloc[:2_003]
    more.loc[2_000:, "temperature (degC)"] = -9999.0
    more.to_csv("newer.csv", index=False)
    capsys.readouterr()
    predict.predict(Request("newer.csv", output="again.csv"))
    assert f"The newest 3 rows are not whole; this is the forecast from {newest.isoformat()}" in capsys.readouterr().out
    assert pd.read_csv("again.csv")["time"].tolist() == pd.read_csv("ahead.csv")["time"].tolist()
    assert not Path("again.png").exists()


def test_a_run_on_the_sample_forecasts_a_file_too(beside_the_run):
    shutil.copytree(beside_the_run, "of_sample")
    stored = runs.read_json(Path("of_sample/config.json")) | {"data": None, "dataset": "sample"}
    runs.Run(Path("of_sample"), None).write_json("config.json", stored)
    commands.predict(["--data", "own.csv", "--run", "of_sample", "--output", "of_sample.csv"])
    assert len(pd.read_csv("of_sample.csv")) == TINY.horizon


def test_predict_names_missing_columns_and_too_few_rows(beside_the_run):
    table = pd.read_csv("own.csv")
    table.drop(columns="rain (mm)").to_csv("less.csv", index=False)
    with pytest.raises(UserError, match=r"lacks columns that the run was trained on: rain \(mm\)"):
        predict.predict(Request("less.csv", output="x.csv"))
    table.iloc[:30].to_csv("short.csv", index=False)
    with pytest.raises(UserError, match="the newest 67 rows"):
        predict.predict(Request("short.csv", output="x.csv"))
    table[pd.to_datetime(table["time"]).dt.minute == 0].to_csv("hourly.csv", index=False)
    with pytest.raises(UserError, match=r"hourly\.csv has a row every 0 days 01:00:00; the run .* every 0 days 00:10:00"):
        predict.predict(Request("hourly.csv", output="x.csv"))
    Path("two").mkdir()
    for name in "ab":
        table.to_csv(f"two/{name}.csv", index=False)
    with pytest.raises(UserError, match="holds several places, a, b"):
        predict.predict(Request("two", output="x.csv"))
    with pytest.raises(UserError, match=r"a name that ends in \.csv"):
        predict.predict(Request("own.csv", output="x.png"))
    with pytest.raises(UserError, match="the folder nowhere does not exist"):
        predict.predict(Request("own.csv", output="nowhere/x.csv"))
    assert not Path("x.csv").exists()


def test_benchmark_preset_takes_the_rows_as_they_are():
    table = sample.make_station(days=30).dropna()
    table.to_csv("own.csv", index=False)
    series = data.load(replace(PRESETS["benchmark"], data="own.csv"))
    assert len(series.values) == len(table)
    assert len(series.columns) == len(table.columns) - 1
    assert series.values.min() == -9999.0


TWO_DEVICES = """
from test_weather_app import TINY, replace, run, sample
sample.make_station(days=16).to_csv("own.csv", index=False)
print(run(replace(TINY, window_stride=20), epochs=1, multi_gpu=True, precision="mixed_bfloat16"))
"""


@pytest.mark.slow
def test_one_flag_each_for_several_gpus_and_mixed_precision(on_two_devices):
    folder = on_two_devices(TWO_DEVICES)
    saved = keras.models.load_model(folder / "model.keras", compile=False)
    assert saved.get_layer("network").get_layer("recurrent_gru_1").compute_dtype == "bfloat16"
    assert (folder / "model.onnx").exists()
    assert pd.read_csv(folder / "history.csv")["gradient_norm"].gt(0).all()
    assert np.isfinite(runs.read_json(folder / "metrics.json")["test"]["network"]["mae"])


@pytest.mark.parametrize("number", [2, 3, 7])
def test_backtest_tests_on_disjoint_equal_stretches_of_time_in_all_places(number):
    """Two places, one of which begins a third later: parts are cut by time, not by a place's rows."""
    table = sample.make_station(days=9)[["time", "temperature (degC)"]]
    pd.concat([table.assign(city="A"), table[400:].assign(city="B")]).to_csv("own.csv", index=False)
    two_places = replace(TINY, station_column="city", limit=None, stride=1, history=3, horizon=2)
    times, tests = np.unique(data.load(two_places).times), []
    for fold in backtest.folds(len(times), two_places, number):
        series = data.load(fold)
        tests.append(np.unique(series.times[series.split == 2]))
        assert series.times[series.split == 0].max() < series.times[series.split == 1].min()
        assert series.times[series.split == 1].max() < tests[-1].min()
        for place in range(2):
            assert np.isin(tests[-1], series.times[(series.split == 2) & (series.place == place)]).all()
    assert {len(test) for test in tests} == {len(times) // (2 * number)}
    np.testing.assert_array_equal(np.concatenate(tests), times[-sum(map(len, tests)) :])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--folds", "0"], "--folds is 1 or more; got 0"),
        (["--data", "own.csv", "--resume"], "--resume cannot go on with them"),
        (["--data", "two", "--no-clean", "--preset", "smoke"], "Leave --no-clean out"),
    ],
)
def test_a_backtest_that_can_not_be_made_is_explained(args, message):
    table = sample.make_station(days=60)[["time", "pressure (hPa)"]].dropna()
    table.to_csv("own.csv", index=False)
    Path("two").mkdir()
    for name in "ab":
        table.to_csv(f"two/{name}.csv", index=False)
    with pytest.raises(UserError, match=message):
        commands.backtest(args)
    assert not Path("runs").exists()


@pytest.mark.slow
def test_backtest_trains_again_on_growing_histories():
    sample.make_station(days=30).to_csv("own.csv", index=False)
    tiny = replace(TINY, limit=None, training=replace(TINY.training, epochs=1))
    folder = backtest.backtest(tiny, data.load(tiny), 2)
    finished = runs.finished("weather")
    assert [runs.read_json(run / "config.json")["limit"] for run in finished] == [3_240, 4_320]
    table = pd.read_csv(folder / "backtest.csv", index_col="run")
    assert set(table) == {"network", *BASELINES, "coverage"}
    scores = [runs.read_json(run / "metrics.json")["test"]["network"]["mae_target"] for run in finished]
    np.testing.assert_allclose(table["network"], [*scores, np.mean(scores), np.std(scores, ddof=1)], rtol=1e-6)
