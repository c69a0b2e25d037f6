"""The run folder: whole or not at all, found again, resumed only with the config it had."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from shared import runs
from shared.cli import UserError

REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Config:
    units: int = 8
    pooling: tuple[str, ...] = ("max", "mean")
    resume: bool = False


ABOUT = {"data": "mine.csv", "data_fingerprint": "0123"}
METRICS = {
    "app": "toy",
    "preset": "default",
    "dataset": "sample",
    "seed": 0,
    "parameters": 10,
    "train_seconds": 90.0,
    "epochs": 3,
    "validation_accuracy": 0.75,
    "test_accuracy": 0.5,
    "baseline_accuracy": 0.625,
    "beats_baseline": False,
}


def finished_run(config=None, metrics=METRICS):
    run = runs.Run.start("toy", config or Config(), ABOUT)
    run.write_json("metrics.json", metrics)
    (run.path / "model.keras").write_bytes(b"weights")
    return run.finish()


def cut_off(config=None, about=ABOUT):
    """What a killed process leaves."""
    run = runs.Run.start("toy", config or Config(), about)
    run.release()
    return run


def test_a_run_is_unfinished_until_its_last_act():
    run = runs.Run.start("toy", Config(), ABOUT)
    assert run.path.name.endswith(".unfinished")
    with pytest.raises(UserError, match="No finished run in runs/toy"):
        runs.find("toy")
    with pytest.raises(AssertionError):
        run.finish()  # without metrics and model
    assert run.path.exists()


def test_the_newest_finished_run_is_found():
    first, second = finished_run(), finished_run()
    runs.Run.start("toy", Config(), ABOUT)  # newer, but unfinished
    assert first != second
    assert runs.find("toy") == second
    assert {path.name for path in second.iterdir()} == {*runs.REQUIRED, "plots"}
    assert runs.find("toy", str(first)) == first


def test_a_half_written_run_is_refused_with_the_way_to_finish_it():
    run = runs.Run.start("toy", Config(), ABOUT)
    with pytest.raises(UserError, match=r"not whole, metrics.json, model.keras is missing.*--resume"):
        runs.find("toy", str(run.path))
    with pytest.raises(UserError, match="there is no such folder"):
        runs.find("toy", "runs/toy/gone")


def test_resume_finds_the_unfinished_run_of_the_same_config():
    run = cut_off(Config(units=3))
    assert runs.Run.resume("toy", Config(units=3, resume=True), ABOUT).path == run.path


def test_resume_with_another_config_names_what_differs_and_touches_nothing():
    run = cut_off()
    before = (run.path / "config.json").read_text()
    with pytest.raises(UserError, match=r"--units: was 8, now 16"):
        runs.Run.resume("toy", replace(Config(), units=16, resume=True), ABOUT)
    assert (run.path / "config.json").read_text() == before


def test_resume_on_other_data_is_refused():
    """The split would be another one, and rows trained on before would be tested on."""
    cut_off()
    with pytest.raises(UserError, match=r"the data: was .*, and their contents differ"):
        runs.Run.resume("toy", Config(resume=True), ABOUT | {"data_fingerprint": "4567"})


def test_resume_passes_over_runs_that_do_not_match():
    wanted = cut_off(Config(units=3))
    cut_off(Config(units=4))
    assert runs.Run.resume("toy", Config(units=3, resume=True), ABOUT).path == wanted.path


def parse(*args):
    return runs.parse("toy", {"default": Config()}, "", list(args))


def test_resume_alone_reads_the_newest_config(capsys):
    cut_off(Config(units=3))
    newest = cut_off(Config(units=5, pooling=("last",)))
    assert parse("--resume") == Config(units=5, pooling=("last",), resume=True)
    assert f"Resuming {newest.path}." in capsys.readouterr().out


def test_flags_given_with_resume_choose_the_run_that_agrees():
    cut_off(Config(units=3))
    cut_off(Config(units=5))
    assert parse("--resume", "--units", "3").units == 3


def test_a_flag_that_differs_from_the_newest_run_is_named():
    newest = cut_off(Config(units=5))
    with pytest.raises(UserError, match=rf"{newest.path}, these differ:\n  --units: was 5, now 4\nGive --resume alone"):
        parse("--units", "4", "--resume")


def test_a_live_run_is_not_adopted():
    older = cut_off()
    live = runs.Run.start("toy", Config(), ABOUT)
    assert runs.Run.resume("toy", Config(resume=True), ABOUT).path == older.path
    with pytest.raises(UserError, match="is not being trained by another process"):
        parse("--resume")
    live.release()
    assert runs.Run.resume("toy", Config(resume=True), ABOUT).path == live.path


TRAINING = """
import time
from test_runs import ABOUT, Config, runs
print(runs.Run.start("toy", Config(), ABOUT).path, flush=True)
time.sleep(600)
"""


def in_another_process(signal_number):
    """Start a run in a process of its own, end it by a signal, and return the run's path and what the process said."""
    paths = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests")))
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": os.environ | {"PYTHONPATH": paths}}
    with subprocess.Popen([sys.executable, "-c", TRAINING], **options) as process:
        path = Path(process.stdout.readline().strip())
        held = runs.resumable("toy", Config)
        process.send_signal(signal_number)
        return path, held, process.communicate()[1]


def test_a_killed_run_is_held_while_it_lives_and_offered_at_the_next_start(capsys):
    path, held, _ = in_another_process(signal.SIGKILL)
    assert held == []
    runs.Run.start("toy", Config(), ABOUT)
    assert f"{path} is not finished. To go on with it: make toy ARGS=--resume" in capsys.readouterr().out
    assert runs.Run.resume("toy", Config(resume=True), ABOUT).path == path


def test_a_run_that_ends_by_an_exception_says_how_to_go_on():
    path, _, said = in_another_process(signal.SIGINT)
    assert said.endswith(f"{path} is not finished. To go on with it: make toy ARGS=--resume\n")


@pytest.mark.parametrize("content", ["{", '{"knob_of_another_version": 1}'])
def test_a_folder_that_cant_be_read_is_named_and_blocks_nothing(content, capsys):
    readable, damaged = cut_off(), cut_off(Config(units=4))
    (damaged.path / "config.json").write_text(content)
    assert parse("--resume") == Config(resume=True)
    assert runs.Run.resume("toy", Config(resume=True), ABOUT).path == readable.path
    assert f"Skipped {damaged.path}, which can't be resumed" in capsys.readouterr().err


def test_starts_in_the_same_second_get_folders_of_their_own(monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "2026-01-01_00-00-00")
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: False)  # as another process sees it that looked a moment before
    paths = [runs.Run.start("toy", Config(), ABOUT).path for _ in range(3)]
    monkeypatch.setattr(Path, "exists", exists)
    assert [path.name.removesuffix(".unfinished") for path in paths] == [
        "2026-01-01_00-00-00",
        "2026-01-01_00-00-00_2",
        "2026-01-01_00-00-00_3",
    ]


def test_a_start_leaves_the_name_of_a_finished_run_alone(monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "2026-01-01_00-00-00")
    assert finished_run().name == "2026-01-01_00-00-00"
    assert finished_run().name == "2026-01-01_00-00-00_2"


def test_resume_without_an_unfinished_run_says_so():
    with pytest.raises(UserError, match=r"found no unfinished run in runs/toy/. A new run starts"):
        parse("--resume")
    finished_run()
    with pytest.raises(UserError, match="trained to its end"):
        runs.Run.resume("toy", Config(resume=True), ABOUT)


def test_resume_after_one_ctrl_c_says_that_the_run_is_finished_and_how_to_train_longer():
    path = finished_run(metrics=METRICS | {"interrupted": True})
    with pytest.raises(UserError, match=rf"{path}, is finished: it was ended by Ctrl-C.*To train longer, start a new run"):
        parse("--resume")


def test_an_interrupted_run_is_marked_where_it_is_found_and_listed(capsys):
    finished_run()
    path = finished_run(metrics=METRICS | {"interrupted": True})
    assert runs.find("toy") == path
    assert f"{path}, the newest run, was ended by Ctrl-C" in capsys.readouterr().err
    runs.main()
    assert capsys.readouterr().out.count("interrupted") == 1


def test_a_damaged_file_is_named_and_does_not_hide_the_other_runs(capsys):
    damaged, whole = finished_run(), finished_run()
    (damaged / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics.json can't be read"):
        runs.read_json(damaged / "metrics.json")
    runs.main()
    text = capsys.readouterr().out
    assert "damaged" in text
    assert whole.name in text


def test_json_is_replaced_whole(monkeypatch):
    run = runs.Run.start("toy", Config(), ABOUT)
    run.write_json("metrics.json", {"old": 1})
    with pytest.raises(TypeError):
        run.write_json("metrics.json", {"new": object()})
    assert runs.read_json(run.path / "metrics.json") == {"old": 1}


def test_table_of_runs(capsys):
    path = finished_run()
    runs.main()
    text = capsys.readouterr().out
    for cell in (path.name, "default", "sample", "accuracy", "0.7500", "0.5000", "0.6250", "baseline", "1.5"):
        assert cell in text


def test_table_without_runs_says_how_to_make_one():
    with pytest.raises(UserError, match="make lists them"):
        runs.main()
