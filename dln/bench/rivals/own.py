"""`dln` itself, and plain gradient descent, which is what practitioners use in its place."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import numpy as np

from .base import Job, Method, Solution

__all__ = ["ALL"]

# "auto" first; a name that `dln.methods()` does not have is left out. True: explicit.
METHODS = {
    "auto": False, "dop853": True, "tsit5": True, "dopri5": True, "bs3": True, "rkc2": False, "rock4": False,
    "rodas4": False, "rodas5p": False, "radau5": False, "radau9": False, "radau13": False, "gauss12": False,
    "exprb53s3": False,
}  # fmt: skip


def dln(job: Job, method: str) -> Any:
    """This library through its front door; a tolerance per layer is its own default."""
    import dln

    p = job.problem
    full, costs = p.fully_observed, dln.costs
    cost = costs.FullyObserved(p.target) if full else costs.MatrixCompletion(p.target, p.mask)
    options: dict[str, Any] = {"method": method, "t_eval": job.times, "max_steps": job.limit() // 4}

    def solve(rtol: float) -> Solution:
        traj = dln.gradient_flow(cost, p.weights, job.span, rtol=rtol, **options)
        counts = {name: traj.stats[name] for name in ("products", "factorisations") if name in traj.stats}
        return Solution(traj.end_to_end, traj.nfev, traj.success, counts)

    return solve


def gradient_descent(job: Job) -> Any:
    """W <- W - eta grad, t = k eta: the rate 100 rtol over the fastest one, at most its half."""
    velocity, gaps, descend = job.rhs("y, dy, data"), np.diff(job.times, prepend=0.0), _compiled_descent()

    def solve(rtol: float) -> Solution:
        rate = min(100.0 * rtol, 0.5) / job.problem.fastest_rate
        if job.span[1] / rate > job.data[1]:
            return Solution(np.empty((0, 0, 0)), int(job.span[1] / rate), False)
        states = descend(velocity, job.problem.start.copy(), gaps, rate, job.data)
        return Solution(states, int(job.data[0]), True)

    return solve


@functools.cache
def _compiled_descent() -> Any:
    from numba import njit

    @njit
    def descend(velocity, y, gaps, rate, data):  # type: ignore[no-untyped-def]
        dy, states = np.empty_like(y), np.empty((gaps.size, y.size))
        for i, gap in enumerate(gaps):
            n = int(np.ceil(gap / rate))
            for _ in range(n):
                velocity(y, dy, data)
                y += gap / n * dy
            states[i] = y
        return states

    return descend


def _known() -> list[str]:
    from ...flow import methods

    return [name for name in METHODS if name == "auto" or name in methods()]


ALL = [
    *(
        Method(f"dln {name}", ("dln",), partial(dln, method=name), explicit=METHODS[name])
        for name in _known()
    ),
    Method("gradient descent", ("numba",), gradient_descent),
]
