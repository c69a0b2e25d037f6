"""make tensorboard: whose runs are shown, what is pinned, and the address that it prints, asked as a browser would."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from shared import runs
from shared.cli import UserError
from tools import tensorboard

REPOSITORY = Path(__file__).parent.parent
HISTORY = "epoch,loss,accuracy,val_loss,val_accuracy,gradient_norm_max\n0,1,0.5,1,0.5,2\n"


def make_run(name: str, history: str | None = HISTORY) -> None:
    folder = Path("runs", name)
    (folder / "logs" / "train").mkdir(parents=True)
    for required in runs.REQUIRED:
        (folder / required).touch()
    if history is not None:
        (folder / "history.csv").write_text(history)


def test_all_apps_with_runs_are_shown_or_the_one_that_is_named():
    make_run("tickets/2026-01-01_00-00-00.unfinished", history=None)
    make_run("flows/2026-01-01_00-00-00")
    Path("runs", "gradients", "2026-01-01_00-00-00").mkdir(parents=True)
    assert tensorboard.choose("") == ["flows", "tickets"]
    assert tensorboard.choose("tickets") == ["tickets"]
    for app in ("gradients", "flow", "../runs/flows"):
        with pytest.raises(UserError, match=rf"APP={app}: there are no runs in runs/{app}/; there are some of flows, tickets"):
            tensorboard.choose(app)


def test_without_any_run_it_is_said_how_to_get_one():
    with pytest.raises(UserError, match=r"No runs in runs/ yet\. Train an app first"):
        tensorboard.choose("")


def test_what_the_apps_are_judged_by_is_pinned_once_also_that_of_a_run_in_training():
    make_run("tickets/2026-01-01_00-00-00.unfinished", "epoch,loss,mae,val_loss,val_mae,gradient_norm/gru\n")
    make_run("flows/2026-01-01_00-00-00")
    make_run("flows/2026-01-02_00-00-00")
    make_run("flows/2026-01-03_00-00-00.unfinished", history="")
    last = ["2_loss/loss", "4_gradients/gradient_norm_max"]
    assert tensorboard.tags_to_pin(["flows", "tickets"]) == ["1_quality/accuracy", "1_quality/mae", *last]
    make_run("new/2026-01-01_00-00-00.unfinished", history=None)
    assert tensorboard.tags_to_pin(["new"]) == last


def test_the_address_holds_what_tensorboards_page_reads():
    """Its format is that of TensorBoard's own addresses: pin a chart by hand, and it stands there so."""
    parts = urlsplit(tensorboard.address("http://localhost:6006/", ["1_quality/a b&c", "2_loss/loss"]))
    query = dict(parse_qsl(parts.query, strict_parsing=True))
    assert query["smoothing"] == "0"
    cards = [{"plugin": "scalars", "tag": "1_quality/a b&c"}, {"plugin": "scalars", "tag": "2_loss/loss"}]
    assert json.loads(query["pinnedCards"]) == cards
    assert (parts.netloc, parts.path, parts.fragment) == ("localhost:6006", "/", "timeseries")


@pytest.mark.slow
def test_the_command_links_copied_runs_and_shows_one_apps(monkeypatch):
    make_run("flows/2026-01-01_00-00-00")
    make_run("tickets/2026-01-01_00-00-00")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    command = [sys.executable, "-m", "tools.tensorboard", "--app", "flows", "--port"]
    with subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "The runs of flows, until Ctrl-C:\n"
            address = process.stdout.readline().strip()
            url = urlsplit(address)._replace(query="", fragment="").geturl()
            assert "<title>TensorBoard</title>" in requests.get(address, timeout=60).text
            shown = requests.get(f"{url}data/environment", timeout=60).json()["data_location"]
            assert shown == "runs/tensorboard/flows"
            assert Path(shown, "2026-01-01_00-00-00", "train").is_dir()
            refused = subprocess.run([*command, str(urlsplit(url).port)], capture_output=True, text=True)
            assert refused.returncode == 2
            assert "it was already in use. Name another --host or --port." in refused.stderr
            assert "Traceback" not in refused.stderr
        finally:
            process.terminate()
