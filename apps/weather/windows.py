"""Windows over a series: gathered from one array, so that memory stays that of the series, however many windows there are.

    rows                   0 1 2 3 4 5 6 7 8 9 ...
    forecast origin 4      . . h h h t t . .        history 3, horizon 2, every row a step
    forecast origin 5      . . . h h h t t .        most of it is the same memory

The origin is the last row that is known when one forecasts. A window belongs to the part of the data in which its targets (t)
lie, all of them. Those of validation and test may look back across the split, since the past is known then; those of training
end before it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Origins(NamedTuple):
    """Rows `(n,)` that are forecast origins, by the part that their targets lie in."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Windows:
    """How windows lie over rows: `history` steps up to the origin, `horizon` steps after it, a step every `stride` rows."""

    history: int
    horizon: int
    stride: int

    def history_rows(self, origins: np.ndarray) -> np.ndarray:
        """`(n, history)` for origins `(n,)`; the last ones are the origins themselves."""
        return origins[:, None] + self.stride * np.arange(1 - self.history, 1)

    def target_rows(self, origins: np.ndarray) -> np.ndarray:
        """`(n, horizon)`."""
        return origins[:, None] + self.stride * np.arange(1, self.horizon + 1)

    @property
    def rows(self) -> int:
        """Rows from the first step of the history to the last target."""
        return self.stride * (self.history + self.horizon - 1) + 1

    def find_origins(self, segment_id: np.ndarray, imputed: np.ndarray, split: np.ndarray, window_stride: int = 1) -> Origins:
        """All forecast origins of a series, in order.

        Args:
            segment_id: `(rows,)`, a number for each unbroken stretch of one place; below 0: a row that cannot be used.
            imputed: `(rows,)`, True where a value was interpolated. No origin lies there: it knows the next value.
            split: `(rows,)`, 0 where a row belongs to train, 1 to validation, 2 to test.
            window_stride: of those of training only every so many-th is taken.
        """
        before, after = (self.history - 1) * self.stride, self.horizon * self.stride
        origins = np.arange(before, len(segment_id) - after)
        # Segments are numbered along the series, so the same number at both ends means the same all between.
        here = segment_id[origins]
        whole = ~imputed[origins] & (here >= 0) & (segment_id[origins - before] == here) & (segment_id[origins + after] == here)
        origins = origins[whole]
        first, last = split[origins + self.stride], split[origins + after]
        train, validation, test = (origins[(first == part) & (last == part)] for part in range(3))
        return Origins(train[::window_stride], validation, test)
