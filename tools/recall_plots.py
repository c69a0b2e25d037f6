"""The second figure of make gradients: how the state of trained networks holds a symbol, and which gates hold it there."""

from pathlib import Path

import numpy as np

from shared.plots import plt, save_figure
from shared.states import Recording

KEEPING = ("update", "forget")  # of a GRU and of an LSTM: at 1 the unit keeps its state, at 0 it replaces or forgets it
MEANINGS = {  # of a gate at 1
    "update": "keeps the state",
    "reset": "lets the state into what is new",
    "input": "lets in what is new",
    "forget": "keeps the state",
    "output": "shows the state",
}
UNITS = 12  # drawn of each network


def plot_gates(file: Path, recordings: dict[str, Recording], step: int) -> None:
    """A column for each network, from the top: the states of its memory units, the gate that keeps them, means of all gates.

    Args:
        file: PNG to write.
        recordings: by network; of sequences, `(symbols, time, units)`, that differ in the symbol to recall alone.
        step: where that symbol stands.
    """
    figure, rows = plt.subplots(3, len(recordings), figsize=(7 * len(recordings), 11), squeeze=False)
    for column, (name, recording) in zip(rows.T, recordings.items(), strict=True):
        symbol, units = memory_units(recording, step)
        _plot_states(column[0], recording, symbol, units, f"{name}, symbol {chr(ord('A') + symbol)}")
        _plot_keeping(column[1], recording, symbol, units)
        _plot_means(column[2], recording, symbol, units)
        for axes in column:
            _mark(axes, step, recording.hidden.shape[1])
    save_figure(figure, file, "Recalling a symbol: the units that hold it, the same ones in all rows of a column")


def memory_units(recording: Recording, step: int) -> tuple[int, np.ndarray]:
    """The units that hold the symbol by their gate, and the symbol that is held so best.

    What counts is how far the last hidden state lies from its mean over all symbols, times what the unit's gate keeps of its
    state at a step after the symbol, in the mean.

    Returns:
        The number of the symbol, and the numbers of at most 12 units, the one that holds it best first.
    """
    last = recording.hidden[:, -1]
    apart = np.abs(last - last.mean(axis=0))
    kept = keeping(recording)[:, step + 1 :].mean(axis=1)
    held = apart * kept
    symbol = int(np.sort(held, axis=1)[:, -UNITS:].sum(axis=1).argmax())
    return symbol, np.argsort(-held[symbol])[:UNITS]


def keeping(recording: Recording) -> np.ndarray:
    """The gate that keeps the state, `(symbols, time, units)`; ones if there is none."""
    found = [recording.gates[name] for name in KEEPING if name in recording.gates]
    return found[0] if found else np.ones_like(recording.hidden)


def _plot_states(axes, recording: Recording, symbol: int, units: np.ndarray, title: str) -> None:
    """An LSTM's cell states grow without bound; their tanh is what its output gate shows."""
    states = recording.hidden if recording.cell is None else np.tanh(recording.cell)
    _plot_heat_map(axes, states[symbol][:, units], units, {"cmap": "RdBu_r", "vmin": -1, "vmax": 1})
    axes.set_title(f"{title}: {'hidden state' if recording.cell is None else 'tanh of the cell state'}")


def _plot_keeping(axes, recording: Recording, symbol: int, units: np.ndarray) -> None:
    values = keeping(recording)[symbol][:, units] if recording.gates else np.zeros((recording.hidden.shape[1], len(units)))
    _plot_heat_map(axes, values, units, {"cmap": "gray", "vmin": 0, "vmax": 1})
    titles = [f"{name} gate: white keeps the state, black replaces it" for name in KEEPING if name in recording.gates]
    axes.set_title(*titles or ["no gate: the state is replaced at every step"])


def _plot_means(axes, recording: Recording, symbol: int, units: np.ndarray) -> None:
    for name, values in recording.gates.items():
        [line] = axes.plot(values[symbol][:, units].mean(axis=1), label=f"{name}: 1 {MEANINGS[name]}")
        axes.plot(values[symbol].mean(axis=1), ":", color=line.get_color())
    axes.set(xlim=(-0.5, recording.hidden.shape[1] - 0.5), ylim=(0, 1.3), yticks=np.linspace(0, 1, 6))
    axes.set_title("mean of these units (dotted: of all)")
    if recording.gates:
        axes.legend(loc="upper left", ncols=2, fontsize=9)
    axes.set_visible(bool(recording.gates))


def _plot_heat_map(axes, values: np.ndarray, units: np.ndarray, colors: dict) -> None:
    """Of values `(time, units)`, a row for each unit."""
    image = axes.imshow(values.T, aspect="auto", interpolation="nearest", **colors)
    axes.set_yticks(range(len(units)), units)
    axes.set_ylabel("unit")
    axes.figure.colorbar(image, cax=axes.inset_axes([1.01, 0, 0.02, 1]))  # beside: the steps stay below each other


def _mark(axes, step: int, steps: int) -> None:
    """A line at the symbol; steps are counted from there."""
    axes.axvline(step, color="C2", linestyle="--")
    every = max(1, steps // 10)
    ticks = np.arange(step % every, steps, every)
    axes.set_xticks(ticks, ticks - step)
    axes.set_xlabel("steps since the symbol")
