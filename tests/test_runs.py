"""The run folder: whole or not at all, found again, resumed only with the config it had."""

from dataclasses import dataclass, replace

import pytest

from shared import runs
from shared.cli import UserError


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


def test_a_run_is_unfinished_until_its_last_act():
    run = runs.Run.start("toy", Config(), ABOUT)
    assert run.path.name.endswith(".unfinished")
    with pytest.raises(UserError, match="No finished run in runs/toy"):
        runs.find("toy")
    with pytest.raises(AssertionError):
        run.finish()  # without metrics and model
    assert run.path.exists()


def test_the_newest_finished_run_is_found_and_latest_points_to_it():
    first, second = finished_run(), finished_run()
    runs.Run.start("toy", Config(), ABOUT)  # newer, but unfinished
    assert first != second
    assert runs.find("toy") == second
    assert (runs.ROOT / "toy" / "latest").resolve() == second.resolve()
    assert runs.find("toy", str(first)) == first


def test_a_half_written_run_is_refused_with_the_way_to_finish_it():
    run = runs.Run.start("toy", Config(), ABOUT)
    with pytest.raises(UserError, match=r"not whole, metrics.json, model.keras is missing.*--resume"):
        runs.find("toy", str(run.path))
    with pytest.raises(UserError, match="there is no such folder"):
        runs.find("toy", "runs/toy/gone")


def test_resume_finds_the_unfinished_run_of_the_same_config():
    run = runs.Run.start("toy", Config(units=3), ABOUT)
    assert runs.Run.resume("toy", Config(units=3, resume=True), ABOUT).path == run.path


def test_resume_with_another_config_names_what_differs_and_touches_nothing():
    run = runs.Run.start("toy", Config(), ABOUT)
    before = (run.path / "config.json").read_text()
    with pytest.raises(UserError, match=r"--units: was 8, now 16"):
        runs.Run.resume("toy", replace(Config(), units=16, resume=True), ABOUT)
    assert (run.path / "config.json").read_text() == before


def test_resume_on_other_data_is_refused():
    """The split would be another one, and rows trained on before would be tested on."""
    runs.Run.start("toy", Config(), ABOUT)
    with pytest.raises(UserError, match=r"the data: was .*, and their contents differ"):
        runs.Run.resume("toy", Config(resume=True), ABOUT | {"data_fingerprint": "4567"})


def test_resume_passes_over_runs_that_do_not_match():
    wanted = runs.Run.start("toy", Config(units=3), ABOUT)
    runs.Run.start("toy", Config(units=4), ABOUT)
    assert runs.Run.resume("toy", Config(units=3, resume=True), ABOUT).path == wanted.path


def test_resume_without_an_unfinished_run_says_so():
    finished_run()
    with pytest.raises(UserError, match="found no unfinished run"):
        runs.Run.resume("toy", Config(resume=True), ABOUT)


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
