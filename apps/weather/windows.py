"""Windows over a series, gathered in the graph from one array: memory stays that of the series, however many windows there are.

    rows                 0 1 2 3 4 5 6 7 8 9 ...
    window at row 4      . . h h h f f . .        history 3, horizon 2, every row a step
    window at row 5      . . . h h h f f .        most of it is the same memory

A window belongs to the part of the data in which its targets (f) lie, all of them. Those of validation and test may look back
across the border, since the past is known when one forecasts; those of training end before it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from apps.weather.config import Config


class Starts(NamedTuple):
    """Rows `(n,)` at which windows have their last known step, by the part that their targets lie in."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def history_of(starts: np.ndarray, config: Config) -> np.ndarray:
    """The rows `(n, history)` that windows look back on, from rows `(n,)`: the last ones are these themselves."""
    return starts[:, None] + config.every * np.arange(1 - config.longest_history, 1)


def horizon_of(starts: np.ndarray, config: Config) -> np.ndarray:
    """The rows `(n, horizon)` that they forecast."""
    return starts[:, None] + config.every * np.arange(1, config.horizon + 1)


def split(piece: np.ndarray, filled: np.ndarray, borders: np.ndarray, config: Config) -> Starts:
    """All windows of a series, in order.

    Args:
        piece: `(rows,)`, a number for each unbroken stretch of one place; below 0: a row that can't be used.
        filled: `(rows,)`, True where a value was interpolated. No window has its last known step there: it knows the next.
        borders: `(rows,)`, 0 where a row belongs to train, 1 to validation, 2 to test.
        config: the settings.
    """
    before, after = (config.longest_history - 1) * config.every, config.horizon * config.every
    now = np.arange(before, len(piece) - after)
    whole = ~filled[now] & (piece[now] >= 0) & (piece[now - before] == piece[now]) & (piece[now + after] == piece[now])
    now = now[whole]
    first, last = borders[now + config.every], borders[now + after]
    if len(now) == 0:
        return Starts(now, now, now)
    # Pieces are numbered along the series, so the same number at both ends means the same all between.
    train, validation, test = (now[(first == part) & (last == part)] for part in range(3))
    return Starts(train[:: config.window_stride], validation, test)


def training_batches(values: np.ndarray, starts: np.ndarray, config: Config, first_epoch: int = 0):
    """Windows in random order, epoch after epoch without end; the order of one depends on the seed and its number alone.

    Args:
        values: `(rows, channels)`, normalised.
        starts: see `Starts`.
        config: the settings.
        first_epoch: number of the first epoch, counted from 0.

    Returns:
        A `tf.data.Dataset` of histories `(batch, history, channels)` and targets `(batch, horizon, channels)`, and the number
        of batches in an epoch.
    """

    import tensorflow as tf  # in the functions, so that windows can be counted before it is imported

    def order() -> Iterator[np.ndarray]:
        epoch = first_epoch
        while True:
            shuffled = np.random.default_rng([config.seed, epoch]).permutation(starts)
            yield from np.array_split(shuffled, range(config.batch_size, len(shuffled), config.batch_size))
            epoch += 1

    steps = -(-len(starts) // config.batch_size)
    return _gather(values, order, config, tf.data.INFINITE_CARDINALITY), steps


def batches_in_order(values: np.ndarray, starts: np.ndarray, config: Config):
    """Windows one after the other, once: as `training_batches`, the dataset alone."""
    pieces = np.array_split(starts, range(config.batch_size, len(starts), config.batch_size))
    return _gather(values, lambda: iter(pieces), config, len(pieces))


def _gather(values: np.ndarray, order, config: Config, num_batches: int):
    import tensorflow as tf

    from shared.batches import prepared_ahead

    series = tf.constant(values)
    history = config.every * tf.range(1 - config.longest_history, 1, dtype=tf.int64)
    horizon = config.every * tf.range(1, config.horizon + 1, dtype=tf.int64)

    def window(now):
        return tf.gather(series, now[:, None] + history), tf.gather(series, now[:, None] + horizon)

    return prepared_ahead(order, tf.TensorSpec([None], tf.int64), num_batches, window)


def for_network(batches, forecast: list[int], config: Config, steps: int | None = None, first_epoch: int = 0):
    """Batches of histories and targets as the network of `config` takes them.

    An autoregressive decoder is given the truth about a step before with a chance that falls from `config.teacher_forcing` to 0
    over the training; with `steps` None, for evaluation, never.

    Args:
        batches: see `training_batches`.
        forecast: columns that are forecast.
        config: the settings.
        steps: batches in an epoch.
        first_epoch: number of the first epoch.
    """
    import tensorflow as tf

    if "autoregressive" not in config.head:
        return batches.map(lambda history, targets: (history, tf.gather(targets, forecast, axis=2)))

    def tell(number, batch):
        history, targets = batch
        truth = tf.gather(targets, forecast, axis=2)
        share = 0.0
        if steps:
            done = tf.cast(number, tf.float32) / (steps * config.epochs)
            share = config.teacher_forcing * tf.maximum(0.0, 1.0 - done)
        seed = tf.stack([tf.constant(config.seed, tf.int64), number])
        forced = tf.random.stateless_uniform([tf.shape(truth)[0], config.horizon, 1], seed) < share
        return {"history": history, "truth": truth, "forced": tf.cast(forced, tf.float32)}, truth

    return batches.enumerate(first_epoch * (steps or 0)).map(tell)
