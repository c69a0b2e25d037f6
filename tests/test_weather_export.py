"""What leaves the training machine: the ONNX file, the SavedModel, forecasts without TensorFlow."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import pandas as pd
import pytest
import tensorflow as tf

from apps.weather import __main__ as commands
from apps.weather import config, data, predict, sample, segments
from apps.weather.config import DEFAULT
from apps.weather.export import for_litert, write
from apps.weather.model import build_model, build_servable
from shared import export, onnx_export, runs
from shared.cli import UserError
from shared.inference import ONNX, OnnxModel
from shared.litert_export import LiteRtModel, write_litert
from shared.training import Training

REPOSITORY = Path(__file__).parent.parent
TARGET = "temperature (degC)"
TINY = replace(
    DEFAULT,
    preset="smoke",
    data="own.csv",
    limit=1_500,
    stride=6,
    history=12,
    horizon=6,
    recurrent=replace(DEFAULT.recurrent, units=8),
    training=Training(epochs=1, batch_size=64),
)
MEAN, DEVIATION = np.array([45_000_000.0, 0.0, 3.0]), np.array([30.0, 0.7, 2.0])  # a counter, a clock, and a temperature


@pytest.fixture
def segments_of_3(monkeypatch):
    """SegRNN's segments are short enough for a tiny window."""
    monkeypatch.setattr(config, "SEGMENT", 3)
    monkeypatch.setattr(segments, "SEGMENT", 3)


def servable_of(config, mean=MEAN):
    """A servable with random weights, which forecasts the temperature and the counter."""
    rng, forecast = np.random.default_rng(0), [2, 0]
    network = build_model(config, 3, forecast, clock=[1])
    for weight in network.weights:
        if weight.dtype == "float32":
            weight.assign(weight + 0.2 * rng.normal(size=weight.shape))
    servable = build_servable(config, network, mean, DEVIATION, forecast, target=0)
    calibration = servable.get_layer("calibration")
    calibration.set_weights([rng.uniform(-0.3, 1, size=weight.shape) for weight in calibration.weights])
    return servable


def histories(count, mean=MEAN):
    return np.random.default_rng(1).normal(size=(count, TINY.history, 3)) * DEVIATION + mean


@pytest.mark.usefixtures("segments_of_3")
@pytest.mark.parametrize(
    ("head", "cell", "num_layers", "interval", "lower_bound"),
    [
        ("autoregressive", "rnn", 1, 0.8, 1.0),
        ("autoregressive", "gru", 2, None, None),
        ("autoregressive", "lstm", 2, 0.8, None),
        ("segments", "rnn", 1, None, None),
        ("segments", "gru", 1, 0.8, 1.0),
        ("segments", "lstm", 1, 0.8, None),
    ],
)
def test_onnx_answers_as_keras(head, cell, num_layers, interval, lower_bound, tmp_path):
    recurrent = replace(TINY.recurrent, cell=cell, num_layers=num_layers, residual=num_layers > 1)
    tiny = replace(TINY, head=head, interval=interval, lower_bound=lower_bound, recurrent=recurrent)
    servable = servable_of(tiny)
    write(tiny, servable, tmp_path)
    answer = OnnxModel(tmp_path / ONNX)
    assert (list(answer.inputs), answer.outputs) == (["history"], ["quantiles"])
    expected = np.asarray(servable(histories(5)))
    found = answer(history=histories(5))["quantiles"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)  # of 45,000,000, too
    np.testing.assert_allclose(answer(history=histories(5)[3:4])["quantiles"], expected[3:4], rtol=0, atol=1e-4)
    assert found[:, :, 0].min() >= (-np.inf if lower_bound is None else lower_bound)
    nodes = [node.op_type for node in onnx.load(tmp_path / ONNX).graph.node]
    assert nodes.count(cell.upper()) == (num_layers if head == "autoregressive" else 2)
    assert nodes.count("Loop") == (head == "autoregressive")  # the decoder alone, which reads its own forecasts


@pytest.mark.slow  # a conversion starts a process that imports TensorFlow
@pytest.mark.usefixtures("segments_of_3")
@pytest.mark.parametrize(
    ("head", "cell", "num_layers", "interval", "lower_bound"),
    [
        ("autoregressive", "rnn", 1, None, None),
        ("autoregressive", "gru", 2, 0.8, 1.0),
        ("autoregressive", "lstm", 1, 0.8, None),
        ("segments", "gru", 1, 0.8, 1.0),
    ],
)
def test_litert_answers_as_keras_with_operations_of_its_own(head, cell, num_layers, interval, lower_bound, tmp_path):
    recurrent = replace(TINY.recurrent, cell=cell, num_layers=num_layers)
    tiny = replace(TINY, head=head, interval=interval, lower_bound=lower_bound, recurrent=recurrent)
    mean = np.array([45.0, 0.0, 3.0])  # in 32 bits, 45,000,000 has no decimals
    servable, some = servable_of(tiny, mean), histories(5, mean)
    litert = for_litert(tiny, servable, forecast=[2, 0], target=0)
    assert litert.shapes == {"history": (1, TINY.history, 3)}
    write_litert(litert.model, tmp_path / "model.tflite", litert.shapes)
    loaded = LiteRtModel(tmp_path / "model.tflite")  # of operations of TensorFlow, it would allocate none
    np.testing.assert_allclose(litert.ask(loaded)([*some]), np.asarray(servable(some)), rtol=0, atol=1e-3)
    [(name, about)] = loaded.interpreter.get_signature_runner().get_input_details().items()
    assert (name, about["dtype"], about["shape"].tolist()) == ("history", np.float32, [1, TINY.history, 3])


def test_a_network_of_mixed_precision_is_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    servable = servable_of(TINY)
    decoder = servable.get_layer("network").get_layer("decoder")
    assert {part.compute_dtype for part in (decoder.cell, decoder.cell.cell, decoder.cell.head)} == {"bfloat16"}
    exported = onnx_export.in_float32(servable)
    write(TINY, exported, tmp_path)
    found = OnnxModel(tmp_path / ONNX)(history=histories(5))["quantiles"]
    np.testing.assert_allclose(found, np.asarray(exported(histories(5))), rtol=0, atol=1e-4)
    np.testing.assert_allclose((found - np.asarray(servable(histories(5)))) / DEVIATION[[2, 0]][:, None], 0, atol=0.1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on the generated station, and its data as new.csv."""
    from apps.weather.train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("exported"))
        sample.make_station(days=20).to_csv("own.csv", index=False)
        pd.read_csv("own.csv").iloc[:1_800].to_csv("new.csv", index=False)
        return train(TINY, data.load(TINY)).absolute()


@pytest.fixture
def beside_the_run(run, monkeypatch):
    monkeypatch.chdir(run.parent.parent.parent)
    return run


def test_the_predictor_answers_as_the_keras_model(beside_the_run):
    table = pd.read_csv("new.csv")
    series = data.load(replace(TINY, data="new.csv", limit=None))
    saved = keras.models.load_model(beside_the_run / "model.keras", compile=False)
    expected = saved.predict_on_batch(series.values[None, -67::6])[0, :, 0]
    predictor = predict.Predictor(beside_the_run)
    [answer] = predictor(["new.csv"])
    assert (answer["target"], answer["origin"]) == (TARGET, pd.Timestamp(table["time"].iloc[-1]).isoformat())
    ahead = pd.to_datetime(answer["times"]) - pd.Timestamp(answer["origin"])
    assert ahead.tolist() == [pd.Timedelta(hours=hour) for hour in range(1, 7)]
    assert list(answer["forecast"]) == [TARGET]
    assert list(answer["forecast"][TARGET]) == ["10%", "50%", "90%"]
    np.testing.assert_allclose(np.transpose([*answer["forecast"][TARGET].values()]), expected, atol=1e-5)
    assert json.loads(json.dumps(answer)) == answer
    assert pickle.loads(pickle.dumps(predictor))(["new.csv"]) == [answer]


def test_a_file_and_a_table_are_answered_alike(beside_the_run):
    table = pd.read_csv("new.csv")
    table.to_parquet("new.parquet")
    with_times = table.assign(time=pd.to_datetime(table["time"]))
    forms = [Path("new.csv"), "new.parquet", table, with_times, with_times.set_index("time"), table.iloc[::-1]]
    predictor = predict.Predictor(beside_the_run)
    first, *others = predictor(forms)
    assert others == [first] * 5
    shorter, _ = predictor([table.iloc[:1_700], table])
    assert shorter["origin"] < first["origin"]
    with pytest.raises(UserError, match=r"the table lacks columns that the run was trained on: rain \(mm\)"):
        predictor([table.drop(columns="rain (mm)")])
    with pytest.raises(UserError, match="the table holds no rows"):
        predictor([table.iloc[:0]])


@pytest.mark.usefixtures("segments_of_3")
def test_every_column_is_answered_by_its_name(tmp_path):
    tiny = replace(TINY, head="segments", interval=None)
    servable = servable_of(tiny)
    write(tiny, servable, tmp_path)
    predictor = predict.Predictor(tmp_path)
    names = ["counter", "sine of day", "temperature"]
    predictor.metrics = {"target": "temperature", "columns": names, "forecast": ["temperature", "counter"]}
    predictor.config = tiny
    measured = pd.Series([1.0, 2.0], pd.to_datetime(["2024-02-28 22:00", "2024-02-28 23:00"]))
    pasts = [predict.Past(history, measured, 0, pd.Timedelta("1h")) for history in histories(2)]
    expected = np.asarray(servable(histories(2)))
    for answer, quantiles in zip(predictor.forecast(pasts), expected, strict=True):
        assert answer["times"][:2] == ["2024-02-29T00:00:00", "2024-02-29T01:00:00"]
        for place, name in enumerate(("temperature", "counter")):
            np.testing.assert_allclose(answer["forecast"][name]["50%"], quantiles[:, place, 0], rtol=0, atol=1e-4)


def test_the_command_imports_neither_tensorflow_nor_keras(run):
    code = (
        "import sys; from apps.weather import __main__ as commands;"
        "commands.predict(['--data', sys.argv[1], '--run', sys.argv[2], '--output', sys.argv[3]]);"
        "print(sorted({'tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib', 'requests'} & set(sys.modules)))"
    )
    new = run.parent.parent.parent / "new.csv"
    command = [sys.executable, "-c", code, str(new), str(run), str(Path.cwd() / "ahead.csv")]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1:] == ["[]"], answer.stderr
    assert len(pd.read_csv("ahead.csv")) == TINY.horizon


@pytest.mark.slow
def test_export_compares_every_format_and_shows_what_it_found(beside_the_run, capsys):
    (beside_the_run / ONNX).unlink()
    with pytest.raises(UserError, match=r"has no model\.onnx\. Write it: make weather-export ARGS='--run "):
        commands.predict(["--data", "new.csv", "--output", "ahead.csv"])
    commands.export([])
    printed = capsys.readouterr().out
    report = (beside_the_run / "export" / "report.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in report.splitlines() if "|" in line}
    assert rows["format"] == ["MB", "difference", "same answer", "mae", "ms per example"]
    series = data.load(TINY)
    origins = series.origins.validation
    measured = np.where(series.imputed, np.nan, series.values)[:, series.target]
    saved = keras.models.load_model(beside_the_run / "model.keras", compile=False)
    medians = saved.predict_on_batch(series.values[series.windows.history_rows(origins)])[:, :, 0, 1]
    assert len(origins) <= export.EXAMPLES
    error = np.nanmean(np.abs(medians - measured[series.windows.target_rows(origins)]))
    error /= data.statistics(series)[1][series.target]
    for name in ("Keras", "ONNX", "SavedModel", "LiteRT"):
        assert name in printed
        assert float(rows[name][1]) < 1e-4
        assert float(rows[name][2]) == 1
        assert float(rows[name][3]) == pytest.approx(error, abs=1e-4)
    assert float(rows["LiteRT, int8"][3]) == pytest.approx(error, abs=0.005)
    assert f"`history`, float64 (None, 12, {len(series.columns)})" in report
    signature = tf.saved_model.load(str(beside_the_run / "export" / "saved_model")).signatures["serving_default"]
    some = series.values[series.windows.history_rows(origins[:3])]
    [served] = signature(history=tf.constant(some)).values()
    np.testing.assert_allclose(served, predict.Predictor(beside_the_run).quantiles([*some]), atol=1e-5)
    assert runs.find("weather") == beside_the_run.relative_to(Path.cwd())


def test_forecasts_are_the_same_up_to_a_thousandth_of_the_deviation(beside_the_run):
    from apps.weather.export import exportable

    series = data.load(TINY)
    saved = keras.models.load_model(beside_the_run / "model.keras", compile=False)
    about, unit = exportable(TINY, saved, series), data.statistics(series)[1][series.target]
    one = about.ask_keras(about.examples[:2])
    assert about.same(one, one + 0.0009 * unit).tolist() == [True, True]
    assert about.same(one, one + np.array([0, 0.0011 * unit])[:, None, None, None]).tolist() == [True, False]


def test_a_run_that_is_not_there_cannot_be_exported():
    with pytest.raises(UserError, match=r"No finished run in runs/weather"):
        commands.export([])
