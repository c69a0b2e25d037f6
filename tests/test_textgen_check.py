"""make textgen-check: what it counts against a count by hand, what it warns of."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apps.textgen import check
from apps.textgen.config import DEFAULT

CONFIG = replace(DEFAULT, data="mine.txt", batch_size=4, sequence_length=10)


def look_at(text, **settings):
    Path("mine.txt").write_text(text, encoding="utf-8")
    return check.check(replace(CONFIG, **settings))


def some_lines(count, alphabet="abcdefgh", seed=0):
    rng = np.random.default_rng(seed)
    return "".join("".join(rng.choice([*alphabet], 30)) + "\n" for _ in range(count))


def test_counts_and_entropy_of_each_part():
    text = some_lines(200)
    findings = look_at(text)
    about = findings.tables["parts"]
    train = text[: int(0.9 * len(text))]
    assert about.loc["characters"].sum() == len(text)
    shares = np.array([*Counter(train).values()]) / len(train)
    assert about.loc["entropy, nats a character", "train"] == pytest.approx(-np.sum(shares * np.log(shares)))
    assert about.loc["different characters", "train"] == 9
    assert about.loc["lines", "train"] == sum(len(line) >= 20 for line in train.split("\n"))
    assert findings.obstacles == []
    assert "The vocabulary has 9 characters." in findings.remarks[0]


def test_rare_characters_are_named():
    findings = look_at("Ω" + some_lines(200), min_count=2)
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
