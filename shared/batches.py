"""Batches for training and evaluation, of sequences that are about equally long."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from shared.cli import UserError


def indices_by_length(
    lengths: np.ndarray, batch_size: int, rng: np.random.Generator | None = None, replicas: int = 1
) -> list[np.ndarray]:
    """Cut a dataset into batches of sequences that are about equally long, so that little of a batch is padding.

        lengths   9 2 8 3 1 7 2 9          as they come, in batches of 4: 14 + 17 empty places
        sorted    1 2 2 3 | 7 8 9 9        sorted by length first:          4 +  3 empty places

    Args:
        lengths: `(n,)`, of each sequence; or `(n, 2)`, of the two of a pair: sorted by the first and, where it is the same, by
            the second.
        batch_size: sequences in a batch; the last one may be smaller.
        rng: shuffles: lengths are blurred by 15 % before sorting, those of pairs by 5 %, so that batches differ between epochs,
            and the batches come in random order. None for evaluation: sorted, the same every time.
        replicas: copies of the model that split a batch. The first batch is then one that they split evenly
            (`tf.distribute` needs that of the first one alone).

    Returns:
        Index arrays; every index from 0 to n - 1 stands in exactly one of them.
    """
    blur = 0.15 if lengths.ndim == 1 else 0.05
    blurred = lengths if rng is None else lengths * rng.uniform(1 - blur, 1 + blur, lengths.shape)
    order = np.argsort(blurred, kind="stable") if lengths.ndim == 1 else np.lexsort((blurred[:, 1], np.rint(blurred[:, 0])))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if rng is not None:
        rng.shuffle(batches)
    return split_evenly_first(batches, replicas)


def split_evenly_first(batches: list[np.ndarray], replicas: int) -> list[np.ndarray]:
    """The same batches, the first one of a size that `replicas` copies of the model can split evenly.

    Raises:
        UserError: if there are fewer examples than copies.
    """
    rest = len(batches[0]) % replicas
    if not rest:
        return batches
    if len(batches) > 1:  # the remainder changes places with the last batch
        return [batches[-1], *batches[1:-1], batches[0]]
    if len(batches[0]) < replicas:
        raise UserError(f"--multi-gpu: {len(batches[0])} examples cannot be split over {replicas} GPUs. Leave it out.")
    return [batches[0][:-rest], batches[0][-rest:]]


def shuffled(rows: np.ndarray, batch_size: int, seed: int, first_epoch: int = 0, replicas: int = 1) -> Iterator[np.ndarray]:
    """Batches of `rows` `(n,)` in random order, epoch after epoch without end.

    The order of an epoch depends on `seed` and its number alone, so that a resumed run sees what an uninterrupted one would
    have seen. `replicas`: see `indices_by_length`.
    """
    for epoch in itertools.count(first_epoch):
        yield from in_order(np.random.default_rng([seed, epoch]).permutation(rows), batch_size, replicas)


def in_order(rows: np.ndarray, batch_size: int, replicas: int = 1) -> list[np.ndarray]:
    """Batches of `rows` `(n,)` one after the other; `replicas`: see `indices_by_length`."""
    return split_evenly_first(np.array_split(rows, range(batch_size, len(rows), batch_size)), replicas)


def count_batches(examples: int, batch_size: int, replicas: int = 1) -> int:
    """Batches per epoch of all functions here."""
    return len(in_order(np.arange(examples), batch_size, replicas))


def prepared_ahead(
    make: Callable[[], Iterator], signature, num_batches: int, prepare: Callable | None = None
) -> tf.data.Dataset:
    """What a Python generator yields, made on other threads while the network computes.

    Args:
        make: starts the generator; called once an epoch, or once in all where it never ends.
        signature: `tf.TensorSpec` of what it yields, or a tuple of them.
        num_batches: how often it yields; `tf.data.INFINITE_CARDINALITY`: without end.
        prepare: TensorFlow's part of the work, two batches at a time.
    """
    options = tf.data.Options()
    # There is nothing to tune, and at times the tuner's thread sleeps on for ten or twenty seconds while whoever lets go of the
    # iterator waits for it: seen with TensorFlow 2.21.
    options.autotune.enabled = False
    batches = tf.data.Dataset.from_generator(make, output_signature=signature).with_options(options)
    batches = batches.apply(tf.data.experimental.assert_cardinality(num_batches))
    if prepare:
        batches = batches.map(prepare, num_parallel_calls=2)
    return batches.prefetch(4)


def batches_by_length(
    features, labels, batch_size: int, seed: int, first_epoch: int = 0, replicas: int = 1, by: tuple[str, ...] = ()
):
    """Training batches from ragged features, in length buckets, epoch after epoch without end.

    The order of an epoch depends on `seed` and its number alone, so that a resumed run sees what an uninterrupted one
    would have seen.

    Args:
        features: a dict of `tf.RaggedTensor`s with n rows each.
        labels: `(n,)`, or ragged, `(n, None)`.
        batch_size: rows in a batch.
        seed: of the order.
        first_epoch: number of the first epoch, counted from 0.
        replicas: see `indices_by_length`.
        by: the one or two features whose lengths make the buckets. None given: the first.

    Returns:
        A `tf.data.Dataset` of (features padded with 0 on the right, labels, ragged ones padded with -1).
    """
    lengths = _lengths(features, by)

    def order() -> Iterator[np.ndarray]:
        for epoch in itertools.count(first_epoch):
            yield from indices_by_length(lengths, batch_size, np.random.default_rng([seed, epoch]), replicas)

    return _gather(features, labels, order, tf.data.INFINITE_CARDINALITY)


def batches_in_order(features, labels, batch_size: int, replicas: int = 1):
    """Evaluation batches: as `batches_by_length`, but one epoch, sorted by length.

    Returns:
        The `tf.data.Dataset` and the order of its rows, an index array `(n,)`.
    """
    batches = indices_by_length(_lengths(features), batch_size, replicas=replicas)
    return _gather(features, labels, lambda: iter(batches), len(batches)), np.concatenate(batches)


def _lengths(features, by: tuple[str, ...] = ()) -> np.ndarray:
    lengths = [features[name].row_lengths().numpy() for name in by or [next(iter(features))]]
    return np.stack(lengths, axis=1) if len(lengths) > 1 else lengths[0]


def _gather(features, labels, order, num_batches: int):
    labels = labels if isinstance(labels, tf.RaggedTensor) else tf.convert_to_tensor(labels)

    def batch(indices):
        padded = {name: tf.gather(ragged, indices).to_tensor() for name, ragged in features.items()}
        chosen = tf.gather(labels, indices)
        return padded, chosen.to_tensor(-1) if isinstance(chosen, tf.RaggedTensor) else chosen

    return prepared_ahead(order, tf.TensorSpec([None], tf.int64), num_batches, batch)
