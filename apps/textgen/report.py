"""What a run shows of itself: plots, samples, report.md, TensorBoard."""

from pathlib import Path

import keras
import pandas as pd
import tensorflow as tf

from apps.textgen.characters import decode
from apps.textgen.config import Config
from apps.textgen.generate import Sampler
from apps.textgen.sampling import Sampling
from shared import report
from shared.plots import plot_history
from shared.tensorboard import QUALITY, hparams_to_tensorboard, plots_of_recurrence, plots_to_tensorboard

TEMPERATURES = 0.5, 0.8, 1.1
SAMPLE_LENGTH = 160  # characters of each, after each epoch
PROMPT_LENGTH = 20


class SampleText(keras.callbacks.Callback):
    """Write samples of the network's text, one at each of `TEMPERATURES`, into TensorBoard after each epoch (TEXT tab).

    Args:
        folder: of the logs.
        config: the settings.
        experiment: its generator gets the weights of the model that is trained; the prompt is the start of validation.
    """

    def __init__(self, folder: Path, config: Config, experiment):
        super().__init__()
        self.folder = folder
        self.seed = config.training.seed
        self.generator, self.vocabulary = experiment.generator, experiment.vocabulary
        self.prompt = experiment.data.validation.characters[:PROMPT_LENGTH].astype("int32")
        self.samplers = {one: Sampler(config, self.generator, Sampling(temperature=one)) for one in TEMPERATURES}

    def make(self, length: int, temperature: float = 0.8) -> str:
        """The prompt and a continuation of it."""
        pieces = self.samplers[temperature].generate(self.prompt, samples=1, length=length, seed=self.seed)
        return decode([*self.prompt, *(number for ids, _ in pieces for number in ids[0])], self.vocabulary)

    def on_epoch_end(self, epoch, logs=None):
        self.generator.set_weights(self.model.get_weights())
        samples = [f"Temperature {one}\n```\n{self.make(SAMPLE_LENGTH, one)}\n```" for one in TEMPERATURES]
        with tf.summary.create_file_writer(str(self.folder)).as_default():
            tf.summary.text(f"{QUALITY}/samples", "\n\n".join(samples), step=epoch)


def write(folder: Path, metrics: dict, sample: str) -> None:
    """Plots (PNG), sample.txt, report.md and TensorBoard."""
    curves = [["nats_per_character", "val_nats_per_character"], ["gradient_norm"], ["clipped_fraction"]]
    history = pd.read_csv(folder / "history.csv")
    plot_history(folder / "plots" / "training.png", history, curves, f"{metrics['app']} on {metrics['dataset']}")
    (folder / "sample.txt").write_text(sample + "\n", encoding="utf-8")
    sections = [
        *report.images("training", "answer", *plots_of_recurrence(folder)),
        "",
        "## A sample, temperature 0.8",
        "",
        "```",
        sample,
        "```",
    ]
    counted = metrics["ngram_characters"]
    if counted < metrics["train_characters"]:
        sections.insert(0, f"The n-grams are those of the last {counted:,} characters of the training text.\n")
    report.write_markdown(folder, metrics, sections)
    hparams_to_tensorboard(folder, metrics)
    plots_to_tensorboard(folder)


def scores(metrics: dict) -> pd.DataFrame:
    """The figures, with what the baseline's n-grams saw."""
    counted = metrics["ngram_characters"]
    of = f" of the last {counted:,} characters" if counted < metrics["train_characters"] else ""
    return report.scores(metrics).rename(index={"baseline": f"baseline, {metrics['ngram_order']}-grams{of}"})
