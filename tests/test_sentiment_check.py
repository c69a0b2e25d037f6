"""make sentiment-check: what it counts against pandas, what it warns of."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from apps.sentiment import check, data
from apps.sentiment.config import DEFAULT, PRESETS
from shared import training


def rows(count, seed=0, classes=("bad", "fine", "good")):
    """Texts with a word that tells their class, in proportions 3 : 2 : 1."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count, p=[1 / 2, 1 / 3, 1 / 6][: len(classes)] if len(classes) == 3 else None)
    fillers = rng.integers(0, 500, (count, 9))
    texts = [" ".join(f"w{word}" for word in row[: 3 + n % 6]) for n, row in enumerate(fillers)]
    return pd.DataFrame({"text": [f"{text} {label}" for text, label in zip(texts, labels, strict=True)], "label": labels})


def look_at(table, **settings):
    table.to_csv("mine.csv", index=False)
    config = replace(DEFAULT, data="mine.csv", **settings)
    return check.look(config, data.load(config))


def test_counts_lengths_and_the_baseline():
    table = rows(900)
    findings = look_at(table, sequence_length=6)
    counts, about = findings.tables["reviews of each class"], findings.tables["texts"]
    assert counts.sum(axis=1).to_dict() == table["label"].value_counts().to_dict()
    words = table["text"].str.split().str.len()
    assert about.loc["words, longest"].max() == words.max()
    longer = np.average(about.loc["longer than --sequence-length 6, %"].astype(float), weights=about.loc["reviews"].astype(int))
    assert longer == pytest.approx(100 * np.mean(words > 6))
    assert "a validation accuracy of 1.000; always saying 'bad' has 0.4" in findings.remarks[0]
    assert findings.obstacles == []


def test_texts_in_both_train_and_test_are_counted(tmp_path):
    for part, numbers in (("train", range(200)), ("test", range(150, 250))):
        for number in numbers:
            file = tmp_path / "mine" / part / ("bad", "good")[number % 2] / f"{number}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"review number {number}")
    config = replace(DEFAULT, data=str(tmp_path / "mine"), validation_split=0.2)
    findings = check.look(config, data.load(config))
    of = findings.tables["texts"].loc["texts that also stand in train"].astype(int).to_dict()
    assert of["train"] == 0
    assert 20 <= of["test"] <= 50  # 50, less those that became validation
    assert f"{of['test']} test reviews also stand in train" in " ".join(findings.remarks)


def test_labels_that_words_say_nothing_about_are_noticed():
    table = rows(600)
    table["label"] = np.random.default_rng(1).permutation(table["label"])
    table["text"] = table["text"].str.rsplit(n=1).str[0]
    accuracy = float(look_at(table).remarks[0].split("accuracy of ")[1].split(";")[0])
    assert accuracy < 0.6  # the largest class has a half


def test_too_few_of_a_class_or_one_class_alone_is_pointless():
    few = pd.concat([rows(300, classes=("bad", "good")), rows(40, seed=1, classes=("odd", "bad")).query("label == 'odd'")])
    [reason] = look_at(few).obstacles
    assert reason.startswith("class 'odd' has ")
    lopsided = rows(3_000, classes=("bad", "good"))
    lopsided.loc[lopsided.index > 60, "label"] = "bad"
    assert any("of one class" in reason for reason in look_at(lopsided).obstacles)


def test_minutes_of_pretraining_and_training_and_nothing_is_left_but_the_plot(monkeypatch, capsys):
    monkeypatch.setattr(training, "time_steps", lambda experiment: 60_000.0)  # a minute per step
    smoke = PRESETS["smoke"]
    config = replace(smoke, data="mine.csv", embedding_dim=8, pretraining_epochs=3, recurrent=replace(smoke.recurrent, units=4))
    rows(300).to_csv("mine.csv", index=False)
    check.check(config, data.load(config))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    minutes = {line[0]: float(line[4]) for line in lines if line and line[0] in ("pretraining", "training")}
    steps = -(-216 // smoke.training.batch_size)  # 300 less a fifth for test, less a tenth for validation
    assert minutes == {"pretraining": 3 * steps, "training": smoke.training.epochs * steps}
    assert [str(path) for path in Path("runs").rglob("*.*")] == ["runs/sentiment/check/lengths.png"]


def test_a_bad_path_is_answered_before_tensorflow_is_imported():
    code = (
        "import sys; from apps.sentiment import __main__ as commands\n"
        "for command in (commands.train, commands.check):\n"
        "    try: command(['--data', 'nowhere.csv'])\n"
        "    except Exception as error: print(type(error).__name__, 'tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    root = Path(check.__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(root)})
    assert answer.stdout.split() == ["UserError", "False", "False"] * 2, answer.stderr
    assert not Path("runs").exists()
