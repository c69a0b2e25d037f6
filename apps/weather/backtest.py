"""How good would it have been? Retrain on growing histories, each judged on what came right after it."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from apps.weather import data
from apps.weather.config import Config
from apps.weather.train import train
from shared import runs
from shared.report import print_table

MEASURES = ("test_mae_target", "baseline_mae_target", "last_value_mae_target", "yesterday_mae_target", "test_coverage")


def backtest(config: Config) -> Path:
    """Make `config.backtest` whole runs: the first on a little more than half of the rows, the last on all of them.

    Every run cuts its rows in time as always, so that no two test parts begin at the same row. Prints a table with mean and
    standard deviation, and writes it into the last run's folder, which is returned, as backtest.csv.
    """
    rows = data.load(config).longest
    rows_of_fold = [round(rows * (1 + fold / config.backtest) / 2) for fold in range(1, config.backtest + 1)]
    results, folder = {}, None
    for count in rows_of_fold:
        print(f"--- the first {count:,} rows ---")
        folder = train(replace(config, limit=count, backtest=0))
        metrics = runs.read_json(folder / "metrics.json")
        results[f"{count:,} rows"] = {name: metrics[name] for name in MEASURES if name in metrics}
    table = pd.DataFrame(results).T
    table = pd.concat([table, pd.DataFrame({"mean": table.mean(), "standard deviation": table.std()}).T])
    table.to_csv(folder / "backtest.csv", index_label="run")
    print_table(table, f"Backtest, in the unit of {metrics['target']}", digits=3)
    print(f"Saved: {folder / 'backtest.csv'}")
    return folder
