"""Plots that every app has. Import pyplot from here: it draws into files, no window opens."""

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.ticker import LogFormatter, MaxNLocator

matplotlib.use("Agg")
import matplotlib.pyplot as plt

plt.rcParams["text.parse_math"] = False  # the user's names may hold a $


def plot_history(file: Path, history: pd.DataFrame, curves: list[list[str]], title: str) -> None:
    """Columns of history.csv over the epochs, a panel for each list of them."""
    figure, axes = plt.subplots(1, len(curves), figsize=(4.5 * len(curves), 4), squeeze=False)
    for axis, columns in zip(axes[0], curves, strict=True):
        history.plot(x="epoch", y=columns, ax=axis, marker="o")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(figure, file, title)


def save_figure(figure, file: Path, title: str) -> None:
    """Write a PNG and let go of the figure."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if axis.get_scale() != "linear":  # whose ticks would be written in mathematics, which is not parsed
            base = axis.get_transform().base
            axis.set_major_formatter(LogFormatter(base))
            axis.set_minor_formatter(LogFormatter(base, labelOnlyBase=False))
    figure.suptitle(title, y=1 - 0.1 / figure.get_figheight())  # inches: a fraction would lie among the panels of a tall one
    figure.tight_layout()
    figure.canvas.print_png(file)  # `savefig` would lay out all texts once more
    plt.close(figure)
