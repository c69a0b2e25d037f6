"""make textgen-check: what it counts against a count by hand, what it warns of."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apps.textgen import check, data
from apps.textgen.config import DEFAULT, RECURRENT, TRAINING
from shared import training

CONFIG = replace(
    DEFAULT,
    data="mine.txt",
    embedding_dim=8,
    sequence_length=10,
    recurrent=replace(RECURRENT, units=4),
    training=replace(TRAINING, batch_size=4),
)


def look_at(text):
    Path("mine.txt").write_text(text, encoding="utf-8")
    return check.look(data.load(CONFIG))


def some_lines(count, alphabet="abcdefgh", seed=0):
    rng = np.random.default_rng(seed)
    return "".join("".join(rng.choice([*alphabet], 30)) + "\n" for _ in range(count))


def test_counts_and_entropy_of_each_part():
    text = some_lines(200)
    findings = look_at(text)
    about = findings.tables["parts"]
    train = text[: int(0.9 * len(text))]
    assert about.loc["characters"].sum() == len(text)
    fractions = np.array([*Counter(train).values()]) / len(train)
    assert about.loc["entropy, nats per character", "train"] == pytest.approx(-np.sum(fractions * np.log(fractions)))
    assert about.loc["different characters", "train"] == 9
    assert about.loc["lines", "train"] == sum(len(line) >= 20 for line in train.split("\n"))
    assert findings.obstacles == []
    assert "The vocabulary has 9 characters." in findings.remarks[0]


def test_rare_characters_are_named():
    findings = look_at("Ω" + some_lines(200))
    assert any("'Ω'" in remark for remark in findings.remarks)


def test_one_character_over_and_over_is_pointless():
    assert any("over and over" in reason for reason in look_at("a" * 3_000).obstacles)


def test_another_script_at_the_end_is_pointless():
    findings = look_at(some_lines(180) + some_lines(20, "αβγδεζηθ"))
    assert [reason.split(":")[0].split(" % ")[1] for reason in findings.obstacles] == [
        "of validation are characters that training never sees",
        "of test are characters that training never sees",
    ]


def test_lines_that_come_again_are_counted_and_too_many_are_pointless():
    findings = look_at(some_lines(5) * 60)
    about = findings.tables["parts"]
    lines = about.loc["lines", "train"]
    assert about.loc["lines that stood before, %", "train"] == pytest.approx(100 * (lines - 5) / lines, abs=1)
    assert about.loc["lines that also stand in train, %", "test"] > 80  # all but what a border cuts
    assert any("remove what is repeated" in reason for reason in findings.obstacles)


def test_minutes_of_training_and_nothing_is_left_but_the_plot(monkeypatch, capsys):
    monkeypatch.setattr(training, "time_steps", lambda experiment: 60_000.0)  # a minute per step
    Path("mine.txt").write_text(some_lines(50))
    check.check(CONFIG, data.load(CONFIG))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    [minutes] = [float(line[4]) for line in lines if line and line[0] == "training"]
    steps = 1395 // (4 * 10)  # nine tenths of 50 lines of 31 characters
    assert minutes / CONFIG.training.epochs == pytest.approx(steps, abs=1)
    assert [str(path) for path in Path("runs").rglob("*.*")] == ["runs/textgen/check/characters.png"]
