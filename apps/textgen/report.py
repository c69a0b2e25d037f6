"""What a run shows of itself: measures, plots, samples, report.md, TensorBoard."""

import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from apps.textgen.characters import decode
from apps.textgen.config import Config
from apps.textgen.generate import Sampler, Sampling
from shared import runs
from shared.plots import plot_history

MEASURES = ("nats_per_character", "bits_per_character", "perplexity")


class SampleText(keras.callbacks.Callback):
    """Write a sample of the network's text into TensorBoard after each epoch (TEXT tab).

    Args:
        folder: of the logs.
        config: the knobs.
        generator: gets the weights of the model that is trained.
        vocabulary: its characters.
        prompt: ids `(time,)` that the sample goes on from.
    """

    def __init__(self, folder: Path, config: Config, generator: keras.Model, vocabulary: list[str], prompt: np.ndarray):
        super().__init__()
        self.folder = folder
        self.config = config
        self.generator = generator
        self.vocabulary = vocabulary
        self.prompt = prompt.astype("int32")
        self.sampler = Sampler(config, generator, Sampling(temperature=0.8))

    def make(self, length: int) -> str:
        """The prompt and a continuation of it."""
        pieces = self.sampler.generate(self.prompt, samples=1, length=length, seed=self.config.seed)
        return decode([*self.prompt, *(number for ids, _ in pieces for number in ids[0])], self.vocabulary)

    def on_epoch_end(self, epoch, logs=None):
        if self.config.sample_length:
            self.generator.set_weights(self.model.get_weights())
            with tf.summary.create_file_writer(str(self.folder)).as_default():
                tf.summary.text("sample", f"```\n{self.make(self.config.sample_length)}\n```", step=epoch)


def measures(nats: dict[str, float]) -> dict[str, float]:
    """Nats a character, by whose they are, in the three units of the field."""
    units = {"nats_per_character": lambda n: n, "bits_per_character": lambda n: n / np.log(2), "perplexity": np.exp}
    return {f"{who}_{unit}": float(of(value)) for who, value in nats.items() for unit, of in units.items()}


def write(folder: Path, summary: dict, sample: str) -> None:
    """Plots (PNG), sample.txt and report.md."""
    title = f"{summary['app']} on {summary['dataset']}"
    history = pd.read_csv(folder / "history.csv")
    curves = [["nats_per_character", "val_nats_per_character"], ["gradient_norm"], ["clipped_share"]]
    plot_history(folder / "plots" / "training.png", history, curves, title)
    (folder / "sample.txt").write_text(sample + "\n", encoding="utf-8")
    lines = [
        f"# {title}, preset {summary['preset']}",
        "",
        f"{summary['parameters']:,} parameters, {summary['epochs']} epochs, {summary['train_seconds'] / 60:.1f} minutes of "
        f"training on {runs.describe_device()}, seed {summary['seed']}, split {summary['split']}.",
        "",
        f"| on {_part(summary)} | " + " | ".join(MEASURES) + " |",
        "|---|" + "---|" * len(MEASURES),
        *(f"| {who} | " + " | ".join(f"{score:.4f}" for score in row) + " |" for who, row in _rows(summary).items()),
        "",
        "![training](plots/training.png)",
        "",
        "## A sample, temperature 0.8",
        "",
        "```",
        sample,
        "```",
    ]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(summary: dict) -> dict[str, list[float]]:
    rows = {"network": "test", f"baseline, {summary['ngram_order']}-grams": "baseline"}
    return {who: [summary[f"{prefix}_{measure}"] for measure in MEASURES] for who, prefix in rows.items()}


def _part(summary: dict) -> str:
    return "validation (no test part)" if summary["split"] == "90/10" else "test"


def announce(folder: Path, summary: dict) -> None:
    """The result in the terminal, who won, and what to do next."""
    table = Table(title=f"{summary['app']} on {summary['dataset']}, preset {summary['preset']}, {_part(summary)}")
    table.add_column("")
    for measure in MEASURES:
        table.add_column(measure, justify="right")
    for who, row in _rows(summary).items():
        table.add_row(who, *(f"{score:.4f}" for score in row))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    winner = "The network beats" if summary["beats_baseline"] else "The network does NOT beat"
    console.print(f"{winner} the n-grams. {summary['train_seconds'] / 60:.1f} minutes of training.")
    console.print(f"Run:   {folder}  (report.md, sample.txt, plots/, model.keras)", highlight=False)
    console.print("Next:  make textgen-predict    make tensorboard    make runs", highlight=False)
