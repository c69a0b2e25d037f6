"""Look at this machine: versions, device, memory, data; kernels and milliseconds per step of each app"""

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import psutil
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared import cli, kernels, runs, training
from shared.cli import UserError
from shared.environment import describe_device
from tools import list_apps

PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "tensorboard", "numpy")
TENSORBOARD_SECONDS = 60
COLUMNS = ("app", "kernel", "ms per step", "with XLA", "XLA is")
NO_XLA = "does not compile: a part of CUDA that XLA needs is missing or does not fit. Nothing here needs XLA"


def machine() -> dict[str, str]:
    """What numbers and speeds depend on: versions, device, memory, cuDNN, XLA."""
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(Path.cwd())
    build = tf.sysconfig.get_build_info()
    cudnn = f"{build['cudnn_version']} (built for)" if build.get("is_cuda_build") else "this TensorFlow is built without CUDA"
    if not training.list_gpus():
        cudnn += "; no GPU is seen, so it is not used"
    return {
        "Python": f"{platform.python_version()} ({sys.executable})",
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "device": describe_device(),
        "cuDNN": cudnn,
        "XLA": "compiles" if xla_compiles() else NO_XLA,
        "memory": f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
        "disk": f"{disk.free / 2**30:.0f} GiB free for {runs.ROOT}/",
    }


def xla_compiles() -> bool:
    """Whether XLA can make a program for this machine's device."""
    try:
        tf.function(lambda x: tf.tanh(x) * 2, jit_compile=True)(tf.ones(3))
    except tf.errors.OpError:
        return False
    return True


def data_places() -> dict[str, str]:
    """Where the public datasets are looked for, and what lies there."""
    prepared = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    found = sorted({path.relative_to(prepared).parts[0] for path in prepared.glob("*/**/dataset_info.json")})
    downloads = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "datasets"
    return {
        f"prepared by TensorFlow Datasets, {prepared}": ", ".join(found) or "nothing",
        f"downloaded by Keras, {downloads}": ", ".join(sorted(path.name for path in downloads.glob("*"))) or "nothing",
    }


def tensorboard(seconds: float = TENSORBOARD_SECONDS) -> str:
    """Start TensorBoard on a free port, ask it for its page, and end it. What came of it; it begins with "starts" if well."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs.ROOT / runs.TENSORBOARD), "--port", "0"]
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        at_most = threading.Timer(seconds, process.kill)
        at_most.start()
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if address := re.search(r"http://\S+", line):
                    with urllib.request.urlopen(address[0], timeout=seconds):
                        return f"starts, and answers after {time.monotonic() - started:.0f} seconds"
            return f"does not start: {said[-1].strip() if said else 'it says nothing'}"
        except OSError as error:
            return f"does not answer: {error}"
        finally:
            at_most.cancel()
            process.terminate()


def diagnose(app: str) -> dict[str, str]:
    """Train a few steps of an app's default network on its generated sample, plainly and compiled by XLA.

    Returns:
        The app's row of the table; see `COLUMNS`. Where the network runs on cuDNN, which XLA would not use, XLA is left out.
    """
    prepare = importlib.import_module(f"apps.{app}.train").prepare
    config = replace(importlib.import_module(f"apps.{app}.config").PRESETS["default"], data=None, dataset="sample")
    splits = importlib.import_module(f"apps.{app}.data").load(config)

    experiment = prepare(config, splits)
    plain = training.time_steps(one_batch(experiment))
    names = {str(kernel) for kernel in kernels.explain_kernels(experiment.network).values()}
    row = {"app": app, "kernel": "\n".join(sorted(names)), "ms per step": f"{plain:.0f}", "with XLA": "-", "XLA is": "-"}
    if "cuDNN" in names:
        return row
    experiment = prepare(config, splits)
    experiment.network.jit_compile = True
    try:
        compiled = training.time_steps(one_batch(experiment))
    except tf.errors.OpError:
        return row | {"XLA is": "not able to compile it"}
    ratio = plain / compiled
    return row | {
        "with XLA": f"{compiled:.0f}",
        "XLA is": f"{ratio:.1f} times as fast" if ratio > 1 else f"{1 / ratio:.1f} times as slow",
    }


def one_batch(experiment: training.Experiment) -> training.Experiment:
    """The same, but every step sees the first batch: where batches differ in length, XLA would compile for each length."""
    batch = experiment.batches(0).take(1).cache()
    return replace(experiment, batches=lambda _: batch.repeat())


def diagnose_all(table: Table) -> list[str]:
    """Add a row for each app that can be trained here. Returns what is amiss with the others."""
    troubles = []
    for app in list_apps():
        print(f"Training a few steps of {app}, with and without XLA ...", flush=True)
        try:
            table.add_row(*diagnose(app).values())
        except Exception as error:  # whatever it is, the other apps are looked at too
            troubles.append(f"{app} does not train: {type(error).__name__}: {error}")
    return troubles


def main() -> None:
    """Print all that is found; what is amiss comes last, and ends with status 2."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    for title, facts in (("This machine", machine()), ("Data", data_places())):
        table = Table("", "", title=title, show_header=False, title_justify="left")
        for name, fact in facts.items():
            table.add_row(Text(name), Text(fact))
        console.print(table)
    answer = tensorboard()
    print(f"TensorBoard {answer}.")
    troubles = [] if answer.startswith("starts") else [f"TensorBoard {answer}"]
    table = Table(title="Default networks, on their samples", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("app", "kernel") else "right")
    troubles += diagnose_all(table)
    console.print(table)
    print("Medians, of one batch again and again: where batches differ in length, XLA also has to compile for each length.")
    if troubles:
        raise UserError("\n".join(troubles))


if __name__ == "__main__":
    cli.run(main)
