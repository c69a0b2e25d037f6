"""How good is it with a speaker that is not in its training data? A whole run for each speaker, tested on that one alone."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from apps.speech import data
from apps.speech.catalogue import classes_of, find_files
from apps.speech.config import SILENCE, Config
from shared import runs
from shared.cli import UserError


def train_folds(config: Config) -> Path:
    """Train once for each speaker of `--data`, with all others for training and validation.

    Prints a table with mean and standard deviation, and writes it as folds.csv into the last run's folder, which is returned.

    Raises:
        UserError: without `--data`, with a flag that makes no sense here, or if fewer than three speakers say all of the words.
    """
    if not config.data or config.test_speaker or config.training.resume:
        raise UserError("folds trains again for every speaker of --data: give it, and leave --test-speaker and --resume out.")
    speakers, rows = speakers_of(config), {}
    # After the folder was looked at, as both import TensorFlow
    from apps.speech.train import train
    from shared.report import print_table, with_mean_and_spread

    print(f"{len(speakers)} runs, one for each speaker: {', '.join(speakers)}.")
    for speaker in speakers:
        print(f"--- tested on {speaker} ---")
        of_speaker = replace(config, test_speaker=speaker)
        folder = train(of_speaker, data.load(of_speaker))
        test = runs.read_json(folder / "metrics.json")["test"]
        rows[speaker] = {who: test[who]["accuracy"] for who in ("network", "baseline")} | {"run": folder.name}
    table = with_mean_and_spread(pd.DataFrame.from_dict(rows, orient="index"))
    table.to_csv(folder / "folds.csv", index_label="speaker")
    print_table(table.drop(columns="run"), f"Accuracy on one speaker after another, {config.data}", "speaker")
    print(f"Saved: {folder / 'folds.csv'}")
    return folder


def speakers_of(config: Config) -> list[str]:
    """Who says every word; the others are named, as nothing can be tested on them alone."""
    files = find_files(config)
    counts = pd.crosstab(pd.Series(files.speakers), pd.Series(classes_of(files, config)))
    counts = counts.drop(index="", errors="ignore").drop(columns=SILENCE, errors="ignore")
    whole = (counts > 0).all(axis=1)
    if len(counts) < 3 or not whole.any():
        raise UserError(
            f"folds needs three speakers and one who says every word; the names give {len(counts)}, of whom "
            f"{whole.sum()} do. --speaker-pattern says where in a file's name the speaker is."
        )
    if not whole.all():
        print(f"Not tested on, as they do not say every word: {', '.join(counts.index[~whole])}.")
    return counts.index[whole].tolist()
