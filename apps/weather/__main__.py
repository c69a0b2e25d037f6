"""Forecast a series, with intervals. Flags and data are read before TensorFlow is imported: mistakes are answered at once."""

import argparse

import tyro

from apps.weather.config import PRESETS, Request
from shared import cli, runs
from shared.cli import UserError
from shared.settings import ExportRequest, ServeRequest


def train(args: list[str]) -> None:
    """Train, evaluate once on test, write the run folder."""
    config = runs.parse("weather", PRESETS, train.__doc__, args)
    from apps.weather import data

    series = data.load(config)
    from apps.weather.train import train as run

    run(config, series)


def check(args: list[str]) -> None:
    """Look at the data before training: what it holds, how long training takes."""
    config = cli.parse("python -m apps.weather check", PRESETS, check.__doc__, args)
    from apps.weather import data

    series = data.load(config)
    from apps.weather.check import check as look

    look(config, series)


def backtest(args: list[str]) -> None:
    """Train again on growing histories, each tested on what came right after it: --folds N, then mean and spread."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--folds", type=int, default=4)
    known, args = chooser.parse_known_args(args)
    if known.folds < 1:
        raise UserError(f"--folds is 1 or more; got {known.folds}.")
    config = cli.parse("python -m apps.weather backtest", PRESETS, backtest.__doc__, args)
    from apps.weather import data

    series = data.load(config)
    from apps.weather.backtest import backtest as run

    run(config, series, known.folds)


def predict(args: list[str]) -> None:
    """Ask a trained run; TensorFlow is not needed."""
    request = tyro.cli(Request, prog="python -m apps.weather predict", description=predict.__doc__, args=args)
    from apps.weather.predict import predict as ask

    ask(request)


def export(args: list[str]) -> None:
    """Write a run's model for other programs, each file compared with the Keras model."""
    request = tyro.cli(ExportRequest, prog="python -m apps.weather export", description=export.__doc__, args=args)
    runs.find("weather", request.run)  # a run that is not there is answered before TensorFlow is imported
    from apps.weather.export import export_run

    export_run(request)


def serve(args: list[str]) -> None:
    """Answer requests over HTTP; TensorFlow is not needed."""
    request = tyro.cli(ServeRequest, prog="python -m apps.weather serve", description=serve.__doc__, args=args)
    from apps.weather.serve import serve_run

    serve_run(request)


if __name__ == "__main__":
    commands = {"train": train, "check": check, "backtest": backtest, "predict": predict, "export": export, "serve": serve}
    cli.run_command(__doc__, commands)
