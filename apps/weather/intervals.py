"""Intervals that hold what they promise: quantiles widened by how far the validation data lay outside of them.

Conformalized quantile regression (Romano, Patterson and Candes, 2019): the error of a window is how far the truth lies outside
of the interval (below 0: inside). The interval is moved outwards by that error's quantile, found on validation windows.
"""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("apps.weather")
class Calibration(keras.layers.Layer):
    """Adds a fixed widening to quantiles `(batch, horizon, K, quantiles)`; the median (number `middle`) is never crossed."""

    def __init__(self, middle: int, **kwargs):
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.middle = middle

    def build(self, shape):
        self.widening = self.add_weight(shape=shape[1:], initializer="zeros", name="widening")

    def call(self, quantiles):
        moved = quantiles + self.widening
        median = moved[..., self.middle : self.middle + 1]
        below = ops.minimum(moved[..., : self.middle], median)
        return ops.concatenate([below, median, ops.maximum(moved[..., self.middle + 1 :], median)], axis=-1)

    def get_config(self):
        return {"name": self.name, "middle": self.middle}


def fit_widening(truth: np.ndarray, forecast: np.ndarray, quantiles: tuple[float, ...], coverage: float) -> np.ndarray:
    """How far to move each quantile, so that the outer two hold a share of `coverage`.

    Args:
        truth: `(n, horizon, K)`, normalised.
        forecast: `(n, horizon, K, quantiles)`, the first and the last of which bound the interval.
        quantiles: their shares, three or more.
        coverage: share that the interval is to hold.

    Returns:
        `(horizon, K, quantiles)`: what to add to a forecast. The median stays, those between move in proportion.
    """
    outside = np.maximum(forecast[..., 0] - truth, truth - forecast[..., -1])
    rank = min(1.0, np.ceil((len(truth) + 1) * coverage) / len(truth))
    wider = np.quantile(outside, rank, axis=0, method="higher")
    distance = np.array(quantiles) - 0.5
    return (wider[..., None] * np.where(distance < 0, -distance / distance[0], distance / distance[-1])).astype(np.float32)
