r"""How far a network is from the nearest global minimum and from the nearest saddle of its loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from .. import checks, inits
from ..costs import Cost, FullyObserved
from ..network import end_to_end
from ..problem import Problem
from ..typing import RNG, Array, Layers
from .bounds import below_minimum, below_saddle
from .factors import Factors
from .minimisers import Minimisers, minimisers
from .nearest import nearest, returned
from .subspaces import images, krylov, lifted, projected, widened

__all__ = ["Distance", "distance_to_minimum", "distance_to_saddle"]

SETTLED = 1e-8  # change of the distance, relative, with which wider subspaces are not worth their cost
MOST_ROUNDS = 24
COARSE = 1e-2  # accuracy of the searches from many starts, of which the best goes on
ALTERNATIONS = 50
MANY = 200  # constraints from which on a search is dear


class Distance(float):
    """A distance between two bounds. As a number it is the upper one, which `weights` attain.

    ``lower, upper = distance`` gives both. They are proved, and right to rounding.

    Attributes
    ----------
    lower, upper : float
    weights : tuple of ndarray
        Layers at the distance `upper`.
    """

    lower: float
    weights: tuple[Array, ...]

    def __new__(cls, lower: float, upper: float, weights: Sequence[Array]) -> Distance:
        """The bounds, and where the upper one is attained."""
        self = super().__new__(cls, upper)
        self.lower, self.weights = min(lower, upper), tuple(weights)
        return self

    def __reduce__(self) -> Any:
        return Distance, (self.lower, self.upper, self.weights)

    @property
    def upper(self) -> float:
        return float(self)

    def __iter__(self) -> Iterator[float]:
        return iter((self.lower, self.upper))

    def __repr__(self) -> str:
        return f"Distance({self.lower:.6g} .. {self.upper:.6g})"


def distance_to_minimum(
    cost: Cost, weights: Layers, *, restarts: int | None = None, rng: RNG = 0
) -> Distance:
    r"""Euclidean distance of the layers to the global minima of the loss :math:`C(W_L \cdots W_1)`, without decay.

    For a quadratic cost the minima are the factors of an affine set of matrices. To the factors nearest to a Gaussian
    start of entries N(0, rho^2/w), in a wide network, it is for :math:`\rho \gg 1` and for :math:`\rho \ll 1`

    .. math::
        \frac{\|A^* - A\|_F}{\sqrt L\,\rho^{L-1}}, \qquad
        \Big(L \sum_i s_i^{2/L} - 2\sqrt2\,(L-1)\,\rho \sum_i s_i^{1/L} + O(\rho^2)\Big)^{1/2}.

    Parameters
    ----------
    cost : Cost
        FullyObserved, MatrixCompletion, MatrixSensing or SquareLoss.
    weights : sequence of array_like
        Layers [W_1, .., W_L], the hidden ones wide enough for every minimiser of the cost: min(n_0, n_L), or the rank
        of the minimiser if there is one only.
    restarts : int, optional
        Searches from balanced factors in random bases added to the layers, beside those named below: by default 6,
        and none where the cost determines more than 200 numbers of A.
    rng : None, int, SeedSequence or Generator
        Randomness of the restarts.

    Returns
    -------
    Distance
        A float, with `lower`, `upper` and `weights`.

    Raises
    ------
    ValueError, TypeError
        If the cost is another, or the layers do not fit it or are too narrow.

    Notes
    -----
    The problem is not convex. `upper` is attained: the best local minimum that Newton's method finds from the layers
    themselves and from balanced factors turned towards them. `lower` holds for all minima: the product of layers that
    moved by d is at most a polynomial of d away, and if A* is the only minimiser,
    :math:`d^2 \ge L \sum_i (s_i^{1/L} - \max_l \|W_l\|)_+^2` (A. Horn's inequality for singular values of products).
    The two meet for :math:`\rho \to 0` and, in wide networks, for :math:`\rho \to \infty`. Wide layers cost a few of
    their products with n_0 + n_L vectors, and one norm each. What grows is the number m of entries of A that the cost
    determines. Where it determines all, a step takes some hundred products of matrices of the size of A, else m^3 / 3
    operations: 30 x 30 matrices take seconds. Ten times longer take small starts to a target of lower rank, whose
    factors are a singular set; there the last digits, beyond the sixth, are not those of the local minimum.

    References
    ----------
    arXiv 2106.15933v2, phase transition of the distances; the constants are derived.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved([[4.0]])
    >>> distance_to_minimum(cost, [[[1.0]], [[1.0]]])  # W_1 = W_2 = 2 is nearest
    Distance(1.41421 .. 1.41421)
    """
    problem = Problem.checked(cost, weights, 0.0)
    goal = minimisers(problem)
    usual = 6 if len(goal.values) <= MANY else 0
    searches = usual if restarts is None else checks.integer(restarts, "restarts", least=0)
    layers, unit = _unit(problem.weights, float(np.linalg.norm(goal.values)))
    goal = replace(goal, values=goal.values / unit**problem.depth)
    found = _nearest_minimum(layers, goal, searches, checks.generator(rng))
    return _distance(below_minimum(layers, goal), layers, found, unit)


def distance_to_saddle(cost: Cost, weights: Layers) -> Distance:
    r"""Euclidean distance of the layers to the critical points of the loss that are no global minima, between bounds.

    For a Gaussian start it is of the order of :math:`\rho = \sigma\sqrt w`, whatever the depth.

    Parameters
    ----------
    cost : Cost
        Convex, with a gradient at A = 0.
    weights : sequence of array_like
        Layers [W_1, .., W_L], L >= 2.

    Returns
    -------
    Distance
        A float, with `lower`, `upper` and `weights`.

    Raises
    ------
    ValueError, TypeError
        If the layers do not fit the cost, there is one layer, or the cost is stationary at A = 0.

    Notes
    -----
    Where two layers vanish, so do all gradients: `upper` is attained by removing the two smallest layers. For a fully
    observed target there is another candidate, nearer to large starts: one singular mode is removed from the first and
    the last layer, and the others are fitted (`distance_to_minimum`).

    At a critical point with G = dC/dA not zero, :math:`G^T W_L \cdots W_2 = 0` and :math:`W_{L-1} \cdots W_1 G^T = 0`,
    so that neither product has full rank; `lower` is how far the layers must move at least to make it so.

    References
    ----------
    arXiv 2106.15933v2, phase transition of the distances; bounds derived.

    Examples
    --------
    >>> import dln
    >>> distance_to_saddle(dln.costs.FullyObserved([[4.0]]), [[[1.0]], [[1.0]]])  # the saddle is at zero
    Distance(1.41421 .. 1.41421)
    """
    problem = Problem.checked(cost, weights, 0.0)
    if problem.depth < 2:
        raise ValueError("`weights` must have at least two layers, got one. One layer has no saddle.")
    if not cost.gradient(np.zeros((problem.widths[-1], problem.widths[0]))).any():
        raise ValueError(
            f"`cost` must have a gradient at A = 0, got {cost!r}, of which zero is a minimum. Change its target."
        )
    target = cost.target if isinstance(cost, FullyObserved) else None
    layers, unit = _unit(problem.weights, 0.0 if target is None else float(np.linalg.norm(target)))
    smallest = np.argsort([np.linalg.norm(W) for W in layers], kind="stable")[:2]
    candidates = [[0.0 * W if l in smallest else W for l, W in enumerate(layers)]]
    if target is not None and min(target.shape) > 1:
        candidates.append(_without_a_mode(target / unit**problem.depth, layers))
    saddle = min(candidates, key=lambda found: _gap(found, layers))
    return _distance(below_saddle(layers), layers, saddle, unit)


def _unit(weights: Sequence[Array], size: float) -> tuple[list[Array], float]:
    """Layers of norm at most 1, and the power of two that was taken from them: A may grow by its L-th power."""
    largest = max(size ** (1 / len(weights)), *(float(np.linalg.norm(W)) for W in weights))
    unit = math.ldexp(1.0, math.frexp(largest)[1]) if largest > 0 else 1.0
    return [W / unit for W in weights], unit


def _distance(lower: float, layers: Sequence[Array], found: Sequence[Array], unit: float) -> Distance:
    return Distance(unit * lower, unit * _gap(found, layers), [unit * W for W in found])


def _gap(here: Sequence[Array], there: Sequence[Array]) -> float:
    return math.sqrt(sum(float(np.sum((V - W) ** 2)) for V, W in zip(here, there, strict=True)))


def _nearest_minimum(
    weights: Sequence[Array], goal: Minimisers, restarts: int, rng: np.random.Generator
) -> list[Array]:
    """In subspaces that grow by the images of the layers found, until the distance changes no more."""
    bases, last = _roomy(krylov(weights, 1), sum(goal.shape)), math.inf
    small = projected(weights, bases)
    searched = [nearest(small, start, goal, COARSE) for start in _starts(small, goal, restarts, rng)]
    start = min((end for end in searched if end), key=lambda end: _gap(end, small))
    for _ in range(MOST_ROUNDS):
        best = nearest(small, start, goal) or start
        step = lifted([V - W for V, W in zip(best, small, strict=True)], bases)
        found = [W + D for W, D in zip(weights, step, strict=True)]
        distance, before = _gap(best, small), bases
        bases = widened(bases, images(found))
        if abs(last - distance) <= SETTLED * distance or [*map(np.size, bases)] == [*map(np.size, before)]:
            break
        small, last = projected(weights, bases), distance
        start = [W + D for W, D in zip(small, projected(step, bases), strict=True)]
    return _met(found, goal)


def _roomy(bases: Sequence[Array], room: int) -> list[Array]:
    """Bases with other directions, where they hold less than the images of inputs and outputs can."""
    rng = np.random.default_rng(0)
    return widened(bases, [rng.normal(size=(len(Q), max(0, min(room, len(Q)) - Q.shape[1]))) for Q in bases])


def _starts(
    weights: Sequence[Array], goal: Minimisers, restarts: int, rng: np.random.Generator
) -> list[list[Array]]:
    """The layers themselves, and balanced factors of the minimisers nearest to their product and to zero."""
    A = end_to_end(weights)
    near, least = goal.nearest(A), goal.nearest(0.0 * A)
    starts = [list(weights), _aligned(weights, near)]
    if goal.point is None:
        starts.append(_aligned(weights, least))
    widths = (A.shape[1], *(len(W) for W in weights))
    for _ in range(restarts):
        grown = inits.balanced(least, len(weights), widths=widths, rng=rng)
        starts.append([W + V for W, V in zip(weights, grown, strict=True)])
    return starts


def _aligned(weights: Sequence[Array], A: Array) -> list[Array]:
    """Balanced factors of A, turned towards the layers: each hidden basis in its turn, by a polar factor."""
    depth, rank = len(weights), int(np.linalg.matrix_rank(A))
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    u = s[:rank] ** (1 / depth)
    bases = [Vt[:rank].T, *(np.zeros((len(W), rank)) for W in weights[:-1]), U[:, :rank]]
    for _ in range(ALTERNATIONS):
        for l, (below, above) in enumerate(pairwise(weights), start=1):
            P, _, Qt = np.linalg.svd((below @ bases[l - 1] + above.T @ bases[l + 1]) * u, full_matrices=False)
            bases[l] = P @ Qt
    return [(after * u) @ before.T for before, after in pairwise(bases)]


def _met(weights: list[Array], goal: Minimisers) -> list[Array]:
    """The layers moved onto the minima: what the subspaces have left out."""
    met = returned(Factors.at(weights, goal))
    return met.weights if met else _aligned(weights, goal.nearest(end_to_end(weights)))


def _without_a_mode(target: Array, weights: Sequence[Array]) -> list[Array]:
    """Critical layers that lack the singular mode of the target that is cheapest to remove, and fit the others."""
    U, s, Vt = np.linalg.svd(target)
    modes = np.flatnonzero(s > max(target.shape) * np.finfo(float).eps * s[0])
    costs = [np.sum((weights[0] @ Vt[j]) ** 2) + np.sum((U[:, j] @ weights[-1]) ** 2) for j in modes]
    gone = modes[int(np.argmin(costs))]
    left, right = np.delete(U, gone, axis=1), np.delete(Vt, gone, axis=0).T
    rest = [weights[0] @ right, *weights[1:-1], left.T @ weights[-1]]
    kept = FullyObserved(left.T @ target @ right)
    goal = minimisers(Problem.checked(kept, rest, 0.0))
    first, *middle, last = _nearest_minimum(rest, goal, 0, checks.generator(0))
    return [first @ right.T, *middle, left @ last]
