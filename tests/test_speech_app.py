"""The speech app as a user meets it: own folders, the sample, train, resume, predict, and what can go wrong."""

import itertools
import json
import re
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
import tensorflow as tf
from matplotlib.text import Text
from sklearn.metrics import accuracy_score, log_loss, precision_score, recall_score

from apps.speech import __main__ as commands
from apps.speech import audio, baseline, catalogue, data, predict, report, sample, train
from apps.speech.config import PRESETS, Request
from apps.speech.model import build_features, build_model
from shared import classification, cli, runs
from shared.cli import UserError
from tools import runs as table

WATCHED = DRAWN = True

RATE = 16_000
SMOKE = PRESETS["smoke"]
TINY = replace(
    SMOKE,
    data="words",
    silence=True,
    limit=40,
    filters=(4,),
    mels=10,
    recurrent=replace(SMOKE.recurrent, units=4),
    training=replace(SMOKE.training, batch_size=8),
)


def run(config, **settings):
    """Train; `settings` replace those of the training."""
    config = replace(config, training=replace(config.training, **settings))
    return train.train(config, data.load(config))


def make_folder(path: Path, words=("go", "stop"), speakers=10, repeats=2, nohash=True, seconds=0.6):
    """Tones of a pitch for each word, by speakers who differ in loudness."""
    for number, word in enumerate(words):
        (path / word).mkdir(parents=True)
        for speaker in range(speakers):
            for repeat in range(repeats):
                time = np.arange(int(RATE * seconds)) / RATE
                wave = (0.1 + 0.05 * speaker) * np.sin(2 * np.pi * (300 + 400 * number + 10 * repeat) * time)
                name = f"speaker{speaker}_nohash_{repeat}.wav" if nohash else f"{speaker}-{repeat}.wav"
                soundfile.write(path / word / name, wave, RATE)
    return path


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A finished run on tones, made where no other test works."""
    here = tmp_path_factory.mktemp("speech")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr("apps.speech.tracks.TRACK_SECONDS", 30.0)
        make_folder(Path("words"), speakers=12)
        return here / run(TINY)


@pytest.fixture
def beside_the_run(run_folder, monkeypatch):
    monkeypatch.chdir(run_folder.parent.parent.parent)
    return run_folder


def test_run_folder_is_whole(run_folder):
    files = {path.name for path in run_folder.iterdir()}
    assert files == {
        *("config.json", "environment.json", "metrics.json", "history.csv", "mistakes.csv", "words.csv"),
        *("model.keras", "model.onnx", "report.md", "logs", "plots", "speakers.csv"),
    }
    plots = {path.stem for path in (run_folder / "plots").iterdir()}
    mine = {"augmentation", "detections", "false_alarms", "training", "answer"}
    recurrence = {"states", "gates", "gradient_through_time", "loss_by_context"}  # and units, if some follow anything
    assert plots - {"units", "mistakes"} == mine | recurrence | {*classification.PLOTS}
    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert metrics["dataset"] == "words"
    assert metrics["class_names"] == ["go", "stop", "_silence_"]
    assert metrics["beats_baseline"] == (metrics["lead"]["low"] > 0)
    accuracy = {who: found["accuracy"] for who, found in metrics["test"].items()}
    assert metrics["lead"]["mean"] == pytest.approx(accuracy["network"] - accuracy["baseline"])
    assert metrics["warnings"] == []
    speakers = pd.read_csv(run_folder / "speakers.csv", index_col="speaker")
    assert speakers["clips"].sum() == 4
    assert [*metrics["stream"]] == ["window"]  # it sees a clip as a whole
    found = metrics["stream"]["window"]
    assert 0 <= found["hits"] <= found["commands"]
    assert f"| {found['hits']} of {found['commands']} |" in (run_folder / "report.md").read_text()
    with zipfile.ZipFile(run_folder / "model.keras") as model:  # predict loads it without knowing the optimizer
        assert "Adam" not in model.read("config.json").decode()


def test_saved_model_takes_a_waveform_and_answers_as_the_run_did(beside_the_run):
    model = keras.models.load_model(beside_the_run / "model.keras", compile=False)
    test = data.load(TINY).test
    probabilities = train.predict(model, test)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    metrics = json.loads((beside_the_run / "metrics.json").read_text())
    found = metrics["test"]["network"]["accuracy"]
    assert found == pytest.approx(accuracy_score(test.labels, probabilities.argmax(axis=1)))
    words = pd.read_csv(beside_the_run / "words.csv", index_col="word")
    options = {"labels": [0], "average": None, "zero_division": 0}
    assert words.loc["go", "precision"] == precision_score(test.labels, probabilities.argmax(axis=1), **options)[0]
    assert words.loc["go", "recall"] == recall_score(test.labels, probabilities.argmax(axis=1), **options)[0]


def events_of(folder):
    """Tag and kind of everything that lies in a folder of TensorBoard's."""
    return [
        (value.tag, value.metadata.plugin_data.plugin_name)
        for file in folder.glob("events*")
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]


def test_tensorboard_has_mistakes_to_listen_to(tmp_path):
    rng = np.random.default_rng(0)
    clips = data.Clips(audio.to_int16(0.1 * rng.normal(size=(4, RATE))), np.arange(4) % 2, ("go", "stop"), list("abcd"))
    wrong = np.eye(2)[1 - clips.labels]
    config = replace(TINY, data=None)
    (tmp_path / "plots").mkdir()
    report.write_tensorboard(tmp_path, config, report.table_of_mistakes(clips, wrong), clips, build_features(config))
    kinds = [kind for tag, kind in events_of(tmp_path / "logs" / "report") if "taken for" in tag]
    assert kinds.count("audio") == kinds.count("images") == 4


@pytest.mark.slow
def test_settings_compose_and_a_network_made_for_it_may_carry_its_state(monkeypatch, capsys):
    monkeypatch.setattr("apps.speech.tracks.TRACK_SECONDS", 30.0)
    make_folder(Path("words"), speakers=10)
    options = {"cell": "lstm", "num_layers": 2, "residual": True, "normalization": "layer", "bidirectional": False}
    config = replace(TINY, filters=(), top_db=None, pooling="last", recurrent=replace(TINY.recurrent, **options))
    run(config, epochs=1, precision="mixed_bfloat16", clipping="adaptive")
    capsys.readouterr()
    modes = {
        None: "A window",
        "window": "A window slides",
        "carried": "The state is carried",
        "reset": "until there is silence",
    }
    for mode, how in modes.items():
        predict.predict(Request(stream="words/go/speaker1_nohash_0.wav", threshold=0.0, mode=mode))
        shown = capsys.readouterr()
        assert how in shown.err
        assert shown.out.split()[2] in ("go", "stop")


def test_predict_names_the_likeliest_words_of_each_file(beside_the_run, capsys):
    stereo = np.random.default_rng(0).normal(size=(44_100 // 2, 2)) * 0.1
    soundfile.write("noise.flac", stereo, 44_100)
    predict.predict(Request(clips=("words/go/speaker1_nohash_0.wav", "noise.flac")))
    lines = capsys.readouterr().out.splitlines()
    model = keras.models.load_model(beside_the_run / "model.keras", compile=False)
    clip = audio.fit_length(audio.read(Path("words/go/speaker1_nohash_0.wav"), RATE), TINY.samples)
    row = np.asarray(model(clip[None]))[0]
    assert lines[0].startswith(f"words/go/speaker1_nohash_0.wav: {['go', 'stop', '_silence_'][row.argmax()]} {row.max():.3f}")
    assert lines[1].startswith("noise.flac: ")


def test_predict_reports_a_bad_file_and_answers_the_others(beside_the_run, capsys):
    Path("cut.wav").write_bytes(Path("words/go/speaker1_nohash_0.wav").read_bytes()[:30])
    with pytest.raises(UserError, match=r"(?s)2 of 3 recordings could .*cut\.wav can't be read.*nowhere\.wav: there"):
        predict.predict(Request(clips=("cut.wav", "words/go/speaker1_nohash_0.wav", "nowhere.wav")))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("words/go/speaker1_nohash_0.wav: ")


def test_predict_finds_commands_in_a_long_recording(beside_the_run, capsys):
    wave = np.concatenate([np.zeros(RATE), soundfile.read("words/stop/speaker2_nohash_0.wav")[0], np.zeros(2 * RATE)])
    soundfile.write("long.wav", wave, RATE)
    predict.predict(Request(stream="long.wav", threshold=0.0))
    shown = capsys.readouterr()
    assert "A window slides" in shown.err
    [line] = shown.out.splitlines()  # from a probability of 0 it counts at once, and never falls silent
    assert re.fullmatch(r" +0\.00 s  (go|stop)  0\.\d\d", line)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "got 0 of the four"),
        ({"clips": ("a.wav",), "microphone": True}, "got 2 of the four"),
        ({"clips": ("nowhere.wav",)}, "nowhere.wav: there is no such file"),
        ({"stream": "nowhere.wav"}, "nowhere.wav: there is no such file"),
        ({"clips": ("words/go",)}, r"words/go is a folder; expected a recording. Give the files in it, .* words/go/\*\.wav"),
        ({"stream": "words"}, "words is a folder"),
        ({"stream": "no_audio.wav"}, "no_audio.wav is no audio"),
        ({"stream": "a.wav", "threshold": 45}, "--threshold is a probability, 0 to 1; got 45"),
        ({"stream": "a.wav", "threshold": float("nan")}, "--threshold is a probability"),
        ({"clips": ("a.wav",), "threshold": 0.5}, "are for --stream and --microphone"),
        (
            {"stream": "words/go/speaker1_nohash_0.wav", "mode": "carried"},
            "--mode carried is none of this network's: window\\.",
        ),
    ],
)
def test_predict_says_what_is_wrong(beside_the_run, request_, message):
    Path("no_audio.wav").write_bytes(b"a letter, not a sound " * 99)
    with pytest.raises(UserError, match=message):
        predict.predict(Request(**request_))


def test_a_long_recording_given_as_a_clip_is_told_of_stream(beside_the_run, capsys):
    soundfile.write("a long one.wav", 0.1 * np.random.default_rng(0).normal(size=16 * RATE), RATE)
    predict.predict(Request(clips=("a long one.wav", "words/go/speaker1_nohash_0.wav")))
    shown = capsys.readouterr()
    assert "a long one.wav lasts 16.0 s; the answer is about its loudest 1 s alone" in shown.err
    assert "--stream 'a long one.wav'" in shown.err
    assert shown.err.count("lasts") == 1
    assert len(shown.out.splitlines()) == 2


def test_commands_are_printed_while_the_recording_is_read(beside_the_run, monkeypatch):
    """The first command stands on standard output before the last block has been read, and no block is long."""
    soundfile.write("long.wav", np.tile(soundfile.read("words/stop/speaker2_nohash_0.wav")[0], 40), RATE)
    written, lengths, read_blocks = [], [], audio.read_blocks

    def blocks(*arguments):
        for block in read_blocks(*arguments):
            lengths.append(len(block))
            written.append("blocks" if len(lengths) > 5 else "block")
            yield block

    monkeypatch.setattr(audio, "read_blocks", blocks)
    monkeypatch.setattr("builtins.print", lambda *words, **options: written.append(str(words[0])))
    predict.predict(Request(stream="long.wav", threshold=0.0))
    assert sum(lengths) == 24 * RATE
    assert max(lengths) <= 3 * RATE
    first = next(row for row, line in enumerate(written) if re.match(r" +\d+\.\d\d s  ", line))
    assert first < written.index("blocks")


def test_microphone_without_its_package_is_explained(beside_the_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match=r"\[microphone\]"):
        predict.predict(Request(microphone=True))


def test_own_folder_is_split_by_speaker_where_names_tell_them(capsys):
    make_folder(Path("words"), ("go", "stop", "left"), speakers=20)
    splits = data.load(TINY)
    assert "Split by speaker: 20 speakers." in capsys.readouterr().out
    speakers = [
        {Path(source).stem.split("_nohash_")[0] for source in part.sources} - {"background noise"} for part in splits[:3]
    ]
    assert all(speakers)
    assert not speakers[0] & speakers[1]
    assert not speakers[0] & speakers[2]
    assert not speakers[1] & speakers[2]
    for part, count in zip(splits[:3], (16, 2, 2), strict=True):
        words = part.labels[part.labels < 3]
        assert np.bincount(words).tolist() == [2 * count] * 3
        assert (part.labels == 3).sum() == 2 * count  # silence, as many as a word


def test_own_folder_without_speakers_is_split_by_file(capsys):
    make_folder(Path("words"), speakers=10, nohash=False)
    splits = data.load(TINY)
    assert "warning: the names of 40 of 40 recordings tell no speaker" in capsys.readouterr().out
    sources = [set(part.sources) - {"background noise"} for part in splits[:3]]
    assert len(set.union(*sources)) == sum(map(len, sources)) == 40


@pytest.mark.parametrize("nohash", [True, False])
def test_few_recordings_of_each_word_can_be_split(nohash):
    make_folder(Path("words"), speakers=5, repeats=1, nohash=nohash)
    splits = data.load(TINY)
    assert [np.bincount(part.labels)[:2].tolist() for part in splits[:3]] == [[3, 3], [1, 1], [1, 1]]


def test_one_name_without_a_speaker_does_not_let_the_others_leak(capsys):
    folder = make_folder(Path("words"), speakers=10)
    soundfile.write(folder / "go" / "extra.wav", np.full(8_000, 0.1), RATE)
    splits = data.load(TINY)
    assert "warning: the names of 1 of 41 recordings tell no speaker, for one 'extra.wav'" in capsys.readouterr().out
    speakers = [{Path(s).stem.split("_nohash_")[0] for s in part.sources} - {"background noise"} for part in splits[:3]]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 11


def test_silence_is_made_for_a_part_that_has_none():
    folder = make_folder(Path("words"), speakers=10)
    (folder / "_silence_").mkdir()
    soundfile.write(folder / "_silence_" / "room.wav", np.random.default_rng(0).normal(size=RATE) * 0.01, RATE)
    splits = data.load(TINY)
    assert all((part.labels == 2).any() for part in splits[:3])
    assert len(splits.noise) >= RATE


def test_lists_of_the_official_archive_are_kept_to(capsys):
    folder = make_folder(Path("words"), speakers=6)
    (folder / "validation_list.txt").write_text("go/speaker1_nohash_0.wav\nstop/speaker1_nohash_1.wav\n")
    (folder / "testing_list.txt").write_text("go/speaker2_nohash_0.wav\nstop/speaker0_nohash_0.wav\n")
    splits = data.load(TINY)
    assert sorted(splits.validation.sources)[:2] == ["background noise", "go/speaker1_nohash_0.wav"]
    assert {"go/speaker2_nohash_0.wav", "stop/speaker0_nohash_0.wav"} < set(splits.test.sources)
    assert len(splits.train.labels) == 20 + 10
    (folder / "testing_list.txt").write_text("go/gone.wav\n")
    with pytest.raises(UserError, match=r"names 1 files that are not there, the first one is go/gone\.wav"):
        data.load(TINY)


def test_words_that_are_not_asked_for_become_unknown_and_are_balanced():
    make_folder(Path("words"), ("go", "stop", "left", "right", "up"), speakers=10)
    splits = data.load(replace(TINY, words=("stop", "go")))
    assert splits.train.class_names == ("go", "stop", "_unknown_", "_silence_")
    assert np.bincount(splits.train.labels).tolist() == [16, 16, 16, 16]
    unknown = [source for source, label in zip(splits.train.sources, splits.train.labels, strict=True) if label == 2]
    assert {source.split("/")[0] for source in unknown} == {"left", "right", "up"}


def test_background_noise_is_cut_in_time_so_that_no_part_hears_anothers():
    folder = make_folder(Path("words"), speakers=10)
    (folder / "_background_noise_").mkdir()
    ramp = np.linspace(-0.9, 0.9, 30 * RATE)
    soundfile.write(folder / "_background_noise_" / "ramp.wav", ramp, RATE, subtype="FLOAT")
    splits = data.load(TINY)
    assert splits.noise.max() <= 0.9 * 0.6 + 1e-3  # 80 % of the way from -0.9 to 0.9
    assert splits.noise.min() == pytest.approx(-0.9)
    for part, least, most in ((splits.validation, 0.54, 0.72), (splits.test, 0.72, 0.9)):
        silent = audio.to_float(part.waveforms[part.labels == 2])
        assert len(silent)
        slopes = np.diff(silent[:, [0, -1]], axis=1)[:, 0]
        loudness = slopes / (1.8 / 30)  # each is a piece of the ramp times a volume from 0 to 1
        middles = silent.mean(axis=1)[loudness > 0.05] / loudness[loudness > 0.05]
        assert ((middles > least - 0.02) & (middles < most + 0.02)).all()


def test_silence_folder_is_the_noise_to_train_with():
    make_folder(Path("words"), ("go", "stop", "_silence_"), speakers=10)
    splits = data.load(TINY)
    assert splits.train.class_names == ("go", "stop", "_silence_")
    silent = splits.train.waveforms[splits.train.labels == 2]
    assert len(splits.noise) == silent.size - (len(silent) - 1) * RATE // 20
    np.testing.assert_array_equal(splits.noise[: RATE - RATE // 20], audio.to_float(silent[0, : RATE - RATE // 20]))


def cut_off(path):
    soundfile.write(path, np.zeros(RATE), RATE)
    path.write_bytes(path.read_bytes()[:16_000])


def videos():
    Path("words/left").mkdir()
    Path("words/left/1.mp4").touch()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda: None, "there is no such file or folder"),
        (lambda: Path("words").touch(), "is a file; expected a folder"),
        (lambda: Path("words").mkdir(), "expected a folder for each word"),
        (lambda: make_folder(Path("words"), ("go",)), "two words or more"),
        (lambda: make_folder(Path("words"), speakers=2), "All recordings are of 2 speaker.*needs 3"),
        (lambda: cut_off(make_folder(Path("words")) / "go" / "cut.wav"), r"cut\.wav is cut off: 32,044 bytes .* 16,000 there"),
        (
            lambda: soundfile.write(make_folder(Path("words")) / "go" / "x.wav", np.full(99, np.nan), RATE, subtype="FLOAT"),
            r"x\.wav holds samples that are no numbers",
        ),
        (lambda: (make_folder(Path("words")), videos()), r"'.*left': expected .* but '1\.mp4'"),
        (lambda: (make_folder(Path("words")) / "validation_list.txt").touch(), r"no testing_list\.txt"),
        (
            lambda: (make_folder(Path("words")) / "go" / "broken.wav").write_bytes(b"no sound"),
            r"broken\.wav is no audio, whatever its name says",
        ),
        (lambda: soundfile.write(make_folder(Path("words")) / "go" / "x.wav", np.zeros(0), RATE), "recording of length 0"),
        (lambda: (make_folder(Path("words")) / "testing_list.txt").touch(), r"no validation_list\.txt"),
    ],
)
def test_bad_folders_are_explained_and_leave_no_run(prepare, message):
    prepare()
    with pytest.raises(UserError, match=message):
        run(TINY)
    assert not Path("runs").exists()


def test_unknown_words_are_explained():
    make_folder(Path("words"))
    with pytest.raises(UserError, match="--words dog: there are no recordings of that; there are some of 'go', 'stop'"):
        data.load(replace(TINY, words=("go", "dog")))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--words", "go"], "--words names two or more"),
        (["--words", "go", "stop", "go"], "--words names two or more different words; got go stop go"),
        (["--lead-seconds", "1.5"], "--lead-seconds is at most --clip-seconds (1); got 1.5"),
        (["--clip-seconds", "0.01"], "--clip-seconds is 0.03 or more; got 0.01"),
        (["--augmentation", "-1"], "--augmentation is 0 or more; got -1"),
        (["--masks", "-1"], "--masks is 0 or more; got -1"),
        (["--filters", "8", "0"], "--filters are 1 or more each; got (8, 0)"),
        (["--activation", "relu"], "--activation relu is for --cell rnn"),
        (["--units", "0"], "--units is 1 or more; got 0"),
    ],
)
def test_bad_flags_are_explained(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.run_command("", {"train": commands.train}, ["train", *flags])
    assert stop.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_reading_takes_any_rate_and_any_number_of_channels():
    time = np.arange(44_100) / 44_100
    tone = 0.5 * np.sin(2 * np.pi * 1_000 * time)
    for name in ("a.wav", "a.flac", "a.ogg"):
        soundfile.write(name, np.stack([tone, 0 * tone], axis=1), 44_100)
        waveform = audio.read(Path(name), RATE)
        assert len(waveform) == RATE
        assert np.argmax(np.abs(np.fft.rfft(waveform))) == pytest.approx(1_000, abs=2)
        assert waveform[2_000:14_000].std() == pytest.approx(0.25 / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_blocks_joined_are_what_is_read_at_once(rate, monkeypatch):
    time = np.arange(7 * rate) / rate
    sound = 0.4 * np.sin(2 * np.pi * (200 + 150 * time) * time) + 0.05 * np.random.default_rng(0).normal(size=len(time))
    soundfile.write("a.wav", np.stack([sound, 0.5 * sound], axis=1), rate, subtype="PCM_24")
    whole = audio.read(Path("a.wav"), RATE)
    monkeypatch.setattr(soundfile, "read", None)  # blocks do without all of it at once
    blocks = list(audio.read_blocks(Path("a.wav"), RATE, 0.37))
    assert max(map(len, blocks)) < RATE
    assert abs(sum(map(len, blocks)) - len(whole)) <= 1
    joined = np.concatenate(blocks)
    length = min(len(joined), len(whole))
    np.testing.assert_allclose(joined[:length], whole[:length], atol=1e-4)


@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAV", "ULAW"),
        ("FLAC", None),
        ("OGG", None),
        ("MP3", None),
    ],
)
def test_every_kind_of_sample_is_read_on_the_same_scale(form, subtype):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    soundfile.write("a.sound", tone, RATE, format=form, subtype=subtype)
    for found in (audio.read(Path("a.sound"), RATE), np.concatenate([*audio.read_blocks(Path("a.sound"), RATE, 0.3)])):
        assert found[2_000:14_000].std() == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
        assert abs(found[2_000:14_000].mean()) < 0.005


def test_floating_point_samples_in_another_unit_are_refused_rather_than_clipped():
    soundfile.write("a.wav", 8_000 * np.sin(np.arange(RATE) / 9), RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a\.wav holds floating-point samples up to 8,000; expected -1 to 1"):
        audio.read(Path("a.wav"), RATE)


def test_lengths_are_fitted():
    np.testing.assert_array_equal(audio.fit_length(np.array([1.0, 2.0]), 5), [0, 1, 2, 0, 0])
    np.testing.assert_array_equal(audio.fit_length(np.array([0.0, 1.0, 0.0, 3.0, -3.0, 0.0]), 2), [3, -3])
    waveform = np.array([-1.0, -0.5, 0.0, 0.5, 0.999, 2.0])
    np.testing.assert_allclose(audio.to_float(audio.to_int16(waveform)), np.clip(waveform, -1, 32767 / 32768), atol=1 / 32768)


def test_sample_has_its_own_speakers_in_every_part_and_says_each_word_otherwise():
    splits = data.load(replace(TINY, data=None, dataset="sample", limit=3))
    assert splits.name == "sample"
    assert splits.train.class_names == (*data.COMMANDS, "_unknown_", "_silence_")
    assert np.bincount(splits.train.labels).tolist() == [3] * 12
    assert len(np.unique(splits.train.waveforms, axis=0)) == 36
    rng = np.random.default_rng(0)
    voice = sample.Voice(pitch=120, throat=1.0, pace=1.5, breath=0.0)
    sample_of_a = sample.say("up", voice, rng)
    spectrum = np.abs(np.fft.rfft(sample_of_a, RATE))
    peaks = spectrum[:2_000].reshape(-1, 20).sum(axis=1)  # 20 Hz a bin
    assert 500 < 20 * np.argmax(peaks) < 1_300  # the first two formants of the vowel in "up"


def test_tfds_classes_are_named(monkeypatch):
    rng = np.random.default_rng(0)

    def read(name, splits):
        rows = [{"audio": rng.integers(-3_000, 3_000, 9_000), "label": number % 12} for number in range(24)]
        return [lambda: iter(rows) for _ in splits]

    monkeypatch.setattr(catalogue, "read_prepared", read)
    splits = data.load(replace(TINY, data=None, dataset="speech_commands"))
    assert splits.name == "speech_commands"
    assert np.bincount(splits.train.labels).tolist() == [2] * 12
    assert splits.train.class_names == (*data.COMMANDS, "_unknown_", "_silence_")
    assert [source for source, label in zip(splits.test.sources, splits.test.labels, strict=True) if label == 11] == [
        "test 10",
        "test 22",
    ]
    assert len(splits.noise) == 2 * RATE - RATE // 20  # one fades into the other


@pytest.mark.usefixtures("offline")
def test_without_network_the_sample_stands_in(capsys):
    splits = data.load(replace(TINY, data=None, limit=1))
    assert splits.name == "sample"
    assert "Going on with the SAMPLE" in capsys.readouterr().out
    with pytest.raises(UserError, match="Speech Commands is not available"):
        data.load(replace(TINY, data=None, dataset="speech_commands"))


def test_false_alarms_by_hand():
    clips = data.Clips(np.zeros((4, 1)), np.array([0, 1, 2, 3]), ("go", "stop", "_unknown_", "_silence_"), list("abcd"))
    probabilities = np.array([[0.7, 0.1, 0.1, 0.1], [0.6, 0.3, 0.1, 0.0], [0.1, 0.5, 0.4, 0.0], [0.0, 0.1, 0.1, 0.8]])
    accepts, rejects = report.false_alarm_rates(clips, probabilities, np.array([0.0, 0.4, 0.65, 0.9]))
    assert accepts.tolist() == [1.0, 0.5, 0.0, 0.0]
    assert rejects.tolist() == [0.5, 0.5, 0.5, 1.0]


def test_baseline_sees_pooled_coefficients():
    clips = data.Clips(
        audio.to_int16(0.1 * np.random.default_rng(0).normal(size=(3, RATE))), np.zeros(3, int), ("go",), list("abc")
    )
    features = build_features(replace(TINY, data=None))
    rows = baseline.statistics(features, clips)
    mfcc = np.asarray(features(audio.to_float(clips.waveforms))["mfcc"])[1]
    expected = np.concatenate([mfcc.mean(0), mfcc.std(0), mfcc.min(0), mfcc.max(0)])
    np.testing.assert_allclose(rows[1], expected, rtol=1e-4)


def test_streaming_preset_reads_each_frame_once_and_has_under_80_000_parameters():
    config = PRESETS["streaming"]
    assert config.streamable
    assert config.mode == "carried"
    network = build_model(config, 12, np.zeros(config.mels), np.ones(config.mels))
    assert network.count_params() < 80_000


def test_augmentation_is_drawn(tmp_path, monkeypatch):
    config = replace(TINY, data=None)
    rng = np.random.default_rng(0)
    clips = data.Clips(
        audio.to_int16(0.1 * rng.normal(size=(6, RATE))),
        np.arange(6) % 3,
        ("go", "turn_the_lights_off", "_silence_"),
        list("abcdef"),
    )
    (tmp_path / "plots").mkdir()
    speech = data.Speech(clips, clips, clips, "noise", "", audio.make_noise(3 * RATE, RATE, 0), ())
    figures, save = [], report.save_figure
    monkeypatch.setattr(report, "save_figure", lambda figure, *args: figures.append(figure) or save(figure, *args))
    report.show_augmentation(tmp_path, config, build_features(config), speech)
    assert (tmp_path / "plots" / "augmentation.png").stat().st_size > 3_000
    labels = figures[0].findobj(lambda artist: isinstance(artist, Text) and re.search("augmented$|it is$", artist.get_text()))
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) == 6
    assert not [(one, other) for one, other in itertools.combinations(boxes, 2) if one.overlaps(other)]
    tags = [tag for tag, _ in events_of(tmp_path / "logs" / "report")]
    names = [f"clips/1: go, {how}" for how in ("as it is", "augmented")]
    assert [tag for tag in tags if "clips/1" in tag] == names


def test_runs_names_the_metric(beside_the_run, capsys):
    table.main()
    row = next(line for line in capsys.readouterr().out.splitlines() if beside_the_run.name in line)
    assert "accuracy" in row


TWO_DEVICES = """
from pathlib import Path
from apps.speech import tracks
from test_speech_app import TINY, make_folder, run
tracks.TRACK_SECONDS = 5.0
make_folder(Path("words"), speakers=11, repeats=1, seconds=0.2)
print(run(TINY, multi_gpu=True, epochs=1))
"""


@pytest.mark.slow
def test_multi_gpu_trains_what_a_process_with_one_device_can_load(on_two_devices):
    folder = on_two_devices(TWO_DEVICES)
    probabilities = train.predict(keras.models.load_model(folder / "model.keras", compile=False), data.load(TINY).test)
    metrics = runs.read_json(folder / "metrics.json")["test"]["network"]
    assert metrics["log_loss"] == pytest.approx(log_loss(data.load(TINY).test.labels, probabilities, labels=range(3)), rel=1e-3)
    assert pd.read_csv(folder / "history.csv")["gradient_norm"].gt(0).all()
