r"""The factors nearest to given layers, of order 1, among those whose product minimises the cost.

.. math:: \min_\theta \tfrac12 |\theta - \theta_0|^2 \quad \text{subject to} \quad R\,\mathrm{vec}(A_\theta) = y .

At its solution :math:`\theta - \theta_0 = J^T \mu`, J the derivative of the constraints. Newton's method on the set of
factors: steps in the null space of J by conjugate gradients in a trust region (Steihaug), each followed by a return to
the set along :math:`J^T`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..network import end_to_end, layer_gradients
from ..problem import as_state
from ..typing import Array
from .minimisers import Minimisers

__all__ = ["Factors", "flat", "nearest", "violation"]

CONVERGED = (
    1e-7  # norm of the projected gradient, relative to the distance, whose error is of second order in it
)
FEASIBLE = 1e-13  # violation of the constraints, relative to their size ...
ROUNDED = 1e-15  # ... or to the norms of the layers, multiplied
LONGEST = 100.0  # way back to the set, where layers and minimisers are of order 1
MOST_STEPS, MOST_RETURNS = 200, 60
IMAGINARY = 1e-30  # of the complex step, which has no cancellation


def flat(layers: Sequence[Array], lead: tuple[int, ...] = ()) -> Array:
    """All entries of layers with these leading axes, row by row."""
    return np.concatenate([np.reshape(W, (*lead, -1)) for W in layers], axis=-1)


@dataclass(frozen=True, eq=False)
class Factors:
    """A point of the flat weights x: its layers, constraints c, and their derivative J with J J^T = Q h Q^T."""

    weights: list[Array]
    excess: Array
    J: Array
    h: Array
    Q: Array

    @staticmethod
    def at(x: Array, shapes: Sequence[tuple[int, ...]], goal: Minimisers) -> Factors:
        ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)])
        weights = [x[a:b].reshape(shape) for (a, b), shape in zip(pairwise(ends), shapes, strict=True)]
        J = flat(layer_gradients(weights, goal.rows), (len(goal.rows),))
        h, Q = np.linalg.eigh(J @ J.T)
        return Factors(weights, goal.excess(end_to_end(weights)), J, h, Q)

    def solve(self, r: Array) -> Array:
        """(J J^T)^{-1} r, without what is not felt to rounding."""
        felt = self.h > 1e-15 * self.h[-1]
        return np.asarray(self.Q[:, felt] @ ((self.Q[:, felt].T @ r) / self.h[felt]))

    def tangent(self, v: Array) -> Array:
        """Part of v in the null space of J."""
        return np.asarray(v - self.J.T @ self.solve(self.J @ v))

    def curvature(self, multipliers: Array, goal: Minimisers) -> Callable[[Array], Array]:
        """Hessian of the Lagrangian along the set: v less the derivative of J^T mu along v, both projected."""
        M, shapes = np.tensordot(multipliers, goal.rows, 1), [W.shape for W in self.weights]
        ends = np.cumsum([W.size for W in self.weights])[:-1]

        def product(v: Array) -> Array:
            parts = [d.reshape(shape) for d, shape in zip(np.split(v, ends), shapes, strict=True)]
            moved = [W + 1j * IMAGINARY * d for W, d in zip(self.weights, parts, strict=True)]
            return self.tangent(v - as_state(layer_gradients(moved, M)).imag / IMAGINARY)

        return product


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
    here = _returned(as_state(near), shapes, goal)
    radius = math.inf
    for _ in range(MOST_STEPS):
        if here is None:
            break
        offset = as_state(here.weights) - origin
        multipliers = here.solve(here.J @ offset)
        gradient = here.tangent(offset)
        distance, slope = float(np.linalg.norm(offset)), float(np.linalg.norm(gradient))
        if slope <= accuracy * distance:
            break
        forcing = min(0.1, math.sqrt(slope / distance))
        radius = min(radius, distance)
        moved = None
        while moved is None and radius > 1e-12 * distance:
            step, gain = _step(here.curvature(multipliers, goal), gradient, radius, forcing)
            there = _returned(origin + offset + step, shapes, goal)
            length = float(np.linalg.norm(step))
            after = math.inf if there is None else float(np.linalg.norm(as_state(there.weights) - origin))
            ratio = (distance - after) * (distance + after) / (2 * gain) if gain > 0 else -1.0
            radius = length / 4 if ratio < 0.25 else max(radius, 2 * length) if ratio > 0.75 else radius
            moved = there if ratio > 0.05 else None
        if moved is None:
            break
        here = moved
    return None if here is None else here.weights


def _returned(x: Array, shapes: Sequence[tuple[int, ...]], goal: Minimisers) -> Factors | None:
    """The set met from x by Gauss-Newton steps, halved while they do not bring it nearer."""
    point = Factors.at(x, shapes, goal)
    for _ in range(MOST_RETURNS):
        left = violation(point.weights, goal)
        if left <= 1:
            return point
        step = point.J.T @ point.solve(point.excess)
        share = first = LONGEST / max(float(np.linalg.norm(step)), LONGEST)
        while True:
            there = Factors.at(x - share * step, shapes, goal)
            if float(np.linalg.norm(there.excess)) < float(np.linalg.norm(point.excess)):
                break
            share /= 2
            if share < 1e-4 * first:
                return point if left <= 1e3 else None
        x, point = x - share * step, there
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
