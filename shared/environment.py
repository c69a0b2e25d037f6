"""What a number depends on beside the settings: versions, device, backend, revision of the code, data."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import keras

from shared.data import Splits

PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "tensorflow-datasets")


def environment(data: Splits) -> dict[str, Any]:
    """The content of a run's environment.json."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "backend": keras.backend.backend(),
        "device": describe_device(),
        "git_revision": git_revision(),
        "data": data.name,
        "data_fingerprint": data.fingerprint,
    }


def describe_device() -> str:
    """The accelerators that Keras will use, else the processor and its number of usable cores."""
    accelerators = keras.distribution.list_devices("gpu")
    if accelerators:
        return ", ".join(accelerators)
    return f"CPU, {usable_cores()} cores"


def usable_cores() -> int:
    """Cores of the processor that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def git_revision() -> str | None:
    """The revision of the code, with "-dirty" where it was changed since; None where there is no git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
