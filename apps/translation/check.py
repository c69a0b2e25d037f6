"""Look at pairs before training on them: make translation-check."""

import numpy as np
import pandas as pd

from apps.translation.config import Config
from apps.translation.data import Pairs, pairs_of, token_kinds
from apps.translation.split import leaked_by_random_split
from apps.translation.tokens import Vocabulary
from apps.translation.train import prepare
from shared.check import Findings, tell
from shared.data import Splits
from shared.plots import plt

MIN_PAIRS = 500  # in train
MANY_UNKNOWN = 0.01  # of the test sources


def check(config: Config, pairs: Splits) -> None:
    """Print what the data holds, what speaks against training on it and, if nothing does, how long training takes."""
    tell(look(config, pairs), config, lambda: {"training": (prepare(config, pairs), config.training.epochs)})


def look(config: Config, pairs: Splits) -> Findings:
    """Count and compare; nothing is trained."""
    parts = dict(zip(("train", "validation", "test"), pairs[:3], strict=True))
    kinds = token_kinds(config, pairs.name)
    sizes = config.vocabulary_size, config.max_tokens
    vocabulary = Vocabulary.learn(kinds, pairs.train.sources, pairs.train.targets, *sizes)
    leaked = leaked_by_random_split(pairs_of(parts.values()), config.training.seed)
    remarks = [
        f"Sources are cut into {kinds[0]} ({len(vocabulary.source):,} of them), targets into {kinds[1]} "
        f"({len(vocabulary.target):,}).",
        f"A random split of the pairs would leave {leaked:.1%} of the test sources in train; here no text is in two parts.",
    ]
    unknown = np.mean([bool(vocabulary.source.unknown(source)) for source in pairs.test.sources])
    if unknown > MANY_UNKNOWN:
        remarks.append(f"{unknown:.1%} of the test sources hold something that train does not: it is read as unknown.")
    obstacles = []
    if len(pairs.train.sources) < MIN_PAIRS:
        obstacles.append(f"{len(pairs.train.sources)} training pairs; {MIN_PAIRS} are the fewest to learn from. Add some.")
    table = pd.DataFrame({name: _describe(part, vocabulary) for name, part in parts.items()}, dtype=object)
    return Findings(
        "translation", pairs.name, {"pairs": table}, {"lengths": _plot_lengths(pairs.train, vocabulary)}, remarks, obstacles
    )


def _describe(part: Pairs, vocabulary: Vocabulary) -> dict[str, float]:
    sources, targets = _lengths(part, vocabulary)
    return {
        "pairs": len(part.sources),
        "different sources": len(set(part.sources)),
        "right targets per source": float(np.mean([*map(len, dict(zip(part.sources, part.references, strict=True)).values())])),
        "source tokens, median": int(np.median(sources)),
        "source tokens, longest": max(sources),
        "target tokens, median": int(np.median(targets)),
        "target tokens, longest": max(targets),
    }


def _lengths(part: Pairs, vocabulary: Vocabulary) -> tuple[list[int], list[int]]:
    sides = (vocabulary.source, part.sources), (vocabulary.target, part.targets)
    return tuple([len(tokenizer.encode(text)) for text in texts] for tokenizer, texts in sides)


def _plot_lengths(train: Pairs, vocabulary: Vocabulary):
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.hist(_lengths(train, vocabulary), bins=40, label=["source", "target"])
    axes.set(xlabel="tokens", ylabel="training pairs")
    axes.legend()
    return figure
