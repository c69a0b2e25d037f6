"""Batches of windows, gathered in the graph while the network computes."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from apps.weather.windows import Windows
from shared import batches


def training_batches(
    values: np.ndarray,
    origins: np.ndarray,
    windows: Windows,
    forecast: list[int],
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    replicas: int = 1,
) -> tf.data.Dataset:
    """Windows in random order, epoch after epoch without end, see `shared.batches.shuffled`.

    Args:
        values: `(rows, columns)`, normalised.
        origins: `(n,)`.
        windows: how they lie.
        forecast: columns that are forecast, K in number.
        batch_size: windows per step.
        seed: of the order.
        first_epoch: number of the first epoch, counted from 0.
        replicas: see `shared.batches.indices_by_length`.

    Returns:
        Histories `(batch, history, columns)` and targets `(batch, horizon, K)`.
    """
    order = lambda: batches.shuffled(origins, batch_size, seed, first_epoch, replicas)  # noqa: E731
    return _gather(values, order, windows, forecast, tf.data.INFINITE_CARDINALITY)


def evaluation_batches(
    values: np.ndarray, origins: np.ndarray, windows: Windows, forecast: list[int], batch_size: int, replicas: int = 1
) -> tf.data.Dataset:
    """As `training_batches`, windows one after the other, once."""
    pieces = batches.in_order(origins, batch_size, replicas)
    return _gather(values, lambda: iter(pieces), windows, forecast, len(pieces))


def for_network(
    dataset: tf.data.Dataset, head: str, seed: int = 0, first_step: int = 0, steps: int | None = None
) -> tf.data.Dataset:
    """Histories and targets as the network of `apps.weather.model` takes them.

    An autoregressive decoder is given the target of the step before with a chance that falls from 1 to 0 over the training.

    Args:
        dataset: see `training_batches`.
        head: `config.head`.
        seed: of what is forced.
        first_step: number of the first batch.
        steps: of the whole training; None, for evaluation: nothing is forced.
    """

    def force(number, batch):
        history, targets = batch
        chance = 1 - tf.cast(number, tf.float32) / steps if steps else 0.0
        shape = tf.concat([tf.shape(targets)[:2], [1]], axis=0)
        forced = tf.random.stateless_uniform(shape, tf.stack([tf.constant(seed, tf.int64), number])) < chance
        return {"history": history, "targets": targets, "forced": tf.cast(forced, tf.float32)}, targets

    if head == "segments":
        return dataset.map(lambda history, targets: ({"history": history}, targets))
    return dataset.enumerate(first_step).map(force)


def _gather(values: np.ndarray, order: Callable[[], Iterator], windows: Windows, forecast: list[int], num_batches: int):
    series = tf.constant(values)
    history, horizon = (tf.constant(rows(np.zeros(1, np.int64))[0]) for rows in (windows.history_rows, windows.target_rows))

    def window(origins):
        targets = tf.gather(series, origins[:, None] + horizon)
        return tf.gather(series, origins[:, None] + history), tf.gather(targets, forecast, axis=2)

    return batches.prepared_ahead(order, tf.TensorSpec([None], tf.int64), num_batches, window)
