"""How good would it have been? Train again on growing histories, each tested on what came right after it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from apps.weather import data
from apps.weather.config import Config
from apps.weather.train import train
from shared import runs
from shared.cli import UserError
from shared.report import print_table, with_mean_and_spread


def backtest(config: Config, series: data.Series, count: int) -> Path:
    """Make `count` whole runs, see `folds`.

    Prints a table with mean and standard deviation, and writes it into the last run's folder, which is returned, as
    backtest.csv.

    Raises:
        UserError: with --resume; for several places without cleaning, whose rows have no times in common.
    """
    if config.training.resume:
        raise UserError("backtest makes runs of its own; --resume cannot go on with them. Leave it out.")
    if len(series.places) > 1 and not config.clean:
        raise UserError("backtest cuts several places at the same times, which needs cleaning. Leave --no-clean out.")
    results, folder = {}, None
    for fold in folds(len(np.unique(series.times)), config, count):
        print(f"--- the first {fold.limit:,} times ---")
        folder = train(fold, data.load(fold))
        test = runs.read_json(folder / "metrics.json")["test"]
        results[f"{fold.limit:,} times"] = {who: figures["mae_target"] for who, figures in test.items()}
        if "coverage" in test["network"]:
            results[f"{fold.limit:,} times"]["coverage"] = test["network"]["coverage"]
    table = with_mean_and_spread(pd.DataFrame(results).T)
    table.to_csv(folder / "backtest.csv", index_label="run")
    print_table(table, f"Backtest, mean absolute error of {series.columns[series.target]}", digits=3)
    print(f"Saved: {folder / 'backtest.csv'}")
    return folder


def folds(times: int, config: Config, count: int) -> list[Config]:
    """The configs of a backtest: the later half of the time is cut into equal tests, each forecast from all before it.

        fold 1    train train train val | test
        fold 2    train train train train val | test
        fold 3    train train train train train val | test

    Train and validation divide what comes before a test as they do in `config`. Places are cut at the same times.

    Args:
        times: in all places together.
        config: the settings.
        count: how many.
    """
    test = times // (2 * count)
    configs = []
    for fold in range(1, count + 1):
        limit = times - (count - fold) * test
        before = 1 - test / limit
        configs.append(replace(config, limit=limit, split=tuple(before * part / sum(config.split) for part in config.split)))
    return configs
