"""The cheap baselines: the last value, the same time yesterday, and a linear map of the same window."""

import numpy as np
from scipy import linalg

from apps.weather.scoring import Forecaster
from apps.weather.windows import Origins, Windows

PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
MAX_INPUTS = 4_000  # of the linear map; steps further back have weight 0
MAX_WORK = 1e12  # multiplications, about a minute: the windows that it is fitted on are thinned out to that
CHUNK = 2_000


def make_baselines(
    linear: "Linear", values: np.ndarray, forecast: list[int], windows: Windows, rows_per_day: int
) -> dict[str, Forecaster]:
    """All baselines by name; "baseline" is the linear map."""
    return {
        "baseline": lambda origins: linear.predict(values, origins)[..., None],
        "last value": lambda origins: last_value(values, origins, forecast, windows)[..., None],
        "same time yesterday": lambda origins: same_time_yesterday(values, origins, forecast, windows, rows_per_day)[..., None],
    }


def last_value(values: np.ndarray, origins: np.ndarray, forecast: list[int], windows: Windows) -> np.ndarray:
    """It stays as it is: `(n, horizon, K)`."""
    return np.repeat(values[origins][:, None, forecast], windows.horizon, axis=1)


def same_time_yesterday(
    values: np.ndarray, origins: np.ndarray, forecast: list[int], windows: Windows, rows_per_day: int
) -> np.ndarray:
    """As it was the last time that the clock showed this: `(n, horizon, K)`."""
    ahead = windows.stride * np.arange(1, windows.horizon + 1)
    rows = origins[:, None] + ahead - rows_per_day * -(-ahead // rows_per_day)
    return values[np.maximum(rows, 0)][:, :, forecast]


class Linear:
    """Ridge regression from a window, as differences from its last value; history and penalty are chosen on validation.

    One map for each column that is forecast, from all columns of the window or from itself alone.
    It is fitted on all training windows: their products are summed up in chunks, so that memory is that of the products.

        products of a history of 5        those of its last 3 steps are among them,
            x x x x x                     so one pass fits the whole history and its later half
            x x x x x
            x x X X X
            x x X X X
            x x X X X

    Args:
        values: `(rows, columns)`, normalised.
        observed: the same; NaN where a value was imputed: what validation is judged by.
        origins: of the windows.
        forecast: columns that are forecast, K in number.
        windows: how they lie.
        metric: "mae" or "mse", to choose by.
        alone: whether a column is forecast from itself alone.

    Attributes:
        history: steps that the best map reads.
    """

    def __init__(
        self,
        values: np.ndarray,
        observed: np.ndarray,
        origins: Origins,
        forecast: list[int],
        windows: Windows,
        metric: str,
        alone: bool = False,
    ):
        self.windows, self.forecast, self.alone = windows, forecast, alone
        self.size = np.abs if metric == "mae" else np.square
        self.columns = 1 if alone else values.shape[1]
        steps = min(windows.history, max(1, MAX_INPUTS // self.columns))
        self.lengths = sorted({steps, -(-steps // 2)})
        inputs = self.columns * steps
        train = _thinned(origins.train, max(1, int(MAX_WORK / (len(forecast) * inputs**2))))
        fitted = [self._fit(values, observed, train, origins.validation, channel) for channel in forecast]
        errors = {length: np.mean([of_channel[length][1] for of_channel in fitted]) for length in self.lengths}
        self.history = min(errors, key=errors.get)
        self.maps = [of_channel[self.history][0] for of_channel in fitted]  # kernel and bias of each column

    def predict(self, values: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """`(n, horizon, K)`."""
        forecasts = []
        for (kernel, bias), channel in zip(self.maps, self.forecast, strict=True):
            inputs = (self._inputs(values, some, channel, self.history) for some in _chunks(origins))
            differences = np.concatenate([x @ kernel + bias for x in inputs])
            forecasts.append(differences + values[origins, channel][:, None])
        return np.stack(forecasts, axis=-1).astype(np.float32)

    def _fit(self, values, observed, train, validation, channel: int) -> dict[int, tuple]:
        """For one column, by length of history: the map with the best penalty, and its error on validation."""
        products = self._products(values, train, channel)
        best = {}
        for length in self.lengths:
            maps = [ridge(*products, self.columns * length, penalty) for penalty in PENALTIES]
            errors = self._errors(maps, values, observed, validation, channel, length)
            best[length] = maps[int(np.argmin(errors))], float(np.min(errors))
        return best

    def _products(self, values, origins, channel: int):
        """Means of inputs and targets, and the sums of products of what they deviate by: `(F,)`, `(H,)`, `(F, F)`, `(F, H)`."""
        both = 0.0
        for some in _chunks(origins):
            x, y = self._inputs(values, some, channel, self.lengths[-1]), self._targets(values, values, some, channel)
            ones = np.ones((len(some), 1))
            both = both + np.concatenate([ones, x], axis=1).T @ np.concatenate([ones, x, y], axis=1)
        means, size = both[0, 1:] / len(origins), len(both) - 1
        centred = both[1:, 1:] - len(origins) * np.outer(means[:size], means)
        return means[:size], means[size:], centred[:, :size], centred[:, size:]

    def _errors(self, maps, values, observed, origins, channel: int, length: int) -> np.ndarray:
        """Mean error over the windows of each map."""
        sums, count = np.zeros(len(maps)), 0
        for some in _chunks(origins):
            x, y = self._inputs(values, some, channel, length), self._targets(observed, values, some, channel)
            sums += [np.nansum(self.size(y - x @ kernel - bias)) for kernel, bias in maps]
            count += np.count_nonzero(~np.isnan(y))
        return sums / count

    def _inputs(self, values: np.ndarray, origins: np.ndarray, channel: int, steps: int) -> np.ndarray:
        """`(n, steps * columns)`: differences from the last known values."""
        used = values[:, channel : channel + 1] if self.alone else values
        past = used[self.windows.history_rows(origins)[:, -steps:]] - used[origins][:, None]
        return past.reshape(len(origins), -1).astype(np.float64)  # neighbouring steps are so alike that 32 bits do not do

    def _targets(self, targets: np.ndarray, values: np.ndarray, origins: np.ndarray, channel: int) -> np.ndarray:
        """`(n, horizon)`: differences from the last known values."""
        return (targets[self.windows.target_rows(origins), channel] - values[origins, channel][:, None]).astype(np.float64)


def ridge(mean_x, mean_y, gram, moments, inputs: int, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel `(inputs, H)` and bias `(H,)` of the ridge regression on the last `inputs` inputs, see `Linear._products`."""
    gram = gram[-inputs:, -inputs:] + penalty * np.eye(inputs)
    kernel = linalg.solve(gram, moments[-inputs:], assume_a="pos")
    return kernel, mean_y - mean_x[-inputs:] @ kernel


def _chunks(origins: np.ndarray) -> list[np.ndarray]:
    return np.array_split(origins, range(CHUNK, len(origins), CHUNK))


def _thinned(origins: np.ndarray, most: int) -> np.ndarray:
    return origins[:: -(-len(origins) // most)]
