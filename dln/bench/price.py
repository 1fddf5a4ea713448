"""What a product with the Hessian and a factorisation cost, in velocities, measured on a plateau of the problem."""

from __future__ import annotations

import time

import numpy as np
from numba import int64, void

from ..core import steps
from ..core.collocation import PAIRS, eigenpairs
from ..core.compile import SYSTEM, compiled, gradient_of, hessian_of, product_of, vector, velocity_of
from ..core.compile import record as records
from .problems import Problem

__all__ = ["prices"]

VELOCITY, PRODUCT, FACTORISATION = range(3)
CALLS, RUNS = (4000, 1000, 4), 60  # a millisecond each: longer ones are interrupted by other work
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

    def seconds(what: int) -> float:
        start = time.perf_counter()
        kernel(*system.arguments, *rest, what, CALLS[what])
        return (time.perf_counter() - start) / CALLS[what]

    # in turn, so that whatever disturbs the machine disturbs all alike
    velocity, product, factorisation = np.min(
        [[seconds(what) for what in range(3)] for _ in range(RUNS)], axis=0
    )
    within = control["products"][0] / (RUNS * CALLS[FACTORISATION])
    return {
        "products": float(product / velocity),
        "factorisations": float((factorisation - within * product) / velocity),
    }
