"""The page of a speech run in a real browser."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from apps.speech import audio
from apps.speech.config import PRESETS
from apps.speech.export import write
from apps.speech.model import build_model, build_servable
from apps.speech.predict import Predictor
from apps.speech.stream import Detector
from shared import runs

pytestmark = pytest.mark.slow  # starts a server and a browser

SMOKE = PRESETS["smoke"]
TINY = replace(SMOKE, dataset="sample", filters=(4,), recurrent=replace(SMOKE.recurrent, units=4))
NAMES = ["go", "left", "stop", "_unknown_"]
RATE = TINY.sample_rate
THRESHOLD = 0.3

LABELLED = """expected => {
    const shown = document.querySelector("#label").innerText.split(/\\s+/).join(" ");
    return expected.every(one => shown.includes(one));
}"""
SHOWN = "rows => document.querySelector('#table').innerText.split(/\\s+/).join(' ').endsWith('probability ' + rows)"


@pytest.fixture
def sound():
    """Ten seconds of hisses and tones, each its own, with silence between them."""
    rng, times = np.random.default_rng(0), np.arange(RATE // 2) / RATE
    hisses = [0.1 * rng.normal(size=len(times)) for _ in range(5)]
    tones = [0.3 * np.sin(2 * np.pi * hertz * times) for hertz in (200, 700, 1_500, 3_000, 5_000)]
    pieces = [piece for pair in zip(hisses, tones, strict=True) for piece in pair]
    return np.float32(np.concatenate([np.append(piece, np.zeros(RATE // 2)) for piece in pieces]))


@pytest.fixture
def predictor(sound):
    """Of a finished run of a network that was never trained."""
    rng = np.random.default_rng(0)
    network = build_model(TINY, len(NAMES), rng.normal(size=TINY.mels), rng.uniform(50, 100, TINY.mels))
    logits, last = network.predict_on_batch(sound.reshape(-1, RATE)), network.layers[-1]
    last.set_weights([3 * last.kernel / logits.std(axis=0), -3 * logits.mean(axis=0) / logits.std(axis=0)])  # no word prevails
    metrics = {"app": "speech", "dataset": "sample", "preset": "smoke", "class_names": NAMES, "metric": "accuracy"}
    with runs.open_run("speech", TINY, {"data": "sample", "data_fingerprint": "0"}) as opened:
        servable = build_servable(network)
        servable.save(opened.path / "model.keras")
        write(TINY, servable, opened.path)
        (opened.path / "report.md").write_text("# Never trained")
        (opened.path / "plots").mkdir(exist_ok=True)
        folder = opened.finish(
            metrics | {"stream": {"window": {"threshold": THRESHOLD}}, "test": {"network": {"accuracy": 0.25}}}
        )
    return Predictor(folder.absolute())


def detected(predictor, file, threshold):
    """What the page's table has to show: what the detector finds in the whole file at once."""
    source = predictor.source()
    detector = Detector(NAMES, source.seconds_per_posterior, threshold)
    samples = np.append(audio.read(file, RATE), np.zeros(RATE // 2, np.float32))
    events = [*detector.push(*source.push(samples))]
    assert len(events) > 2
    return " ".join(f"{round(event.seconds, 2):g} {event.word} {round(event.probability, 2):g}" for event in events)


def percent(answer):
    """What the page shows of the answer's probabilities, the highest first."""
    return [f"{name} {100 * value:.0f}%" for name, value in sorted(answer["probabilities"].items(), key=lambda one: -one[1])]


def press(page, name):
    page.get_by_role("button", name=name).click()


def test_a_word_is_named_and_the_commands_of_a_recording_are_detected(open_page, predictor, sound, tmp_path):
    clip, long = tmp_path / "clip.wav", tmp_path / "long.flac"
    soundfile.write(clip, np.stack([sound[:44_100], np.zeros(44_100)], axis=1), 44_100)
    soundfile.write(long, sound, RATE)
    page = open_page("speech", predictor.folder)
    from apps.speech.demo import make_examples  # gradio is installed where a page is open

    page.wait_for_selector("text=accuracy network 0.25")
    press(page, "Name the word")
    page.wait_for_selector("text=There is no recording yet")
    page.get_by_text("stop", exact=True).first.click()
    page.wait_for_selector("#clip [aria-label=Clear]")  # it is there
    press(page, "Name the word")
    [expected] = predictor([audio.to_float(make_examples(predictor)["stop"])])
    page.wait_for_function(LABELLED, arg=percent(expected))
    page.click("#clip [aria-label=Clear]")
    page.set_input_files("#clip input[type=file]", clip)
    page.wait_for_selector("#clip [aria-label=Clear]")
    press(page, "Name the word")
    [expected] = predictor([clip])
    page.wait_for_function(LABELLED, arg=percent(expected))
    assert page.inner_text("#label h2") == expected["label"]
    assert page.is_visible("#plot img")
    page.screenshot(path=tmp_path / "word.png", full_page=True)

    page.get_by_role("tab", name="Stream").click()
    page.set_input_files("#recording input[type=file]", long)
    page.wait_for_selector("#recording [aria-label=Clear]")
    assert detected(predictor, long, 0.4) != detected(predictor, long, THRESHOLD)
    press(page, "Detect commands")  # the threshold is the run's own
    page.wait_for_function(SHOWN, arg=detected(predictor, long, THRESHOLD))
    page.fill("#threshold input[type=number]", "0.4")
    press(page, "Detect commands")
    page.wait_for_function(SHOWN, arg=detected(predictor, long, 0.4))
    page.screenshot(path=tmp_path / "stream.png", full_page=True)
