"""TensorFlow's remarks at its import: none of them is seen, and all else is."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
IMPORT = "from shared import cli; import tensorflow, os; os.write(2, b'I0000 ours\\n')"
WRITE = """
import os
from shared import quiet
with quiet.without_remarks():
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\\n")
    os.write(2, b"I0000 00:00:1.1 9 cpu.cc:227] This binary is optimized\\nTo enable the following instructions: FMA\\n")
    os.write(2, b"E0000 00:00:1.1 9 cuda.cc:1] a real error\\nTraceback\\n")
    END
os.write(2, b"I0000 afterwards\\n")
"""


def stderr_of(code: str) -> str:
    """What a process of its own writes to standard error."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True).stderr


def test_importing_tensorflow_prints_nothing():
    assert stderr_of(IMPORT) == "I0000 ours\n"


def test_errors_are_let_through():
    assert stderr_of(WRITE.replace("END", "")) == "E0000 00:00:1.1 9 cuda.cc:1] a real error\nTraceback\nI0000 afterwards\n"


def test_the_last_words_of_a_crash_are_let_through():
    assert stderr_of(WRITE.replace("END", "os.abort()")) == "E0000 00:00:1.1 9 cuda.cc:1] a real error\nTraceback\n"
