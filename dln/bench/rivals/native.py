"""Integrators that call the velocity from compiled code, by its address: numbalsoda and CyRK."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import numpy as np

from .base import MAX_STEPS, Job, Method, Solution

__all__ = ["ALL"]


def numbalsoda(job: Job, routine: str) -> Any:
    """Fortran's DOP853 or C's LSODA, called with the address of the right-hand side."""
    import numbalsoda

    rhs, data, integrate = job.rhs("t, y, dy, data"), job.data, getattr(numbalsoda, routine)
    grid = np.concatenate([[0.0], job.times])

    def solve(rtol: float) -> Solution:
        tolerances = rtol, job.atol(rtol)
        states, success = integrate(rhs.address, job.problem.start, grid, data, *tolerances, MAX_STEPS)
        return Solution(states[1:], int(data[0]), success)

    return solve


def cyrk(job: Job, method: str) -> Any:
    """CyRK's C++ solvers, called from compiled code with the address of the right-hand side."""
    rhs, data, integrate = job.rhs("dy, t, y, data"), job.data, _compiled_cyrk()

    def solve(rtol: float) -> Solution:
        arguments = (rhs.address, job.span, job.problem.start, method, job.times, data, rtol, job.atol(rtol))
        states, calls, success = integrate(*arguments)
        return Solution(states, int(calls), success)

    return solve


@functools.cache
def _compiled_cyrk() -> Any:
    """`nbsolve2_ivp`, the copy and the release of its result in one compiled function: saves 0.07 ms."""
    from CyRK import nbsolve2_ivp
    from CyRK.nb.numba_solver import c_get_args_ptr
    from numba import carray, njit

    @njit
    def integrate(address, span, start, method, times, data, rtol, atol):  # type: ignore[no-untyped-def]
        result = nbsolve2_ivp(address, span, start, method, times, False, data, rtol, atol)
        states, success = result.y.T.copy(), result.success
        calls = carray(c_get_args_ptr(result._ptr), (8,)).view(np.float64)[0]  # CyRK works on a copy of data
        result.free()
        return states, calls, success

    return integrate


ALL = [
    Method("numbalsoda dop853", ("numbalsoda",), partial(numbalsoda, routine="dop853"), explicit=True),
    Method("numbalsoda lsoda", ("numbalsoda",), partial(numbalsoda, routine="lsoda"), dense=True),
    *(
        Method(f"CyRK {name}", ("CyRK",), partial(cyrk, method=name), explicit=True)
        for name in ("DOP853", "RK45", "Tsit5", "Vern7", "Vern8")
    ),
]
