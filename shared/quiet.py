"""TensorFlow is imported without the remarks that its C++ side makes before anything of ours is printed.

They go past Python, to file descriptor 2, and no setting keeps them away: whether there is a GPU, which instructions it was
built for, and that logging has not begun. While TensorFlow is being imported that descriptor leads through `grep`, which drops
just these lines. It is a process of its own, so that the last words of a crash get through.
"""

import contextlib
import importlib.abc
import importlib.machinery
import os
import subprocess
import sys
from collections.abc import Iterator

REMARKS = (
    "^WARNING: All log messages before absl::InitializeLog",
    "^I0000 ",  # I: information; warnings (W), errors (E) and fatal ones (F) are let through
    "^To enable the following instructions:",
)


def install() -> None:
    """From now on, an import of TensorFlow is quiet."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what is logged later: warnings of each thread and device
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Drop the lines that match `REMARKS` from what anything writes to file descriptor 2."""
    command = ["grep", "--line-buffered", "-v", *(part for remark in REMARKS for part in ("-e", remark))]
    shown = os.dup(2)
    sys.stderr.flush()
    try:
        filtering = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=shown)
    except OSError:  # no grep: rather too many lines than none
        os.close(shown)
        yield
        return
    os.dup2(filtering.stdin.fileno(), 2)
    filtering.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(shown, 2)
        os.close(shown)
        filtering.wait()


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps TensorFlow's own loader."""

    def find_spec(self, name, path, target=None):
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def quietly(module):
                with without_remarks():
                    execute(module)

            spec.loader.exec_module = quietly
        return spec
