"""Recognise spoken words. Flags and data are read before TensorFlow is imported: mistakes are answered at once."""

import tyro

from apps.speech.config import PRESETS, Request
from shared import cli, runs
from shared.settings import ExportRequest, ServeRequest


def train(args: list[str]) -> None:
    """Train, evaluate once on test, write the run folder."""
    config = runs.parse("speech", PRESETS, train.__doc__, args)
    from apps.speech import data

    speech = data.load(config)
    from apps.speech.train import train as run

    run(config, speech)


def check(args: list[str]) -> None:
    """Look at the data before training: what it holds, how long training takes."""
    config = cli.parse("python -m apps.speech check", PRESETS, check.__doc__, args)
    from apps.speech import data

    speech = data.load(config)
    from apps.speech.check import check as look

    look(config, speech)


def folds(args: list[str]) -> None:
    """Train once for each speaker of --data, tested on that one alone; then mean and spread."""
    config = cli.parse("python -m apps.speech folds", PRESETS, folds.__doc__, args)
    from apps.speech.folds import train_folds

    train_folds(config)


def predict(args: list[str]) -> None:
    """Ask a trained run; TensorFlow is not needed."""
    request = tyro.cli(Request, prog="python -m apps.speech predict", description=predict.__doc__, args=args)
    from apps.speech.predict import predict as ask

    ask(request)


def export(args: list[str]) -> None:
    """Write a run's model for other programs, each file compared with the Keras model."""
    request = tyro.cli(ExportRequest, prog="python -m apps.speech export", description=export.__doc__, args=args)
    runs.find("speech", request.run)  # a run that is not there is answered before TensorFlow is imported
    from apps.speech.export import export_run

    export_run(request)


def serve(args: list[str]) -> None:
    """Answer requests over HTTP; TensorFlow is not needed."""
    request = tyro.cli(ServeRequest, prog="python -m apps.speech serve", description=serve.__doc__, args=args)
    from apps.speech.serve import serve_run

    serve_run(request)


if __name__ == "__main__":
    commands = {"train": train, "check": check, "folds": folds, "predict": predict, "export": export, "serve": serve}
    cli.run_command(__doc__, commands)
