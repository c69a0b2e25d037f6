"""A picture of attention: for each token that is written, how much it looked at each token of the source."""

import textwrap
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from shared.plots import plt, save_figure

LETTERS_PER_INCH = 9  # of a title
MAX_DRAWN = 60  # tokens of a side; the first ones


def draw(weights: np.ndarray, source: list[str], target: list[str]) -> Figure:
    """Weights `(target tokens, source tokens)` as a picture, a row for each token of the target; the first 60 of each side."""
    weights, source, target = weights[:MAX_DRAWN, :MAX_DRAWN], source[:MAX_DRAWN], target[:MAX_DRAWN]
    figure, axes = plt.subplots(figsize=(2 + 0.3 * len(source), 1.5 + 0.26 * len(target)))
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, label="weight")
    axes.set_xticks(range(len(source)), source, rotation=90 if max(map(len, source)) > 1 else 0)
    axes.set_yticks(range(len(target)), target)
    axes.set(xlabel="source", ylabel="written")
    return figure


def save(file: Path, weights: np.ndarray, source: list[str], target: list[str], title: str) -> None:
    """Write the picture of `draw` as PNG."""
    with warnings.catch_warnings(action="ignore"):  # the font lacks some character of the texts
        figure = draw(weights, source, target)
        save_figure(figure, file, textwrap.fill(title, int(LETTERS_PER_INCH * figure.get_figwidth())))
