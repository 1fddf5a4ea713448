"""The compiled integration, a bounded number of steps at a time: progress and interrupts come between."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import loop, steps
from ..core.compile import pointers
from ..method import Method
from ..typing import Array
from .bases import LONG, singular_bases, turned, turned_to_the_last_digit
from .system import System, record

__all__ = ["Integration"]

LOOK_SECONDS = 0.1  # between two returns to Python
POINTS = 512  # room for outputs spaced by arc length; between half of it and all of it is used
FIRST_SPACING = 1e-3
EXTREMA = 4096
AT_REST = -1  # what `look` is told where the state moves no more

STATUS = {
    loop.FINISHED: "finished",
    loop.UNDERFLOW: "underflow",
    loop.NOT_FINITE: "not_finite",
    loop.COST: "cost",
}


LARGEST_RTOL = 0.1  # above, errors of a step would be as large as the layer
# Relative turn of the velocity in the longest stable step from which a stiff method is due.
STIFF_BELOW = 0.015
CALM_BELOW = 40.0  # step times spectral radius at which explicit methods are as good
# A start waits if the rate of its growth is this part, at most, of that at its escape.
WAITS = 1e-2
# Bases are changed with every method where rounding in mixed ones exceeds this part of rtol.
ROUNDING, SMALL = 1e-16, 0.1
# Size, in terms of that after its escape, at which what grows is told apart from what waits on.
GROWN = 2e-3
# Steps in a row of which that holds before another method is taken; more after a stiff one that did not pay.
LONG_STIFF, LONG_CALM, PAYS = 8, 2, 8


@functools.cache
def _kernels(form: Any, family: type[Method]) -> tuple[Any, ...]:
    """What the loop calls, found at once: the hash of a signature takes 30 microseconds."""
    return tuple(form.loop_kernels(family))


class Stepping:
    """One method at work on one system: its compiled functions and arrays."""

    def __init__(self, method: Method, system: System, blocks: Array) -> None:
        form, problem = system.form, system.problem
        n, m, widths = len(system.state), form.velocity_size(problem), problem.widths
        self.method = method
        self.kernels = _kernels(form, type(method))  # kept alive: the loop knows their addresses only
        self.K = np.zeros((method.rows, m))
        tables = (method.table.copy(), method.error.copy(), method.numbers(widths), method.memory(widths))
        self.tables = (pointers(self.kernels), method.dense.copy(), *tables, blocks)
        move, scratch = (n, n) if form.compensated else (0, 2 * m)
        self.room = (np.zeros(n), np.zeros(move), np.zeros(scratch))  # new, move, scratch

    def arguments(self, y: Array, carry: Array) -> tuple[Any, ...]:
        """What the loop is given of the method and the state."""
        return (*self.tables, y, carry, self.K, *self.room)


@dataclass
class Integration:
    """One run: what goes in, and after `run` what came out."""

    system: System
    methods: tuple[Method, ...]  # one, or an explicit one and a stiff one that take turns
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
    retrace: Sequence[tuple[str, Array]] = ()  # methods, and where the steps that they take end

    def __post_init__(self) -> None:
        system = self.system
        n, size = len(system.state), system.problem.widths[0] * system.problem.widths[-1]
        self.y = system.state  # which the run moves
        self.carry = np.zeros(n if system.form.compensated else 0)
        self.blocks = system.form.blocks(system.problem)
        self.steppings: dict[str, Stepping] = {}
        self.used: list[tuple[str, float, int]] = []  # name, time from which on, steps before
        self.wait = LONG_STIFF
        self.bases: list[Array] | None = None  # the state is in, where they are not those of the layers
        rows = POINTS if self.times is None else len(self.times)
        self.out_t = np.zeros(rows)
        self.out = np.zeros((rows, n if self.keep_states else size))
        self.measured = np.zeros(1 if self.keep_states else 3 * rows)
        self.extrema = np.zeros((EXTREMA, 3))
        self.control = record(steps.CONTROL)
        self.control["t"], self.control["end"] = self.t_span
        velocity, self.A, measured, self.broken = system.evaluate(self.y)
        happens = self._happens_while_it_waits(velocity, measured)
        depth = system.problem.depth
        # what rounding does to A(t) by the delay of escapes; rate of the start in terms of that of its escape
        self.mixes = ROUNDING * happens ** (1.0 / depth - 1.0) > SMALL * self.rtol
        waits = depth > 2 and happens ** (1.0 - 2.0 / depth) < WAITS
        self.taken: list[Array] = []  # ends of the steps
        self.ahead = list(self.retrace)
        if self.retrace:
            self._follow(velocity)
        else:
            self._take(self.methods[waits and len(self.methods) == 2 and self.methods[1].curvature], velocity)
        self.control["rtol"], self.control["atol"] = min(self.rtol, LARGEST_RTOL), self.atol
        self.control["cost_goal"], self.control["dissipation_goal"] = self.cost_goal, self.dissipation_goal
        self.control["watch_arc"] = self.watch_arc
        self.control["spacing"] = FIRST_SPACING if self.times is None else 0.0
        self.control["scale"] = np.linalg.norm(self.A)
        self.control["nfev"] = 1
        self.control["falling"] = 1
        self._rate(measured)
        self._save_start(measured)
        if not self.retrace:
            self.control["h"] = self.step or self._first_step()

    def _happens_while_it_waits(self, velocity: Array, measured: Array) -> float:
        """Share of itself that the objective loses at the first rate in the time in which the start grows."""
        speed, objective = float(np.linalg.norm(velocity)), float(measured[1])
        if not (0.0 < speed < np.inf and objective > 0.0 and np.any(self.y)):
            return 1.0
        return max(float(np.linalg.norm(self.y)) * speed / objective, np.finfo(float).tiny)

    def _take(self, method: Method, velocity: Array) -> None:
        """Go on with a method from here."""
        if method.curvature:
            self.system = self.system.with_curvature()
        if self.used and self.mixes and self.methods[1].curvature:
            velocity = self._stand_apart(velocity)
        if method.name not in self.steppings:
            self.steppings[method.name] = Stepping(method, self.system, self.blocks)
        self.stepping = self.steppings[method.name]
        self.stepping.K[0] = velocity
        c, two = self.control, len(self.methods) == 2
        alternate = two and not self.retrace
        c["last_error"], c["last_h"], c["rejected_last"], c["in_a_row"] = 1.0, 0.0, 0, 0
        c["stretch"], c["left"], c["left_new"], c["happens"] = 0.0, np.inf, np.inf, np.inf
        c["grown"] = GROWN**self.system.problem.depth if two and method.curvature else 0.0
        c["stability"] = method.stability
        if two and method is self.methods[0] and self.used:
            self.wait = (
                LONG_STIFF
                if self.count("steps") - self.used[-1][2] >= PAYS
                else min(2 * self.wait, 16 * LONG_STIFF)
            )
        c["patience"] = self.wait if method is self.methods[0] else LONG_CALM
        c["stiff_below"] = STIFF_BELOW if alternate and method is self.methods[0] else 0.0
        c["calm_below"] = CALM_BELOW if alternate and method is self.methods[1] else 0.0
        self.used.append((method.name, self.t, self.count("steps")))

    def _follow(self, velocity: Array) -> None:
        """Go on along the next steps ahead, by the method that took them."""
        name, self.ends = self.ahead.pop(0)
        self._take(next(method for method in self.methods if method.name == name), velocity)
        self.control["retraces"], self.control["mark"] = 1, 0
        self.control["h"] = self.ends[0] - self.t

    def _stand_apart(self, velocity: Array) -> Array:
        """Turn to bases in which what waits and what is fitted stand apart; the velocity there."""
        form, problem = self.system.form, self.system.problem
        first, last = np.eye(problem.widths[0]), np.eye(problem.widths[-1])
        if self.bases is None:
            found = problem.cost.in_singular_vectors()
            if found is None or np.finfo(LONG).eps > 1e-18:
                return velocity
            cost, last, first = found
            self.system = self.system.with_data(cost.data)
            self.bases = [np.eye(n) for n in problem.widths]
        layers, rests = (form.layers(x, problem.widths) for x in (self.y, self.carry))
        by = singular_bases(layers, first, last)
        self.bases = [B @ R for B, R in zip(self.bases, by, strict=True)]
        now = turned_to_the_last_digit(layers, rests, by)
        for state, parts in zip((self.y, self.carry), now, strict=True):
            state[:] = np.concatenate([W.ravel() for W in parts])
        memory = self.stepping.tables[-2]
        self.stepping.method.turn(memory, problem.widths, lambda rows: self._turned(rows, by, True))
        n = self.count("saved")
        self.out[:n] = self._turned(self.out[:n], by, self.keep_states)
        velocity, self.A, _, self.broken = self.system.evaluate(self.y)
        self.control["nfev"] += 1
        self.control["apart"] = 1
        return velocity

    def _turned(self, rows: Array, bases: Sequence[Array], states: bool) -> Array:
        """States, or end-to-end matrices, in other bases."""
        widths = self.system.problem.widths
        parts = (
            turned(self.system.form.layers(rows, widths), bases)
            if states
            else turned([rows.reshape(len(rows), widths[-1], widths[0])], [bases[0], bases[-1]])
        )
        return np.concatenate([W.reshape(len(rows), math.prod(W.shape[1:])) for W in parts], axis=1)

    def point(self) -> tuple[tuple[Array, ...], Array]:
        """Layers and end-to-end matrix at the time reached."""
        widths = self.system.problem.widths
        layers, A = self.system.form.layers(self.y, widths), self.A.reshape(widths[-1], widths[0])
        if self.bases is None:
            return layers, A
        back = [B.T for B in self.bases]
        return tuple(turned(layers, back)), turned([A], [back[0], back[-1]])[0]

    @property
    def velocity(self) -> Array:
        """Velocity at the point reached."""
        return self.stepping.K[0]

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
        sizes = self.system.form.sizes(self.y, self.velocity, self.system.problem)
        ratios = [y / v for y, v in sizes if y > 0 and 0 < v < np.inf]
        largest = self.t_span[1] - self.t_span[0]
        if not ratios:
            return min(largest, 1e-6)
        return float(min(largest, 0.1 * self.rtol ** (1 / self.stepping.method.error_exponent) * min(ratios)))

    @property
    def t(self) -> float:
        """Time reached."""
        return float(self.control["t"][0])

    def count(self, name: str) -> int:
        """A counter of the loop: steps, rejected, nfev, products, factorisations, saved, extrema."""
        return int(self.control[name][0])

    def run(self, look: Callable[[Integration, int], str], report: Callable[[float, str], None]) -> str:
        """Integrate until something ends it; `look` is asked at every stop that is not an end: "" means go on."""
        if self.broken:
            return self.broken
        if not (np.isfinite(self.velocity).all() and np.isfinite(self.control["objective"][0])):
            return "not_finite"
        if self.control["cost"][0] <= self.cost_goal:
            return "cost"
        factored = not self.system.form.compensated  # factors may be there without a velocity
        if self.control["dissipation"][0] == 0.0 and (factored or not self.velocity.any()):
            return "finished" if self._stand_still() else "stationary"
        if self.control["dissipation"][0] <= self.dissipation_goal and (status := look(self, loop.GRADIENT)):
            return status
        solve = loop.compiled_solve()
        direction = self.system.form.direction(self.system.problem)
        times = np.empty(0) if self.times is None else self.times
        outputs = (times, self.out_t, self.out, self.measured, self.extrema, int(self.keep_states))
        budget = max(1, min(500, 2_000_000 // len(self.y)))
        while True:
            room = self.max_steps - self.count("steps") - self.count("rejected")
            if room <= 0:
                return "max_steps"
            before = time.perf_counter()
            if not self.retrace:
                self.ends, self.control["mark"] = np.empty(min(budget, room)), 0
            arguments = (*self.stepping.arguments(self.y, self.carry), direction, self.A, *outputs)
            code = self.system.call(solve, *arguments, self.ends, self.control, min(budget, room))
            if not self.retrace:
                self.taken.append(self.ends[: self.count("mark")])
            if isinstance(code, str):
                return code
            if code in STATUS:
                return STATUS[code]
            if code == loop.GROWN:
                self.stepping.K[0] = self._stand_apart(self.velocity)
                continue
            if code in (loop.STIFF, loop.CALM):
                self._take(self.methods[code == loop.STIFF], self.velocity)
                continue
            if code == loop.RETRACED:
                self._follow(self.velocity)
                continue
            if code != loop.RUNNING and (status := look(self, code)):
                return status
            seconds = time.perf_counter() - before
            if code == loop.RUNNING:
                if self._moves_no_more() and (status := look(self, AT_REST)):
                    return "finished" if self._stand_still() else status
                budget = max(1, int(budget * min(4.0, LOOK_SECONDS / max(seconds, 1e-6))))
            report(self.t - self.t_span[0], f"t = {self.t:.4g}, cost {self.control['cost'][0]:.3e}")

    @property
    def steps(self) -> Array:
        """Ends of the steps."""
        return np.concatenate([np.empty(0), *self.taken])

    def _moves_no_more(self) -> bool:
        """Whether a time constant of the fastest mode moves the state by less than rounding."""
        radius = float(self.control["radius"][0])
        speed = math.sqrt(self.control["dissipation"][0])
        return bool(speed <= 1e-14 * radius * np.linalg.norm(self.y))

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
        if self.bases is not None:
            rows = self._turned(rows, [B.T for B in self.bases], self.keep_states)
        return t, rows, measured

    def _now(self) -> list[float]:
        return [float(self.control[name][0]) for name in ("cost", "objective", "dissipation")]

    def turns(self) -> Array:
        """Extrema of the log rate, alternating from a minimum on, and the running one: time, log rate, objective."""
        last = [self.control[name][0] for name in ("extreme_t", "extreme", "extreme_objective")]
        return np.vstack([self.extrema[: self.count("extrema")], last])
