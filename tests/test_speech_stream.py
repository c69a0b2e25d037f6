"""Streams against the Keras network, posteriors in closed form and SciPy: what is pushed, detected and counted."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy.stats import poisson

from apps.speech import audio, report, stream, tracks
from apps.speech.config import DEFAULT, PRESETS
from apps.speech.data import Clips
from apps.speech.export import write
from apps.speech.model import build_features, build_model, build_servable
from apps.speech.predict import STREAMER
from shared.inference import ONNX, OnnxModel

RATE = 16_000
AT_4_KHZ = replace(DEFAULT, sample_rate=4_000)
SMOKE = PRESETS["smoke"]
SMALL = replace(SMOKE, filters=(4, 6), recurrent=replace(SMOKE.recurrent, units=8, num_layers=2))
ONE_WAY = replace(SMALL.recurrent, bidirectional=False)
STREAMED = replace(SMALL, recurrent=ONE_WAY, top_db=None, pooling="last")


def network_of(config, num_classes=4):
    """The same weights for every clip length."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    network = build_model(config, num_classes, rng.normal(size=config.mels), rng.uniform(50, 100, config.mels))
    for variable in network.weights:  # batch normalisation too has to be something else than the identity
        if "batch_normalization" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return network


@pytest.mark.parametrize(("cell", "filters"), [("rnn", (4, 6)), ("gru", (4, 6)), ("lstm", (4, 6)), ("lstm", ())])
def test_streamed_frame_by_frame_equals_the_network_on_the_whole(cell, filters, tmp_path):
    """At every frame, the posterior of the streamer's ONNX is the Keras network's for all frames up to there, given at once."""
    sound = 0.1 * np.random.default_rng(1).normal(size=RATE * 2).astype("float32")
    config = replace(STREAMED, recurrent=replace(ONE_WAY, cell=cell), filters=filters)
    write(config, build_servable(network_of(config)), tmp_path)
    source = stream.CarriedState(config, 4, OnnxModel(tmp_path / STREAMER))
    outputs = [source.push(block) for block in np.split(sound, [100, 5_000, 5_010, 20_000, 26_001])]
    times, posteriors = (np.concatenate(part) for part in zip(*outputs, strict=True))
    assert posteriors.shape == (len(times), 4)
    assert len(times) == 199 // source.frames_per_posterior  # the last frame of 2 seconds looks past their end
    mel = np.asarray(build_features(replace(config, clip_seconds=2.0))(sound[None])["mel"])
    for number in (3, 8, 40, len(times) - 1):
        frame = number * source.frames_per_posterior  # the last one that this posterior has seen
        assert times[number] == pytest.approx(frame * config.hop_length / RATE)
        network = network_of(replace(config, clip_seconds=frame * config.hop_length / RATE))
        from_mel = keras.Model(network.get_layer("mfcc").input, network.output)
        expected = np.asarray(keras.ops.softmax(from_mel(mel[:, : frame + 1])))[0]
        np.testing.assert_allclose(posteriors[number], expected, atol=1e-5)


def test_what_was_heard_before_silence_is_forgotten(tmp_path):
    """With `silence`, the posteriors after each piece in which the network hears it are those of a source that begins there."""
    sound = 0.1 * np.random.default_rng(1).normal(size=RATE * 2).astype("float32")
    config = replace(STREAMED, filters=(4, 6), recurrent=ONE_WAY)
    write(config, build_servable(network_of(config)), tmp_path)
    streamer = OnnxModel(tmp_path / STREAMER)
    _, carried = stream.CarriedState(config, 4, streamer).push(sound)
    silence = int(carried[1].argmax())  # the class heard when the first piece, of two posteriors, ends
    _, reset = stream.CarriedState(config, 4, streamer, silence).push(sound)
    np.testing.assert_allclose(reset[:2], carried[:2], atol=1e-6)
    assert np.abs(reset[2:4] - carried[2:4]).max() > 1e-3
    fresh = stream.CarriedState(config, 4, streamer)
    fresh.kept = np.zeros(0, np.float32)
    start = 2 * config.frames_per_output * config.hop_length - fresh.fft_length // 2
    np.testing.assert_allclose(fresh.push(sound[start:])[1][:2], reset[2:4], atol=1e-5)


def test_a_curve_holds_all_thresholds_and_the_fewest_false_accepts_at_80_percent():
    found = evaluated(ToneModel(confused=1.0))
    curve = found["curve"]
    assert [point["threshold"] for point in curve] == pytest.approx(tracks.THRESHOLDS)
    [chosen] = [point for point in curve if point["threshold"] == found["threshold"]]
    assert chosen["detected"] == found["hits"] / found["commands"]
    assert chosen["per_hour"] == found["false_accepts_per_hour"]
    enough = [point["per_hour"] for point in curve if point["detected"] >= 0.8]
    assert found["false_accepts_per_hour_at_80_percent"] == min(enough) > 0


def test_sliding_window_shows_the_network_each_window_once():
    config = SMALL
    servable = build_servable(network_of(config))
    source = stream.SlidingWindow(config, 4, servable.predict_on_batch)
    sound = 0.1 * np.random.default_rng(1).normal(size=RATE * 3).astype("float32")
    outputs = [source.push(block) for block in np.split(sound, [100, 17_000, 17_001, 40_000])]
    times, posteriors = (np.concatenate(part) for part in zip(*outputs, strict=True))
    assert len(times) == 26  # half a second of silence stands before the sound
    np.testing.assert_allclose(times, 0.1 * np.arange(26), atol=1e-9)
    for number in (5, 14, 25):
        start = 1_600 * (number - 5)
        expected = np.asarray(servable(sound[None, start : start + RATE]))[0]
        np.testing.assert_allclose(posteriors[number], expected, atol=1e-5)


def test_detector_smooths_and_does_not_repeat_itself():
    names = ("go", "stop", "_unknown_", "_silence_")
    posteriors = np.tile([0.0, 0.0, 0.0, 1.0], (60, 1))
    posteriors[10:14] = [0.9, 0.0, 0.1, 0.0]  # four of ten per second: detected once
    posteriors[20] = [0.0, 1.0, 0.0, 0.0]  # one frame alone is smoothed away
    posteriors[30:45] = [0.0, 0.8, 0.2, 0.0]  # longer than the hold-off: detected once nevertheless
    posteriors[50:55] = [0.0, 0.0, 1.0, 0.0]  # an unknown word is no command
    detector = stream.Detector(names, 0.1, threshold=0.5)
    posteriors[46:49] = [0.0, 1.0, 0.0, 0.0]  # no pause long enough to fall below the threshold in
    posteriors[56:59] = [0.0, 1.0, 0.0, 0.0]  # spoken again
    detected = [(event.word, round(event.seconds, 1)) for event in detector.push(np.arange(60) / 10, posteriors)]
    assert detected == [("go", 1.1), ("stop", 3.1), ("stop", 5.7)]


def test_detector_averages_the_posteriors_so_far_and_no_more():
    detector = stream.Detector(("go", "stop"), 0.1, threshold=0.5)
    [event] = detector.push(np.array([0.0]), np.array([[0.9, 0.1]]))
    assert event == stream.Event(0.0, "go", pytest.approx(0.9))
    assert not list(detector.push(np.array([0.1, 0.2]), np.array([[0.0, 1.0], [0.0, 1.0]])))  # held off


def test_the_threshold_is_that_of_the_validation_track(monkeypatch):
    """What has 0.6 in validation has half of it in test: a threshold chosen on test would find it."""

    class Source:
        seconds_per_posterior = 0.1

        def __init__(self, certainty):
            self.certainty, self.step = certainty, 0

        def push(self, samples):
            steps = np.arange(self.step, self.step + len(samples) // 400)
            self.step = steps[-1] + 1
            loud = np.abs(samples[: 400 * len(steps)]).reshape(-1, 400).mean(axis=1) > 0.1
            return steps / 10, np.where(loud[:, None], [self.certainty, 0.0, 1 - self.certainty], [0.4, 0.0, 0.6])

    certainties = iter([0.6, 0.3, 0.3])
    monkeypatch.setattr(tracks, "TRACK_SECONDS", 60.0)
    rows = np.full((30, 4_000), 20_000, np.int16)
    rows[-1] = 0
    clips = Clips(rows, np.array([0] * 29 + [2]), ("go", "stop", "_silence_"), ["a"] * 30)
    found = tracks.evaluate(AT_4_KHZ, {"window": lambda: Source(next(certainties))}, clips, clips)["window"]
    assert 0.4 < found["threshold"] <= 0.6
    assert 0.9 < found["minutes"] < 1.05
    assert found["commands"] > 10
    assert (found["hits"], found["false_accepts_per_hour"]) == (0, 0)


def test_score_counts_each_event_once():
    spoken = [("go", 1.0, 2.0), ("stop", 3.0, 4.0), ("go", 5.0, 6.0), ("_unknown_", 7.0, 8.0)]
    events = [stream.Event(*event, 1.0) for event in ((1.5, "go"), (1.9, "go"), (3.6, "go"), (6.4, "go"), (7.5, "stop"))]
    assert tracks.score(events, spoken) == (2, 3)


def test_track_says_what_is_spoken_where():
    config = replace(DEFAULT, sample_rate=4_000)
    rows = np.zeros((24, 4_000), np.int16)
    rows[0::4], rows[1::4], rows[3::4] = 8_000, -8_000, 1
    clips = Clips(rows, np.arange(24) % 4, ("go", "stop", "_unknown_", "_silence_"), ["a"] * 24)
    assert len(tracks.make_track(clips, config, seconds=20).spoken) < 12
    track = tracks.make_track(clips, config, seconds=600)
    assert len(track.spoken) == 18  # each once
    assert track.spoken[-1][2] + 0.5 <= len(track.waveform) / 4_000 <= track.spoken[-1][2] + 2.5
    for word, start, end in track.spoken:
        middle = np.mean(track.waveform[int(start * 4_000) + 5 : int(end * 4_000) - 5])
        assert np.sign(np.round(middle, 1)) == {"go": 1, "stop": -1, "_unknown_": 0}[word]
    assert "_silence_" not in {word for word, _, _ in track.spoken}
    without = tracks.make_track(clips, config, seconds=600, with_commands=False)
    assert sorted(word for word, _, _ in without.spoken) == ["_silence_"] * 6 + ["_unknown_"] * 6
    assert np.abs(without.waveform).max() < 0.1


TONES = {"go": 500, "stop": 800, "_unknown_": 1_100}  # Hz


def clips_of_tones(each=15):
    """Clips at 4 kHz: a tone of 0.6 seconds for each word; silence is hiss."""
    rng, time = np.random.default_rng(0), np.arange(4_000) / 4_000
    envelope = (np.abs(time - 0.5) < 0.3) * 0.3
    rows = [np.sin(2 * np.pi * hertz * time + rng.uniform(0, 6)) * envelope for hertz in TONES.values() for _ in range(each)]
    rows += [0.01 * rng.normal(size=4_000) for _ in range(each)]
    return Clips(audio.to_int16(np.stack(rows)), np.repeat(np.arange(4), each), (*TONES, "_silence_"), [""] * 4 * each)


class ToneModel:
    """Posteriors in closed form: how much of a window's middle is each tone; silence is what is missing."""

    def __init__(self, confused=0.0):
        self.confused = confused  # how much of _unknown_ is taken for "go"

    def __call__(self, windows):
        time = np.arange(4_000) / 4_000
        waves = np.exp(2j * np.pi * np.array([*TONES.values()])[:, None] * time) * (np.abs(time - 0.5) < 0.3)
        amplitude = np.abs(windows @ waves.T) / (0.3 * 0.6 * 4_000 / 2)
        posteriors = np.minimum(np.column_stack([amplitude, np.zeros(len(windows))]), 1)
        posteriors[:, 0] += self.confused * posteriors[:, 2]
        posteriors[:, 2] *= 1 - self.confused
        posteriors[:, 3] = np.maximum(0, 1 - posteriors.sum(axis=1))
        return posteriors


def evaluated(model):
    clips = clips_of_tones()
    return tracks.evaluate(AT_4_KHZ, stream.sources(AT_4_KHZ, clips.class_names, model, None), clips, clips)["window"]


def test_perfect_posteriors_give_every_command_and_no_false_accept():
    found = evaluated(ToneModel())
    assert found["hits"] == found["commands"] == 30
    free = found["command_free"]
    assert found["false_accepts"] == free["false_accepts"] == 0
    assert free["minutes"] == pytest.approx(30 * 2.5 / 60, rel=0.2)  # a second and a gap for each clip
    assert free["false_accepts_per_hour_high"] == pytest.approx(-np.log(0.025) * 60 / free["minutes"])
    assert found["false_accepts_per_hour_at_80_percent"] == 0
    row = report.table_of_modes({"window": found}).loc["window"]
    assert row["commands detected"] == "30 of 30"
    assert row["false accepts per hour"].startswith("0 (0 to ")
    assert row["without any command"] == f"0 (0 to {free['false_accepts_per_hour_high']:.0f})"


class LateSource(stream.SlidingWindow):
    def push(self, samples):
        times, posteriors = super().push(samples)
        return times + 1.5, posteriors


class ForgetfulDetector(stream.Detector):
    """Detects the same command at every step."""

    active = property(lambda self: None, lambda self, value: None)
    quiet_until = property(lambda self: -np.inf, lambda self, value: None)


def test_a_late_source_a_forgetful_detector_and_worse_posteriors_are_noticed(monkeypatch):
    assert evaluated(ToneModel(confused=1.0))["command_free"]["false_accepts"] == 15  # every unknown word
    with monkeypatch.context() as patch:
        patch.setattr(stream, "SlidingWindow", LateSource)
        assert evaluated(ToneModel())["hits"] < 15
    monkeypatch.setattr(stream, "Detector", ForgetfulDetector)
    monkeypatch.setattr(tracks, "THRESHOLDS", np.array([0.5]))
    assert evaluated(ToneModel())["false_accepts"] > 5


def test_without_clips_that_are_no_command_the_command_free_figures_are_left_out():
    clips = clips_of_tones()
    words = clips.labels < 2
    clips = Clips(clips.waveforms[words], clips.labels[words], ("go", "stop"), [""] * words.sum())
    sources = stream.sources(AT_4_KHZ, clips.class_names, lambda windows: ToneModel()(windows)[:, :2], None)
    found = tracks.evaluate(AT_4_KHZ, sources, clips, clips)["window"]
    assert found["hits"] == 30
    assert found["command_free"] is None
    assert report.table_of_modes({"window": found}).loc["window", "without any command"] == "-"


def test_clips_that_are_longer_than_a_track_cost_no_run(monkeypatch, tmp_path):
    monkeypatch.setattr(tracks, "TRACK_SECONDS", 1.0)
    found = evaluated(ToneModel())
    assert (found["hits"], found["commands"]) == (0, 0)
    assert found["false_accepts_per_hour_at_80_percent"] is None
    assert {point["detected"] for point in found["curve"]} == {0}
    report.plot_detections(tmp_path / "detections.png", {"window": found}, "no command")
    assert report.table_of_modes({"window": found}).loc["window", "commands detected"] == "0 of 0"


@pytest.mark.parametrize("count", [0, 1, 18])
def test_poisson_interval_is_where_the_tails_hold_a_fortieth(count):
    low, high = tracks.poisson_interval(count)
    assert poisson.cdf(count, high) == pytest.approx(0.025)
    assert low == 0 if count == 0 else poisson.sf(count - 1, low) == pytest.approx(0.025)


def test_a_streamer_is_written_only_for_a_network_that_reads_each_frame_once(tmp_path):
    assert STREAMED.streamable
    for number, change in enumerate(({"recurrent": SMALL.recurrent}, {"top_db": 80.0}, {"pooling": "mean"})):
        config = replace(STREAMED, filters=(), **change)
        folder = tmp_path / str(number)
        folder.mkdir()
        write(config, build_servable(network_of(config)), folder)
        assert [path.name for path in folder.iterdir()] == [ONNX]


def test_windows_shorter_than_a_step_leave_no_sample_out():
    config = replace(DEFAULT, clip_seconds=0.05)
    seen = []

    def network(windows):
        seen.extend(windows)
        return np.zeros((len(windows), 1))

    source = stream.SlidingWindow(config, 1, network)
    sound = np.arange(1, 8_001, dtype=np.float32)
    for block in np.split(sound, [100, 1_000, 5_000]):
        source.push(block)
    np.testing.assert_array_equal(np.concatenate(seen)[400:], sound[: len(seen) * 800 - 400])
