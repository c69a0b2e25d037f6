"""Own recordings: who speaks, which part a recording is in, which classes there are, what is no audio."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from apps.speech import __main__ as commands
from apps.speech import audio, catalogue, check, data, folds, report, split
from apps.speech.config import PRESETS, Config
from shared.cli import UserError
from shared.settings import Training

RATE = 4_000
CONFIG = replace(PRESETS["smoke"], data="words", limit=None, sample_rate=RATE)


def record(word, names, seconds=0.1, ending="wav", rate=RATE):
    """A recording of its own noise for each name."""
    (Path("words") / word).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        noise = np.random.default_rng([len(word), number]).uniform(-0.3, 0.3, round(seconds * rate))
        soundfile.write(Path("words") / word / f"{name}.{ending}", noise, rate)


def names_of(word, speakers, repeats=2):
    return [f"{word}_{speaker}_{repeat}" for speaker in speakers for repeat in range(repeats)]


@pytest.mark.parametrize("pattern", ["2", "_(.+)_"])
def test_speaker_pattern_keeps_speakers_apart_without_renaming(pattern, capsys):
    for word in "01":
        record(word, names_of(word, ("george", "jackson", "lucas", "nicolas")))
    splits = data.load(replace(CONFIG, speaker_pattern=pattern))
    speakers = [set(part.speakers) for part in splits[:3]]
    assert sum(map(len, speakers)) == 4
    assert set.union(*speakers) == {"george", "jackson", "lucas", "nicolas"}
    assert splits.warnings == ()
    assert "warning" not in capsys.readouterr().out


def test_without_a_speaker_in_the_names_there_is_a_warning(capsys):
    for word in "01":
        record(word, names_of(word, ("george", "jackson")))
    splits = data.load(CONFIG)
    [warning] = splits.warnings
    assert "a speaker may be in train and test" in warning
    assert f"warning: {warning}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pattern", "message"), [("_.+_", "has no group"), ("(", "is no regular expression"), ("0", "no group")]
)
def test_bad_speaker_patterns_are_explained(pattern, message):
    record("go", ["a"])
    with pytest.raises(UserError, match=message):
        data.load(replace(CONFIG, speaker_pattern=pattern))


def test_one_speaker_is_told_what_the_name_means():
    for word in ("go", "stop"):
        record(word, [f"george_nohash_{number}" for number in range(9)])
    with pytest.raises(UserError, match=r"(?s)of 1 speaker\(s\) \('george'\).*--speaker-pattern '\(\.\+\)' splits by file"):
        data.load(CONFIG)
    assert len(data.load(replace(CONFIG, speaker_pattern="(.+)")).test.labels) == 2


def test_a_class_of_six_recordings_is_in_every_part():
    for word, count in (("go", 40), ("stop", 40), ("left", 6)):
        record(word, map(str, range(count)))
    splits = data.load(CONFIG)
    for part in splits[:3]:
        assert np.bincount(part.labels, minlength=3).min() >= 1


def test_every_seed_is_judged_on_the_same_clips():
    for word in ("go", "stop", "_unknown_", "_silence_"):
        record(word, map(str, range(20)))
    splits = [data.load(replace(CONFIG, training=Training(seed=seed))) for seed in (0, 1)]
    assert splits[0].test.sources == splits[1].test.sources
    assert splits[0].fingerprint == splits[1].fingerprint


def test_own_unknown_words_are_as_frequent_in_test_as_in_validation():
    for word, count in (("go", 20), ("stop", 20), ("_unknown_", 100)):
        record(word, map(str, range(count)))
    splits = data.load(CONFIG)
    assert [np.bincount(part.labels).tolist() for part in splits[1:3]] == [[2, 2, 2]] * 2


def test_silence_is_a_class_only_where_it_makes_sense():
    for bird in ("finch", "wren"):
        record(bird, map(str, range(10)))
    assert data.load(CONFIG).train.class_names == ("finch", "wren")
    assert data.load(replace(CONFIG, silence=True)).train.class_names == ("finch", "wren", "_silence_")
    record("_silence_", map(str, range(10)))
    assert data.load(CONFIG).train.class_names == ("finch", "wren", "_silence_")
    without = data.load(replace(CONFIG, silence=False))
    assert without.train.class_names == ("finch", "wren")
    assert sum(len(part.labels) for part in without[:3]) == 20
    assert len(without.noise) >= RATE


def test_lists_may_name_a_folder_that_was_removed(capsys):
    for word in ("go", "stop"):
        record(word, map(str, range(5)))
    Path("words/validation_list.txt").write_text("go/0.wav\nstop/0.wav\nleft/0.wav\n")
    Path("words/testing_list.txt").write_text("go/1.wav\nstop/1.wav\nleft/1.wav\n")
    splits = data.load(CONFIG)
    assert splits.test.sources == ["go/1.wav", "stop/1.wav"]
    assert "left out: left" in capsys.readouterr().out


def test_mp3_and_upper_case_endings_are_read():
    record("go", map(str, range(5)), seconds=0.5, ending="mp3", rate=8_000)
    record("stop", map(str, range(5)), ending="WAV")
    splits = data.load(CONFIG)
    assert sum(len(part.labels) for part in splits[:3]) == 10
    assert audio.read(Path("words/go/0.mp3"), RATE).std() > 0.05


def test_all_files_that_are_no_audio_are_named_even_where_few_clips_are_used():
    for word in ("go", "stop"):
        record(word, map(str, range(30)))
    for number in range(12):
        Path(f"words/go/{number}.wav").write_text("garbage")
    with pytest.raises(UserError, match=r"(?s)12 of 60 recordings can't be used:\n.*0\.wav is no audio.*11\.wav.*and 2 more"):
        data.load(replace(CONFIG, limit=1))


def test_a_speaker_can_be_left_out():
    for word in "01":
        record(word, names_of(word, ("ann", "bob", "cid")))
    record("0", names_of("0", ("dan",)))
    config = replace(CONFIG, speaker_pattern="2")
    assert folds.speakers_of(config) == ["ann", "bob", "cid"]
    for speaker in ("ann", "bob", "cid"):
        splits = data.load(replace(config, test_speaker=speaker))
        assert set(splits.test.speakers) == {speaker}
        assert not set(splits.train.speakers) & {speaker, *splits.validation.speakers}
        assert set(splits.train.labels) == set(splits.validation.labels) == {0, 1}
    with pytest.raises(UserError, match="'eve': there are no recordings"):
        data.load(replace(config, test_speaker="eve"))


def test_folds_are_a_run_for_each_speaker_with_mean_and_spread(monkeypatch):
    for word in "01":
        record(word, names_of(word, ("ann", "bob", "cid")))
    scores, seen = {"ann": 0.5, "bob": 0.7, "cid": 0.9}, []

    def train(config, speech):
        seen.append(config.test_speaker)
        assert set(speech.test.speakers) == {config.test_speaker}
        return Path(config.test_speaker)

    monkeypatch.setattr("apps.speech.train.train", train)
    test = lambda file: {"network": {"accuracy": scores[file.parent.name]}, "baseline": {"accuracy": 0.5}}  # noqa: E731
    monkeypatch.setattr(folds.runs, "read_json", lambda file: {"test": test(file)})
    Path("cid").mkdir()
    commands.folds(["--preset", "smoke", "--data", "words", "--sample-rate", str(RATE), "--speaker-pattern", "2"])
    table = pd.read_csv("cid/folds.csv", index_col="speaker")  # in the folder of the last run
    assert seen == ["ann", "bob", "cid"]
    assert table.loc["mean", "network"] == pytest.approx(0.7)
    assert table.loc["standard deviation", "network"] == pytest.approx(0.2)


@pytest.mark.parametrize("flags", [{"test_speaker": "ann"}, {"speaker_pattern": "2"}])
def test_speakers_are_those_of_own_recordings(flags):
    with pytest.raises(UserError, match="give --data"):
        Config(**flags)


@pytest.mark.parametrize("args", [[], ["--data", "words", "--test-speaker", "ann"], ["--data", "words", "--resume"]])
def test_folds_say_what_they_need(args):
    with pytest.raises(UserError, match="folds trains again for every speaker of --data: give it"):
        commands.folds(args)


def test_folds_need_three_speakers_and_one_who_says_every_word():
    for word, speakers in (("0", ("ann", "bob")), ("1", ("ann", "cid"))):
        record(word, names_of(word, speakers))
    config = replace(CONFIG, speaker_pattern="2")
    assert folds.speakers_of(config) == ["ann"]
    for path in Path("words/1").glob("*_ann_*"):
        path.unlink()
    with pytest.raises(UserError, match="the names give 3, of whom 0 do"):
        folds.speakers_of(config)


def test_accuracy_of_each_speaker_by_hand():
    clips = data.Clips(np.zeros((5, 1)), np.array([0, 1, 0, 1, 1]), ("go", "stop"), list("abcde"), ["x", "x", "y", "y", ""])
    table = report.table_of_speakers(clips, np.eye(2)[[0, 1, 1, 1, 0]])
    assert table["accuracy"].to_dict() == {"y": 0.5, "x": 1.0}
    assert table["clips"].to_dict() == {"y": 2, "x": 2}
    assert report.table_of_speakers(clips._replace(speakers=()), np.eye(2)[[0, 1, 1, 1, 0]]).empty
    assert len(report.table_of_mistakes(clips, np.eye(2)[[1, 0, 1, 0, 0]])) == 5


def test_check_counts_the_clips_of_each_speaker_and_all_that_are_longer():
    for word in "01":
        record(word, names_of(word, ("ann", "bob", "cid")), seconds=1.03)
    config = replace(CONFIG, speaker_pattern="2")
    findings = check.look(config, data.load(config))
    speakers = next(table for title, table in findings.tables.items() if title.startswith("clips of each speaker"))
    assert speakers.sum(axis=1).to_dict() == {"ann": 4, "bob": 4, "cid": 4}
    assert (speakers > 0).sum(axis=1).tolist() == [1, 1, 1]
    assert any(remark.startswith("12 recordings are longer") for remark in findings.remarks)


def test_peaks_and_clipping_of_the_lowest_number():
    rows = np.array([[-32768] * 4, [16384, 0, 0, 0], [-1, 0, 0, 0]], np.int16)
    np.testing.assert_allclose(check.peaks_of(rows), [1, 0.5, 1 / 32768])
    assert check.are_clipped(rows).tolist() == [True, False, False]


def test_a_folder_is_listed_without_comparing_each_file_with_all(monkeypatch):
    """Comparisons of paths grow no faster than sorting: 24 s for 12,000 files before."""
    for word in ("go", "stop"):
        record(word, map(str, range(200)))
    compared, equal = [], Path.__eq__
    monkeypatch.setattr(Path, "__eq__", lambda self, other: compared.append(1) or equal(self, other))
    catalogue._recordings(Path("words"))
    assert len(compared) < 1_000


def test_a_bad_folder_is_answered_before_tensorflow_is_imported():
    Path("words").mkdir()
    code = (
        "import sys; from apps.speech import __main__ as commands\n"
        "for command in (commands.train, commands.check, commands.folds):\n"
        "    for folder in ('nowhere', 'words'):\n"
        "        try: command(['--data', folder])\n"
        "        except Exception as error: print(type(error).__name__, 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    root = Path(split.__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(root)})
    assert answer.stdout.split() == ["UserError", "False", "False"] * 6, answer.stderr
    assert not Path("runs").exists()
