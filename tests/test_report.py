"""What is said at a run's end: names as the user wrote them, and how sure the lead over the baseline is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shared import classification, plots, report
from shared.comparison import Lead

SUMMARY = {
    "app": "app",
    "preset": "smoke",
    "dataset": "[mine].csv",
    "seed": 0,
    "parameters": 10,
    "epochs": 1,
    "train_seconds": 90.0,
    "beats_baseline": True,
}


def with_lead(mean, low, high):
    lead = Lead(mean, low, high)
    return SUMMARY | {"lead": {"metric": "accuracy", **lead._asdict(), "verdict": lead.verdict}}


def test_square_brackets_in_names_are_printed_as_they_are(capsys):
    names = ["[billing]", "[/x]", "[bold]all"]
    report.print_table(pd.DataFrame(1, names, names), "[red]table", "[class]")
    printed = capsys.readouterr().out
    for name in (*names, "[red]table", "[class]"):
        assert name in printed
    report.announce(Path("runs/[/app]"), SUMMARY, pd.DataFrame({"[/x]": [0.5]}, ["[/y]"]), "test", "[the] baseline", "[/next]")
    printed = capsys.readouterr().out
    for name in ("[mine].csv", "runs/[/app]", "[/x]", "[/y]", "[the] baseline", "[/next]"):
        assert name in printed


def test_dollars_in_names_are_drawn_as_they_are(tmp_path):
    names = ["$", "US$ 5 and $x^{", r"$\nosuch$"]
    probabilities = np.eye(3)
    file = tmp_path / "confusion.png"
    classification.plot_confusion(file, np.arange(3), probabilities, names, r"US$ and $\broken")
    assert file.stat().st_size > 0
    figure, axes = plots.plt.subplots()
    axes.set_title(r"$\nosuch$")
    assert plots.figure_image(figure).shape[2] == 4


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (
            (0.0178, 0.0152, 0.0203),
            "The network beats the linear baseline by 0.0178 accuracy (95 % interval 0.0152 to 0.0203).",
        ),
        (
            (0.001, -0.002, 0.004),
            "The network and the linear baseline are a draw: "
            "the network leads by 0.0010 accuracy (95 % interval -0.0020 to 0.0040).",
        ),
        (
            (-0.02, -0.03, -0.01),
            "The network does NOT beat the linear baseline: it is worse by 0.0200 accuracy (95 % interval 0.0100 to 0.0300).",
        ),
    ],
)
def test_the_lead_is_told_with_its_interval(interval, expected, capsys, tmp_path):
    summary, scores = with_lead(*interval), pd.DataFrame({"accuracy": [0.9]}, ["network"])
    report.announce(tmp_path, summary, scores, "test", "the linear baseline", "next")
    assert expected in capsys.readouterr().out.replace("\n", " ")
    report.write_markdown(tmp_path, summary, scores, "test", [])
    assert expected.replace("the linear baseline", "the baseline") in (tmp_path / "report.md").read_text()


def test_without_a_lead_the_winner_alone_is_told(capsys, tmp_path):
    report.announce(tmp_path, SUMMARY, pd.DataFrame({"accuracy": [0.9]}, ["network"]), "test", "the linear baseline", "next")
    assert "The network beats the linear baseline. 1.5 minutes of training." in capsys.readouterr().out
