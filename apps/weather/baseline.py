"""The cheap rivals: the last value, the same time yesterday, and a linear map of the same window."""

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error

from apps.weather.config import Config
from apps.weather.scoring import Forecaster
from apps.weather.windows import history_of, horizon_of

MOST_WINDOWS = 8_000  # that the linear rival is fitted on, evenly spread
PENALTIES = (1.0, 100.0, 10_000.0, 100_000.0)
MOST_NUMBERS = 40_000_000  # in these windows together
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
    """All rivals, by the name that their measures have in metrics.json. The linear one is "baseline", the strongest of them."""
    return {
        "baseline": lambda rows: linear.predict(values, rows)[..., None],
        "last_value": lambda rows: last_value(values, rows, forecast, config)[..., None],
        "yesterday": lambda rows: same_time_yesterday(values, rows, forecast, config, day)[..., None],
    }


class Linear:
    """Ridge regression from a window, as differences from its last value; the penalty is chosen on validation.

    One map for the target from all columns of the window; where many columns are forecast, one for each from itself alone.
    """

    def __init__(self, values: np.ndarray, train: np.ndarray, validation: np.ndarray, forecast: list[int], config: Config):
        self.config, self.forecast = config, forecast
        inputs = config.longest_history * (values.shape[1] if len(forecast) == 1 else 1)
        train, validation = (_spread(starts, min(MOST_WINDOWS, MOST_NUMBERS // inputs)) for starts in (train, validation))
        self.models = []
        for channel in forecast:
            inputs, targets = self._windows(values, train, channel)
            held_out, truth = self._windows(values, validation, channel)
            fitted = [Ridge(alpha).fit(inputs, targets) for alpha in PENALTIES]
            errors = [mean_squared_error(truth, model.predict(held_out)) for model in fitted]
            self.models.append(fitted[int(np.argmin(errors))])

    @property
    def weights(self) -> list[np.ndarray]:
        """As `apps.weather.model` has them: kernel `(history * columns, horizon)` and bias `(horizon,)` for one column that is
        forecast, `(K, history, horizon)` and `(horizon, K)` for several."""
        kernels, biases = [model.coef_.T for model in self.models], [model.intercept_ for model in self.models]
        return [kernels[0], biases[0]] if len(kernels) == 1 else [np.stack(kernels), np.stack(biases, axis=1)]

    def predict(self, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """`(n, horizon, K)`."""
        columns = []
        for model, channel in zip(self.models, self.forecast, strict=True):
            pieces = [starts[first : first + CHUNK] for first in range(0, len(starts), CHUNK)]
            differences = np.concatenate([model.predict(self._windows(values, piece, channel)[0]) for piece in pieces])
            columns.append(differences.reshape(len(starts), -1) + values[starts, channel][:, None])
        return np.stack(columns, axis=-1).astype(np.float32)

    def _windows(self, values: np.ndarray, starts: np.ndarray, channel: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets, both as differences from the last known values."""
        used = values if len(self.forecast) == 1 else values[:, channel : channel + 1]
        past = used[history_of(starts, self.config)] - used[starts][:, None]
        inputs = past.reshape(len(starts), -1).astype(np.float64)  # neighbouring steps are so alike that 32 bits do not do
        return inputs, values[horizon_of(starts, self.config), channel] - values[starts, channel][:, None]


def _spread(starts: np.ndarray, most: int) -> np.ndarray:
    return starts[:: -(-len(starts) // most)]
