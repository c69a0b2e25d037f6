"""The report of a run: names as the user wrote them, and the lead over the baseline with its interval."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shared import classification, plots, report
from shared.comparison import Lead

DRAWN = True

METRICS = {
    "app": "app",
    "preset": "smoke",
    "dataset": "[mine].csv",
    "split": "test",
    "seed": 0,
    "parameters": 10,
    "epochs": 1,
    "train_seconds": 90.0,
    "device": "CPU, 2 cores",
    "test": {"network": {"accuracy": 0.9}, "[the] baseline": {"accuracy": 0.875, "[/x]": 0.5}},
    **Lead(0.02, 0.01, 0.03).describe("accuracy", "[the] baseline"),
}


def test_square_brackets_in_names_are_printed_as_they_are(capsys):
    names = ["[billing]", "[/x]", "[bold]all"]
    report.print_table(pd.DataFrame(1, names, names), "[red]table", "[class]")
    printed = capsys.readouterr().out
    for name in (*names, "[red]table", "[class]"):
        assert name in printed
    report.announce(Path("runs/[/app]"), METRICS, report.scores(METRICS), "[/next]")
    printed = capsys.readouterr().out
    for name in ("[mine].csv", "runs/[/app]", "[/x]", "[the] baseline", "[/next]"):
        assert name in printed


def test_the_report_holds_training_scores_lead_and_sections(tmp_path):
    report.write_markdown(tmp_path, METRICS, [*report.images("training"), "", "The end."])
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert lines[0] == "# app on [mine].csv, preset smoke"
    assert lines[2].startswith("10 parameters, 1 epochs, 1.5 minutes of training on CPU")
    assert lines[4:8] == [
        "| on test | accuracy | [/x] |",
        "|---|---|---|",
        "| network | 0.9000 | - |",
        "| [the] baseline | 0.8750 | 0.5000 |",
    ]
    assert lines[-3:] == ["![training](plots/training.png)", "", "The end."]


def test_at_80_columns_no_number_of_a_table_is_cut(capsys, monkeypatch):
    """As in a terminal: where columns wrapped between words are still too wide, the table is turned."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    scores = ["accuracy", "auc", "average_precision", "macro_f1", "log_loss", "calibration_error", "perplexity", "bits", "mae"]
    who = ("network", "recurrent path alone", "n-gram path alone", "baseline")
    for rows, columns in ((who, scores[:6]), (range(20), scores[:6]), (who[:2], scores)):
        table = pd.DataFrame(0.1234, rows, columns)
        metrics = METRICS | {"test": table.T.to_dict()}
        report.announce(Path("runs/app"), metrics, table, "next")
        printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        assert printed.count(" 0.1234 ") == table.size
        assert max(map(len, printed.split("Run:")[0].splitlines())) <= 80
        assert "\N{HORIZONTAL ELLIPSIS}" not in printed


def test_epochs_are_whole_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "save_figure", lambda figure, *_: figures.append(figure))
    figures = []
    plots.plot_history(tmp_path / "x.png", pd.DataFrame({"epoch": [0, 1], "loss": [2.0, 1.0]}), [["loss"]], "")
    [axes] = figures[0].axes
    plots.plt.close(figures[0])
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_numbers_on_a_logarithmic_axis_are_written_out(tmp_path):
    figure, axes = plots.plt.subplots()
    axes.loglog([1, 100], [1e-6, 1])
    plots.save_figure(figure, tmp_path / "x.png", "")
    labels = [
        tick.get_text().replace("\N{MINUS SIGN}", "-")
        for tick in (*axes.get_xticklabels(), *axes.get_yticklabels(which="both"))
    ]
    assert {"10", "100", "1e-06"} <= set(labels)
    assert not any("$" in label for label in labels)


def test_dollars_in_names_are_drawn_as_they_are(tmp_path):
    names = ["$", "US$ 5 and $x^{", r"$\nosuch$"]
    probabilities = np.eye(3)
    file = tmp_path / "confusion.png"
    plots.save_figure(classification.draw_confusion(np.arange(3), probabilities, names), file, r"US$ and $\broken")
    assert file.stat().st_size > 0


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
def test_the_lead_stands_in_terminal_and_report_with_its_interval(interval, expected, capsys, tmp_path):
    metrics = METRICS | Lead(*interval).describe("accuracy", "the linear baseline")
    report.announce(tmp_path, metrics, report.scores(metrics), "next")
    assert f"{expected} 1.5 minutes of training." in capsys.readouterr().out.replace("\n", " ")
    report.write_markdown(tmp_path, metrics, [])
    assert expected in (tmp_path / "report.md").read_text()


def test_whole_numbers_have_no_decimals_and_gaps_are_dashes(capsys):
    rows = pd.DataFrame({"n": [1_200, None], "x": [0.25, 1.0], "name": ["a", "b"]}, ["one", "two"], dtype=object)
    report.print_table(rows, "title", digits=2)
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert cells == [["one", "1,200", "0.25", "a"], ["two", "-", "1", "b"]]


def test_a_lead_by_one_measure_does_not_hide_a_draw_by_another(tmp_path, capsys):
    metrics = METRICS | Lead(0.02, 0.01, 0.03).describe("mae", "linear")
    metrics["other_leads"] = [Lead(-0.0003, -0.002, 0.001).describe("mse", "linear")["lead"]]
    expected = (
        "beats linear by 0.0200 mae (95 % interval 0.0100 to 0.0300). "
        "The network and linear are a draw: the network leads by -0.0003 mse"
    )
    report.announce(tmp_path, metrics, report.scores(metrics), "next")
    assert expected in capsys.readouterr().out.replace("\n", " ")
    report.write_markdown(tmp_path, metrics, [])
    assert expected in (tmp_path / "report.md").read_text()
