"""What the pictures of answers show, against each answer computed by itself."""

import itertools
from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from apps.sentiment import answers as by_word
from apps.sentiment import data as reviews
from apps.sentiment import train as sentiment_train
from apps.sentiment.config import PRESETS as SENTIMENT
from apps.speech import answers as over_time
from apps.speech.config import PRESETS as SPEECH
from apps.speech.model import build_model as build_speech
from apps.textgen import answers as by_character
from apps.textgen.config import PRESETS as TEXTGEN
from apps.textgen.model import build_generator, zero_states
from apps.weather import answers as forecasts
from apps.weather import data as series
from apps.weather import sample as station
from apps.weather import train as weather_train
from apps.weather.config import PRESETS as WEATHER
from apps.weather.model import unforced
from shared import plots

WATCHED = True


def with_units(config, units=4, **settings):
    return replace(config, recurrent=replace(config.recurrent, units=units), **settings)


def test_each_prefix_gets_the_probabilities_that_it_has_alone(tmp_path):
    config = with_units(SENTIMENT["smoke"], dataset="sample", limit=60, embedding_dim=4, sequence_length=8)
    experiment = sentiment_train.prepare(config, reviews.load(config))
    pictures = by_word.AnswerByWord(experiment.vectorizer, experiment.data.validation, tmp_path)
    found = np.asarray(experiment.network(pictures.ids, training=False))
    assert len(found) == len(pictures.words) > config.sequence_length  # the recurrence leaves words out of the longer ones
    for number in (0, 1, config.sequence_length + 1, len(found) - 1):
        [alone] = sentiment_train.predict(experiment, [" ".join(pictures.words[: number + 1])])
        np.testing.assert_allclose(found[number], alone, atol=1e-5)


def test_the_surprise_is_minus_the_logarithm_of_the_probability():
    """With the state carried by hand, a character at a time."""
    config = with_units(TEXTGEN["smoke"])
    generator, ids = build_generator(config, 7), np.array([2, 5, 3, 6, 2, 2])
    states, expected = zero_states(config, 1), []
    for now, after in itertools.pairwise(ids):
        answer = generator({"ids": keras.ops.convert_to_tensor([[now]]), "states": states})
        expected.append(-np.log(softmax(np.asarray(answer["logits"])[0, 0])[after]))
        states = answer["states"]
    np.testing.assert_allclose(by_character.surprise(config, generator, ids), expected, rtol=1e-5)


def test_the_network_pools_with_the_weights_that_are_drawn():
    config = with_units(SPEECH["smoke"], filters=(), mels=8, clip_seconds=0.2)
    network = build_speech(config, 3, np.zeros(8), np.ones(8))
    waveforms = np.random.default_rng(0).normal(size=(1, config.samples)).astype("float32")
    weights = over_time.attention_weights(network, waveforms)
    scores = network.get_layer(over_time.SCORES)
    [steps] = np.asarray(keras.Model(network.input, scores.input)(waveforms))
    kernel, bias = (np.asarray(weight) for weight in network.get_layer("logits").weights)
    np.testing.assert_allclose(weights @ steps @ kernel + bias, np.asarray(network(waveforms))[0], atol=1e-5)
    assert over_time.attention_weights(keras.Sequential([keras.layers.Identity()]), waveforms) is None


def test_prefixes_of_a_clip_end_in_silence():
    np.testing.assert_array_equal(
        over_time.prefixes(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), hop=2), [[1, 2, 0, 0, 0], [1, 2, 3, 4, 0], [1, 2, 3, 4, 5]]
    )


class Kept(keras.callbacks.Callback):
    """What a callback finds in the counts after each epoch."""

    def __init__(self, confusion):
        super().__init__()
        self.confusion, self.counts = confusion, []

    def on_epoch_end(self, epoch, logs=None):
        self.counts.append(np.asarray(self.confusion.counts))


def test_the_counts_after_an_epoch_are_those_of_validation():
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(30, 3)).astype("float32"), rng.integers(0, 4, 30)
    confusion = over_time.ConfusionMatrix(4)
    kept, model = Kept(confusion), keras.Sequential([keras.layers.Dense(4)])
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=[confusion])
    rows, validation = (inputs[:17], np.eye(4)[labels[:17]]), (inputs[17:], np.eye(4)[labels[17:]])
    history = model.fit(*rows, validation_data=validation, batch_size=5, epochs=2, verbose=0, callbacks=[kept]).history
    predicted = model.predict(inputs[17:], verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(kept.counts[-1], confusion_matrix(labels[17:], predicted, labels=range(4)))
    expected = balanced_accuracy_score(labels[17:], predicted)
    assert history["val_balanced_accuracy"][-1] == pytest.approx(expected)


def test_the_same_forecasts_are_drawn_in_the_data_s_units_on_axes_that_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    station.make_station(days=30).to_csv("own.csv", index=False)
    config = with_units(WEATHER["smoke"], data="own.csv", limit=2_500, stride=6, history=12, horizon=6)
    experiment = weather_train.prepare(config, series.load(config))
    pictures, drawn = forecasts.Forecasts(config, experiment, tmp_path), []
    monkeypatch.setattr(forecasts, "save_figure", lambda figure, *_: drawn.append(figure))
    pictures.look(tmp_path, "before")
    weights = experiment.network.get_weights()
    experiment.network.set_weights([weight + 0.1 for weight in weights])
    pictures.look(tmp_path, "after")
    before, after = ([axis.get_lines() for axis in figure.axes] for figure in drawn)
    assert [axis.get_ylim() for axis in drawn[0].axes] == [axis.get_ylim() for axis in drawn[1].axes]
    windows, target = experiment.data.windows, experiment.data.target
    histories = keras.ops.convert_to_tensor(experiment.values[windows.history_rows(pictures.origins)])
    inputs = unforced(config, histories, len(experiment.forecast))
    median = np.asarray(experiment.network(inputs, training=False))[:, :, pictures.target, 1]
    expected = median * experiment.deviation[target] + experiment.mean[target]
    for row, (past, observed, forecast) in enumerate(after):
        np.testing.assert_allclose(forecast.get_ydata(), expected[row], rtol=1e-4)
        assert abs(forecast.get_ydata() - before[row][2].get_ydata()).max() > 0
        low, high = drawn[1].axes[row].get_ylim()
        shown = np.concatenate([past.get_ydata(), observed.get_ydata()])
        assert low < shown.min() <= shown.max() < high
    plots.plt.close("all")
