"""See what gates and clipping do: recall a symbol after a lag: python -m shared.recall (or: make gradients).

step        1  2  3  4  5  6  7  8          eight symbols to recall (A to H), one of them somewhere, and
input       x  q  C  z  x  x  w  q          eight others all around that say nothing
target                          C           lag 5: asked for at the last step
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from shared import cli
from shared.cli import UserError, check_at_least

SYMBOLS = 8
NETWORKS = {  # name: cell and activation
    "SimpleRNN": ("rnn", "tanh"),
    "SimpleRNN, ReLU from identity": ("rnn", "relu"),
    "GRU": ("gru", "tanh"),
    "LSTM": ("lstm", "tanh"),
}
LAGS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True)
class Config:
    """The settings of the comparison."""

    lag: int = 100
    """The longest lag, in steps; in training every lag up to it comes up."""
    steps: int = 700
    """Training steps of each network."""
    units: int = 48
    """Width of the recurrent layer."""
    batch_size: int = 64
    """Sequences in a step."""
    learning_rate: float = 4e-3
    """Adam's."""
    clip_threshold: float = 1.0
    """Bound on the global norm, in those runs that clip."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the weights and the sequences; every network is trained once with each."""

    def __post_init__(self):
        check_at_least(2, self, "lag")
        check_at_least(1, self, "steps", "units", "batch_size")
        check_at_least(0, self, "learning_rate")
        if not self.seeds or not all(0 <= seed < 2**31 - 1 for seed in self.seeds):
            raise UserError(f"--seeds is one or more whole numbers from 0 to {2**31 - 2}; got {self.seeds}.")
        if len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"--seeds names a seed twice: {self.seeds}. Give different ones.")
        if self.clip_threshold <= 0:
            raise UserError(f"--clip-threshold is above 0; got {self.clip_threshold}.")


def make_batch(rng, count: int, length: int, lag: int | None = None):
    """Sequences and what is to be recalled.

    Args:
        rng: a NumPy generator.
        count: how many.
        length: steps of a sequence.
        lag: steps from the symbol to the last step; None: any, short and long ones alike on a logarithmic scale.

    Returns:
        One-hot inputs `(count, length, 16)` and targets `(count,)`, 0 to 7.
    """
    import numpy as np

    lags = np.exp(rng.uniform(0, np.log(length), count)).astype(int) if lag is None else np.full(count, lag)
    symbols = rng.integers(SYMBOLS, 2 * SYMBOLS, (count, length))
    targets = rng.integers(0, SYMBOLS, count)
    symbols[np.arange(count), length - 1 - np.minimum(lags, length - 1)] = targets
    return np.eye(2 * SYMBOLS, dtype="float32")[symbols], targets


def compare(config: Config) -> Path:
    """Train every network with and without clipping, once with each seed; save and print the results. Returns the folder."""
    import pandas as pd
    from rich.progress import track

    from shared import runs

    trainings = [(seed, name, how) for seed in config.seeds for name in NETWORKS for how in ("global_norm", "none")]
    rows, norms = [], {}
    for training in track(trainings, "Training"):
        row, norms[training] = train(config, *training)
        rows.append(row)
    table = pd.DataFrame(rows)
    folder = runs.ROOT / "gradients" / time.strftime("%Y-%m-%d_%H-%M-%S")
    folder.mkdir(parents=True)
    table.to_csv(folder / "table.csv", index=False)
    plot(folder / "gradients.png", table, norms)
    announce(folder, table)
    return folder


def train(config: Config, seed: int, name: str, clipping: str) -> tuple[dict, tuple]:
    """Train one network. Returns its row of the table, and the norms of its gradient through time before and after."""
    import keras
    import numpy as np

    from shared import gradients, rnn
    from shared.through_time import gradient_through_time, last_step_cross_entropy

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
    probe = (*(part[:64] for part in tests[config.lag]), last_step_cross_entropy)
    [before] = gradient_through_time(network, *probe).values()
    for _ in range(config.steps):
        network.train_on_batch(*make_batch(sequences, config.batch_size, length))
    [after] = gradient_through_time(network, *probe).values()
    largest = float(network.optimizer.epoch_norm_max.numpy())
    row = {"network": name, "clipping": clipping, "seed": seed}
    row |= {"decay before": decay(before), "decay after": decay(after), "largest norm": largest}
    row |= {f"lag {lag}": np.mean(network.predict_on_batch(x).argmax(axis=1) == y) for lag, (x, y) in tests.items()}
    return row, (before, after)


def make_tests(rng, longest: int) -> dict:
    """For lags up to the longest: 500 sequences and what is to be recalled, see `make_batch`."""
    lags = (*(lag for lag in LAGS if lag < longest), longest)
    return {lag: make_batch(rng, 500, longest + 1, lag) for lag in lags}


def decay(norms) -> float:
    """Factor by which the norm changes for each step further back: from the slope of its logarithm, where it has one."""
    import numpy as np

    norms = np.asarray(norms, float)
    steps = np.flatnonzero(np.isfinite(norms) & (norms > 1e-30))  # below, float32 runs out of digits
    return float(np.exp(-np.polyfit(steps, np.log(norms[steps]), 1)[0])) if len(steps) > 1 else float("nan")


def plot(file: Path, table, norms) -> None:
    """The norms of the first seed before and after training; the mean recall at each lag, with its range over the seeds."""
    from shared.plots import plt, save_figure
    from shared.through_time import plot_norms

    figure, (before, after, recall) = plt.subplots(1, 3, figsize=(18, 4.5))
    first = table["seed"].iloc[0]
    for axes, which, title in ((before, 0, "before training"), (after, 1, "after training, clipped")):
        plot_norms(axes, {name: norms[first, name, "global_norm"][which] for name in NETWORKS})
        axes.set(title=f"Gradient through time, {title}")
    for (name, clipping), of_network in table.groupby(["network", "clipping"], sort=False):
        _plot_recall(recall, of_network.filter(like="lag "), name, clipping != "none")
    recall.axhline(1 / SYMBOLS, color="grey", linewidth=0.5)
    recall.set(xscale="log", xlabel="lag", ylabel="fraction recalled", ylim=(0, 1.05), title="Recall")
    recall.legend(loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, file, "")


def _plot_recall(axes, recalled, name: str, clipped: bool) -> None:
    lags = [int(column.removeprefix("lag ")) for column in recalled]
    color = f"C{list(NETWORKS).index(name)}"
    label = name if clipped else f"{name}, no clipping"
    axes.plot(lags, recalled.mean(), "o-" if clipped else "x:", color=color, label=label)
    axes.fill_between(lags, recalled.min(), recalled.max(), color=color, alpha=0.1)


def summarize(table):
    """The table as text: of each network the mean over the seeds, below it the smallest and the largest value, a line each."""
    groups = table.drop(columns="seed").groupby(["network", "clipping"], sort=False)

    def cell(values) -> str:
        if values.nunique(dropna=False) == 1:
            return f"{values.iloc[0]:.3g}"
        return "\n".join(f"{value:.3g}" for value in (values.mean(), values.min(), values.max()))

    return groups.agg(cell).reset_index()


def announce(folder: Path, table) -> None:
    """The table in the terminal."""
    from rich.console import Console
    from rich.table import Table

    seeds = ", ".join(map(str, table["seed"].unique()))
    shown = Table(
        title=f"Gradient decay per step; fraction recalled by lag (chance: 0.125); mean, smallest, largest of seeds {seeds}",
        show_lines=True,
    )
    summary = summarize(table)
    for column in summary.columns:
        shown.add_column(column, justify="right" if column not in ("network", "clipping") else "left")
    for row in summary.itertuples(index=False):
        shown.add_row(*row)
    console = Console(width=None if os.isatty(1) else 160)
    console.print(shown)
    console.print(f"Saved: {folder}  (gradients.png, table.csv)", highlight=False)


def main() -> None:
    """Compare as the command line asks."""
    compare(tyro.cli(Config, description=__doc__))


if __name__ == "__main__":
    cli.run(main)
