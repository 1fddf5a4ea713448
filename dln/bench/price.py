"""What a product with the Hessian and a factorisation cost, in velocities, measured on a plateau of the problem."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import int64, void

from ..core import steps
from ..core.collocation import PAIRS, eigenpairs
from ..core.compile import SYSTEM, compiled, gradient_of, hessian_of, product_of, vector, velocity_of
from ..core.compile import record as records
from .problems import Problem

__all__ = ["prices"]

VELOCITY, PRODUCT, FACTORISATION = range(3)
RUNS = 9
SIGNATURE = void(*SYSTEM, vector, int64, vector, vector, records(steps.CONTROL), int64, int64)


def repeat(system, index, weight_decay, data, work, memory, room, y, out, control, what, calls):  # type: ignore[no-untyped-def]
    """The same evaluation again and again."""
    velocity, gradient = velocity_of(system), gradient_of(system)
    product, hessian = product_of(system), hessian_of(system)
    no_batch, c = np.empty(0, np.int64), control[0]
    for _ in range(calls):
        if what == VELOCITY:
            velocity(y, index, weight_decay, gradient, data, no_batch, work, out)
        elif what == PRODUCT:
            product(y, y, index, weight_decay, gradient, hessian, data, work, out)
        else:
            memory[PAIRS] = 0.0
            eigenpairs(system, index, weight_decay, data, work, memory, room, y, out, c)


def prices(problem: Problem, horizon: float) -> dict[str, float]:
    """Prices of "products" and "factorisations", whose own products are not counted again, in velocities.

    Halfway to the horizon all but the last mode are fitted, where the plateaus are long.
    """
    from .. import form, method
    from ..backends.system import System, record
    from ..costs import FullyObserved
    from ..flow import gradient_flow
    from ..problem import Problem as Flow

    cost = FullyObserved(problem.target)
    run = gradient_flow(cost, problem.weights, (0.0, horizon / 2), t_eval=[horizon / 2])
    assert run.weights is not None
    flow = Flow(cost, tuple(W[-1] for W in run.weights), 0.0)
    system = System.of(flow, form.ALL["weights"]).with_curvature()
    stiff, control, out = method.ALL["radau13"], record(steps.CONTROL), np.zeros(flow.parameters)
    rest = (stiff.memory(flow.widths), int(stiff.numbers(flow.widths)[3]), system.state, out, control)
    kernel = compiled(repeat, SIGNATURE, cache=False)

    def seconds(what: int, calls: int) -> float:
        return _seconds(lambda: kernel(*system.arguments, *rest, what, calls)) / calls

    velocity, product = seconds(VELOCITY, 20_000), seconds(PRODUCT, 10_000)
    factorisation = seconds(FACTORISATION, 20)
    control["products"] = 0
    seconds(FACTORISATION, 1)
    within = float(control["products"][0]) / RUNS
    return {
        "products": product / velocity,
        "factorisations": factorisation / velocity - within * product / velocity,
    }


def _seconds(call: Callable[[], Any]) -> float:
    """Best time of a call."""
    best = np.inf
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best
