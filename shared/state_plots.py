"""Pictures of recurrent states and gates over time, see `shared.states`. NaN: a step that the mask hides."""

from pathlib import Path

import numpy as np

from shared.plots import plt, save_figure

CLOSED, OPEN = 0.1, 0.9  # a gate below or above is saturated (Karpathy, Johnson and Fei-Fei, 2015, figure 4)
MAX_UNITS = 16  # rows of a heat map: more can't be distinguished
MAX_LABELS = 100


def change_per_step(states: np.ndarray) -> np.ndarray:
    """Of states `(batch, time, units)`: the mean squared step as a fraction of the variance, `(units,)`; near 0 is slow.

    NaN of a unit that does not move.
    """
    with np.errstate(invalid="ignore"):
        return np.nanmean(np.diff(states, axis=1) ** 2, axis=(0, 1)) / np.nanvar(states, axis=(0, 1))


def half_lives(states: np.ndarray) -> np.ndarray:
    """Steps until the autocorrelation of each unit is one half, `(units,)`, between two lags on the line between them.

    Args:
        states: `(batch, time, units)`, time at least 2; the mean is taken over all rows.

    Returns:
        At most half the steps: so short a sequence does not show what stays longer. NaN of a unit that does not move.
    """
    time = states.shape[1]
    shown = ~np.isnan(states)
    centred = np.where(shown, states - np.nanmean(states, axis=(0, 1)), 0)
    products, counts = (_sums_by_lag(values)[: time // 2 + 1] for values in (centred, shown.astype(float)))
    with np.errstate(invalid="ignore"):
        covariance = products / np.maximum(counts.round(), 1)
        correlation = np.where(covariance[0] > 1e-12, covariance / covariance[0], np.nan)
    below = correlation < 0.5
    lag = np.where(below.any(axis=0), below.argmax(axis=0), 1)
    before, after = (np.take_along_axis(correlation, one[None], axis=0)[0] for one in (lag - 1, lag))
    with np.errstate(invalid="ignore", divide="ignore"):
        crossing = lag - 1 + (before - 0.5) / (before - after)
    return np.where(np.isnan(correlation[0]), np.nan, np.where(below.any(axis=0), crossing, time // 2))


def draw_states(file: Path, layers: dict[str, np.ndarray], labels: list[str], title: str) -> None:
    """A row for each layer's states `(batch, time, units)`: the first example as a heat map, the units' half-lives."""
    figure, axes = plt.subplots(len(layers), 2, figsize=(16, 3.2 * len(layers)), squeeze=False, width_ratios=[5, 1])
    for (left, right), (name, states) in zip(axes, layers.items(), strict=True):
        figure.colorbar(plot_heat_map(left, states, labels), ax=left, pad=0.01, label="state")
        left.set_title(name)
        plot_memory(right, half_lives(states), states.shape[1] // 2)
    save_figure(figure, file, title)


def draw_gates(file: Path, layers: dict[str, dict[str, np.ndarray]], labels: list[str], title: str) -> None:
    """A row for each layer's gates `(batch, time, units)`: the first example over time, how often they are shut or open.

    Without a layer, no picture.
    """
    if not layers:
        return
    figure, axes = plt.subplots(len(layers), 2, figsize=(16, 3.2 * len(layers)), squeeze=False, width_ratios=[4, 1])
    for (left, right), (name, gates) in zip(axes, layers.items(), strict=True):
        plot_gates(left, {gate: values[0] for gate, values in gates.items()}, labels)
        left.set_title(name)
        plot_saturation(right, gates)
    save_figure(figure, file, title)


def plot_heat_map(axes, states: np.ndarray, labels: list[str]):
    """The first row of states `(batch, time, units)`: its slowest units, at most 16, the slowest on top.

    (By how little they change: of those with the largest mean gate some blink, and a SimpleRNN has no gate.)
    """
    slowest = np.argsort(change_per_step(states))[:MAX_UNITS]
    shown = _steps_shown(states[0])
    limit = np.abs(shown).max()
    image = axes.imshow(shown[:, slowest].T, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    axes.set_ylabel(f"{len(slowest)} slowest of {states.shape[2]} units")
    axes.set_yticks(range(len(slowest)), slowest, fontsize=7)
    label_steps(axes, labels[: len(shown)])
    return image


def plot_memory(axes, half_lives: np.ndarray, longest: int) -> None:
    """A histogram of half-lives `(units,)`, which are at most `longest`."""
    bins = np.geomspace(0.5, max(longest, 1), 25)
    axes.hist(np.clip(half_lives[~np.isnan(half_lives)], 0.5, None), bins=bins)
    axes.set_xscale("log")
    axes.set(xlabel="half-life, steps", ylabel="units")


def plot_gates(axes, gates: dict[str, np.ndarray], labels: list[str]) -> None:
    """Of gates `(time, units)`: the mean over the units, and where 10 to 90 % of them lie; colours as in `plot_saturation`."""
    for name, values in gates.items():
        shown = _steps_shown(values)
        low, high = np.quantile(shown, [0.1, 0.9], axis=1)
        [line] = axes.plot(shown.mean(axis=1), label=name)
        axes.fill_between(np.arange(len(shown)), low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(ylim=(0, 1), ylabel="gate: mean, 10 to 90 %")
    axes.margins(x=0.005)
    axes.legend(loc="upper left", ncols=len(gates))
    label_steps(axes, labels[: len(shown)])


def plot_saturation(axes, gates: dict[str, np.ndarray]) -> None:
    """Of gates `(batch, time, units)`: how often each unit's is shut (below 0.1), over how often it is open (above 0.9)."""
    for name, values in gates.items():
        shown = values[~np.isnan(values[..., 0])]  # (steps of all rows, units)
        axes.plot((shown < CLOSED).mean(axis=0), (shown > OPEN).mean(axis=0), ".", markersize=4, alpha=0.6, label=name)
    axes.plot([0, 1], [1, 0], color="grey", linewidth=0.5)
    axes.set(xlim=(-0.02, 1), ylim=(-0.02, 1), xlabel="fraction of steps below 0.1", ylabel="fraction above 0.9")


def label_steps(axes, labels: list[str]) -> None:
    """Write labels `(steps,)` under a picture whose steps are 0, 1, 2 ...; of more than 100, every second or third."""
    every = -(-len(labels) // MAX_LABELS)
    wide = max(map(len, labels)) > 2
    axes.set_xticks(range(0, len(labels), every), labels[::every], rotation=90 if wide else 0, fontsize=7)


def _steps_shown(values: np.ndarray) -> np.ndarray:
    """Of `(time, units)`, the steps that the mask does not hide."""
    return values[~np.isnan(values[:, 0])]


def _sums_by_lag(values: np.ndarray) -> np.ndarray:
    """The sums over rows and time of values `(batch, time, units)` times those some steps later: `(lags, units)`."""
    spectrum = np.fft.rfft(values, 2 * values.shape[1], axis=1)
    return np.fft.irfft(np.abs(spectrum) ** 2, 2 * values.shape[1], axis=1).sum(axis=0)
