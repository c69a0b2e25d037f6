"""Single units that follow something with a name: the position in a line, a negation, a fall of the pressure.

Such units were first shown so by Karpathy, Johnson and Fei-Fei (2015).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.patheffects import withStroke

from shared.plots import plt, save_figure
from shared.state_plots import label_steps

MOST = 5  # units that are drawn
LEAST = 0.2  # absolute correlation


class NamedUnit(NamedTuple):
    """The unit of all layers that follows a feature most closely."""

    feature: str
    layer: str
    unit: int
    strength: float  # absolute correlation on the rows that it was chosen by
    correlation: float  # on the other rows


def correlations(states: np.ndarray, feature: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each unit with a feature, over all steps of all rows: `(units,)`.

    Args:
        states: `(rows, steps, units)`, NaN at the steps that the mask hides.
        feature: `(rows, steps)`, NaN where it is not known.

    Returns:
        NaN of a unit that does not move; of all, if the feature does not.
    """
    known = ~np.isnan(feature) & ~np.isnan(states[..., 0])
    if not known.any():
        return np.full(states.shape[-1], np.nan)
    units, wanted = states[known].astype(float), feature[known].astype(float)
    units, wanted = units - units.mean(axis=0), wanted - wanted.mean()
    with np.errstate(invalid="ignore"):
        return wanted @ units / np.sqrt((wanted @ wanted) * (units**2).sum(axis=0))


def find_units(layers: dict[str, np.ndarray], features: dict[str, np.ndarray]) -> list[NamedUnit]:
    """For each feature the unit with the largest absolute correlation; the five most strongly tied, the first the strongest.

    Among hundreds of units some follow anything by chance. So units and features are chosen by the second half of the rows, and
    the correlation is that in the first half, to which the example that is drawn belongs; below 0.2 there it was chance.

    Args:
        layers: states `(rows, steps, units)` by the layer's name.
        features: `(rows, steps)` by name.
    """
    found = []
    for name, feature in features.items():
        half = -(-len(feature) // 2)
        strengths = {layer: np.abs(correlations(states[half:], feature[half:])) for layer, states in layers.items()}
        strengths = {layer: np.nan_to_num(strength) for layer, strength in strengths.items()}
        layer = max(strengths, key=lambda layer: strengths[layer].max())
        unit = int(strengths[layer].argmax())
        [correlation] = correlations(layers[layer][:half, :, [unit]], feature[:half])
        found.append(NamedUnit(name, layer, unit, float(strengths[layer][unit]), float(correlation)))
    tied = [one for one in found if abs(one.correlation) >= LEAST]  # not NaN either
    return sorted(tied, key=lambda one: -one.strength)[:MOST]


def draw_units(
    file: Path, layers: dict[str, np.ndarray], features: dict[str, np.ndarray], labels: list[str], title: str
) -> None:
    """A panel for each unit that `find_units` finds: the first row's steps, coloured by what the unit is, and the feature.

    If it finds none, no picture.
    """
    units = find_units(layers, features)
    if not units:
        return
    figure, axes = plt.subplots(len(units), 2, figsize=(16, 1.3 * len(units) + 1), squeeze=False, width_ratios=[80, 1])
    for (left, right), one in zip(axes, units, strict=True):
        image = plot_unit(left, layers[one.layer][0, :, one.unit], features[one.feature][0])
        figure.colorbar(image, cax=right, label="state")
        followed = f"Colour: unit {one.unit} of {one.layer}. Line: {one.feature}. Correlation {one.correlation:.2f}"
        left.set_title(followed, loc="left", fontsize=11)
    shown = ~np.isnan(layers[units[0].layer][0, :, 0])
    label_steps(axes[-1, 0], [label for label, is_shown in zip(labels, shown, strict=True) if is_shown])
    save_figure(figure, file, f"{title}: units that follow something with a name; correlation in rows not used to choose")


def plot_unit(axes, states: np.ndarray, feature: np.ndarray):
    """Of one example's steps that the mask does not hide: cells coloured by a unit's states `(steps,)`, `feature` as a line."""
    shown = ~np.isnan(states)
    limit = np.abs(states[shown]).max()
    image = axes.imshow(states[None, shown], cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    line = axes.twinx()
    line.plot(feature[shown], color="black", drawstyle="steps-mid", path_effects=[withStroke(linewidth=4, foreground="white")])
    line.margins(y=0.15)
    return image
