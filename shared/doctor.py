"""Look at this machine before blaming the code: python -m shared.doctor (or: make doctor)."""

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

from shared import cli, new, rehearsal, rnn, runs, training
from shared.cli import UserError

PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "tensorboard", "numpy")
TENSORBOARD_SECONDS = 60


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
        "device": runs.describe_device(),
        "cuDNN": cudnn,
        "XLA": _xla(),
        "memory": f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
        "disk": f"{disk.free / 2**30:.0f} GiB free for {runs.ROOT}/",
    }


def _xla() -> str:
    try:
        tf.function(lambda x: tf.tanh(x) * 2, jit_compile=True)(tf.ones(3))
    except tf.errors.OpError as error:
        return f"does not compile: {error.message.splitlines()[0]}"
    return "compiles"


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
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs.ROOT), "--port", "0"]
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        at_most = threading.Timer(seconds, process.kill)
        at_most.start()
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if address := re.search(r"http://\S+", line):
                    with urllib.request.urlopen(address[0], timeout=seconds) as page:
                        status = page.status
                    return f"starts, and answers after {time.monotonic() - started:.0f} seconds with status {status}"
            return f"does not start: {said[-1].strip() if said else 'it says nothing'}"
        except OSError as error:
            return f"does not answer: {error}"
        finally:
            at_most.cancel()
            process.terminate()


def diagnose(app: str) -> dict[str, str]:
    """Of an app's default network, on its generated sample: kernels, milliseconds a step, and those through XLA.

    Raises:
        UserError: if the app can't be trained here.
    """
    train = importlib.import_module(f"apps.{app}.train").train
    config = replace(importlib.import_module(f"apps.{app}.config").PRESETS["default"], data=None, dataset="sample")
    try:
        plain, compiled = (rehearsal.rehearse(train, config, jit_compile) for jit_compile in (False, True))
    except Exception as error:
        raise UserError(f"{app} does not train: {type(error).__name__}: {error}") from error
    kernels = sorted({str(kernel) for kernel in rnn.explain_kernels(plain.network).values()})
    ratio = plain.milliseconds / compiled.milliseconds
    return {
        "kernel": "\n".join(kernels),
        "ms a step": f"{plain.milliseconds:.0f}",
        "with XLA": f"{compiled.milliseconds:.0f}",
        "XLA is": f"{ratio:.1f} times as fast" if ratio > 1 else f"{1 / ratio:.1f} times as slow",
    }


def main() -> None:
    """Print all that is found; what is amiss comes last, and ends with status 2."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    for title, facts in (("This machine", machine()), ("Data", data_places())):
        table = Table("", "", title=title, show_header=False, title_justify="left")
        for name, fact in facts.items():
            table.add_row(name, fact)
        console.print(table)
    well = tensorboard()
    console.print(f"TensorBoard {well}.", highlight=False)
    troubles = [] if well.startswith("starts") else [f"TensorBoard {well}"]
    table = Table(title="Default networks, on their samples", title_justify="left")
    for app in new.apps():
        console.print(f"Training a few steps of {app}, with and without XLA ...")
        try:
            facts = {"app": app, **diagnose(app)}
        except UserError as error:
            troubles.append(str(error))
            continue
        if not table.columns:
            for name in facts:
                table.add_column(name, justify="left" if name in ("app", "kernel") else "right")
        table.add_row(*facts.values())
    console.print(table)
    console.print("Milliseconds are medians; an app whose batches differ in length is compiled again for each length by XLA.")
    if troubles:
        raise UserError("\n".join(troubles))


if __name__ == "__main__":
    cli.run(main)
