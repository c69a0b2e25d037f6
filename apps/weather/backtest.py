"""How good would it have been? Retrain on growing histories, each judged on what came right after it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from apps.weather import data
from apps.weather.config import Config
from apps.weather.train import train
from shared import runs
from shared.cli import UserError
from shared.report import print_table

MEASURES = ("test_mae_target", "baseline_mae_target", "last_value_mae_target", "yesterday_mae_target", "test_coverage")


def backtest(config: Config) -> Path:
    """Make `config.backtest` whole runs, see `folds`.

    Prints a table with mean and standard deviation, and writes it into the last run's folder, which is returned, as
    backtest.csv.

    Raises:
        UserError: for several places without cleaning, whose rows have no times in common.
    """
    series = data.load(config)
    if len(series.places) > 1 and not config.clean:
        raise UserError("--backtest cuts several places at the same times, which needs cleaning. Leave --no-clean out.")
    results, folder = {}, None
    for fold in folds(len(np.unique(series.times)), config):
        print(f"--- the first {fold.limit:,} times ---")
        folder = train(fold)
        metrics = runs.read_json(folder / "metrics.json")
        results[f"{fold.limit:,} times"] = {name: metrics[name] for name in MEASURES if name in metrics}
    table = pd.DataFrame(results).T
    table = pd.concat([table, pd.DataFrame({"mean": table.mean(), "standard deviation": table.std()}).T])
    table.to_csv(folder / "backtest.csv", index_label="run")
    print_table(table, f"Backtest, in the unit of {metrics['target']}", digits=3)
    print(f"Saved: {folder / 'backtest.csv'}")
    return folder


def folds(times: int, config: Config) -> list[Config]:
    """The configs of a backtest: the later half of the time is cut into equal tests, each forecast from all before it.

        fold 1    train train train val | test
        fold 2    train train train train val | test
        fold 3    train train train train train val | test

    Train and validation share what comes before a test as they do in `config`. Places are cut at the same times.

    Args:
        times: in all places together.
        config: the settings; `backtest` is the number of folds.
    """
    test = times // (2 * config.backtest)
    trained = config.train_share / (config.train_share + config.validation_share)
    configs = []
    for fold in range(1, config.backtest + 1):
        limit = times - (config.backtest - fold) * test
        before = 1 - test / limit
        parts = {"train_share": before * trained, "validation_share": before * (1 - trained)}
        configs.append(replace(config, limit=limit, backtest=0, **parts))
    return configs
