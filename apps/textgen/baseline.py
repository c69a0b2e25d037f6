"""The cheap baseline: counted character n-grams, all orders interpolated (Witten and Bell, 1991). It sees `order - 1` steps."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from apps.textgen.characters import Text
from apps.textgen.data import block_size, count_targets

MAX_ORDER = 10
MAX_CHARACTERS = 5_000_000  # of the training text, from its end: counting takes some hundred bytes per character
CHUNK = 1_000_000  # characters that are looked up at a time


class Order(NamedTuple):
    """The n-grams of one order: `keys` (sorted) is the number of the first n - 1 characters * num_ids + the last one."""

    keys: np.ndarray
    counts: np.ndarray
    context_counts: np.ndarray
    context_types: np.ndarray  # how many different characters were seen after it


class Baseline(NamedTuple):
    orders: list[Order]
    num_ids: int
    characters: int  # how many were counted


def fit_baseline(train: Text, validation: Text, num_ids: int) -> Baseline:
    """Count n-grams in `train`; how long they are is chosen on `validation`."""
    characters = min(len(train.characters), MAX_CHARACTERS)
    context = np.zeros(characters, np.int64)
    ids = np.asarray(train.characters[-characters:], np.int64)
    orders, contexts = [], 1
    for _ in range(MAX_ORDER):
        keys, numbers, counts = np.unique(context * num_ids + ids, return_inverse=True, return_counts=True)
        of_context = keys // num_ids
        of_contexts = np.bincount(of_context, counts, contexts), np.bincount(of_context, minlength=contexts)
        orders.append(Order(keys, *(array.astype(np.int32) for array in (counts, *of_contexts))))
        ids, context, contexts = ids[1:], numbers[:-1], len(keys)
    every = Baseline(orders, num_ids, characters)
    best = int(np.argmin(nats_by_order(every, validation)))
    return every._replace(orders=orders[: best + 1])


def nats_by_order(baseline: Baseline, text: Text) -> np.ndarray:
    """Mean negative log likelihood, in nats per character, with n-grams of up to 1, 2, ... characters."""
    return nats_by_block(baseline, text).sum(axis=1) / count_targets(text)


def nats_by_block(baseline: Baseline, text: Text) -> np.ndarray:
    """Negative log likelihood of each block of the text, in nats, `(orders, blocks)`; see `apps.textgen.data.block_size`.

    As the network, it is not asked for the first character of a document. Each chunk of a million characters starts without
    a history.
    """
    size = block_size(text)
    blocks = np.zeros((len(baseline.orders), -(-len(text.characters) // size)))
    firsts = np.cumsum(text.document_lengths) - text.document_lengths
    for start in range(0, len(text.characters), CHUNK):
        ids = np.asarray(text.characters[start : start + CHUNK], np.int64)
        asked = np.ones(len(ids))
        asked[firsts[(firsts >= start) & (firsts < start + CHUNK)] - start] = 0
        block = (start + np.arange(len(ids))) // size
        for of_order, nats in zip(blocks, _nats(baseline, ids), strict=True):
            np.add.at(of_order, block, nats * asked)
    return blocks


def _nats(baseline: Baseline, ids: np.ndarray) -> Iterator[np.ndarray]:
    """Of each character, for one order after the other."""
    probability = np.full(len(ids), 1 / baseline.num_ids)
    context = np.zeros(len(ids), np.int64)  # number of the history in the order before; -1: never seen
    for order in baseline.orders:
        key = context * baseline.num_ids + ids
        place = np.minimum(np.searchsorted(order.keys, key), len(order.keys) - 1)
        seen = order.keys[place] == key  # an unseen context's key is below 0
        known = np.flatnonzero((context >= 0) & (order.context_counts[context] > 0))
        types, total = order.context_types[context[known]], order.context_counts[context[known]]
        count = np.where(seen, order.counts[place], 0)[known]
        probability[known] = (count + types * probability[known]) / (total + types)
        yield -np.log(probability)
        context = np.concatenate([[-1], np.where(seen, place, -1)[:-1]])
