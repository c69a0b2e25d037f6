"""See why gates and clipping help: recall a symbol after a lag: python -m shared.recall (or: make gradients).

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
from shared.cli import UserError, check_at_least, check_seed

SYMBOLS = 8
CONTENDERS = {  # name: cell and activation
    "SimpleRNN": ("rnn", "tanh"),
    "SimpleRNN, ReLU from identity": ("rnn", "relu"),
    "GRU": ("gru", "tanh"),
    "LSTM": ("lstm", "tanh"),
}
LAGS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True)
class Config:
    """Every knob of the comparison."""

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
    seed: int = 0
    """Of the weights and the sequences."""

    def __post_init__(self):
        check_at_least(2, self, "lag")
        check_at_least(1, self, "steps", "units", "batch_size")
        check_at_least(0, self, "learning_rate")
        check_seed(self)
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
    """Train every contender with and without clipping; save and print what came out. Returns the folder."""
    import keras
    import numpy as np
    import pandas as pd
    from rich.progress import track

    from shared import gradients, rnn, runs
    from shared.through_time import gradient_through_time, last_step_cross_entropy

    length = config.lag + 1
    rng = np.random.default_rng(config.seed)
    tests = {lag: make_batch(rng, 500, length, lag) for lag in (*(lag for lag in LAGS if lag < config.lag), config.lag)}
    probe = (*(part[:64] for part in tests[config.lag]), last_step_cross_entropy)
    rows, norms = [], {}
    for name, clipping in track([(name, how) for name in CONTENDERS for how in ("global_norm", "none")], "Training"):
        keras.utils.set_random_seed(config.seed)
        cell, activation = CONTENDERS[name]
        network = rnn.build_many_to_one(2 * SYMBOLS, SYMBOLS, cell=cell, units=config.units, activation=activation)
        network.compile(
            gradients.Adam(config.learning_rate, clipping=clipping, clip_threshold=config.clip_threshold),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
        [before] = gradient_through_time(network, *probe).values()
        sequences = np.random.default_rng(config.seed)  # the same for all
        for _ in range(config.steps):
            network.train_on_batch(*make_batch(sequences, config.batch_size, length))
        [after] = gradient_through_time(network, *probe).values()
        norms[name, clipping] = before, after
        recalled = {f"lag {lag}": np.mean(network.predict_on_batch(x).argmax(axis=1) == y) for lag, (x, y) in tests.items()}
        measured = {
            "decay before": decay(before),
            "decay after": decay(after),
            "largest norm": float(network.optimizer.epoch_norm_max.numpy()),
        }
        rows.append({"network": name, "clipping": clipping, **measured, **recalled})
    table = pd.DataFrame(rows)
    folder = runs.ROOT / "gradients" / time.strftime("%Y-%m-%d_%H-%M-%S")
    folder.mkdir(parents=True)
    table.to_csv(folder / "table.csv", index=False)
    plot(folder / "gradients.png", table, norms)
    announce(folder, table)
    return folder


def decay(norms) -> float:
    """Factor by which the norm changes for each step further back: from the slope of its logarithm, where it has one."""
    import numpy as np

    norms = np.asarray(norms, float)
    steps = np.flatnonzero(np.isfinite(norms) & (norms > 1e-30))  # below, float32 runs out of digits
    return float(np.exp(-np.polyfit(steps, np.log(norms[steps]), 1)[0])) if len(steps) > 1 else float("nan")


def plot(file: Path, table, norms) -> None:
    """The norms before and after training, and what was recalled at which lag."""
    from shared.plots import plt, save_figure
    from shared.through_time import plot_norms

    figure, (before, after, recall) = plt.subplots(1, 3, figsize=(18, 4.5))
    for axes, which, title in ((before, 0, "before training"), (after, 1, "after training, clipped")):
        plot_norms(axes, {name: both[which] for (name, clipping), both in norms.items() if clipping != "none"})
        axes.set(title=f"Gradient through time, {title}")
    lags = [column for column in table.columns if column.startswith("lag ")]
    for _, row in table.iterrows():
        clipped = row.clipping != "none"
        recall.plot(
            [int(lag.removeprefix("lag ")) for lag in lags],
            row[lags],
            "o-" if clipped else "x:",
            color=f"C{list(CONTENDERS).index(row.network)}",
            label=row.network if clipped else f"{row.network}, no clipping",
        )
    recall.axhline(1 / SYMBOLS, color="grey", linewidth=0.5)
    recall.set(xscale="log", xlabel="lag", ylabel="share recalled", ylim=(0, 1.05), title="Recall")
    recall.legend(loc="upper left", bbox_to_anchor=(1, 1))
    save_figure(figure, file, "")


def announce(folder: Path, table) -> None:
    """The table in the terminal."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(title="Gradient decay a step, and share recalled by lag (chance: 0.125)")
    for column in table.columns:
        shown.add_column(column, justify="right" if column not in ("network", "clipping") else "left")
    for row in table.itertuples(index=False):
        shown.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else cell for cell in row))
    console = Console(width=None if os.isatty(1) else 160)
    console.print(shown)
    console.print(f"Saved: {folder}  (gradients.png, table.csv)", highlight=False)


def main() -> None:
    """Compare as the command line asks."""
    compare(tyro.cli(Config, description=__doc__))


if __name__ == "__main__":
    cli.run(main)
