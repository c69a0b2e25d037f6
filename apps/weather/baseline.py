"""The cheap baselines: the last value, the same time yesterday, and a linear map of the same window."""

import numpy as np
from scipy import linalg

from apps.weather.config import Config
from apps.weather.scoring import Forecaster
from apps.weather.windows import history_of, horizon_of

PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
MAX_INPUTS = 4_000  # of the linear map; steps further back have weight 0
MAX_WORK = 1e12  # multiplications, about a minute: the windows that it is fitted on are thinned out to that
CHUNK = 2_000


def last_value(values: np.ndarray, starts: np.ndarray, forecast: list[int], config: Config) -> np.ndarray:
    """It stays as it is: `(n, horizon, K)`."""
    return np.repeat(values[starts][:, None, forecast], config.horizon, axis=1)


def same_time_yesterday(values: np.ndarray, starts: np.ndarray, forecast: list[int], config: Config, day: int) -> np.ndarray:
    """As it was the last time that the clock said so: `(n, horizon, K)`. `day`: rows in a day."""
    ahead = config.every * np.arange(1, config.horizon + 1)
    rows = starts[:, None] + ahead - day * -(-ahead // day)
    return values[np.maximum(rows, 0)][:, :, forecast]


def all_baselines(linear: "Linear", values: np.ndarray, forecast: list[int], config: Config, day: int) -> dict[str, Forecaster]:
    """All baselines, by the name of their measures in metrics.json; "baseline" is the linear one, the strongest of them."""
    return {
        "baseline": lambda rows: linear.predict(values, rows)[..., None],
        "last_value": lambda rows: last_value(values, rows, forecast, config)[..., None],
        "yesterday": lambda rows: same_time_yesterday(values, rows, forecast, config, day)[..., None],
    }


class Linear:
    """Ridge regression from a window, as differences from its last value; history and penalty are chosen on validation.

    One map for the target from all columns of the window; where many columns are forecast, one for each from itself alone.
    It is fitted on all training windows: their products are summed up in chunks, so that memory is that of the products.

        products of a history of 5        those of its last 3 steps are among them,
            x x x x x                     so one pass fits all lengths
            x x x x x
            x x X X X
            x x X X X
            x x X X X
    """

    def __init__(self, observed: np.ndarray, values: np.ndarray, starts, forecast: list[int], config: Config):
        """Fit and choose.

        Args:
            observed: `(rows, columns)`, normalised; NaN where a value was filled in: what validation is judged by.
            values: the same without NaN.
            starts: see `apps.weather.windows.Starts`.
            forecast: columns that are forecast, K in number.
            config: the settings.
        """
        self.config, self.forecast = config, forecast
        self.columns = values.shape[1] if len(forecast) == 1 else 1
        self.steps = {length: min(length, max(1, MAX_INPUTS // self.columns)) for length in config.history}
        inputs = self.columns * max(self.steps.values())
        train = _spread(starts.train, max(1, int(MAX_WORK / (len(forecast) * inputs**2))))
        maps, errors = zip(
            *(self._fit(observed, values, train, starts.validation, channel) for channel in forecast), strict=True
        )
        self.maps = {length: [found[length] for found in maps] for length in config.history}
        self.errors = {length: float(np.mean([found[length] for found in errors])) for length in config.history}
        self.best = min(self.errors, key=self.errors.get)  # length of history

    def weights(self, length: int) -> list[np.ndarray]:
        """Of a history of `length` steps as `apps.weather.model` has them: kernel `(length * columns, horizon)` and bias
        `(horizon,)` for one column that is forecast, `(K, length, horizon)` and `(horizon, K)` for several."""
        unseen = self.columns * (length - self.steps[length])
        kernels = [np.pad(kernel, ((unseen, 0), (0, 0))) for kernel, _ in self.maps[length]]
        biases = [bias for _, bias in self.maps[length]]
        return [kernels[0], biases[0]] if len(kernels) == 1 else [np.stack(kernels), np.stack(biases, axis=1)]

    def predict(self, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """`(n, horizon, K)`."""
        forecasts = []
        for (kernel, bias), channel in zip(self.maps[self.best], self.forecast, strict=True):
            inputs = (self._inputs(values, some, channel, self.steps[self.best]) for some in _chunks(starts))
            differences = np.concatenate([x @ kernel + bias for x in inputs])
            forecasts.append(differences + values[starts, channel][:, None])
        return np.stack(forecasts, axis=-1).astype(np.float32)

    def _fit(self, observed, values, train, validation, channel):
        """Of one column, by length of history: the map with the best penalty, and its error on validation."""
        products = self._products(values, train, channel)
        candidates = {
            length: [ridge(*products, self.columns * steps, penalty) for penalty in PENALTIES]
            for length, steps in self.steps.items()
        }
        errors = self._errors(candidates, observed, values, validation, channel)
        best = {length: int(np.argmin(found)) for length, found in errors.items()}
        chosen = {length: candidates[length][number] for length, number in best.items()}
        return chosen, {length: errors[length][number] for length, number in best.items()}

    def _products(self, values, starts, channel):
        """Means of inputs and targets, and the sums of products of what they deviate by: `(F,)`, `(H,)`, `(F, F)`, `(F, H)`."""
        steps = max(self.steps.values())
        both = 0.0
        for some in _chunks(starts):
            x, y = self._inputs(values, some, channel, steps), self._targets(values, values, some, channel)
            ones = np.ones((len(some), 1))
            both = both + np.concatenate([ones, x], axis=1).T @ np.concatenate([ones, x, y], axis=1)
        means, size = both[0, 1:] / len(starts), len(both) - 1
        centred = both[1:, 1:] - len(starts) * np.outer(means[:size], means)
        return means[:size], means[size:], centred[:, :size], centred[:, size:]

    def _errors(self, candidates, observed, values, starts, channel) -> dict[int, np.ndarray]:
        """Mean error over the validation windows of each candidate, by length of history."""
        size = np.abs if self.config.metric == "mae" else np.square
        sums, count = {length: np.zeros(len(maps)) for length, maps in candidates.items()}, 0
        for some in _chunks(starts):
            x = self._inputs(values, some, channel, max(self.steps.values()))
            y = self._targets(observed, values, some, channel)
            for length, maps in candidates.items():
                seen = x[:, -self.columns * self.steps[length] :]
                sums[length] += [np.nansum(size(y - seen @ kernel - bias)) for kernel, bias in maps]
            count += np.count_nonzero(~np.isnan(y))
        return {length: total / count for length, total in sums.items()}

    def _inputs(self, values: np.ndarray, starts: np.ndarray, channel: int, steps: int) -> np.ndarray:
        """`(n, steps * columns)`: differences from the last known values."""
        used = values if len(self.forecast) == 1 else values[:, channel : channel + 1]
        past = used[history_of(starts, self.config)[:, -steps:]] - used[starts][:, None]
        return past.reshape(len(starts), -1).astype(np.float64)  # neighbouring steps are so alike that 32 bits do not do

    def _targets(self, truth: np.ndarray, values: np.ndarray, starts: np.ndarray, channel: int) -> np.ndarray:
        """`(n, horizon)`: differences from the last known values."""
        return (truth[horizon_of(starts, self.config), channel] - values[starts, channel][:, None]).astype(np.float64)


def ridge(mean_x, mean_y, gram, moments, inputs: int, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel `(inputs, H)` and bias `(H,)` of the ridge regression on the last `inputs` inputs, see `Linear._products`."""
    gram = gram[-inputs:, -inputs:] + penalty * np.eye(inputs)
    kernel = linalg.solve(gram, moments[-inputs:], assume_a="pos")
    return kernel, mean_y - mean_x[-inputs:] @ kernel


def _chunks(starts: np.ndarray) -> list[np.ndarray]:
    return np.array_split(starts, range(CHUNK, len(starts), CHUNK))


def _spread(starts: np.ndarray, most: int) -> np.ndarray:
    return starts[:: -(-len(starts) // most)]
