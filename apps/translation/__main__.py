"""Read a text, write another. Flags and data are read before TensorFlow is imported: mistakes are answered at once."""

import tyro

from apps.translation.config import PRESETS, Request
from shared import cli, runs
from shared.settings import ExportRequest, ServeRequest


def train(args: list[str]) -> None:
    """Train, evaluate once on test, write the run folder."""
    config = runs.parse("translation", PRESETS, train.__doc__, args)
    from apps.translation import data

    pairs = data.load(config)
    from apps.translation.train import train as run

    run(config, pairs)


def check(args: list[str]) -> None:
    """Look at the data before training: what it holds, how long training takes."""
    config = cli.parse("python -m apps.translation check", PRESETS, check.__doc__, args)
    from apps.translation import data

    pairs = data.load(config)
    from apps.translation.check import check as look

    look(config, pairs)


def predict(args: list[str]) -> None:
    """Ask a trained run; TensorFlow is not needed."""
    request = tyro.cli(Request, prog="python -m apps.translation predict", description=predict.__doc__, args=args)
    from apps.translation.predict import predict as ask

    ask(request)


def export(args: list[str]) -> None:
    """Write a run's model for other programs, each file compared with the Keras model."""
    request = tyro.cli(ExportRequest, prog="python -m apps.translation export", description=export.__doc__, args=args)
    runs.find("translation", request.run)  # a run that is not there is answered before TensorFlow is imported
    from apps.translation.export import export_run

    export_run(request)


def serve(args: list[str]) -> None:
    """Answer requests over HTTP; TensorFlow is not needed."""
    request = tyro.cli(ServeRequest, prog="python -m apps.translation serve", description=serve.__doc__, args=args)
    from apps.translation.serve import serve_run

    serve_run(request)


if __name__ == "__main__":
    cli.run_command(__doc__, {"train": train, "check": check, "predict": predict, "export": export, "serve": serve})
