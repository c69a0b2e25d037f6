"""The task of make gradients: recall a symbol after a lag, cell by cell, with and without clipping.

step        1  2  3  4  5  6  7  8          eight symbols to recall (A to H), one of them somewhere, and
input       x  q  C  z  x  x  w  q          eight others all around that say nothing
target                          C           lag 5: asked for at the last step
"""

import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops
from rich.console import Console
from rich.progress import track
from rich.table import Table

from shared import gradients, rnn, runs
from shared.plots import plt, save_figure
from shared.states import Probe
from shared.through_time import gradient_through_time, plot_norms
from tools.recall_plots import plot_gates

SYMBOLS = 8
NETWORKS = {  # name: cell and activation
    "SimpleRNN": ("rnn", "tanh"),
    "SimpleRNN, ReLU from identity": ("rnn", "relu"),
    "GRU": ("gru", "tanh"),
    "LSTM": ("lstm", "tanh"),
}
LAGS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def make_batch(rng: np.random.Generator, count: int, length: int, lag: int | None = None) -> tuple:
    """Sequences and what is to be recalled.

    Args:
        rng: draws them.
        count: how many.
        length: steps of a sequence.
        lag: steps from the symbol to the last step; None: any, short and long ones alike on a logarithmic scale.

    Returns:
        One-hot inputs `(count, length, 16)` and targets `(count,)`, 0 to 7.
    """
    lags = np.exp(rng.uniform(0, np.log(length), count)).astype(int) if lag is None else np.full(count, lag)
    symbols = rng.integers(SYMBOLS, 2 * SYMBOLS, (count, length))
    targets = rng.integers(0, SYMBOLS, count)
    symbols[np.arange(count), length - 1 - np.minimum(lags, length - 1)] = targets
    return np.eye(2 * SYMBOLS, dtype="float32")[symbols], targets


def make_exchanged(rng: np.random.Generator, length: int, lag: int) -> np.ndarray:
    """One sequence eight times, `(8, length, 16)`, with each of the symbols to recall in turn; else see `make_batch`."""
    inputs = np.repeat(make_batch(rng, 1, length, lag)[0], SYMBOLS, axis=0)
    inputs[:, length - 1 - lag] = np.eye(SYMBOLS, 2 * SYMBOLS)
    return inputs


def compare(config: Any) -> Path:
    """Train every network with and without clipping, once with each seed; save and print the results.

    Args:
        config: see `tools.gradients.Config`.

    Returns:
        The folder with the table, the plots, and the states and gates that are drawn.
    """
    trainings = [(seed, name, how) for seed in config.seeds for name in NETWORKS for how in ("global_norm", "none")]
    rows, norms, networks = [], {}, {}
    for training in track(trainings, "Training"):
        row, norms[training], networks[training] = train(config, *training)
        rows.append(row)
    table = pd.DataFrame(rows)
    folder = runs.ROOT / "gradients" / time.strftime("%Y-%m-%d_%H-%M-%S")
    folder.mkdir(parents=True)
    table.to_csv(folder / "table.csv", index=False)
    plot(folder / "gradients.png", table, norms)
    clipped = {name: networks[config.seeds[0], name, "global_norm"] for name, (_, act) in NETWORKS.items() if act == "tanh"}
    look_into(folder, clipped, config.lag)
    announce(folder, table)
    return folder


def train(config: Any, seed: int, name: str, clipping: str) -> tuple[dict, tuple, keras.Model]:
    """Train one network.

    Returns:
        Its row of the table, what is left of its gradient before and after, see `left`, and the network.
    """
    length = config.lag + 1
    tests = make_tests(np.random.default_rng(seed), config.lag)
    sequences = np.random.default_rng(seed + 1)  # the same for every network
    keras.utils.set_random_seed(seed)
    cell, activation = NETWORKS[name]
    network = rnn.build_many_to_one(2 * SYMBOLS, SYMBOLS, cell=cell, units=config.units, activation=activation)
    network.compile(
        gradients.Adam(config.learning_rate, clipping=clipping, clip_threshold=config.clip_threshold),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    probe = (*(part[:64] for part in tests[config.lag]), right_logit)
    [before] = map(left, gradient_through_time(network, *probe).values())
    for _ in range(config.steps):
        network.train_on_batch(*make_batch(sequences, config.batch_size, length))
    [after] = map(left, gradient_through_time(network, *probe).values())
    largest = float(network.optimizer.epoch_norm_max.numpy())
    row = {"network": name, "clipping": clipping, "seed": seed}
    row |= {f"left {when}": float(np.median(of[:, 0])) for when, of in (("untrained", before), ("trained", after))}
    row["largest norm"] = largest
    row |= {f"lag {lag}": np.mean(network.predict_on_batch(x).argmax(axis=1) == y) for lag, (x, y) in tests.items()}
    return row, (before, after), network


def make_tests(rng: np.random.Generator, longest: int) -> dict:
    """For lags up to the longest: 500 sequences and what is to be recalled, see `make_batch`."""
    lags = (*(lag for lag in LAGS if lag < longest), longest)
    return {lag: make_batch(rng, 500, longest + 1, lag) for lag in lags}


def right_logit(targets, logits):
    """The logit of the right answer, `(batch,)`. (The gradient of the loss would be larger, the more wrong a network is.)"""
    return ops.take_along_axis(logits, ops.cast(targets, "int32")[:, None], axis=1)[:, 0]


def left(norms: np.ndarray) -> np.ndarray:
    """What is left of norms `(batch, time)` at each step, as a fraction of the last step's; 0 where that is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(norms / norms[:, -1:], nan=0.0, posinf=0.0)


def look_into(folder: Path, networks: dict[str, keras.Model], longest: int) -> None:
    """Draw what networks, by name, do with a symbol well before the end: `gates.png`, and what is drawn in `gates.npz`."""
    lag = max(1, longest * 3 // 5)
    inputs = make_exchanged(np.random.default_rng(0), longest + 1, lag)
    recordings = {name: next(iter(Probe(network)(inputs).values())) for name, network in networks.items()}
    plot_gates(folder / "gates.png", recordings, longest - lag)
    parts = {name: recording.states() | recording.gates for name, recording in recordings.items()}
    arrays = {f"{name}/{part}": values for name, found in parts.items() for part, values in found.items()}
    np.savez_compressed(folder / "gates.npz", **arrays)


def plot(file: Path, table: pd.DataFrame, norms: dict) -> None:
    """The gradients of the first seed before and after training; the mean recall at each lag, with its range over the seeds."""
    figure, (before, after, recall) = plt.subplots(1, 3, figsize=(18, 4.5))
    first = table["seed"].iloc[0]
    for axes, which, title in ((before, 0, "before training"), (after, 1, "after training, clipped")):
        plot_norms(axes, {name: norms[first, name, "global_norm"][which] for name in NETWORKS})
        axes.set(title=f"Gradient through time, {title}", ylabel="fraction left: median, 10 to 90 %")
    for (name, clipping), of_network in table.groupby(["network", "clipping"], sort=False):
        _plot_recall(recall, of_network.filter(like="lag "), name, clipping != "none")
    recall.axhline(1 / SYMBOLS, color="grey", linewidth=0.5)
    recall.set(xscale="log", xlabel="lag", ylabel="fraction recalled", ylim=(0, 1.05), title="Recall")
    recall.legend(loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, file, "")


def _plot_recall(axes, recalled, name: str, clipped: bool) -> None:
    lags = [int(column.removeprefix("lag ")) for column in recalled]
    number = list(NETWORKS).index(name)
    color, width = f"C{number}", 1 + len(NETWORKS) - number  # thin over wide: lines at the same height are both seen
    label = name if clipped else f"{name}, no clipping"
    axes.plot(lags, recalled.mean(), "o-" if clipped else "x:", color=color, label=label, linewidth=width)
    axes.fill_between(lags, recalled.min(), recalled.max(), color=color, alpha=0.1)


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text: of each network the mean over the seeds, below it the smallest and the largest value, a line each."""
    groups = table.drop(columns="seed").groupby(["network", "clipping"], sort=False)

    def cell(values) -> str:
        if values.nunique(dropna=False) == 1:
            return f"{values.iloc[0]:.3g}"
        return "\n".join(f"{value:.3g}" for value in (values.mean(), values.min(), values.max()))

    return groups.agg(cell).reset_index()


def announce(folder: Path, table: pd.DataFrame) -> None:
    """Print the table."""
    seeds = ", ".join(map(str, table["seed"].unique()))
    shown = Table(
        title="Gradient left at the first step, as a fraction of the last step's; fraction recalled by lag (chance: 0.125); "
        f"mean, smallest, largest of seeds {seeds}",
        show_lines=True,
    )
    summary = summarize(table)
    for column in summary.columns:
        shown.add_column(column, justify="right" if column not in ("network", "clipping") else "left")
    for row in summary.itertuples(index=False):
        shown.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(shown)
    console.print(f"Saved: {folder}  (gradients.png, gates.png, table.csv, gates.npz)", highlight=False)
