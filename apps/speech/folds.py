"""How good is it with a speaker that is not in its training data? A whole run for each speaker, tested on that one alone."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from apps.speech import data
from apps.speech.config import Config
from apps.speech.train import train
from shared import runs
from shared.cli import UserError


def train_folds(config: Config) -> Path:
    """Train once for each speaker of `--data`, with all others for training and validation.

    Prints a table with mean and standard deviation, and writes it as folds.csv into the last run's folder, which is returned.

    Raises:
        UserError: if fewer than three speakers say all of the words.
    """
    speakers, rows = speakers_of(config), {}
    print(f"{len(speakers)} runs, one for each speaker: {', '.join(speakers)}.")
    for speaker in speakers:
        print(f"--- tested on {speaker} ---")
        folder = train(replace(config, folds=None, test_speaker=speaker))
        metrics = runs.read_json(folder / "metrics.json")
        rows[speaker] = {name: metrics[name] for name in ("test_accuracy", "baseline_accuracy")} | {"run": folder.name}
    table = with_mean_and_spread(pd.DataFrame.from_dict(rows, orient="index"))
    table.to_csv(folder / "folds.csv", index_label="speaker")

    from shared.report import print_table

    print_table(table.drop(columns="run"), f"Tested on one speaker after another, {config.data}", "speaker")
    print(f"Saved: {folder / 'folds.csv'}")
    return folder


def speakers_of(config: Config) -> list[str]:
    """Who says every word; the others are named, as nothing can be tested on them alone."""
    files = data.find_files(config)
    counts = pd.crosstab(pd.Series(files.speakers), pd.Series(data.classes_of(files, config)))
    counts = counts.drop(index="", errors="ignore").drop(columns=data.SILENCE, errors="ignore")
    whole = (counts > 0).all(axis=1)
    if len(counts) < 3 or not whole.any():
        raise UserError(
            f"--folds speakers needs three speakers and one who says every word; the names give {len(counts)}, of whom "
            f"{whole.sum()} do. --speaker-pattern says where in a file's name the speaker is."
        )
    if not whole.all():
        print(f"Not tested on, as they do not say every word: {', '.join(counts.index[~whole])}.")
    return counts.index[whole].tolist()


def with_mean_and_spread(table: pd.DataFrame) -> pd.DataFrame:
    """The table with two rows more: mean and (sample) standard deviation of its numbers."""
    scores = table.drop(columns="run")
    return pd.concat([table, pd.DataFrame({"mean": scores.mean(), "standard deviation": scores.std()}).T]).fillna({"run": ""})
