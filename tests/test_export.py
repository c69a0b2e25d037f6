"""Exports are compared before they are kept; one that answers otherwise leaves nothing behind and costs a run nothing else."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from shared import export, onnx_export
from shared.cli import UserError
from shared.inference import ONNX, OnnxModel


def make_model(dtype="float32"):
    x = keras.Input((None, 3), name="x")
    sequence = layers.Bidirectional(layers.GRU(4, return_sequences=True, dtype=dtype), dtype=dtype)(x)
    outputs = layers.Dense(2, name="outputs", dtype=dtype)(sequence[:, -1])
    model = keras.Model(x, outputs)
    for weight in model.weights:
        weight.assign(np.random.default_rng(0).normal(scale=0.5, size=weight.shape))
    return model


def exportable_of(model, wrong=0.0):
    """`wrong` is what the ONNX file's answers are off by."""
    examples = list(np.random.default_rng(1).normal(size=(40, 5, 3)).astype("float32"))

    def ask_onnx(folder, threads):
        network = OnnxModel(folder / ONNX, threads)
        return lambda some: network(x=np.stack(some))["outputs"] + wrong

    return export.Exportable(
        servable=model,
        examples=examples,
        to_input=np.stack,
        metric="mean",
        score=lambda answers: float(answers.mean()),
        same=lambda one, other: (one > 0).all(axis=1) == (other > 0).all(axis=1),
        write=lambda folder: onnx_export.write_onnx(model, folder / ONNX),
        ask_onnx={ONNX: ask_onnx},
    )


def test_what_answers_as_keras_is_kept(tmp_path):
    [row] = export.write_onnx(tmp_path, exportable_of(make_model()))
    assert [path.name for path in tmp_path.iterdir()] == [ONNX]
    assert row["format"] == "ONNX"
    assert row["same answer"] == 1
    assert float(row["difference"]) < 1e-5
    assert row["MB"] == (tmp_path / ONNX).stat().st_size / 1e6
    assert row["ms per example"] > 0


@pytest.mark.parametrize("wrong", [2e-4, -0.5, float("nan")])
def test_what_answers_otherwise_leaves_nothing_behind(tmp_path, wrong):
    (tmp_path / ONNX).write_text("the one before")
    with pytest.raises(UserError, match=r"ONNX answers otherwise than the Keras model, by up to .*; it was not written"):
        export.write_onnx(tmp_path, exportable_of(make_model(), wrong))
    assert [path.name for path in tmp_path.iterdir()] == [ONNX]
    assert (tmp_path / ONNX).read_text() == "the one before"


def test_a_run_does_not_end_by_its_export(tmp_path, capsys):
    make_model().save(tmp_path / "model.keras")
    export.write_after_training("sentiment", tmp_path, lambda saved: exportable_of(saved, wrong=1.0))
    assert "warning: no model.onnx, which make sentiment-predict needs: UserError: ONNX answers" in capsys.readouterr().err

    def fail(_saved):
        raise TypeError("a layer of\nmy own")

    export.write_after_training("sentiment", tmp_path, fail)
    assert "needs: TypeError: a layer of my own" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    export.write_after_training("sentiment", tmp_path, exportable_of)
    assert capsys.readouterr().err == ""
    assert (tmp_path / ONNX).exists()


def test_a_model_that_computes_in_16_bits_is_exported_in_float32(tmp_path):
    model, expected = make_model("mixed_bfloat16"), make_model()
    exported = onnx_export.in_float32(model)
    [row] = export.write_onnx(tmp_path, exportable_of(exported))
    assert float(row["difference"]) < 1e-5
    x = np.random.default_rng(2).normal(size=(7, 5, 3)).astype("float32")
    np.testing.assert_allclose(OnnxModel(tmp_path / ONNX)(x=x)["outputs"], expected(x), atol=1e-5)
    assert onnx_export.in_float32(expected) is expected


def test_rounded_weights_may_change_answers_but_not_the_metric(tmp_path):
    exportable = exportable_of(make_model())
    (tmp_path / "file").touch()

    def off_by(amount):
        return lambda some: exportable.ask_keras(some) + amount

    row = export._compare("int8", tmp_path / "file", exportable, off_by(0.004), rounded=True)
    assert float(row["difference"]) == pytest.approx(0.004, abs=1e-4)
    with pytest.raises(UserError, match=r"int8 differs from the Keras model by 0\.0060 mean; it was not written"):
        export._compare("int8", tmp_path / "file", exportable, off_by(0.006), rounded=True)
    better = replace(exportable, score=lambda answers: 0.0)
    assert export._compare("int8", tmp_path / "file", better, off_by(0.5), rounded=True)["mean"] == 0
