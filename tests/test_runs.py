"""The run folder: whole or not at all, found again, resumed only with the config it had."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from shared import runs
from shared.cli import UserError
from shared.settings import Recurrent, Training
from tools import runs as table

REPOSITORY = Path(__file__).parent.parent


RECURRENT, TRAINING = Recurrent(), Training()


@dataclass(frozen=True)
class Config:
    pooling: tuple[str, ...] = ("max", "mean")
    recurrent: Recurrent = RECURRENT
    training: Training = TRAINING


def with_units(units, resume=False):
    return Config(recurrent=Recurrent(units=units), training=Training(resume=resume))


RESUME = Config(training=Training(resume=True))
ABOUT = {"data": "mine.csv", "data_fingerprint": "0123"}
METRICS = {
    "app": "toy",
    "preset": "default",
    "dataset": "sample",
    "split": "test",
    "seed": 0,
    "parameters": 10,
    "train_seconds": 90.0,
    "epochs": 3,
    "interrupted": False,
    "metric": "accuracy",
    "validation": {"network": {"accuracy": 0.75}},
    "test": {"network": {"accuracy": 0.5}, "baseline": {"accuracy": 0.625}},
    "lead": {"verdict": "worse"},
}


class Failed(Exception):
    """Stands for any error in a training."""


def finished_run(metrics=METRICS):
    with runs.open_run("toy", Config(), ABOUT) as run:
        (run.path / "model.keras").write_bytes(b"weights")
        return run.finish(metrics)


def cut_off(config=None, about=ABOUT):
    """The folder of a run that failed."""
    with pytest.raises(Failed), runs.open_run("toy", config or Config(), about) as run:
        raise Failed
    return run.path


def resumed(config=RESUME, about=ABOUT):
    with runs.open_run("toy", config, about) as run:
        return run.path


def test_a_run_is_unfinished_until_its_last_act():
    with runs.open_run("toy", Config(), ABOUT) as run:
        assert run.path.name.endswith(".unfinished")
        with pytest.raises(UserError, match="No finished run in runs/toy"):
            runs.find("toy")
        (run.path / "state.npz").touch()
        with pytest.raises(AssertionError):
            run.finish(METRICS)  # without model
        assert (run.path / "state.npz").exists()


def test_the_newest_finished_run_is_found():
    first, second = finished_run(), finished_run()
    cut_off()  # newer, but unfinished
    assert first != second
    assert runs.find("toy") == second
    assert runs.find("toy", str(first)) == first


def test_a_finished_run_holds_neither_training_state_nor_lock():
    with runs.open_run("toy", Config(), ABOUT) as run:
        for name in ("model.keras", "state.npz", "best.weights.npz"):
            (run.path / name).touch()
        path = run.finish(METRICS)
    names = {"config.json", "environment.json", "metrics.json", "model.keras", "plots", "logs"}
    assert {file.name for file in path.iterdir()} == names
    assert runs.read_json(path / "metrics.json") == METRICS
    assert runs.read_json(path / "environment.json") == ABOUT


LINKS = Path("runs", "tensorboard", "toy")


def test_tensorboard_reads_a_run_under_one_name_from_its_start_to_its_end():
    """Also of one that is cut off in between and resumed; what is written through a file that is open is there at once."""
    path = cut_off()
    with runs.open_run("toy", RESUME, ABOUT) as run, open(run.path / "logs" / "events", "w") as events:
        [link] = LINKS.iterdir()
        assert link.name == path.name.removesuffix(".unfinished")
        assert (link / "events").read_text() == ""
        (run.path / "model.keras").touch()
        finished = run.finish(METRICS)
        events.write("more")
        events.flush()
        assert [*LINKS.iterdir()] == [link]
        assert (link / "events").read_text() == "more"
        assert link.resolve() == (finished / "logs").resolve()


def test_the_next_run_mends_the_links():
    """One run was killed between its new name and its new link, one is copied from elsewhere, one is deleted, one is live."""
    killed, copied, deleted = (finished_run() for _ in range(3))
    (LINKS / killed.name).unlink()
    (LINKS / killed.name).symlink_to(Path("..", "..", "toy", f"{killed.name}.unfinished", "logs"))
    (LINKS / copied.name).unlink()
    shutil.rmtree(deleted)
    with runs.open_run("toy", Config(), ABOUT) as live:
        newest = finished_run()
        names = {killed.name, copied.name, newest.name, live.path.name.removesuffix(".unfinished")}
        assert {link.name for link in LINKS.iterdir() if link.exists()} == {link.name for link in LINKS.iterdir()} == names


def test_a_copy_of_runs_without_its_links_can_be_trained_on():
    path = finished_run()
    (LINKS / path.name).unlink()
    shutil.copytree(path / "logs", LINKS / path.name)
    assert finished_run() != path
    assert not (LINKS / path.name).is_symlink()


def test_a_half_written_run_is_refused_with_the_way_to_finish_it():
    path = cut_off()
    with pytest.raises(UserError, match=r"not whole, metrics.json, model.keras is missing.*--resume"):
        runs.find("toy", str(path))
    with pytest.raises(UserError, match="there is no such folder"):
        runs.find("toy", "runs/toy/gone")


def test_a_config_comes_back_as_it_was_groups_and_tuples_too():
    config = replace(with_units(3), pooling=("last",))
    stored = runs.read_config(cut_off(config), Config)
    assert stored == config
    assert (type(stored.recurrent), type(stored.training)) == (Recurrent, Training)


def test_resume_finds_the_unfinished_run_of_the_same_config():
    path = cut_off(with_units(3))
    assert resumed(with_units(3, resume=True)) == path


def test_resume_with_another_config_names_what_differs_and_touches_nothing():
    path = cut_off()
    before = (path / "config.json").read_text()
    other = Config(("last",), Recurrent(units=16), Training(epochs=4, resume=True))
    lines = r"--pooling: was \['max', 'mean'\], now \['last'\]\n  --units: was 128, now 16\n  --epochs: was 10, now 4\nGive"
    with pytest.raises(UserError, match=lines):
        resumed(other)
    assert (path / "config.json").read_text() == before


def test_resume_on_other_data_is_refused():
    """The split would be another one, and rows trained on before would be tested on."""
    cut_off()
    with pytest.raises(UserError, match=r"the data: was .*, and their contents differ"):
        resumed(about=ABOUT | {"data_fingerprint": "4567"})


def test_resume_passes_over_runs_that_do_not_match():
    wanted = cut_off(with_units(3))
    cut_off(with_units(4))
    assert resumed(with_units(3, resume=True)) == wanted


def parse(*args):
    return runs.parse("toy", {"default": Config()}, "", list(args))


def test_resume_alone_reads_the_newest_config(capsys):
    cut_off(with_units(3))
    newest = cut_off(replace(with_units(5), pooling=("last",)))
    assert parse("--resume") == replace(with_units(5, resume=True), pooling=("last",))
    assert f"Resuming {newest}." in capsys.readouterr().out


def test_flags_given_with_resume_choose_the_run_that_agrees():
    cut_off(with_units(3))
    cut_off(with_units(5))
    assert parse("--resume", "--units", "3").recurrent.units == 3


def test_a_flag_that_differs_from_the_newest_run_is_named():
    newest = cut_off(with_units(5))
    with pytest.raises(UserError, match=rf"{newest}, these differ:\n  --units: was 5, now 4\nGive --resume alone"):
        parse("--units", "4", "--resume")


def test_a_live_run_is_not_adopted():
    older = cut_off()
    with runs.open_run("toy", Config(), ABOUT) as live, runs.open_run("toy", RESUME, ABOUT) as other:
        assert other.path == older
        with pytest.raises(UserError, match="is not being trained by another process"):
            parse("--resume")
    assert resumed() == live.path


TRAIN = """
import signal, time
from test_runs import ABOUT, Config, runs
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in the background has it ignored
with runs.open_run("toy", Config(), ABOUT) as run:
    print(run.path, flush=True)
    time.sleep(600)
"""
RESUMING = "from test_runs import resumed; print(resumed())"
TO_RESUME = "{} is not finished. To go on with it: make toy ARGS=--resume"


def start(code):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests")))}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    return subprocess.Popen([sys.executable, "-c", code], **options)


def in_another_process(signal_number):
    """Start a run in a process of its own and end it by a signal. Returns its path, what was resumable meanwhile, stderr."""
    with start(TRAIN) as process:
        path = Path(process.stdout.readline().strip())
        held = runs.resumable("toy", Config)
        process.send_signal(signal_number)
        return path, held, process.communicate()[1]


def test_a_killed_run_is_held_while_it_lives_and_offered_at_the_next_start(capsys):
    path, held, _ = in_another_process(signal.SIGKILL)
    assert held == []
    newer = cut_off(with_units(3))
    assert TO_RESUME.format(path) in capsys.readouterr().out
    assert resumed() == path != newer


def test_a_run_that_ctrl_c_stopped_at_once_prints_how_to_go_on():
    path, _, stderr = in_another_process(signal.SIGINT)
    assert TO_RESUME.format(path) in stderr


def test_a_run_left_by_an_exception_prints_how_to_go_on_and_another_process_does(capsys):
    path = cut_off()
    assert TO_RESUME.format(path) in capsys.readouterr().err
    with start(RESUMING) as process:
        assert process.communicate()[0].strip() == str(path)
    finished_run()
    assert capsys.readouterr().err == ""


FLAT = json.dumps({"pooling": []} | vars(RECURRENT) | vars(TRAINING))  # as it was before there were groups


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"setting_of_another_version": 1}', FLAT.encode()])
def test_a_folder_that_cant_be_read_is_named_and_blocks_nothing(content, capsys):
    readable, damaged = cut_off(), cut_off(with_units(4))
    (damaged / "config.json").write_bytes(content)
    assert parse("--resume") == RESUME
    assert resumed() == readable
    assert f"Skipped {damaged}, which can't be resumed" in capsys.readouterr().err


def test_starts_in_the_same_second_get_folders_of_their_own(monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "2026-01-01_00-00-00")
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: False)  # as another process sees it that looked a moment before
    paths = [cut_off() for _ in range(3)]
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
        resumed()


def test_resume_after_one_ctrl_c_says_that_the_run_is_finished_and_how_to_train_longer():
    path = finished_run(metrics=METRICS | {"interrupted": True})
    with pytest.raises(UserError, match=rf"{path}, is finished: it was ended by Ctrl-C.*To train longer, start a new run"):
        parse("--resume")


def test_an_interrupted_run_is_marked_where_it_is_found_and_listed(capsys):
    finished_run()
    path = finished_run(metrics=METRICS | {"interrupted": True})
    assert runs.load("toy")[0] == path
    assert f"Loading {path}, trained on sample (preset default, ended by Ctrl-C)" in capsys.readouterr().err
    table.main()
    assert capsys.readouterr().out.count("interrupted") == 1


def test_a_damaged_file_is_named_and_does_not_hide_the_other_runs(capsys):
    damaged, whole, old = finished_run(), finished_run(), finished_run({"app": "toy", "test_accuracy": 0.5})
    (damaged / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics.json can't be read"):
        runs.read_json(damaged / "metrics.json")
    table.main()
    text = capsys.readouterr().out
    assert text.count("damaged") == 2
    assert all(path.name in text for path in (damaged, whole, old))


def test_json_is_replaced_whole(monkeypatch):
    with runs.open_run("toy", Config(), ABOUT) as run:
        run.write_json("metrics.json", {"old": 1})
        with pytest.raises(TypeError):
            run.write_json("metrics.json", {"new": object()})
        assert runs.read_json(run.path / "metrics.json") == {"old": 1}


def test_table_of_runs(capsys):
    path = finished_run()
    cut_off()
    table.main()
    text = capsys.readouterr().out
    for cell in (path.name, "default", "sample", "accuracy", "0.7500", "0.5000", "0.6250", "baseline", "1.5", "unfinished"):
        assert cell in text


def test_figures_of_a_run_without_a_test_part_say_so(capsys):
    finished_run(metrics=METRICS | {"split": "validation"})
    table.main()
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("on validation") == 2


def test_table_without_runs_says_how_to_make_one():
    with pytest.raises(UserError, match="make lists them"):
        table.main()
