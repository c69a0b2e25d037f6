"""Ask an exported network with ONNX Runtime: neither TensorFlow nor Keras is needed."""

from pathlib import Path

import numpy as np
import onnxruntime

from shared import runs
from shared.cli import UserError

ONNX = "model.onnx"


class OnnxModel:
    """An ONNX file, loaded. A pickled copy loads it again.

    Args:
        file: the file.
        threads: that one answer is computed with; None: as many as ONNX Runtime likes.
    """

    def __init__(self, file: Path, threads: int | None = None):
        self.file, self.threads = Path(file), threads
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(file), options, providers=onnxruntime.get_available_providers())
        self.inputs = {one.name: one for one in self.session.get_inputs()}
        self.outputs = [one.name for one in self.session.get_outputs()]

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name."""
        return dict(zip(self.outputs, self.session.run(None, inputs), strict=True))

    def __reduce__(self):
        return OnnxModel, (self.file, self.threads)


def find(app: str, path: str | None) -> Path:
    """The folder of `runs.load`, which has to hold an ONNX file.

    Raises:
        UserError: if it has none; the message says how to write one.
    """
    folder, _ = runs.load(app, path)
    if not (folder / ONNX).exists():
        raise UserError(f"{folder} has no {ONNX}. Write it: make {app}-export ARGS='--run {folder}'")
    return folder
