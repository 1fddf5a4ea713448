r"""The factors nearest to given layers, of order 1, among those whose product minimises the cost.

.. math:: \min_\theta \tfrac12 |\theta - \theta_0|^2 \quad \text{subject to} \quad R\,\mathrm{vec}(A_\theta) = y .

At its solution :math:`\theta - \theta_0 = J^T \mu`, J the derivative of the constraints. Newton's method on the set of
factors: steps in the null space of J by conjugate gradients in a trust region (Steihaug), each followed by a return to
the set along :math:`J^T`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..network import end_to_end
from ..problem import as_state
from ..typing import Array
from .factors import Factors, layered
from .minimisers import Minimisers

__all__ = ["nearest", "returned", "violation"]

CONVERGED = (
    1e-7  # norm of the projected gradient, relative to the distance, whose error is of second order in it
)
FEASIBLE = 1e-13  # violation of the constraints, relative to their size ...
ROUNDED = 1e-15  # ... or to the norms of the layers, multiplied
LONGEST = 100.0  # way back to the set, where layers and minimisers are of order 1
MOST_STEPS, MOST_RETURNS = 200, 60
CRAWL = (
    1e-9  # gain of a step as long as is trusted, relative: the set is singular there, and many would follow
)
HALVED = 0.5 ** np.arange(14)
INEXACT = 1e-2  # accuracy of a step back, where the violation is as large as what may be violated


def violation(weights: Sequence[Array], goal: Minimisers) -> float:
    """How far the product is from the minimisers, in units of what counts as none."""
    size = math.prod(float(np.linalg.norm(W)) for W in weights)
    allowed = max(FEASIBLE * float(np.linalg.norm(goal.values)), ROUNDED * size)
    return float(np.linalg.norm(goal.excess(end_to_end(weights)))) / max(allowed, np.finfo(float).tiny)


def nearest(
    start: Sequence[Array], near: Sequence[Array], goal: Minimisers, accuracy: float = CONVERGED
) -> list[Array] | None:
    """Layers whose product minimises the cost, nearest to `start`, searched from `near`; None where none is met."""
    origin, shapes = as_state(start), [W.shape for W in start]
    here = returned(Factors.at(list(near), goal))
    radius = math.inf
    for _ in range(MOST_STEPS):
        if here is None:
            break
        here = here.arrived()
        offset = as_state(here.weights) - origin
        multipliers, normal = here.solve(here.down(offset))
        gradient, curvature = offset - normal, here.curvature(multipliers)
        distance, slope = float(np.linalg.norm(offset)), float(np.linalg.norm(gradient))
        if slope <= accuracy * distance:
            break
        forcing = min(0.1, math.sqrt(slope / distance))
        radius = min(radius, distance)
        moved = None
        while moved is None:
            step, gain = _step(curvature, gradient, radius, forcing)
            length = float(np.linalg.norm(step))
            crawls = length > 0.999 * radius and gain <= CRAWL * distance**2
            if crawls or gain <= 0.5 * (accuracy * distance) ** 2:
                break
            there = returned(Factors.at(layered(origin + offset + step, shapes), goal, here))
            after = math.inf if there is None else float(np.linalg.norm(as_state(there.weights) - origin))
            ratio = (distance - after) * (distance + after) / (2 * gain) if gain > 0 else -1.0
            radius = length / 4 if ratio < 0.25 else max(radius, 2 * length) if ratio > 0.75 else radius
            moved = there if ratio > 0.05 else None
        if moved is None:
            break
        here = moved
    return None if here is None else here.weights


def returned(point: Factors) -> Factors | None:
    """The set met from a point by Gauss-Newton steps, halved while they do not bring it nearer."""
    goal, shapes = point.goal, [W.shape for W in point.weights]
    for _ in range(MOST_RETURNS):
        left = violation(point.weights, goal)
        if left <= 1:
            return point
        x, step = as_state(point.weights), point.solve(point.excess, min(1.0, FEASIBLE * left) * INEXACT)[1]
        first = LONGEST / max(float(np.linalg.norm(step)), LONGEST)
        for share in first * HALVED:
            there = Factors.at(layered(x - share * step, shapes), goal, point)
            if float(np.linalg.norm(there.excess)) < float(np.linalg.norm(point.excess)):
                break
        else:
            return point if left <= 1e3 else None
        point = there
    return None


def _step(
    curvature: Callable[[Array], Array], gradient: Array, radius: float, forcing: float
) -> tuple[Array, float]:
    """Steihaug's step inside the radius, and what it gains in the quadratic model."""
    p, r, gain = np.zeros_like(gradient), gradient, 0.0
    d, rr = -r, float(r @ r)
    goal = forcing**2 * rr
    for _ in range(len(p)):
        Hd = curvature(d)
        bend = float(d @ Hd)
        share = rr / bend if bend > 0 else math.inf
        a, b, c = float(d @ d), float(p @ d), float(p @ p) - radius**2
        rim = (-b + math.sqrt(b * b - a * c)) / a
        if share >= rim:
            share = rim
            return p + share * d, gain + share * rr - share**2 * bend / 2
        gain += share * rr - share**2 * bend / 2
        p = p + share * d
        r = r + share * Hd
        new = float(r @ r)
        if new <= goal:
            break
        d, rr = -r + new / rr * d, new
    return p, gain
