r"""How far a network is from the nearest global minimum and from the nearest saddle of its loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from .. import inits
from ..costs import Cost, FullyObserved
from ..network import end_to_end, layer_gradients, ntk
from ..problem import Problem, as_state
from ..typing import Array, Layers
from .minimisers import Minimisers, minimisers
from .nearest import nearest
from .subspaces import images, krylov, lifted, projected, widened

__all__ = ["Distance", "distance_to_minimum", "distance_to_saddle"]

SETTLED = 1e-7  # norm of what is not stationary, relative to the distance
MOST_ROUNDS = 12
ALTERNATIONS = 50


class Distance(float):
    """A distance between two proved bounds. As a number it is the upper one, which `weights` attain.

    ``lower, upper = distance`` gives the bounds.

    Attributes
    ----------
    lower, upper : float
    weights : tuple of ndarray
        Layers at the distance `upper`.
    """

    lower: float
    weights: tuple[Array, ...]

    def __new__(cls, lower: float, upper: float, weights: Sequence[Array]) -> Distance:
        self = super().__new__(cls, upper)
        self.lower, self.weights = min(lower, upper), tuple(weights)
        return self

    @property
    def upper(self) -> float:
        return float(self)

    def __iter__(self) -> Iterator[float]:
        return iter((self.lower, self.upper))

    def __repr__(self) -> str:
        return f"Distance({self.lower:.6g} .. {self.upper:.6g})"


def distance_to_minimum(cost: Cost, weights: Layers) -> Distance:
    problem = Problem.checked(cost, weights, 0.0)
    goal = minimisers(problem)
    found = _nearest_minimum(list(problem.weights), goal)
    return Distance(_below_minimum(problem.weights, goal), _gap(found, problem.weights), found)


def _gap(here, there):
    return math.sqrt(sum(float(np.sum((V - W) ** 2)) for V, W in zip(here, there, strict=True)))


def _nearest_minimum(weights, goal):
    bases = krylov(weights, 1)
    best = None
    small = projected(weights, bases)
    A = goal.nearest(end_to_end(small))
    starts = [small, _aligned(small, A), _aligned(small, goal.nearest(0*A))]
    for round in range(MOST_ROUNDS):
        ends = [e for s in starts if (e := nearest(small, s, goal)) is not None]
        best = min(ends, key=lambda e: _gap(e, small))
        step = lifted([V - W for V, W in zip(best, small, strict=True)], bases)
        there = [W + D for W, D in zip(weights, step, strict=True)]
        ex = goal.excess(end_to_end(there))
        print(round, [Q.shape for Q in bases], [_gap(e, small) for e in ends], np.linalg.norm(ex))
        wider = widened(bases, images(there))
        if all(a.shape==b.shape for a,b in zip(wider,bases)): break
        bases = wider
        small = projected(weights, bases)
        step = projected(step, bases)
        starts = [[W + D for W, D in zip(small, step, strict=True)]]
    return there

def _below_minimum(weights, goal): return 0.


def _aligned(weights: Sequence[Array], A: Array) -> list[Array]:
    """Balanced factors of A, turned to be near to the layers: each hidden basis in its turn by a polar factor."""
    depth, rank = len(weights), int(np.linalg.matrix_rank(A))
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    u, bases = s[:rank] ** (1 / depth), [Vt[:rank].T, *(np.zeros((len(W), rank)) for W in weights[:-1]), U[:, :rank]]
    for _ in range(ALTERNATIONS):
        for l in range(1, depth):
            P, _, Qt = np.linalg.svd((weights[l - 1] @ bases[l - 1] + weights[l].T @ bases[l + 1]) * u, full_matrices=False)
            bases[l] = P @ Qt
    return [(above * u) @ below.T for below, above in zip(bases, bases[1:], strict=False)]
