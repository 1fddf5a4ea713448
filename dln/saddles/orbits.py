r"""The orbit that leaves a saddle, and where it ends: at a critical point, or nowhere."""

from __future__ import annotations

import math

import numpy as np

from ..flow import gradient_flow
from ..problem import Until
from ..schatten.fixed_rank import Penalised, Point, newton
from ..trajectory import Trajectory
from ..typing import Array
from .departure import EPS, departure

__all__ = ["followed", "orbit"]

SETTLED = 1e-9  # gradient relative to that at its start, from which a segment has arrived,
ROUNDING = 1e-13  # but not less than this share of that at zero
FITTED = 1e-12  # share of the cost at which a segment ends in any case: the fit is perfect, or its infimum not attained
REMAINDER = 1e-7  # of the expansion at the start of a segment, relative to the tolerance; rounding at most
MOST_PAUSES = 4  # saddles that one orbit may pass at a distance
NEAR = 1e-2  # relative distance of the end of a segment to the critical point that it is at, which may be degenerate
SOON = 8  # share of the steps after which an orbit is asked for the first time whether it goes to infinity:
FAR = 3.0  # so far out, relative to where its gradient was largest,
RESTS = ("gradient_norm", "cost")  # where it has not come to rest of itself;
FEW, FARTHEST = (
    60,
    1e5,
)  # in so few steps, up to so many times as far, Newton's method is asked, and says infinity
BEYOND, STEEPEST = (
    10.0,
    4.0,
)  # where it goes so far, and the gradient has fallen no faster than this power: it has not arrived
ZERO = 1e-7  # singular values below this share of the largest are none


def orbit(
    point: Point,
    scale: float,
    rtol: float,
    method: str = "radau13",
    max_steps: int = 1_500,
    pauses: int = 1,
) -> Trajectory:
    """The heteroclinic orbit that leaves a saddle, to where it settles, or pauses for the n-th time."""
    cost, depth = point.problem.cost, point.problem.depth
    start = departure(point, max(EPS, REMAINDER * rtol))
    small = max(SETTLED * start.pull, ROUNDING * scale) * start.heading ** ((depth - 1) / depth)
    until = Until(gradient_norm=small, cost=FITTED * point.objective, saddle=1 + pauses)
    return gradient_flow(
        cost,
        start.layers(depth),
        (0.0, math.inf),
        method=method,
        rtol=rtol,
        until=until,
        max_steps=max_steps,
        keep_weights=True,
    )


def followed(
    point: Point, scale: float, rtol: float, method: str, max_steps: int
) -> tuple[Trajectory, Point, bool]:
    """The orbit from a saddle, the critical point at its end, and whether there is one."""
    pauses, steps = 1, max(1, max_steps // SOON)
    while True:
        segment = orbit(point, scale, rtol, method, steps, pauses)
        if recedes(point.problem, segment):
            return segment, _matrix(point.problem, segment.end_to_end[-1]), False
        if segment.status == "max_steps" and steps < max_steps:
            steps = max_steps
            continue
        after, settled = _arrival(point.problem, segment)
        if settled or segment.status != "saddle" or pauses == MOST_PAUSES:
            return segment, after, settled
        pauses += 1  # it has merely passed by a saddle


def recedes(problem: Penalised, segment: Trajectory) -> bool:
    """Whether an orbit is on its way to infinity: far out Newton's method, too, multiplies the matrix step by step.

    Where the cost falls like |A|^-p, Newton's step is A / (p + 1), however far out; towards a critical point the steps
    shrink. An orbit is asked if it has not come to rest, but is many times as far out as where its gradient was
    largest, and half way since then: at its end the gradient may be rounding.
    """
    sizes = np.linalg.norm(segment.end_to_end, axis=(-2, -1))
    least = FAR * sizes[np.argmax(segment.gradient_norm)]
    if segment.status in RESTS or not sizes[-1] >= least:
        return False
    start = _matrix(problem, segment.end_to_end[np.argmax(sizes >= math.sqrt(least * sizes[-1]))])
    after = newton(start, most_steps=FEW, farthest=FARTHEST * float(np.linalg.norm(start.s)))
    further = float(np.linalg.norm(after.s) / np.linalg.norm(start.s))
    flatter = float(np.linalg.norm(after.gradient) / np.linalg.norm(start.gradient))
    return further >= BEYOND and flatter >= further**-STEEPEST


def _matrix(problem: Penalised, A: Array) -> Point:
    """A matrix without the singular values that are none."""
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    r = int(np.sum(s > ZERO * s[0]))
    return Point(problem, U[:, :r], s[:r], Vt[:r].T)


def _arrival(problem: Penalised, segment: Trajectory) -> tuple[Point, bool]:
    """The critical point at the end of a segment, and whether there is one."""
    last = _matrix(problem, segment.end_to_end[-1])
    after = newton(last)
    near = np.linalg.norm(after.A - last.A) <= NEAR * np.linalg.norm(last.A)
    settled = near and np.linalg.norm(after.gradient) <= SETTLED * after.size
    return (after, True) if settled else (last, False)
