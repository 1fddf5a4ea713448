"""What is compared: a job to be done, a method that does it, and the solution that comes back.

Numba is loaded when a velocity is asked for, not before: its seconds belong to the first use of whoever needs it.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...typing import Array
from ..problems import Problem, end_to_end, make

__all__ = ["LIMIT", "LONGEST", "MAX_STEPS", "Job", "Method", "Solution"]

MAX_STEPS = 10_000_000
LIMIT = 10.0  # seconds of one solve, beyond which it is cut
LONGEST = 2.0  # seconds of a solve, or of the next as foreseen, that end the scan of tolerances


@dataclass(frozen=True)
class Solution:
    """Flat states (T, n) or matrices A (T, n_L, n_0) at the times of the job, and what they took."""

    path: Array
    nfev: int
    success: bool
    counts: Mapping[str, int] = field(default_factory=dict)  # other work: products, factorisations


@dataclass(frozen=True)
class Job:
    """A problem, the times at which its path is wanted, the faster make of the velocity and its seconds per call.

    No tighter tolerance is tried where a solve takes `longest` seconds.
    """

    problem: Problem
    times: Array
    product: str
    seconds: float
    longest: float = LONGEST

    @property
    def span(self) -> tuple[float, float]:
        """From 0 to the last time."""
        return 0.0, float(self.times[-1])

    @cached_property
    def data(self) -> Array:
        """The last argument of `rhs`; its entry 0 counts the calls, its entry 1 bounds them."""
        from ..velocity import new_data

        return new_data(self.problem)

    def rhs(self, order: str) -> Any:
        """The compiled velocity with its arguments in the given order, see `velocity.compile_for`."""
        from ..velocity import compile_for

        return compile_for(self.problem.widths, self.product, order)

    def atol(self, rtol: float) -> float:
        """An absolute tolerance that knows the scale of the start."""
        return rtol * self.problem.scale

    def limit(self, overhead: float = 0.0) -> int:
        """Velocity evaluations that fit in `LIMIT` seconds, each with so many seconds of the integrator's own."""
        return max(100, int(max(LIMIT, self.longest) / (self.seconds + overhead)))

    def end_to_end(self, solution: Solution) -> Array:
        """A at the times of the job."""
        path = np.asarray(solution.path)
        return path if path.ndim == 3 else end_to_end(path, self.problem.widths)

    def save(self, path: Path) -> None:
        """Write what `load` needs."""
        p = self.problem
        np.savez(path, name=p.name, seed=p.seed, times=self.times, product=self.product, seconds=self.seconds)

    @classmethod
    def load(cls, path: str) -> Job:
        """The job that was saved."""
        with np.load(path) as f:
            problem = make(str(f["name"]), int(f["seed"]))
            return cls(problem, f["times"], str(f["product"]), float(f["seconds"]))


@dataclass(frozen=True)
class Method:
    """A contestant: `prepare(job)` returns `solve(rtol) -> Solution`.

    `modules` are those it needs, the measured one first. `calls` says how many velocity evaluations the job takes at
    least, where that can be known before; `overhead` is what each of them costs beside the velocity itself, in
    seconds. `dense` methods factorise matrices as large as the state.
    """

    name: str
    modules: tuple[str, ...]
    prepare: Callable[[Job], Callable[[float], Solution]]
    overhead: float = 0.0
    explicit: bool = False
    dense: bool = False

    @property
    def package(self) -> str:
        """The package that is measured."""
        return self.modules[0]

    def missing(self) -> list[str]:
        """Names of the modules that are not installed."""
        return [m for m in self.modules if importlib.util.find_spec(m) is None]

    def bounded(self, job: Job) -> Callable[[float], Solution]:
        """`prepare(job)`, with the count of calls at zero, and their number bounded, before each solve."""
        solve, limit = self.prepare(job), job.limit(self.overhead)

        def bounded_solve(rtol: float) -> Solution:
            job.data[:2] = 0.0, limit
            return solve(rtol)

        return bounded_solve

    def expected_seconds(self, job: Job, rate_time: float) -> float:
        """Least seconds of a solve, from the integral of the fastest rate over the horizon; 0 where unknown.

        An explicit method of order 5 takes 6 velocities for a step of 3.3 / rate: no high order does much better.
        """
        if not self.explicit or not math.isfinite(rate_time):
            return 0.0
        return 1.8 * rate_time * (job.seconds + self.overhead)
