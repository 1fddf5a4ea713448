"""What is kept of every step of a run, so that nothing has to be assumed of it later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..typing import Array
from .layout import Layout, Rows
from .probes import ENTRIES, NORM, RANK, TOTAL
from .windows import EACH_WINDOW, Window

__all__ = ["Record"]


class Record:
    """Weights and velocity now, a row for every step, a row for every window.

    Attributes
    ----------
    learning_rates, weight_decays : ndarray, shape (steps,)
    """

    def __init__(self, layout: Layout, W: Array, V: Array) -> None:
        self._layout, self._W, self._V, self._now = layout, W, V, 0
        layers = len(layout.shapes)
        # what a step without gradients has done to (W, V) since the start and since the window began; tau; log of D_T
        self._left = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
        self._layers = Rows((len(ENTRIES), layers))
        self._scalars = Rows((4,))  # learning rate, decay, log of what is left of the start, whether watched
        self._found = Rows((len(EACH_WINDOW) + 1, layers))
        self._ends = Rows((1,))
        self._window: Window | None = None
        self._layers.next()[NORM] = [np.linalg.norm(M) for M in layout.matrices(W)]
        self._scalars.next()

    @property
    def share(self) -> Array:
        """Rank that the gradients of each window could add, over the smaller dimension, (windows, layers)."""
        return self._found.rows[:, -1].copy()

    @property
    def norms(self) -> Array:
        """Frobenius norms of the weights, (steps + 1, layers), NaN within leaps."""
        return self._layers.rows[:, NORM].copy()

    @property
    def gradient_ranks(self) -> Array:
        """Bounds on the ranks of the gradients, (steps, layers): measured or counted, a priori within leaps."""
        return self._layers.rows[1:, RANK].copy()

    @property
    def learning_rates(self) -> Array:
        """Rates of the steps, (steps,)."""
        return self._scalars.rows[1:, 0].copy()

    @property
    def weight_decays(self) -> Array:
        """Decays of the steps, (steps,)."""
        return self._scalars.rows[1:, 1].copy()

    @property
    def factor(self) -> float:
        """What is left of the start: W_T is `factor` times W_0 and gradients."""
        return float(self._left[0])

    @property
    def tau(self) -> float:
        """Sum of learning rate times decay over the steps."""
        return float(self._left[8])

    def mark(self) -> dict[str, Array]:
        """Where the record stands; `rewind` forgets what came after."""
        window = self._window or Window(np.zeros(0), np.zeros(0), -1)
        return {
            "lengths": np.array([len(kept.rows) for kept in self._kept.values()]), "left": self._left.copy(),
            "W": self._W.copy(), "V": self._V.copy(), "window_W": window.W, "window_V": window.V,
            "window_start": np.array(window.start),
        }  # fmt: skip

    def rewind(self, mark: Mapping[str, Array]) -> None:
        """Stand where the mark was made."""
        for kept, length in zip(self._kept.values(), mark["lengths"].tolist(), strict=True):
            kept.give_back(len(kept.rows) - length)
        self._left[:], self._W[:], self._V[:] = mark["left"], mark["W"], mark["V"]
        self._now, start = len(self._layers.rows) - 1, int(mark["window_start"])
        self._window = None if start < 0 else Window(mark["window_W"], mark["window_V"], start)

    def state(self) -> dict[str, Array]:
        """All that is known, as arrays, from which `restore` goes on to the same bits."""
        return self.mark() | {name: kept.rows for name, kept in self._kept.items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Stand where `state` was taken."""
        for name, kept in self._kept.items():
            kept.restore(state[name])
        self.rewind(state)

    @property
    def _kept(self) -> dict[str, Rows]:
        return {"layers": self._layers, "scalars": self._scalars, "found": self._found, "ends": self._ends}

    def _certified(self, epsilon: float) -> Any:
        """Rank of the adaptive certificate now, for each layer; inf for none."""
        rows, forgotten = self._layers.rows, self._scalars.rows[:, 2]
        T, reach, result = len(rows) - 1, 64, np.full(rows.shape[-1], np.inf)
        while np.isinf(result).any():
            part = slice(max(0, T - reach), T)
            with np.errstate(divide="ignore", invalid="ignore"):
                left = rows[part, NORM] * np.exp(forgotten[-1] - forgotten[part, None])
                enough = left <= epsilon * rows[-1, NORM]
            for l in np.flatnonzero(enough.any(axis=0) & np.isinf(result)):
                result[l] = rows[-1, TOTAL, l] - rows[part.start + np.flatnonzero(enough[:, l])[-1], TOTAL, l]
            if part.start == 0:
                break
            reach *= 4
        return result
