"""Integrators that call the compiled velocity through Python: SciPy, and SUNDIALS by scikit-sundae."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .base import MAX_STEPS, Job, Method, Solution

__all__ = ["ALL"]


def scipy(job: Job, method: Any) -> Any:
    """`scipy.integrate.solve_ivp`: loop in Python."""
    from scipy.integrate import solve_ivp

    velocity, data, dy = job.rhs("y, dy, data"), job.data, np.empty_like(job.problem.start)

    def rhs(t: float, y: Any) -> Any:
        velocity(np.ascontiguousarray(y), dy, data)  # the implicit methods give rows of Fortran's arrays
        return dy.copy()

    def solve(rtol: float) -> Solution:
        s = solve_ivp(rhs, job.span, job.problem.start, method, job.times, rtol=rtol, atol=job.atol(rtol))
        return Solution(s.y.T, int(data[0]), s.success, {"factorisations": s.nlu})

    return solve


def scipy_odeint(job: Job) -> Any:
    """LSODA of `scipy.integrate.odeint`: its loop is compiled, that of `solve_ivp(method="LSODA")` is not."""
    from scipy.integrate import odeint

    velocity, data, dy = job.rhs("y, dy, data"), job.data, np.empty_like(job.problem.start)
    grid: Any = np.concatenate([[0.0], job.times])
    options: Any = {"mxstep": MAX_STEPS, "full_output": True}

    def rhs(y: Any, t: float) -> Any:
        velocity(y, dy, data)
        return dy

    def solve(rtol: float) -> Solution:
        states, info = odeint(rhs, job.problem.start, grid, rtol=rtol, atol=job.atol(rtol), **options)
        return Solution(states[1:], int(data[0]), info["message"] == "Integration successful.")

    return solve


def cvode(job: Job, linsolver: str) -> Any:
    """CVODE's BDF: its own difference quotients for the Jacobian, or for its products with Krylov vectors.

    LAPACK pays from some hundred unknowns on.
    """
    from sksundae.cvode import CVODE

    velocity, data, state = job.rhs("y, dy, data"), job.data, np.empty_like(job.problem.start)
    linsolver = "lapackdense" if linsolver == "dense" and state.size >= 100 else linsolver
    grid, options = np.concatenate([[0.0], job.times]), {"max_num_steps": MAX_STEPS, "linsolver": linsolver}

    def rhs(t: float, y: Any, dy: Any) -> None:
        state[:] = y  # which is read-only
        velocity(state, dy, data)

    def solve(rtol: float) -> Solution:
        s = CVODE(rhs, rtol=rtol, atol=job.atol(rtol), **options).solve(grid, job.problem.start)
        return Solution(s.y[1:], int(data[0]), s.success)

    return solve


NEEDS = ("scipy", "numba")
ALL = [
    *(
        Method(f"scipy {name}", NEEDS, partial(scipy, method=name), overhead=5e-6, explicit=True)
        for name in ("DOP853", "RK45")
    ),
    *(
        Method(f"scipy {name}", NEEDS, partial(scipy, method=name), overhead=5e-6, dense=True)
        for name in ("BDF", "Radau")
    ),
    Method("scipy LSODA", NEEDS, scipy_odeint, overhead=1e-6, dense=True),
    Method(
        "sksundae CVODE", ("sksundae", "numba"), partial(cvode, linsolver="dense"), overhead=2e-6, dense=True
    ),
    Method("sksundae CVODE-GMRES", ("sksundae", "numba"), partial(cvode, linsolver="gmres"), overhead=2e-6),
]
