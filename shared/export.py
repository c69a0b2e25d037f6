"""A trained model for other programs: written, loaded again and compared with the Keras model on validation examples."""

import contextlib
import functools
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from shared import litert_export, runs
from shared.cli import UserError
from shared.data import Splits
from shared.inference import ONNX
from shared.onnx_export import in_float32
from shared.report import markdown_table, print_table

EXAMPLES = 200  # at most, of the validation part
BATCH = 32
TIMED = 30  # examples asked one by one
MAX_DIFFERENCE = 1e-4  # of a float format, relative to the largest answer where that is above 1
INT8 = "model_int8.tflite"
MAX_LOSS = 0.005  # of the metric, by rounding the weights to 8 bits
HOW_TO_READ = (
    "Each file was loaded again and asked for the same validation examples as the Keras model. Difference: the largest one "
    f"between two answers; above {MAX_DIFFERENCE:g} (relative to the largest answer where that is above 1), or {MAX_LOSS:g} of "
    "the metric where weights are rounded to 8 bits, nothing is written. "
    "Same answer: the fraction of the examples that are decided alike; forecasts, which decide nothing, are the same where no "
    "value differs by a thousandth of its column's standard deviation or more. "
    f"Milliseconds: the median of {TIMED} examples asked one by one, on one thread."
)

Answer = Callable[[list], np.ndarray]  # from raw examples to answers (n, ...)


@dataclass(frozen=True)
class LiteRt:
    """What an app says about its model for LiteRT.

    Attributes:
        model: whose inputs all get a fixed size.
        shapes: these sizes, by name.
        ask: from the loaded file, called as `shared.inference.OnnxModel` is, to its answers.
    """

    model: keras.Model
    shapes: dict[str, tuple[int, ...]]
    ask: Callable[[litert_export.LiteRtModel], Answer]


@dataclass(frozen=True)
class Exportable:
    """What an app knows about its model.

    Attributes:
        servable: what is saved as model.keras.
        examples: raw validation examples.
        to_input: from raw examples to what `servable` takes.
        metric: name of what `score` gives.
        score: from the answers to all `examples`.
        same: which of two answers each are the same decision, `(n,)`.
        write: writes model.onnx and what `Predictor` needs beside it into a folder.
        ask_onnx: by the name of an ONNX file, from such a folder and the number of threads to its answers.
        litert: makes what is converted to LiteRT; None: nothing is.
        int8: makes what is converted with weights of 8 bits; None: `litert` does.
    """

    servable: keras.Model
    examples: list
    to_input: Callable[[list], Any]
    metric: str
    score: Callable[[np.ndarray], float]
    same: Callable[[np.ndarray, np.ndarray], np.ndarray]
    write: Callable[[Path], None]
    ask_onnx: dict[str, Callable[[Path, int], Answer]]
    litert: Callable[[], LiteRt] | None = None
    int8: Callable[[], LiteRt] | None = None

    @functools.cached_property
    def _graph(self) -> Callable:
        return tf.function(self.servable, reduce_retracing=True)  # run eagerly, a recurrent layer takes a hundred times as long

    def ask_keras(self, examples: list) -> np.ndarray:
        return np.asarray(self._graph(self.to_input(examples)))


def export_run(app: str, path: str | None, kind: type, load: Callable[[Any], Splits], describe: Callable) -> None:
    """Write every format of a run's model, each compared with the Keras model: what `make <app>-export` does.

    Args:
        app: name.
        path: run folder; None: the newest finished run.
        kind: the app's Config.
        load: the app's data by its Config.
        describe: `(config, model, data)` to an `Exportable`.
    """
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"  # as the report's times are meant; nothing was computed yet
    folder, _ = runs.load(app, path)
    config = runs.read_config(folder, kind)
    data = load(config)
    write_all(folder, describe(config, load_saved(folder), data), data)


def load_saved(folder: Path) -> keras.Model:
    """The model of a run folder, computing in float32."""
    return in_float32(keras.models.load_model(folder / "model.keras", compile=False))


def write_after_training(app: str, folder: Path, describe: Callable[[keras.Model], Exportable]) -> None:
    """Write the ONNX file of a run that is about to be finished; `describe` is given the model in model.keras.

    A network that cannot be converted, or answers otherwise afterwards, costs the run this file alone; why is printed.
    """
    try:
        # Not the model in memory: with --multi-gpu its variables lie on several devices.
        write_onnx(folder, describe(load_saved(folder)))
    except Exception as error:  # what tf2onnx raises for a layer it does not know may be anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(f"warning: no {ONNX}, which make {app}-predict needs: {reason}", file=sys.stderr)


def write_onnx(folder: Path, exportable: Exportable) -> list[dict[str, Any]]:
    """Write the ONNX files and what stands beside them into `folder`, if they answer as the Keras model.

    Returns:
        The report's rows.

    Raises:
        UserError: if one does not; `folder` is left as it was.
    """
    with _beside(folder / "onnx") as part:
        exportable.write(part)
        rows = [_compare(_title(name), part / name, exportable, ask(part, 1)) for name, ask in exportable.ask_onnx.items()]
        for file in part.iterdir():
            file.replace(folder / file.name)
    return rows


def _title(file: str) -> str:
    return "ONNX" if file == ONNX else f"ONNX, {Path(file).stem}"


def write_all(folder: Path, exportable: Exportable, data: Splits) -> None:
    """Write every format, compare each with the Keras model, print the table; export/report.md holds it too.

    Args:
        folder: of the run.
        exportable: its model.
        data: where its examples are from.

    Raises:
        UserError: if one differs too much; what was exported before is left as it was.
    """
    if data.fingerprint != runs.read_json(folder / "environment.json")["data_fingerprint"]:
        print(f"warning: {data.name} is not the data that this run was trained on; the comparison holds all the same.")
    rows = [_compare("Keras", folder / "model.keras", exportable, exportable.ask_keras), *write_onnx(folder, exportable)]
    with _beside(folder / "export") as part:
        saved_model = part / "saved_model"
        exportable.servable.export(saved_model, verbose=False)
        signature = tf.saved_model.load(saved_model).signatures["serving_default"]
        rows.append(_compare("SavedModel", saved_model, exportable, _ask_signature(signature, exportable)))
        if exportable.litert:
            rows.append(_write_litert(part / "model.tflite", exportable))
            try:
                rows.append(_write_litert(part / INT8, exportable, int8=True))
            except UserError as error:  # not every network bears such weights; the other files are none the worse
                (part / INT8).unlink(missing_ok=True)
                print(f"warning: {error}", file=sys.stderr)
        table = pd.DataFrame(rows).set_index("format")
        lines = [
            f"# Exports of {folder.name}",
            "",
            *markdown_table(table, "format"),
            "",
            HOW_TO_READ,
            "",
            *_describe(signature),
        ]
        (part / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        shutil.rmtree(folder / "export", ignore_errors=True)
        part.rename(folder / "export")
    print_table(table, f"{len(exportable.examples)} validation examples", "format")
    print(f"Written: {folder / ONNX} and {folder / 'export'}/ (report.md)")


def _write_litert(file: Path, exportable: Exportable, int8: bool = False) -> dict[str, Any]:
    litert = ((exportable.int8 if int8 else None) or exportable.litert)()
    litert_export.write_litert(litert.model, file, litert.shapes, int8)
    ask = litert.ask(litert_export.LiteRtModel(file))
    return _compare("LiteRT, int8" if int8 else "LiteRT", file, exportable, ask, rounded=int8)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """An empty folder `<path>.part`, which is removed afterwards, however that ends."""
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _compare(name: str, path: Path, exportable: Exportable, ask: Answer, rounded: bool = False) -> dict[str, Any]:
    """A row of the report.

    Raises:
        UserError: if the answers differ from the Keras model's by more than `MAX_DIFFERENCE` or, where the weights are
            rounded, the metrics by more than `MAX_LOSS`.
    """
    expected, found = (_in_batches(one, exportable.examples) for one in (exportable.ask_keras, ask))
    difference, score = float(np.max(np.abs(found - expected), initial=0.0)), exportable.score(found)
    if rounded:
        loss = round(abs(score - exportable.score(expected)), 9)  # one of 200 examples is just MAX_LOSS
        if not loss <= MAX_LOSS:
            raise UserError(f"{name} differs from the Keras model by {loss:.4f} {exportable.metric}; it was not written.")
    elif not difference <= MAX_DIFFERENCE * max(1.0, float(np.max(np.abs(expected), initial=0.0))):
        raise UserError(f"{name} answers otherwise than the Keras model, by up to {difference:.3g}; it was not written.")
    return {
        "format": name,
        "MB": _size(path) / 1e6,
        "difference": f"{difference:.1e}",
        "same answer": float(np.mean(exportable.same(expected, found))),
        exportable.metric: score,
        "ms per example": _milliseconds(ask, exportable.examples),
    }


def _in_batches(ask: Answer, examples: list) -> np.ndarray:
    return np.concatenate([ask(examples[start : start + BATCH]) for start in range(0, len(examples), BATCH)])


def _milliseconds(ask: Answer, examples: list) -> float:
    times = []
    for example in examples[:TIMED]:
        started = time.perf_counter()
        ask([example])
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))


def _ask_signature(signature, exportable: Exportable) -> Answer:
    """Answers of a SavedModel."""
    names = [*signature.structured_input_signature[1]]

    def ask(examples: list) -> np.ndarray:
        given = exportable.to_input(examples)
        given = given if isinstance(given, dict) else dict(zip(names, [given], strict=True))
        [found] = signature(**{name: tf.convert_to_tensor(one) for name, one in given.items()}).values()
        return found.numpy()

    return ask


def _describe(signature) -> list[str]:
    """The SavedModel's inputs and outputs as lines of Markdown."""
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    both = [("in", name, one) for name, one in inputs.items()] + [("out", name, one) for name, one in outputs.items()]
    return ["The SavedModel's signature serving_default:", ""] + [
        f"- {way}: `{name}`, {one.dtype.name} {tuple(one.shape)}" for way, name, one in both
    ]


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
