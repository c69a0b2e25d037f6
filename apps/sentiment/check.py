"""Look at labelled reviews before training on them: make sentiment-check."""

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score

from apps.sentiment import data
from apps.sentiment.baseline import fit_baseline
from apps.sentiment.config import Config
from apps.sentiment.pretraining import prepare_pretraining
from apps.sentiment.train import prepare
from shared.check import Findings, repeated, tell
from shared.data import Splits
from shared.plots import plt
from shared.training import Experiment

MIN_OF_A_CLASS = 20  # training reviews
LARGEST_CLASS = 0.98
FOR_BASELINE = 5_000  # reviews on which the linear baseline is tried


def check(config: Config, reviews: Splits) -> None:
    """Print what the data holds, what speaks against training on it and, if nothing does, how long training takes."""
    tell(look(config, reviews), config, lambda: _stages(config, reviews))


def _stages(config: Config, reviews: Splits) -> dict[str, tuple[Experiment, int]]:
    experiment = prepare(config, reviews)
    stages = {}
    if config.pretraining_epochs:
        language_model = prepare_pretraining(config, reviews, experiment.network, experiment.ids)
        stages["pretraining"] = language_model, config.pretraining_epochs
    return stages | {"training": (experiment, config.training.epochs)}


def look(config: Config, reviews: Splits) -> Findings:
    """Count, measure and compare; nothing is trained but the linear baseline, on a part."""
    parts = {"train": reviews.train, "validation": reviews.validation, "test": reviews.test}
    names = reviews.train.class_names
    counts = pd.DataFrame({part: np.bincount(found.labels, minlength=len(names)) for part, found in parts.items()}, [*names])
    lengths = {part: np.array([len(text.split()) for text in found.texts]) for part, found in parts.items()}
    about = _table_of_texts(parts, lengths, config.sequence_length)
    largest, majority = counts["train"].max() / counts["train"].sum(), counts["validation"].to_numpy().argmax()
    accuracy = _baseline_accuracy(reviews)
    guessing = float(np.mean(reviews.validation.labels == majority))
    remarks = [
        f"The linear baseline on at most {FOR_BASELINE:,} reviews has a validation accuracy of {accuracy:.3f}; always saying "
        f"'{names[majority]}' has {guessing:.3f}."
    ]
    if known := int(about.loc["texts that also stand in train", "test"]):
        remarks.append(f"{known} test reviews also stand in train: test is a little easier than new reviews will be.")
    if accuracy <= guessing:
        remarks.append("So words say nothing about the labels, as far as counting goes. Are they in the right rows?")
    obstacles = [
        f"class '{name}' has {count} training reviews; {MIN_OF_A_CLASS} are the fewest that say anything. Add some."
        for name, count in counts["train"].items()
        if count < MIN_OF_A_CLASS
    ]
    if largest > LARGEST_CLASS:
        obstacles.append(
            f"{largest:.1%} of the training reviews are of one class: always saying so is hard to beat. Balance them."
        )
    if repeated(reviews.test.texts) + about.loc["texts that also stand in train", "test"] > len(reviews.test.texts) / 2:
        obstacles.append("more than half of the test reviews are repeated or stand in train: a test would say nothing.")
    return Findings(
        "sentiment",
        reviews.name,
        {"reviews of each class": counts, "texts": about},
        {"lengths": _plot_lengths(reviews.train, lengths["train"], config)},
        remarks,
        obstacles,
    )


def _table_of_texts(parts: dict[str, data.Reviews], lengths: dict[str, np.ndarray], read: int) -> pd.DataFrame:
    """How many and how long they are in each part; `read`: words that the recurrence reads."""
    in_train = set(parts["train"].texts)
    return pd.DataFrame(
        {
            part: {
                "reviews": len(found.texts),
                "words, median": int(np.median(lengths[part])),
                "words, 95 % have at most": int(np.quantile(lengths[part], 0.95)),
                "words, longest": int(lengths[part].max()),
                f"longer than --sequence-length {read}, %": 100 * np.mean(lengths[part] > read),
                "the same text twice in it": repeated(found.texts),
                "texts that also stand in train": 0 if part == "train" else sum(text in in_train for text in found.texts),
            }
            for part, found in parts.items()
        },
        dtype=object,
    )


def _baseline_accuracy(reviews) -> float:
    train, validation = (data.take(part, FOR_BASELINE, seed=0) for part in (reviews.train, reviews.validation))
    model = fit_baseline(train, validation)
    return float(accuracy_score(validation.labels, model.predict(validation.texts)))


def _plot_lengths(train: data.Reviews, lengths: np.ndarray, config: Config):
    figure, axes = plt.subplots(figsize=(8, 4.5))
    edges = np.linspace(0, np.quantile(lengths, 0.99), 50)
    for number, name in enumerate(train.class_names):
        axes.hist(lengths[train.labels == number], edges, histtype="step", label=name)
    axes.axvline(config.sequence_length, color="k", linestyle=":", label="--sequence-length")
    axes.set(xlabel="words", ylabel="training reviews")
    axes.legend()
    return figure
