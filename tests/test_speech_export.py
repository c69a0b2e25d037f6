"""What leaves the training machine: the ONNX files with their spectrogram, the SavedModel, predictions without TensorFlow."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import soundfile
import tensorflow as tf

from apps.speech import __main__ as commands
from apps.speech import audio, data
from apps.speech.config import PRESETS
from apps.speech.export import exportable, for_microcontrollers
from apps.speech.model import build_model, build_servable
from apps.speech.predict import Predictor
from shared import export, onnx_export, runs
from shared.cli import UserError
from shared.inference import OnnxModel
from shared.litert_export import LiteRtModel, write_litert

REPOSITORY = Path(__file__).parent.parent
SMOKE = PRESETS["smoke"]
TINY = replace(SMOKE, dataset="sample", limit=3, filters=(4,), recurrent=replace(SMOKE.recurrent, units=4))
STREAMED = replace(TINY, top_db=None, pooling="last", recurrent=replace(TINY.recurrent, bidirectional=False))


def servable_of(config, num_classes):
    """A network with random weights, also those of batch normalisation."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    network = build_model(config, num_classes, rng.normal(size=config.mels), rng.uniform(50, 100, config.mels))
    for variable in network.weights:
        if "batch_normalization" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return build_servable(network)


@pytest.fixture(scope="module")
def speech():
    return data.load(TINY)


@pytest.fixture(scope="module", params=[TINY, STREAMED], ids=["whole clips", "streamed"])
def run(request, speech, tmp_path_factory):
    """A finished run of a network that was never trained."""
    config, names = request.param, list(speech.test.class_names)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("exported"))
        about = {"data": speech.name, "data_fingerprint": speech.fingerprint}
        with runs.open_run("speech", config, about) as opened:
            servable = servable_of(config, len(names))
            servable.save(opened.path / "model.keras")
            export.write_after_training("speech", opened.path, lambda saved: exportable(config, saved, speech))
            metrics = {"app": "speech", "dataset": "sample", "preset": "smoke", "class_names": names}
            folder = opened.finish(metrics | {"stream": {mode: {"threshold": 1.0} for mode in ("window", "carried", "reset")}})
        return folder.absolute()


def test_the_predictor_answers_as_the_keras_model(run, speech):
    noise = np.random.default_rng(0).uniform(-1, 1, 20_000)  # a constant would be 140 dB of rounding errors, in both
    clips = [*audio.to_float(speech.test.waveforms), np.zeros(16_000), 1e-5 * noise[:9_000], noise]
    soundfile.write("stereo.flac", np.tile(clips[0][:, None], 2), 16_000)
    saved = keras.models.load_model(run / "model.keras", compile=False)
    fitted = np.stack([audio.fit_length(np.float32(clip), 16_000) for clip in [*clips, clips[0]]])
    expected = np.asarray(saved(fitted))
    predictor = Predictor(run)
    np.testing.assert_allclose(predictor.probabilities(fitted), expected, atol=1e-5)
    answers, names = predictor([*clips, Path("stereo.flac")]), speech.test.class_names
    for answer, row in zip(answers, expected, strict=True):
        assert answer["label"] == names[row.argmax()]
        assert answer["probability"] == pytest.approx(row.max(), abs=1e-5)
        assert answer["probabilities"] == pytest.approx(dict(zip(names, row.tolist(), strict=True)), abs=1e-4)
    json.dumps(answers)
    assert pickle.loads(pickle.dumps(predictor))(clips[:3]) == answers[:3]
    for wrong, message in (
        ("nowhere.wav", r"nowhere\.wav: there is no such file"),
        (np.zeros((2, 9)), r"of the shape \(n,\), of one channel; got \(2, 9\)"),
        (np.full(9, np.nan), "A waveform holds samples that are no numbers"),
        (np.full(9, 3_000), "A waveform holds floating-point samples up to 3,000; expected -1 to 1"),
    ):
        with pytest.raises(UserError, match=message):
            predictor([wrong])


def test_the_recurrence_is_onnxs_own(run):
    for file in run.glob("*.onnx"):
        types = [node.op_type for node in onnx.load(file).graph.node]
        assert types.count("GRU") == 1
        assert not {"Loop", "Scan", "If"} & set(types)


def test_a_streamer_has_named_inputs_and_outputs(run):
    if not (run / "streamer.onnx").exists():
        assert not runs.read_config(run, type(TINY)).streamable
        return
    streamer = OnnxModel(run / "streamer.onnx")
    memory = {"memory_pasts_0", "memory_states_0_0"}
    assert set(streamer.inputs) == {"waveform", *memory}
    assert set(streamer.outputs) == {"probabilities", *(f"new_{name}" for name in memory)}


def test_the_command_imports_little(run, speech, tmp_path):
    """Neither TensorFlow nor Keras, nor what else takes long; also where a recording has to be resampled."""
    soundfile.write(tmp_path / "clip.wav", audio.to_float(speech.test.waveforms[0]), 44_100)
    code = (
        "import sys; from apps.speech import __main__ as commands; commands.predict([*sys.argv[2:], '--run', sys.argv[1]]);"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'matplotlib', 'scipy', 'pandas', 'librosa', 'requests'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    clip, streamed = str(tmp_path / "clip.wav"), (run / "streamer.onnx").exists()
    for arguments, lines in (([clip], 2), (["--stream", clip, *(["--mode", "carried"] if streamed else [])], 1)):
        command = [sys.executable, "-c", code, str(run), *arguments]
        answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        assert len(answer.stdout.splitlines()) == lines, answer.stderr
        assert answer.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("run", [STREAMED], indirect=True, ids=["streamed"])
def test_export_compares_every_format_and_shows_what_it_found(run, monkeypatch, capsys):
    monkeypatch.chdir(run.parent.parent.parent)
    soundfile.write("clip.wav", np.zeros(16_000), 16_000)
    for file in ("model.onnx", "streamer.onnx"):
        (run / file).unlink()
    with pytest.raises(UserError, match=r"has no model\.onnx\. Write it: make speech-export ARGS='--run "):
        commands.predict(["clip.wav"])
    commands.export([])
    assert (run / "model.onnx").exists()
    assert (run / "streamer.onnx").exists()
    printed = capsys.readouterr().out
    report = (run / "export" / "report.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in report.splitlines() if "|" in line}
    assert rows["format"] == ["MB", "difference", "same answer", "accuracy", "ms per example"]
    assert [*rows][2:7] == ["Keras", "ONNX", "ONNX, streamer", "SavedModel", "LiteRT"]  # int8 too, if random weights bear it
    for name in ("Keras", "ONNX", "ONNX, streamer", "SavedModel", "LiteRT"):
        assert name in printed
        assert float(rows[name][1]) < 1e-4
        assert float(rows[name][2]) == 1
        assert rows[name][3] == rows["Keras"][3]
    assert "`waveform`, float32 (None, 16000)" in report
    signature = tf.saved_model.load(str(run / "export" / "saved_model")).signatures["serving_default"]
    sound = 0.1 * np.random.default_rng(0).normal(size=(1, 16_000)).astype("float32")
    [served] = signature(waveform=tf.constant(sound)).values()
    np.testing.assert_allclose(served, Predictor(run).probabilities(sound), atol=1e-5)


def test_a_step_from_the_coefficients_answers_as_the_network(speech, tmp_path):
    """Of LiteRT, in 32 bits; what 8 bits cost is measured at every export."""
    config = replace(STREAMED, filters=(4, 4))
    servable = servable_of(config, len(speech.test.class_names))
    step = for_microcontrollers(config, servable)
    write_litert(step.model, tmp_path / "step.tflite", step.shapes)
    clips = audio.to_float(speech.validation.waveforms[:5])
    found = step.ask(LiteRtModel(tmp_path / "step.tflite"))(list(clips))
    np.testing.assert_allclose(found, servable.predict_on_batch(clips), atol=1e-5)


def test_a_network_of_16_bits_is_exported_in_32(speech, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    servable = servable_of(TINY, len(speech.test.class_names))
    [row] = export.write_onnx(tmp_path, exportable(TINY, onnx_export.in_float32(servable), speech))
    assert float(row["difference"]) < 1e-5
    sounds = audio.to_float(speech.validation.waveforms)
    np.testing.assert_allclose(Predictor(tmp_path).probabilities(sounds), servable.predict_on_batch(sounds), atol=0.05)


def test_a_run_that_is_not_there_cannot_be_exported():
    with pytest.raises(UserError, match=r"No finished run in runs/speech"):
        commands.export([])
