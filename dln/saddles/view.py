"""A trajectory as `find_saddles` looks at it: at any time, between the saved ones where that is possible."""

from __future__ import annotations

import bisect
import math

import numpy as np

from .. import critical
from ..network import end_to_end
from ..trajectory import CLOSED, Trajectory
from ..typing import Array

__all__ = ["View"]

ZOOMS, SAMPLES = 4, 17  # refinement of a time: rounds, and points in each
RECENT = 2**26  # bytes of layers at times looked at last


class View:
    """Layers, A, objective and gradient at any time of a run, and the times at which something happens."""

    def __init__(self, run: Trajectory, between: bool = True) -> None:
        self.run = run
        self.t_end = float(run.t[-1])
        self.flows = run.continue_from is not None and run.form not in CLOSED
        self.first = run.t_start if run.continue_from is not None else float(run.t[0])
        # The layers of a flow are known between its saved times, as it can be continued from what is known before.
        self.between = between and run.continue_from is not None and len(run.start) > 0
        if self.between:
            saved = range(len(run.t)) if run.weights is not None else ()
            self.known_t = [run.t_start, *(float(run.t[i]) for i in saved)]
            self.known: list[int | tuple[Array, ...]] = [run.start, *saved]
            self.recent: list[float] = []
            self.room = max(2, RECENT // (8 * sum(W.size for W in run.start)))

    def times(self, lower: float, upper: float, zoom: int) -> Array:
        """Times to look at between two others: first the saved ones, then a finer and finer grid."""
        t = self.run.t
        if not self.between or (zoom == 0 and self.run.weights is not None):
            return np.unique(np.r_[lower, t[(t > lower) & (t < upper)], upper])
        return np.linspace(lower, upper, SAMPLES)

    def layers(self, t: float | Array) -> tuple[Array, ...] | None:
        """Layers at times: continued from the last known ones, or interpolated; None where they are not known."""
        if not self.between and self.flows:
            return None if self.run.weights is None else tuple(W[self._saved(t)] for W in self.run.weights)
        if not self.between or self.run.form in CLOSED:
            return self.run.weights_at(t)
        times = np.atleast_1d(t)
        assert self.run.continue_from is not None
        result = tuple(np.empty((len(times), *W.shape)) for W in self.run.start)
        before = np.array([bisect.bisect_right(self.known_t, x) - 1 for x in times])
        parts = []
        for index in np.unique(before):
            mine = np.flatnonzero(before == index)
            later, back = np.unique(times[mine], return_inverse=True)
            known = self.known[index]
            if not isinstance(known, tuple):
                known = tuple(W[known] for W in self.run.weights or ())
            for W, part in zip(
                result, self.run.continue_from(known, self.known_t[index], later), strict=True
            ):
                W[mine] = part[back]
            parts.append(mine)
        for i in np.concatenate(parts):
            self._remember(float(times[i]), tuple(W[i] for W in result))
        return tuple(W.reshape(*np.shape(t), *W.shape[1:]) for W in result)

    def _saved(self, t: float | Array) -> Array:
        """Where the first saved times are that are no earlier."""
        return np.minimum(np.searchsorted(self.run.t, t), len(self.run.t) - 1)

    def _remember(self, t: float, layers: tuple[Array, ...]) -> None:
        """Make layers known from which the flow can be continued, and forget the oldest of those."""
        index = bisect.bisect_left(self.known_t, t)
        if index < len(self.known_t) and self.known_t[index] == t:
            return
        self.known_t.insert(index, t)
        self.known.insert(index, tuple(W.copy() for W in layers))
        self.recent.append(t)
        if len(self.recent) > self.room:
            index = bisect.bisect_left(self.known_t, self.recent.pop(0))
            del self.known_t[index], self.known[index]

    def observe(self, t: Array) -> tuple[Array, Array, Array]:
        """A, objective and gradient norm at times (saved times, where the run knows no layers)."""
        run = self.run
        layers = self.layers(t)
        if layers is None:
            index = self._saved(t)
            return run.end_to_end[index], run.objective[index], run.gradient_norm[index]
        A = end_to_end(layers)
        size = sum(np.sum(W**2, axis=(-2, -1)) for W in layers)
        objective = run.cost_function.value(A) + 0.5 * run.weight_decay * size
        return A, np.asarray(objective), critical.gradient_norm(run.cost_function, layers, run.weight_decay)

    def slowest(self, lower: float, t: float, upper: float) -> float:
        """Time of the least rate between two peaks, from the step at which the integrator saw it least."""
        for zoom in range(ZOOMS if self.between else 1):
            times = self.times(lower, upper, zoom)
            if zoom == 0:
                times = np.unique(np.r_[times, t])
            _, objective, norm = self.observe(times)
            with np.errstate(divide="ignore", invalid="ignore"):
                rate = 2 * np.log(norm) - np.log(objective)
            best = int(np.argmin(np.where(np.isnan(rate), np.inf, rate)))  # NaN where the objective is 0
            t, lower, upper = times[best], times[max(best - 1, 0)], times[min(best + 1, len(times) - 1)]
        return float(t)

    def modes(self, t: float, A: Array) -> critical.ActiveModes:
        """Which modes of A are active at a time."""
        run, layers = self.run, self.layers(t)
        return critical.active_modes(
            run.cost_function, A, run.depth, run.weight_decay, layers=layers, elapsed=t - self.first
        )

    def fall(self, lower: float, upper: float, level: float) -> float:
        """First time between two others at which the objective falls to a level, interpolated at last; else inf."""
        for zoom in range(ZOOMS if self.between else 1):
            times = self.times(lower, upper, zoom)
            values = self.observe(times)[1]
            if not (values <= level).any():
                return math.inf
            passed = int(np.argmax(values <= level))
            if passed == 0:
                return float(times[0])
            lower, upper = float(times[passed - 1]), float(times[passed])
        return lower + (upper - lower) * float(
            (values[passed - 1] - level) / (values[passed - 1] - values[passed])
        )
