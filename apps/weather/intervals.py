"""Intervals that hold what they promise: widened by how far the validation targets lay outside of them.

Conformalized quantile regression (Romano, Patterson and Candes, 2019): the error of a window is how far the target lies outside
of the interval (below 0: inside). The interval is moved outwards by that error's quantile, found on validation windows.
"""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("apps.weather")
class Calibration(keras.layers.Layer):
    """Moves both ends of the intervals `(batch, horizon, K, 3)` outwards by the weights `(horizon, K)`.

    Where they are moved inwards (weights below 0), not beyond the median. A point forecast `(batch, horizon, K, 1)` stays.
    """

    def build(self, shape):
        self.widening = self.add_weight(shape=shape[1:3], initializer="zeros", trainable=False, name="widening")

    def call(self, quantiles):
        if quantiles.shape[-1] == 1:
            return quantiles
        low, median, high = ops.unstack(quantiles, axis=-1)
        low, high = ops.minimum(low - self.widening, median), ops.maximum(high + self.widening, median)
        return ops.stack([low, median, high], axis=-1)


def fit_widening(targets: np.ndarray, forecast: np.ndarray, coverage: float) -> np.ndarray:
    """How far to move both ends of the intervals outwards, so that they hold a fraction of `coverage`.

    Args:
        targets: `(n, horizon, K)`, normalised; NaN where no value was measured, which does not count.
        forecast: `(n, horizon, K, quantiles)`, the first and the last of which bound the interval.
        coverage: fraction that the interval is to hold.

    Returns:
        `(horizon, K)`.
    """
    outside = np.maximum(forecast[..., 0] - targets, targets - forecast[..., -1])
    known = np.count_nonzero(~np.isnan(outside), axis=0)
    rank = np.clip(np.ceil((known + 1) * coverage).astype(int), 1, np.maximum(known, 1))
    ordered = np.sort(outside, axis=0)  # NaN last
    return np.nan_to_num(np.take_along_axis(ordered, rank[None] - 1, axis=0)[0]).astype(np.float32)
