"""Plots that every app has. Import pyplot from here: it draws into files, no window opens."""

from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

plt.rcParams["text.parse_math"] = False  # the user's names may hold a $


def plot_history(file: Path, history: pd.DataFrame, curves: list[list[str]], title: str) -> None:
    """Columns of history.csv over the epochs, a panel for each list of them."""
    figure, axes = plt.subplots(1, len(curves), figsize=(4.5 * len(curves), 4), squeeze=False)
    for axis, columns in zip(axes[0], curves, strict=True):
        history.plot(x="epoch", y=columns, ax=axis, marker="o")
    save_figure(figure, file, title)


def save_figure(figure, file: Path, title: str) -> None:
    """Write a PNG and let go of the figure."""
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(file)
    plt.close(figure)
