"""Units that follow a feature: the correlation against NumPy's, a planted one found, what is drawn, and the apps' features."""

import keras
import numpy as np
import pandas as pd
import pytest

from apps.sentiment import watch as sentiment
from apps.speech import watch as speech
from apps.textgen import watch as textgen
from apps.weather import watch as weather
from apps.weather.config import Config
from apps.weather.data import load
from shared import states, units
from shared.plots import plt

ROWS, STEPS, UNITS = 8, 20, 5


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_correlation_is_numpys_over_the_steps_that_are_there():
    layer, feature = noise(ROWS, STEPS, UNITS), noise(ROWS, STEPS, seed=1)
    layer[..., 2] += 2 * feature
    layer[..., 4] = 1.0
    layer[:3, 12:] = np.nan  # the mask
    feature[:, 0] = np.nan  # not known
    there = ~np.isnan(layer[..., 0]) & ~np.isnan(feature)
    expected = [np.corrcoef(layer[there][:, unit], feature[there])[0, 1] for unit in range(4)]
    found = units.correlations(layer, feature)
    np.testing.assert_allclose(found[:4], expected, atol=1e-12)
    assert np.isnan(found[4])  # it does not move
    assert np.isnan(units.correlations(layer, np.full_like(feature, np.nan))).all()


def test_a_planted_unit_is_found():
    """The third unit of a SimpleRNN copies the second input, turned round; the others add up everything."""
    inputs = keras.Input((STEPS, 3))
    model = keras.Model(inputs, keras.layers.SimpleRNN(UNITS, name="layer")(inputs))
    kernel, recurrent, bias = [noise(*weight.shape, seed=2) for weight in model.get_weights()]
    kernel[:, 2], recurrent[:, 2], bias[2] = [0, -0.3, 0], 0, 0
    model.set_weights([kernel, recurrent, bias])
    x = noise(ROWS, STEPS, 3).astype("float32")
    hidden = {name: one.hidden for name, one in states.Probe(model)(x).items()}
    [found] = units.find_units(hidden, {"second input": x[..., 1]})
    assert (found.feature, found.layer, found.unit) == ("second input", "layer", 2)
    assert found.correlation < -0.98
    assert found.correlation == pytest.approx(np.corrcoef(np.tanh(-0.3 * x[:4, :, 1]).ravel(), x[:4, :, 1].ravel())[0, 1])


def test_units_and_features_are_chosen_by_the_rows_that_the_correlation_is_not_of(monkeypatch):
    monkeypatch.setattr(units, "LEAST", 0.0)
    layers, features = {"a": noise(ROWS, STEPS, UNITS), "b": noise(ROWS, STEPS, UNITS, seed=1)}, {}
    for number in range(6):
        features[str(number)] = noise(ROWS, STEPS, seed=10 + number)
    layers["a"][4:, :, 1] += 3 * features["0"][4:]  # of the second half alone
    layers["b"][:, :, 3] += features["5"]
    features |= {"constant": np.ones((ROWS, STEPS)), "not known": np.full((ROWS, STEPS), np.nan)}
    found = units.find_units(layers, features)
    assert len(found) == 5
    assert [(one.feature, one.layer, one.unit) for one in found[:2]] == [("0", "a", 1), ("5", "b", 3)]
    assert found[0].strength > 0.9
    assert abs(found[0].correlation) < 0.3
    assert found[1].correlation == pytest.approx(units.correlations(layers["b"][:4], features["5"][:4])[3])
    monkeypatch.setattr(units, "LEAST", 0.5)
    assert [one.feature for one in units.find_units(layers, features)] == ["5"]
    assert units.find_units({"a": layers["a"][:1]}, {"0": features["0"][:1]}) == []  # nothing to choose by


def test_cells_have_the_steps_labels_and_values_that_are_there(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(units, "save_figure", lambda figure, *_: figures.append(figure))
    layer, wanted = noise(ROWS, STEPS, UNITS), {"a": noise(ROWS, STEPS, seed=1), "b": noise(ROWS, STEPS, seed=2)}
    layer[..., 1] += 5 * wanted["a"]
    layer[..., 4] -= 3 * wanted["b"]
    layer[0, [2, *range(11, STEPS)]] = np.nan
    there = [0, 1, *range(3, 11)]
    labels = [str(number) for number in range(STEPS)]
    units.draw_units(tmp_path / "units.png", {"layer": layer}, wanted, labels, "title")
    [figure] = figures
    panels = [axes for axes in figure.axes if axes.images]
    for axes, unit in zip(panels, [1, 4], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), [layer[0, there, unit]])
    lines = [axes.get_lines()[0].get_ydata() for axes in figure.axes if axes.get_lines()]
    np.testing.assert_array_equal(lines, [wanted["a"][0, there], wanted["b"][0, there]])
    ticks = panels[-1].get_xticklabels()
    assert [(tick.get_position()[0], tick.get_text()) for tick in ticks] == [(n, labels[step]) for n, step in enumerate(there)]
    plt.close(figure)


def test_no_picture_where_no_feature_is_known(tmp_path):
    units.draw_units(tmp_path / "units.png", {"a": noise(ROWS, STEPS, UNITS)}, {}, [*"ab"], "title")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("characters since the start of the line", [None, None, 0, 0, 1, 2, 3, 0, 1]),
        ("characters since the start of the word", [None, 0, 0, 0, 1, 0, 1, 0, 1]),
        ("a capital letter", [1, 0, 0, 0, 1, 0, 0, 0, 0]),
        ("first line of a paragraph", [None, None, 0, 1, 1, 1, 1, 0, 0]),
        ("inside quotation marks or brackets", [None, None, 0, 0, 0, 1, 1, 0, 0]),
    ],
)
def test_features_of_a_text(name, expected):
    found = textgen.features(["A.\n\nB(c\nd"])
    np.testing.assert_array_equal(found[name], [np.array(expected, float)])


@pytest.mark.parametrize(("line", "expected"), [('"a', 1), ('"a" b', 0), ("«a» (b", 1), ("[a] {b}", 0), ("“a”)", 0)])
def test_quotation_marks_and_brackets(line, expected):
    assert textgen.is_enclosed("(\n" + line) == expected


def test_features_of_reviews():
    words = ["", "[UNK]", "good", "isn't", "not", "bad"]
    ids = np.array([[4, 2, 1, 5, 3, 2], [2, 5, 0, 0, 0, 0]])
    found = sentiment.features(ids, words, np.array([0, 0, 2.0, -0.5, -1, -3]))
    nan = np.nan
    expected = {
        "words so far": [[1, 2, 3, 4, 5, 6], [1, 2, nan, nan, nan, nan]],
        "a negation among the last 3 words": [[1, 1, 1, 0, 1, 1], [0, 0, nan, nan, nan, nan]],
        "polarity of the word": [[-1, 2, 0, -3, -0.5, 2], [2, -3, nan, nan, nan, nan]],
        "polarity of the words so far": [[-1, 1, 1, -2, -2.5, -0.5], [2, -1, nan, nan, nan, nan]],
        "polarity of the words to come": [[-0.5, 0.5, -1.5, -1.5, 1.5, 2], [-1, -3, nan, nan, nan, nan]],
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)


def test_features_of_a_clip():
    """Five steps of three bands: silence, a hiss, a vowel, a pause within the word's 20 dB, silence."""
    mel = np.array([[[-80, -80, -80], [-60, -40, -20], [0, -30, -60], [-50, -45, -40], [-80, -80, -80]]], float)
    found = speech.features(mel, step=0.5)
    np.testing.assert_allclose(found["seconds"], [[0, 0.5, 1, 1.5, 2]])
    np.testing.assert_allclose(found["loudness, dB"], [[-80, -40, -30, -45, -80]])
    np.testing.assert_allclose(found["hiss: highest third of the bands above the lowest, dB"], [[0, 40, -60, 10, 0]])
    np.testing.assert_allclose(found["seconds since the word's start"], [[0, 0.5, 1, 1.5, 2]])
    np.testing.assert_allclose(found["seconds since the word's end"], [[0, 0, 0, 0, 0.5]])


def test_features_of_windows(tmp_path):
    times = pd.date_range("2024-03-01", periods=400, freq="h")
    table = pd.DataFrame({"time": times, "temperature": noise(400).cumsum(), "pressure (hPa)": 1_000 + noise(400, seed=1)})
    table.to_csv(tmp_path / "station.csv", index=False)
    series = load(Config(data=str(tmp_path / "station.csv"), history=6, horizon=2))
    rows = np.array([[20, 21, 22, 23, 24, 25], [30, 31, 32, 33, 34, 35]])
    found = weather.features(series, rows)
    temperature, pressure = (table[name].to_numpy()[rows] for name in ("temperature", "pressure (hPa)"))
    np.testing.assert_array_equal(found["steps so far"], [[1, 2, 3, 4, 5, 6]] * 2)
    np.testing.assert_allclose(found["nearness to noon (cosine)"], -np.cos(np.pi * (rows % 24) / 12), atol=1e-12)
    np.testing.assert_allclose(found["temperature, above its last value"], temperature - temperature[:, 5:])
    for name, values in {"temperature": temperature, "pressure (hPa)": pressure}.items():
        changes = found[f"change of {name} in 3 steps"]
        assert np.isnan(changes[:, :3]).all()
        np.testing.assert_allclose(changes[:, 3:], values[:, 3:] - values[:, :3])
