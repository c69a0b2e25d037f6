import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # one answer on every machine

import keras
import numpy as np
import pytest
import requests
import tensorflow as tf

from shared.plots import plt

if "PYTEST_XDIST_WORKER" in os.environ:  # two processes on two cores: more threads would only get in each other's way
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

# Two processors in name, so that MirroredStrategy can be tested on any machine.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
)


@pytest.fixture(autouse=True, scope="session")
def small_plots():
    """Drawing is a good part of a tiny run's time."""
    plt.rcParams["figure.dpi"] = 40


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
    """No public dataset lies on this machine, and no host answers."""

    def get(url, **_):
        raise requests.ConnectionError("no route to host (test)")

    monkeypatch.setattr(requests, "get", get)
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
