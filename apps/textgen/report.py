"""What a run shows of itself: measures, plots, samples, report.md, TensorBoard."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from apps.textgen.characters import decode
from apps.textgen.config import Config
from apps.textgen.generate import Sampler, Sampling
from shared import report
from shared.plots import plot_history


class SampleText(keras.callbacks.Callback):
    """Write a sample of the network's text into TensorBoard after each epoch (TEXT tab).

    Args:
        folder: of the logs.
        config: the settings.
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
    """Nats per character, by whose they are, in the three units of the field."""
    units = {"nats_per_character": lambda n: n, "bits_per_character": lambda n: n / np.log(2), "perplexity": np.exp}
    return {f"{who}_{unit}": float(of(value)) for who, value in nats.items() for unit, of in units.items()}


def write(folder: Path, summary: dict, sample: str) -> None:
    """Plots (PNG), sample.txt and report.md."""
    title = f"{summary['app']} on {summary['dataset']}"
    history = pd.read_csv(folder / "history.csv")
    curves = [["nats_per_character", "val_nats_per_character"], ["gradient_norm"], ["clipped_share"]]
    plot_history(folder / "plots" / "training.png", history, curves, title)
    (folder / "sample.txt").write_text(sample + "\n", encoding="utf-8")
    sections = ["![training](plots/training.png)", "", "## A sample, temperature 0.8", "", "```", sample, "```"]
    report.write_markdown(folder, summary, report.scores(summary, rows(summary)), part(summary), sections)


def rows(summary: dict) -> dict[str, str]:
    """Rows of the table of scores and the prefixes of their measures."""
    counted = summary["ngram_characters"]
    of = f" of the last {counted:,} characters" if counted < summary["train_characters"] else ""
    return {"network": "test", f"baseline, {summary['ngram_order']}-grams{of}": "baseline"}


def part(summary: dict) -> str:
    """What the scores were measured on."""
    return "validation (no test part)" if summary["split"] == "90/10" else "test"
