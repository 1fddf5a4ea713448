"""The compiled integration, a bounded number of steps at a time: progress and interrupts come between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..core import runge_kutta as rk
from ..tableaux import Tableau
from ..typing import Array
from .system import System, record

__all__ = ["Integration"]

LOOK_SECONDS = 0.1  # between two returns to Python
POINTS = 512  # room for outputs spaced by arc length; between half of it and all of it is used
FIRST_SPACING = 1e-3
EXTREMA = 4096
AT_REST = -1  # what `look` is told where the state moves no more

STATUS = {
    rk.FINISHED: "finished",
    rk.UNDERFLOW: "underflow",
    rk.NOT_FINITE: "not_finite",
    rk.COST: "cost",
}


@dataclass
class Integration:
    """One run: what goes in, and after `run` what came out."""

    system: System
    tableau: Tableau
    t_span: tuple[float, float]
    rtol: float
    atol: float
    step: float | None
    times: Array | None
    keep_states: bool
    cost_goal: float
    dissipation_goal: float
    max_steps: int
    watch_arc: float = math.inf

    def __post_init__(self) -> None:
        system, tableau = self.system, self.tableau
        n, size = len(system.state), system.problem.widths[0] * system.problem.widths[-1]
        self.y = system.state.copy()
        self.K = np.zeros((len(tableau.A) + 1, n))
        self.K[0], self.A, measured, self.broken = system.evaluate(self.y)
        rows = POINTS if self.times is None else len(self.times)
        self.out_t = np.zeros(rows)
        self.out = np.zeros((rows, n if self.keep_states else size))
        self.measured = np.zeros(1 if self.keep_states else 3 * rows)
        self.extrema = np.zeros((EXTREMA, 3))
        self.control = record(rk.CONTROL)
        self.control["t"], self.control["end"] = self.t_span
        self.control["rtol"], self.control["atol"] = self.rtol, self.atol
        self.control["cost_goal"], self.control["dissipation_goal"] = self.cost_goal, self.dissipation_goal
        self.control["last_error"] = 1.0
        self.control["stability"] = tableau.stability
        self.control["watch_arc"] = self.watch_arc
        self.control["spacing"] = FIRST_SPACING if self.times is None else 0.0
        self.control["scale"] = np.linalg.norm(self.A)
        self.control["nfev"] = 1
        self.control["falling"] = 1
        self._rate(measured)
        self._save_start(measured)
        self.control["h"] = self.step or self._first_step()
        self.status = ""

    def _rate(self, measured: Array) -> None:
        _, objective, dissipation = measured
        c = self.control
        c["cost"], c["objective"], c["dissipation"] = measured
        if objective > 0 and dissipation > 0:
            c["log_rate"] = math.log(dissipation / objective)
        c["extreme"], c["extreme_t"], c["extreme_objective"] = c["log_rate"], c["t"], objective

    def _save_start(self, measured: Array) -> None:
        if self.times is not None and self.times[0] > self.t_span[0]:
            return
        self.out_t[0] = self.t_span[0]
        self.out[0] = self.y if self.keep_states else self.A
        if not self.keep_states:
            self.measured[:3] = measured
        self.control["saved"] = 1

    def _first_step(self) -> float:
        """A step in which no layer changes by more than a fraction of itself that suits the tolerance."""
        blocks = self.system.form.blocks(self.system.problem)
        sizes = [(np.abs(self.y[a:b]).max(), np.abs(self.K[0, a:b]).max()) for a, b in pairwise(blocks)]
        ratios = [y / v for y, v in sizes if y > 0 and 0 < v < np.inf]
        largest = self.t_span[1] - self.t_span[0]
        if not ratios:
            return min(largest, 1e-6)
        return float(min(largest, 0.1 * self.rtol ** (1 / self.tableau.error_exponent) * min(ratios)))

    @property
    def t(self) -> float:
        """Time reached."""
        return float(self.control["t"][0])

    def count(self, name: str) -> int:
        """A counter of the loop: steps, rejected, nfev, saved, extrema."""
        return int(self.control[name][0])

    def run(self, look: Callable[[Integration, int], str], report: Callable[[float, str], None]) -> str:
        """Integrate until something ends it; `look` is asked at every stop that is not an end: "" means go on."""
        if self.broken:
            return self.broken
        if not (np.isfinite(self.K[0]).all() and np.isfinite(self.control["objective"][0])):
            return "not_finite"
        if self.control["cost"][0] <= self.cost_goal:
            return "cost"
        if not self.K[0].any():
            return "finished" if self._stand_still() else "stationary"
        if self.control["dissipation"][0] <= self.dissipation_goal and (status := look(self, rk.GRADIENT)):
            return status
        solve = rk.compiled_solve()
        tableau, blocks = self.tableau, self.system.form.blocks(self.system.problem)
        direction = np.cos(np.arange(len(self.y)) ** 2 * 1.0)  # no mode is orthogonal to this
        direction /= np.linalg.norm(direction)
        arguments = (
            *(
                tableau.A.copy(),
                tableau.error.copy(),
                tableau.dense.copy(),
                tableau.stages,
                tableau.error_exponent,
            ),
            *(blocks, self.y, self.K, np.empty_like(self.y), np.empty_like(self.y), direction, self.A),
            *(
                np.empty(0) if self.times is None else self.times,
                self.out_t,
                self.out,
                self.measured,
                self.extrema,
            ),
            *(int(self.keep_states), self.control),
        )
        budget = max(1, min(500, 2_000_000 // len(self.y)))
        while True:
            room = self.max_steps - self.count("steps") - self.count("rejected")
            if room <= 0:
                return "max_steps"
            before = time.perf_counter()
            code = self.system.call(solve, *arguments, min(budget, room))
            if isinstance(code, str):
                return code
            if code in STATUS:
                return STATUS[code]
            if code != rk.RUNNING and (status := look(self, code)):
                return status
            seconds = time.perf_counter() - before
            if code == rk.RUNNING:
                if self._moves_no_more() and (status := look(self, AT_REST)):
                    return "finished" if self._stand_still() else status
                budget = max(1, int(budget * min(4.0, LOOK_SECONDS / max(seconds, 1e-6))))
            report(self.t - self.t_span[0], f"t = {self.t:.4g}, cost {self.control['cost'][0]:.3e}")

    def _moves_no_more(self) -> bool:
        """Whether a time constant of the fastest mode moves the state by less than rounding."""
        radius = float(self.control["radius"][0])
        return bool(np.linalg.norm(self.K[0]) <= 1e-14 * radius * np.linalg.norm(self.y))

    def _stand_still(self) -> bool:
        """A start that does not move has reached the end of a finite span."""
        if math.isinf(self.t_span[1]):
            return False
        self.control["t"] = self.t_span[1]
        while self.times is not None and self.count("saved") < len(self.times):
            row = self.count("saved")
            self.out_t[row] = self.times[row]
            self.out[row] = self.y if self.keep_states else self.A
            if not self.keep_states:
                self.measured[3 * row : 3 * row + 3] = self._now()
            self.control["saved"] += 1
        return True

    def saved(self) -> tuple[Array, Array, Array | None]:
        """Times, rows and measures of the outputs, and the point reached, unless all the times asked for are there."""
        n = self.count("saved")
        t, rows = self.out_t[:n].copy(), self.out[:n].copy()
        measured = None if self.keep_states else self.measured[: 3 * n].reshape(n, 3)
        if (self.times is None or n < len(self.times)) and (n == 0 or t[-1] < self.t):
            t = np.append(t, self.t)
            rows = np.vstack([rows, self.y if self.keep_states else self.A])
            if measured is not None:
                measured = np.vstack([measured, self._now()])
        return t, rows, measured

    def _now(self) -> list[float]:
        return [float(self.control[name][0]) for name in ("cost", "objective", "dissipation")]

    def turns(self) -> Array:
        """Extrema of the log rate, alternating from a minimum on, and the running one: time, log rate, objective."""
        last = [self.control[name][0] for name in ("extreme_t", "extreme", "extreme_objective")]
        return np.vstack([self.extrema[: self.count("extrema")], last])
