"""Whole tables are answered by command: every row once, bad ones say why, shards together give what one process gives."""

import contextlib
import importlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile

from apps.speech import __main__ as speech_commands
from apps.speech import audio, predict
from apps.speech import export as speech_export
from apps.speech.config import PRESETS
from apps.speech.model import build_model
from apps.speech.model import build_servable as build_speech_servable
from apps.textgen import __main__ as textgen_commands
from apps.textgen import export as textgen_export
from apps.textgen.config import DEFAULT
from apps.textgen.model import build_generator, build_servable
from apps.textgen.predict import Predictor, Sampling
from shared import runs
from shared.cli import UserError

REPOSITORY = Path(__file__).parent.parent
RATE, NAMES = 16_000, ["go", "stop", "_unknown_"]
SMOKE = PRESETS["smoke"]
SPEECH = replace(SMOKE, filters=(4,), recurrent=replace(SMOKE.recurrent, units=4))
TEXTGEN = replace(DEFAULT, embedding_dim=4, recurrent=replace(DEFAULT.recurrent, units=6))
VOCABULARY = ["\n", " ", "1", "a", "b", "c", "d", "e"]


def finished(app, config, write):
    with runs.open_run(app, config, {"data": "own", "data_fingerprint": "0"}) as opened:
        write(opened.path)
        (opened.path / "model.keras").touch()
        return opened.finish({"app": app, "dataset": "own", "preset": "smoke", "class_names": NAMES}).absolute()


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """A network that was never trained: its servable, and its run folder."""
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    servable = build_speech_servable(build_model(SPEECH, len(NAMES), rng.normal(size=40), rng.uniform(50, 100, 40)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("speech"))
        return servable, finished("speech", SPEECH, lambda folder: speech_export.write(SPEECH, servable, folder))


@pytest.fixture(scope="module")
def textgen(tmp_path_factory):
    """The run folder of a network of random weights, large enough that its text wanders."""
    keras.utils.set_random_seed(0)
    network = build_generator(TEXTGEN, len(VOCABULARY) + 2)
    network.set_weights([weight * 3 + 0.1 for weight in network.get_weights()])
    servable = build_servable(TEXTGEN, VOCABULARY, network)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("textgen"))
        return finished("textgen", TEXTGEN, lambda folder: textgen_export.write(TEXTGEN, servable, folder))


@pytest.fixture
def clips():
    """A table of the paths of five clips, in a folder of its own; two of them cannot be read."""
    Path("table/words").mkdir(parents=True)
    rng, paths = np.random.default_rng(0), ["words/a.wav", "words/b.flac", "gone.wav", str(Path("c.wav").absolute()), "x.wav"]
    for path, seconds in ((Path("table/words/a.wav"), 1.0), (Path("table/words/b.flac"), 2.5), (Path("c.wav"), 0.3)):
        soundfile.write(path, rng.uniform(-0.5, 0.5, round(seconds * RATE)), RATE)
    Path("table/x.wav").write_text("no audio")
    pd.DataFrame({"id": range(5), "path": paths}).to_csv("table/clips.csv", index=False)
    return [Path("table") / path for path in paths]


def ask_speech(speech, *args):
    speech_commands.predict(["--file", "table/clips.csv", "--clip-column", "path", "--run", str(speech[1]), *args])


def test_clips_of_a_table(speech, clips, monkeypatch):
    monkeypatch.setattr(predict, "BATCH", 2)
    with pytest.raises(UserError, match=r"^2 of 5 rows could not be answered; answers\.csv says why, in the column 'problem'"):
        ask_speech(speech, "--output", "answers.csv")
    table = pd.read_csv("answers.csv")
    probabilities = [f"probability_{name}" for name in NAMES]
    assert table.columns.tolist() == ["id", "path", "seconds", "label", *probabilities, "problem"]
    good = [0, 1, 3]
    waveforms = [audio.fit_length(soundfile.read(clips[place], dtype="float32")[0], RATE) for place in good]
    expected = np.asarray(speech[0](np.stack(waveforms)))
    np.testing.assert_allclose(table.loc[good, probabilities], expected, atol=1e-5)
    assert table["label"][good].tolist() == [NAMES[number] for number in expected.argmax(axis=1)]
    assert table["seconds"][good].tolist() == [1, 2.5, 0.3]
    assert table.loc[[2, 4], ["seconds", "label", *probabilities]].isna().all(axis=None)
    assert table["problem"].isna().tolist() == [True, True, False, True, False]
    assert re.match(r"table/gone\.wav: there is no such file", table["problem"][2])
    assert re.match(r"table/x\.wav is no audio", table["problem"][4])


def asked(ask, *args):
    """The table that is written, as text; what is wrong with some of its rows is said after that."""
    with contextlib.suppress(UserError):
        ask(*args)
    return pd.read_csv(args[args.index("--output") + 1], dtype=str, keep_default_na=False)


def test_what_is_no_path_does_not_end_the_job(speech, clips):
    pd.DataFrame({"path": ["", "x" * 5_000, "a\0b", clips[3]]}).to_csv("table/clips.csv", index=False)
    table = asked(ask_speech, speech, "--output", "answers.csv")
    assert table["problem"][0] == "No path is given."
    assert table["problem"][1].endswith("can't be read: File name too long.")
    assert "there is no such file" in table["problem"][2]
    assert table["label"][3] in NAMES


def test_shards_of_clips_give_what_one_process_gives(speech, clips):
    table = asked(ask_speech, speech, "--output", "all.csv")
    shards = [asked(ask_speech, speech, "--output", f"{n}.csv", "--shard", f"{n}/2") for n in range(2)]
    for column in ("id", "path", "seconds", "label", "problem"):
        assert [shards[place % 2][column][place // 2] for place in range(5)] == table[column].tolist()


PROMPTS = ["a", "bad", "", "ab", "xyz", "a"]


@pytest.fixture
def prompts():
    pd.DataFrame({"id": range(6), "prompt": PROMPTS}).to_csv("prompts.csv", index=False)


def ask_textgen(folder, *args):
    textgen_commands.predict(["--file", "prompts.csv", "--length", "40", "--run", str(folder), *args])


def test_prompts_of_a_table_and_of_its_shards(textgen, prompts):
    options = ["--temperature", "2", "--seed", "3", "--stop", "b"]
    with pytest.raises(UserError, match=r"^2 of 6 rows could not be answered; all\.csv says why, in the column 'problem'"):
        ask_textgen(textgen, "--output", "all.csv", *options)
    table = pd.read_csv("all.csv", dtype=str, keep_default_na=False)
    assert table.columns.tolist() == ["id", "prompt", "continuation", "problem"]
    assert table["prompt"].tolist() == PROMPTS
    predictor = Predictor(textgen)
    for place in (0, 1, 3, 5):
        [answer] = predictor([PROMPTS[place]], Sampling(temperature=2), 40, [(3, place)], "b")
        assert table["continuation"][place] == answer["text"]
        assert table["problem"][place] == ""
    assert table["continuation"][[2, 4]].tolist() == ["", ""]
    assert "empty" in table["problem"][2]
    assert "'x' 'y' 'z'" in table["problem"][4]
    shards = [asked(ask_textgen, textgen, "--output", f"{n}.csv", *options, "--shard", f"{n}/2") for n in range(2)]
    pd.testing.assert_frame_equal(pd.concat(shards).sort_values("id", ignore_index=True), table)


def test_unknown_characters_of_a_table_may_be_skipped(textgen, prompts, capsys):
    pd.DataFrame({"prompt": ["axb", "ab"]}).to_csv("prompts.csv", index=False)
    ask_textgen(textgen, "--on-unknown", "skip", "--temperature", "0")
    table = pd.read_csv("predictions.csv", keep_default_na=False)
    assert table["continuation"][0] == table["continuation"][1] != ""
    assert "2 texts written by" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--prompt-column", "words"], r"prompts\.csv has no column 'words'; it has id, prompt"),
        (["--output", "prompts.csv"], r"--output prompts\.csv exists already; nothing was overwritten"),
        (["--output", "out.txt"], r"--output out\.txt: the name ends in one of"),
        (["--file", "prompts.doc"], r"--file prompts\.doc: the name ends in one of"),
        (["--shard", "2/2"], r"--shard is K/N"),
        (["--prompt", "a"], "--prompt, --samples and --show-probabilities are for a single prompt"),
        (["--samples", "2"], "--prompt, --samples and --show-probabilities are for a single prompt"),
    ],
)
def test_a_mistake_leaves_nothing_behind(args, message, textgen, prompts):
    before = Path("prompts.csv").read_bytes()
    with pytest.raises(UserError, match=message):
        ask_textgen(textgen, *args)
    assert [path.name for path in Path().iterdir()] == ["prompts.csv"]
    assert Path("prompts.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["a.wav"], "got 2 of the four"),
        (["--microphone"], "got 2 of the four"),
        (["--threshold", "0.5"], "are for --stream and --microphone"),
        (["--clip-column", "wav"], r"table/clips\.csv has no column 'wav'; it has id, path"),
        (["--file", "table"], r"--file table: the name ends in one of"),
    ],
)
def test_wrong_requests_for_clips(args, message, speech, clips):
    with pytest.raises(UserError, match=message):
        ask_speech(speech, *args)
    assert not Path("predictions.csv").exists()


CODE = """
import importlib, sys
importlib.import_module(f"apps.{sys.argv[1]}.__main__").predict(sys.argv[2:])
print(sorted({"tensorflow", "keras", "sklearn", "matplotlib"} & set(sys.modules)))
"""


@pytest.mark.parametrize("app", ["speech", "textgen"])
def test_tables_are_answered_without_tensorflow(app, speech, textgen, clips, prompts):
    here, folder = Path.cwd(), {"speech": speech[1], "textgen": textgen}[app]
    column = {"speech": "clip", "textgen": "prompt"}[app]
    Path("in.csv").write_text(f"{column}\n{here / 'c.wav' if app == 'speech' else 'ab'}\n")
    args = ["--file", str(here / "in.csv"), "--output", str(here / "out.parquet"), "--run", str(folder)]
    answer = subprocess.run([sys.executable, "-c", CODE, app, *args], cwd=REPOSITORY, capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1:] == ["[]"], answer.stderr
    table = pd.read_parquet("out.parquet")
    assert table["problem"].isna().tolist() == [True]
    assert importlib.import_module("pyarrow.parquet").read_schema("out.parquet").field("problem").type in (
        "string",
        "large_string",
    )
