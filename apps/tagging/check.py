"""Look at tagged sentences before training on them: make tagging-check."""

import numpy as np
import pandas as pd

from apps.tagging.config import Config
from apps.tagging.data import Sentences
from apps.tagging.schemes import spans_of
from apps.tagging.train import prepare
from apps.tagging.words import normalise
from shared.check import Findings, repeated, tell
from shared.data import Splits
from shared.plots import plt

MIN_SENTENCES = 50  # in train
MIN_SPANS = 5  # of a type in train, below which it is hardly learned


def check(config: Config, sentences: Splits) -> None:
    """Print what the data holds, what speaks against training on it and, if nothing does, how long training takes."""
    tell(look(config, sentences), config, lambda: {"training": (prepare(config, sentences), config.training.epochs)})


def look(_config: Config, sentences: Splits) -> Findings:
    """Count and compare; nothing is trained."""
    parts = dict(zip(("train", "validation", "test"), sentences[:3], strict=True))
    types = count_types(parts)
    about = _table_of_sentences(parts)
    remarks, obstacles = [], []
    if rare := [str(name) for name, count in types["train"].items() if count < MIN_SPANS]:
        remarks.append(f"Fewer than {MIN_SPANS} training examples, so hardly learned: {', '.join(rare[:20])}.")
    if known := int(about.loc["sentences that also stand in train", "test"]):
        remarks.append(f"{known} test sentences also stand in train: test is a little easier than new sentences will be.")
    if known > len(sentences.test.tokens) / 2:
        obstacles.append("more than half of the test sentences stand in train: a test would say nothing.")
    if len(sentences.train.tokens) < MIN_SENTENCES:
        obstacles.append(
            f"{len(sentences.train.tokens)} training sentences; {MIN_SENTENCES} are the fewest to learn from. Add some."
        )
    return Findings(
        "tagging",
        sentences.name,
        {"sentences": about, "spans of each type" if sentences.train.has_spans else "words of each tag": types},
        {"lengths": _plot_lengths(sentences.train)},
        remarks,
        obstacles,
    )


def count_types(parts: dict[str, Sentences]) -> pd.DataFrame:
    """How many spans of each type, or words of each tag, are in each part; the most frequent first."""

    def names(part: Sentences) -> list[str]:
        if part.has_spans:
            return [span.type for tags in part.tags for span in spans_of(tags)]
        return [tag for tags in part.tags for tag in tags]

    table = pd.DataFrame({name: pd.Series(names(part), dtype=object).value_counts() for name, part in parts.items()})
    return table.fillna(0).astype(int).sort_values("train", ascending=False)


def _table_of_sentences(parts: dict[str, Sentences]) -> pd.DataFrame:
    in_train = {tuple(tokens) for tokens in parts["train"].tokens}
    known = {normalise(token) for tokens in in_train for token in tokens}

    def describe(part: Sentences, is_train: bool) -> dict[str, float]:
        lengths, words = (
            [len(tokens) for tokens in part.tokens],
            [normalise(token) for tokens in part.tokens for token in tokens],
        )
        return {
            "sentences": len(lengths),
            "words, median": int(np.median(lengths)),
            "words, longest": max(lengths),
            "words that train does not know, %": 0.0
            if is_train
            else 100 * float(np.mean([word not in known for word in words])),
            "the same sentence twice in it": repeated([*map(tuple, part.tokens)]),
            "sentences that also stand in train": 0 if is_train else sum(tuple(tokens) in in_train for tokens in part.tokens),
        }

    return pd.DataFrame({name: describe(part, name == "train") for name, part in parts.items()}, dtype=object)


def _plot_lengths(train: Sentences):
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.hist([len(tokens) for tokens in train.tokens], bins=40)
    axes.set(xlabel="words", ylabel="training sentences")
    return figure
