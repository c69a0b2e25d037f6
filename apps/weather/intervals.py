"""Intervals that hold what they promise: quantiles widened by how far the validation data lay outside of them.

Conformalized quantile regression (Romano, Patterson and Candes, 2019): the error of a window is how far the truth lies outside
of the interval (below 0: inside). The interval is moved outwards by that error's quantile, found on validation windows.
"""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("apps.weather")
class Calibration(keras.layers.Layer):
    """Adds a fixed widening to quantiles `(batch, horizon, K, quantiles)`, so that none cross.

    The outer two go where they are moved to, but not across the median (number `middle`); those between stay between.
    """

    def __init__(self, middle: int, **kwargs):
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.middle = middle

    def build(self, shape):
        self.widening = self.add_weight(shape=shape[1:], initializer="zeros", name="widening")

    def call(self, quantiles):
        moved = ops.unstack(quantiles + self.widening, axis=-1)
        median = moved[self.middle]
        for number in range(1, self.middle):  # from the outer ones inwards
            moved[number] = ops.maximum(moved[number], moved[number - 1])
        for number in range(len(moved) - 2, self.middle, -1):
            moved[number] = ops.minimum(moved[number], moved[number + 1])
        below = [ops.minimum(quantile, median) for quantile in moved[: self.middle]]
        above = [ops.maximum(quantile, median) for quantile in moved[self.middle + 1 :]]
        return ops.stack([*below, median, *above], axis=-1)

    def get_config(self):
        return {"name": self.name, "middle": self.middle}


def fit_widening(truth: np.ndarray, forecast: np.ndarray, quantiles: tuple[float, ...], coverage: float) -> np.ndarray:
    """How far to move each quantile, so that the outer two hold a share of `coverage`.

    Args:
        truth: `(n, horizon, K)`, normalised; NaN where no value was measured, which does not count.
        forecast: `(n, horizon, K, quantiles)`, the first and the last of which bound the interval.
        quantiles: their shares, three or more.
        coverage: share that the interval is to hold.

    Returns:
        `(horizon, K, quantiles)`: what to add to a forecast. The median stays, those between move in proportion.
    """
    outside = np.maximum(forecast[..., 0] - truth, truth - forecast[..., -1])
    known = np.count_nonzero(~np.isnan(outside), axis=0)
    rank = np.clip(np.ceil((known + 1) * coverage).astype(int), 1, np.maximum(known, 1))
    ordered = np.sort(outside, axis=0)  # NaN last
    wider = np.nan_to_num(np.take_along_axis(ordered, rank[None] - 1, axis=0)[0])
    distance = np.array(quantiles) - 0.5
    return (wider[..., None] * np.where(distance < 0, -distance / distance[0], distance / distance[-1])).astype(np.float32)
