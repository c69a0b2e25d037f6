"""Which pair is for training, validation or test: no source and no target stands in two parts.

Pairs that share a text, directly or over others, are a group: a connected component of the graph of sources and targets. "Go
away!" and "Come on!" both are "¡Órale!", so all their translations hang together. A group goes into one part as a whole; a hash
of its smallest source tells which one, the same on every machine.
"""

import hashlib

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from shared.cli import UserError

TRAIN, VALIDATION, TEST = 0, 1, 2
EXPECTED = 10  # groups in the smallest part, below which it is refused
MAX_GROUP = 0.05  # of all pairs; a larger group is for training, as it would upset the fractions


def groups_of(pairs: list[tuple[str, str]]) -> np.ndarray:
    """The number of each pair's group, `(n,)`."""
    sources, targets = ({text: number for number, text in enumerate(dict.fromkeys(side))} for side in zip(*pairs, strict=True))
    rows = np.array([sources[source] for source, _ in pairs])
    columns = np.array([len(sources) + targets[target] for _, target in pairs])
    nodes = len(sources) + len(targets)
    edges = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(nodes, nodes))
    return np.unique(connected_components(edges, directed=False)[1][rows], return_inverse=True)[1]


def split(pairs: list[tuple[str, str]], validation: float, test: float, name: str) -> np.ndarray:
    """The part of each pair, `(n,)`: `TRAIN`, `VALIDATION` or `TEST`.

    Args:
        pairs: sources and targets, one or more.
        validation: fraction of the groups.
        test: fraction of the groups.
        name: of the data, for messages.

    Raises:
        UserError: if there are too few groups.
    """
    groups = groups_of(pairs)
    sizes = np.bincount(groups)
    needed = int(np.ceil(EXPECTED / min(validation, test)))
    if len(sizes) < needed:
        raise UserError(
            f"{name}: {len(pairs):,} pairs are too few to cut {validation:.0%} off for validation and {test:.0%} for test. "
            f"Pairs that share a text stay together, which makes {len(sizes):,} groups; {needed} are needed. Add pairs, or "
            "raise --validation-split and --test-split."
        )
    smallest = [""] * len(sizes)
    for group, (source, _) in zip(groups.tolist(), pairs, strict=True):
        smallest[group] = min(smallest[group] or source, source)
    chances = np.array([_chance(source) for source in smallest])
    parts = np.where(chances < test, TEST, np.where(chances < test + validation, VALIDATION, TRAIN))
    parts[_large(sizes, name)] = TRAIN
    return parts[groups]


def _chance(text: str) -> float:
    """A number from 0 to below 1 that depends on the text alone; evenly distributed."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _large(sizes: np.ndarray, name: str) -> np.ndarray:
    """Numbers of the groups that are too large to be held out, said to the user."""
    large = np.flatnonzero(sizes > max(MAX_GROUP * sizes.sum(), EXPECTED))
    for size in sizes[large]:
        print(f"{name}: {size:,} of {sizes.sum():,} pairs hang together by texts that they share; they are all for training.")
    return large


def leaked_by_random_split(pairs: list[tuple[str, str]], seed: int, test: float = 0.1) -> float:
    """What this split is for: the fraction of the test sources that a random split of the pairs leaves in train too."""
    is_test = np.zeros(len(pairs), bool)
    is_test[np.random.default_rng(seed).permutation(len(pairs))[: round(test * len(pairs))]] = True
    sources = [{source for (source, _), held_out in zip(pairs, is_test, strict=True) if held_out == part} for part in (0, 1)]
    return len(sources[1] & sources[0]) / max(len(sources[1]), 1)
