"""What `predict --explain` says, of networks with random weights: the parts, where they stand, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import ops

from apps.sentiment import explain as sentiment
from apps.sentiment import ngrams, text, words
from apps.sentiment import predict as sentiment_predict
from apps.sentiment.config import PRESETS as SENTIMENT
from apps.sentiment.config import Request as SentimentRequest
from apps.sentiment.model import build_model, build_servable
from apps.speech import explain as speech
from apps.speech import model as speech_model
from apps.speech import predict as speech_predict
from apps.speech.config import PRESETS as SPEECH
from apps.speech.config import Request as SpeechRequest
from apps.speech.data import Clips
from apps.textgen import explain as textgen
from apps.textgen import predict as textgen_predict
from apps.textgen.config import PRESETS as TEXTGEN
from apps.textgen.config import Request as TextgenRequest
from apps.textgen.model import build_generator, zero_states
from apps.weather import explain as weather
from apps.weather import predict as weather_predict
from apps.weather.cleaning import TIME_OF_DAY
from apps.weather.config import PRESETS as WEATHER
from apps.weather.model import build_model as build_weather
from apps.weather.model import build_servable as build_weather_servable
from shared import explaining
from shared.attribution import Attribution
from shared.cli import UserError
from shared.settings import TableRequest

DRAWN = True

TEXTS = ["not a good film", "a good film", "not a bad film", "a bad film, a bad plot"] * 2
REVIEW = "Not a good plot! A bad film, not a good film."


def with_larger_weights(model):
    """Random weights are near zero, and so would be what they add."""
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


def adds_up(parts, attribution):
    change = attribution.after - attribution.before
    return sum(parts) == pytest.approx(change, abs=0.01 * abs(change))


# sentiment


@pytest.fixture(scope="module")
def sentiment_explainer():
    """The recurrence reads 8 words of a text; the n-grams are those of TEXTS."""
    keras.utils.set_random_seed(0)
    config = replace(SENTIMENT["smoke"], sequence_length=8, recurrent=replace(SENTIMENT["smoke"].recurrent, units=4))
    lookup = text.learn_words(TEXTS, 50)
    ids = lookup(tf.constant(TEXTS)).numpy().astype("int32")
    bags, num_ids = ngrams.learn_ngrams([ids], lookup.vocabulary_size())
    rng = np.random.default_rng(0)
    embeddings, ratios = rng.normal(size=(lookup.vocabulary_size(), 3)), 9 * rng.normal(size=(num_ids, 2))
    network = build_model(config, 2, embeddings, ratios)
    servable = build_servable(text.build_vectorizer(lookup, bags, 8), network)
    keys = [np.array(bags.get_layer(f"ngrams_{order}").get_vocabulary()[2:]) for order in (2, 3)]
    return sentiment.Explainer(servable, words.Vocabulary(lookup.get_vocabulary(), keys, 8))


def test_the_words_of_a_text_add_up_to_what_it_changes(sentiment_explainer):
    found, attribution = sentiment_explainer(REVIEW, 1)
    assert [word for word, _ in found] == ["not", "a", "good", "plot", "!", "a", "bad", "film", "not", "a", "good", "film"]
    assert adds_up([part for _, part in found], attribution)
    assert attribution.before != pytest.approx(attribution.after, abs=0.01)


def test_what_an_ngram_adds_is_shared_by_its_places_and_their_words():
    levels = [np.array([2, 3, 2]), np.array([7, 0])]
    shared = sentiment.share_among_words(levels, bag=np.array([2, 3, 7]), parts=np.array([0.4, 0.1, 0.6]))
    np.testing.assert_allclose(shared, [0.4 / 2 + 0.6 / 2, 0.1 + 0.6 / 2, 0.4 / 2])


class Answers:
    """Stands for a Predictor of two classes."""

    def __init__(self, folder):
        self.folder, self.vocabulary = folder, None

    def __call__(self, texts):
        return [{"label": "pos", "probability": 0.75, "probabilities": {"neg": 0.25, "pos": 0.75}} for _ in texts]

    def probabilities(self, texts):
        return np.array([[0.25, 0.75]] * len(texts))


def test_sentiment_predict_prints_words_and_the_check(sentiment_explainer, monkeypatch, capsys):
    monkeypatch.setattr(sentiment_predict.inference, "find", lambda *_: None)
    monkeypatch.setattr(sentiment_predict, "Predictor", Answers)
    monkeypatch.setattr(sentiment, "load", lambda *_: sentiment_explainer)
    sentiment_predict.predict(SentimentRequest(("A bad film.",), explain=True))
    printed = capsys.readouterr()
    assert printed.out.startswith("pos 0.750  a bad film")
    assert " without words: '" in printed.out
    assert "left out: 'A' +0.000" in printed.out
    assert "some seconds" in printed.err


# textgen


@pytest.fixture(scope="module")
def textgen_explainer():
    keras.utils.set_random_seed(0)
    config = replace(TEXTGEN["smoke"], embedding_dim=4, recurrent=replace(TEXTGEN["smoke"].recurrent, units=6))
    return textgen.Explainer(config, with_larger_weights(build_generator(config, num_ids=6)))


def test_the_likeliest_characters_are_explained_by_those_before(textgen_explainer):
    ids = np.array([[2, 3, 4, 5, 2]], np.int32)
    found = textgen_explainer(ids, most=3)
    states = zero_states(textgen_explainer.config, 1)
    logits = textgen_explainer.generator({"ids": ops.array(ids), "states": states})["logits"]
    probabilities = np.asarray(ops.softmax(logits[0, -1]))
    assert [*found] == (2 + np.argsort(-probabilities[2:])[:3]).tolist()
    for number, attribution in found.items():
        assert attribution.after == pytest.approx(probabilities[number])
        assert attribution.parts["embedding"].shape == (5, 4)
        assert adds_up([attribution.parts["embedding"].sum()], attribution)


def test_of_a_long_prompt_the_end_is_explained_after_what_stands_before(textgen_explainer, monkeypatch):
    ids = np.array([[2, 3, 4, 5, 2]], np.int32)
    [whole] = textgen_explainer(ids, most=1).values()
    monkeypatch.setattr(textgen, "MAX_CHARACTERS", 3)
    [end] = textgen_explainer(ids, most=1).values()
    assert end.after == pytest.approx(whole.after)
    assert end.parts["embedding"].shape == (3, 4)


def test_textgen_predict_prints_the_prompt_for_each_character(textgen_explainer, monkeypatch, capsys):
    predictor = SimpleNamespace(folder=None, vocabulary=["\n", "a", "b", "c"], encode=lambda _: np.array([[3, 2, 4]], np.int32))
    monkeypatch.setattr(textgen_predict.inference, "find", lambda *_: None)
    monkeypatch.setattr(textgen_predict, "Predictor", lambda _: predictor)
    monkeypatch.setattr(textgen_predict.runs, "read_config", lambda *_: None)
    monkeypatch.setattr(textgen, "load", lambda *_: textgen_explainer)
    textgen_predict.predict(TextgenRequest("a\nb", explain=True))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith("  a↵b") for line in lines) == textgen.EXPLAINED
    assert "(1 from the end)" in "".join(lines)


# speech


@pytest.fixture(scope="module")
def speech_explainer():
    keras.utils.set_random_seed(0)
    config = replace(SPEECH["smoke"], filters=(4,), recurrent=replace(SPEECH["smoke"].recurrent, units=4))
    network = speech_model.build_model(config, 3, np.zeros(config.mels), np.full(config.mels, 100.0))
    return config, speech.Explainer(speech_model.build_servable(network))


def tone(config):
    """Silence, then a tone."""
    seconds = np.arange(config.samples) / config.sample_rate
    return (0.5 * np.sin(2 * np.pi * 440 * seconds) * (seconds > 0.5)).astype(np.float32)


def test_the_places_of_a_spectrogram_add_up_and_the_background_adds_nothing(speech_explainer):
    config, explainer = speech_explainer
    found = explainer(tone(config), 1)
    assert found.mel.shape == found.parts.shape == (101, config.mels)
    assert adds_up([found.parts.sum()], found.attribution)
    assert not found.parts[found.mel == found.mel.min(axis=0)].any()
    assert np.abs(found.parts[55:]).sum() > 10 * np.abs(found.parts[:45]).sum()


def test_speech_predict_draws_a_picture_that_was_not_there(speech_explainer, monkeypatch, capsys, tmp_path):
    config, explainer = speech_explainer
    monkeypatch.setattr(speech, "load", lambda _: explainer)
    (tmp_path / "explanation.png").write_text("the user's own")
    answer = {"label": "b", "probability": 0.5, "probabilities": {"a": 0.2, "b": 0.5, "c": 0.3}}
    predictor = SimpleNamespace(config=config, folder=None)
    speech_predict._explain({"clip.wav": tone(config)}, {"clip.wav": answer}, predictor)
    assert capsys.readouterr().out == "What in the sound made the answers: explanation_2.png\n"
    assert matplotlib.image.imread("explanation_2.png").ndim == 3
    assert (tmp_path / "explanation.png").read_text() == "the user's own"


def test_mistakes_are_drawn_if_there_are_any(speech_explainer, monkeypatch, tmp_path):
    config, explainer = speech_explainer
    monkeypatch.setattr(speech, "Explainer", lambda _: explainer)
    clips = Clips((tone(config)[None] * 32767).astype(np.int16), np.array([0]), ("a", "b", "c"), ["1.wav"], ())
    mistakes = pd.DataFrame({"label": ["a"], "predicted": ["b"], "probability": [0.9], "row": [0]})
    speech.draw_mistakes(tmp_path / "none.png", None, config, clips, mistakes[:0])
    speech.draw_mistakes(tmp_path / "mistakes.png", None, config, clips, mistakes)
    assert [file.name for file in tmp_path.glob("*.png")] == ["mistakes.png"]


# weather

COLUMNS = ["temperature (degC)", "wind", TIME_OF_DAY[0]]
MEAN, DEVIATION = np.array([10.0, 3.0, 0.0]), np.array([5.0, 2.0, 0.7])


@pytest.fixture(scope="module")
def weather_explainer():
    keras.utils.set_random_seed(0)
    config = replace(WEATHER["smoke"], history=6, horizon=4, recurrent=replace(WEATHER["smoke"].recurrent, units=8))
    network = with_larger_weights(build_weather(config, 3, forecast=[0], clock=[2]))
    servable = build_weather_servable(config, network, MEAN, DEVIATION, forecast=[0], target=0)
    return servable, weather.Explainer(servable, COLUMNS, target=0)


def make_past():
    history = MEAN + DEVIATION * np.random.default_rng(0).normal(size=(6, 3))
    times = pd.date_range("2020-05-01", periods=6, freq="h")
    return weather_predict.Past(history, pd.Series(history[:, 0], times), 0, pd.Timedelta(hours=1))


def test_columns_and_times_add_up_to_what_the_past_changes(weather_explainer):
    servable, explainer = weather_explainer
    past = make_past()
    table, attribution = explainer(past.history, past.times)
    assert [*table.columns] == COLUMNS[:2]
    assert [*table.index] == [*past.measured.index]
    assert adds_up([table.to_numpy().sum()], attribution)
    assert not table.iloc[-1].any()  # the last values are those of the baseline
    stood_still = np.where([False, False, True], past.history, past.history[-1])
    for history, forecast in ((past.history, attribution.after), (stood_still, attribution.before)):
        assert forecast == pytest.approx(np.asarray(servable(history[None]))[0, :, 0, 1].mean(), abs=1e-5)


def test_weather_predict_prints_columns_and_draws(weather_explainer, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(weather, "load", lambda *_: weather_explainer[1])
    predictor = SimpleNamespace(folder=None, metrics={"target": COLUMNS[0]})
    weather_predict._explain(tmp_path / "forecast_explained.png", make_past(), predictor)
    printed = capsys.readouterr().out
    assert "had all stood still" in " ".join(printed.split())
    assert "wind" in printed
    assert (tmp_path / "forecast_explained.png").exists()


# all


@pytest.mark.parametrize(
    ("request_of", "options"),
    [
        (SentimentRequest, {"table": TableRequest("a.csv")}),
        (TextgenRequest, {"table": TableRequest("a.csv")}),
        (TextgenRequest, {}),
        (TextgenRequest, {"prompt": "a", "samples": 2}),
        (SpeechRequest, {"table": TableRequest("a.csv")}),
        (SpeechRequest, {"stream": "long.wav"}),
        (SpeechRequest, {"clips": ("a.wav",) * 9}),
    ],
)
def test_what_cannot_be_explained_is_refused(request_of, options):
    with pytest.raises(UserError, match=r"^--explain"):
        request_of(**options, explain=True)


def test_without_tensorflow_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(explaining.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="needs TensorFlow"):
        explaining.check_keras()


def test_what_does_not_add_up_is_said(capsys):
    explaining.warn_if_incomplete(Attribution({"x": np.array([0.25])}, before=0.0, after=1.0, points=512))
    assert "0.75 is missing" in capsys.readouterr().err
    explaining.warn_if_incomplete(Attribution({"x": np.array([0.999])}, before=0.0, after=1.0, points=16))
    assert capsys.readouterr().err == ""


def test_the_strongest_pieces_come_first_with_their_places():
    pieces = [("a", 0.1), ("b", -0.3), ("a", 0.2), *[("c", 0.0)] * 9]
    assert explaining.strongest(pieces).startswith("'b' -0.300, 'a' +0.200, 'a' +0.100, 'c' +0.000")
    assert explaining.strongest(pieces, places=True).startswith("'b' (11 from the end) -0.300, 'a' (10 from the end) +0.200")


def test_colours_show_direction_and_strength():
    spans = explaining.coloured([("a", 1.0), ("b", -0.4), ("c", 0.1)], between=" ").spans
    assert [str(span.style) for span in spans] == ["bold green", "red", "not bold"]
