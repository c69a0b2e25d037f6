"""make speech-check: clips counted, files measured, silence and repetition noticed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from apps.speech import check, data
from apps.speech.config import PRESETS
from shared import training

CONFIG = replace(PRESETS["smoke"], data="words", limit=None)


def write(word, name, seconds, rate=16_000, channels=1, loudness=0.3, seed=None):
    rng = np.random.default_rng(seed)
    path = Path("words") / word / f"{name}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, loudness * rng.uniform(-1, 1, (int(seconds * rate), channels)), rate)


def look():
    return check.look(CONFIG, data.load(CONFIG))


def test_words_parts_and_files_are_counted():
    for number in range(40):
        write("go", number, 0.5)
        write("stop", number, 1.5, rate=8_000, channels=2)
    findings = look()
    counts = findings.tables["clips of each word"]
    assert counts.loc[["go", "stop"]].to_numpy().sum() == 80
    files = findings.tables["files"]
    assert files["files"].to_dict() == {"16,000 Hz, 1 channel, WAV": 40, "8,000 Hz, 2 channels, WAV": 40}
    assert files.loc["8,000 Hz, 2 channels, WAV", "seconds, median"] == pytest.approx(1.5)
    assert any("40 recordings are longer than --clip-seconds 1.0" in remark for remark in findings.remarks)
    assert findings.tables["clips"].loc["of words, the same twice in it"].sum() == 0
    assert findings.obstacles == []


def test_silent_clips_and_repeated_ones_are_noticed():
    for number in range(60):
        write("go", number, 1.0, loudness=0.0)
        write("stop", number, 1.0, loudness=0.0 if number % 3 else 0.3, seed=0)
    findings = look()
    clips = findings.tables["clips"].loc["clips"]
    about = findings.tables["clips"].loc["silent though not _silence_"]
    assert about["train"] == pytest.approx(5 / 6 * clips["train"], rel=0.1)
    assert sorted(reason.split(".")[0].split(":")[0] for reason in findings.obstacles) == [
        "more than half of the test clips stand in train",
        "more than half of the words' clips are silent",
    ]


def test_few_clips_of_a_word_are_pointless():
    for number in range(40):
        write("go", number, 1.0)
        if number < 10:
            write("stop", number, 1.0)
    assert any(reason.startswith("'stop' has 8 training clips") for reason in look().obstacles)


def test_minutes_of_training_and_nothing_is_left_but_the_plot(monkeypatch, capsys):
    monkeypatch.setattr(training, "time_steps", lambda experiment: 60_000.0)  # a minute per step
    for number in range(40):
        write("go", number, 1.0)
        write("stop", number, 1.0)
    check.check(CONFIG, data.load(CONFIG))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    minutes = {line[0]: float(line[4]) for line in lines if line and line[0] == "training"}
    assert minutes == {"training": CONFIG.training.epochs * -(-64 // CONFIG.training.batch_size)}  # 80 less two tenths
    assert [str(path) for path in Path("runs").rglob("*.*")] == ["runs/speech/check/clips.png"]
