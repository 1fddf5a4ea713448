"""Small starts: alpha times layers of any kind, and the flow that they follow while they are small."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from scipy.integrate import solve_ivp

from .. import network
from ..typing import Array
from .runs import NO_DECAY, UNIT_RATES, Quadratic, Run, draw_layers, draw_orthogonal, flat, product
from .trial import Hypothesis

__all__ = [
    "GENERIC",
    "ONE_PACE",
    "SIMPLE",
    "UNDECAYED",
    "SmallStart",
    "draw_small_start",
    "homogeneous",
]


@dataclass(frozen=True, kw_only=True)
class SmallStart(Run):
    """A run from alpha times its layers, and the singular triples of minus the gradient of its cost at zero."""

    alpha: float
    U: Array
    V: Array
    s: Array

    def small(self) -> SmallStart:
        """The run from its start."""
        return replace(self, weights=[self.alpha * W for W in self.weights])


def draw_small_start(rng: Generator, depth: int, *, alpha: float, H: Array) -> SmallStart:
    """Random layers that grow from the first, under a cost with three modes and second derivatives H."""
    U, V = draw_orthogonal(rng, 3), draw_orthogonal(rng, 3)
    s = rng.uniform(1.0, 2.0) * np.array([1.0, 0.2, 0.1])
    hidden = [int(n) for n in rng.integers(2, 5, size=depth - 1)]
    while True:
        weights = draw_layers(rng, [3, *hidden, 3])
        if s @ np.diag(U.T @ product(weights) @ V) > 0.1 * s[0]:
            break
    return SmallStart(
        weights=weights,
        cost=_cost(U, s, V, H),
        rates=np.ones(depth),
        decays=np.zeros(depth),
        alpha=alpha,
        U=U,
        V=V,
        s=s,
    )


def _cost(U: Array, s: Array, V: Array, H: Array) -> Quadratic:
    """The cost with these second derivatives, and minus this gradient at zero."""
    target = np.linalg.solve(H, np.ravel((U * s) @ V.T))
    return Quadratic(np.asarray(target.reshape(len(U), len(V)), dtype=float), H)


def homogeneous(case: SmallStart, duration: float) -> tuple[SmallStart, float]:
    """The flow of the lowest-order part of the cost from the layers, and the time it has taken.

    The duration is by a clock that goes with their size to the power L - 2: they grow exponentially, and never blow up.
    """
    G, depth = -(case.U * case.s) @ case.V.T, len(case.weights)

    def velocity(_: float, state: Array) -> Array:
        pace = float(np.linalg.norm(state[:-1])) ** (2 - depth)
        gradients = network.layer_gradients(case.at(state[:-1]).weights, G)
        return pace * np.append(-flat(gradients), 1.0)

    start = np.append(flat(case.weights), 0.0)
    solution = solve_ivp(velocity, (0.0, duration), start, method="DOP853", rtol=1e-12, atol=1e-14)
    *state, time = solution.y[:, -1]
    return case.at(np.array(state)), float(time)


def _mixed(case: SmallStart, M: Array) -> SmallStart:
    """The outer layers with their parts in the singular modes mixed: ``W_1 v_k`` becomes ``sum_j W_1 v_j M_jk``."""
    first, *hidden, last = case.weights
    mixed = [first @ case.V @ M @ case.V.T, *hidden, case.U @ M.T @ case.U.T @ last]
    return replace(case, weights=mixed)


def _blind(case: SmallStart, _: Generator) -> SmallStart:
    """Nothing of the first mode, which then does not grow of its own."""
    return _mixed(case, np.diag([0.0, 1.0, 1.0]))


def _double(case: SmallStart, _: Generator) -> SmallStart:
    """The first two modes are alike, in the gradient and in the start."""
    s = case.s[[0, 0, 2]]
    alike = _mixed(case, np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    return replace(alike, s=s, cost=_cost(case.U, s, case.V, case.cost.H))


def _decaying(case: SmallStart, _: Generator) -> SmallStart:
    """A decay of the order of the growth at the start."""
    depth = len(case.weights)
    return replace(case, decays=np.full(depth, 0.1 * case.alpha ** (depth - 2)))


def _slower(case: SmallStart, _: Generator) -> SmallStart:
    """The first layers move more slowly."""
    return replace(case, rates=np.linspace(0.5, 1.0, len(case.weights)))


SIMPLE = Hypothesis[SmallStart](lambda case: bool(case.s[0] > case.s[1]), _double)
GENERIC = Hypothesis[SmallStart](
    lambda case: bool(np.linalg.norm(case.weights[0] @ case.V[:, 0]) > 1e-9), _blind
)
UNDECAYED = Hypothesis[SmallStart](NO_DECAY.holds, _decaying)
ONE_PACE = Hypothesis[SmallStart](UNIT_RATES.holds, _slower)
