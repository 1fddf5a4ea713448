"""The greedy low-rank algorithm: one neuron more along the gradient, descent, and so on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import checks
from ..costs import Cost
from ..descent import gradient_descent
from ..schatten.fixed_rank import Point
from ..symmetries import grown
from ..trajectory import Trajectory
from .path import PathSaddle, SaddlePath, limit_origin, visited

__all__ = ["greedy_low_rank"]

SAVED = 256  # iterates of a descent that are kept, at least where its number of steps has divisors


def greedy_low_rank(
    cost: Cost,
    depth: int,
    *,
    epsilon: float,
    learning_rate: float,
    steps: int,
    shape: tuple[int, int] | None = None,
    least_cost: float = 0.0,
    tolerance: float = 1e-8,
) -> SaddlePath:
    r"""The greedy low-rank algorithm :math:`A_{\epsilon,T,\eta}`: one neuron more, along the gradient, and descent.

    While C(A) exceeds its least value, a neuron is added to every hidden layer, with weights epsilon along the top
    singular pair of dC/dA, and the network of that width is trained by T steps of gradient descent of rate eta.

    Parameters
    ----------
    cost : Cost
        The cost C.
    depth : int
        Number of layers L >= 2.
    epsilon : float
        Weights of a new neuron, > 0.
    learning_rate : float
        eta.
    steps : int
        T, for each width.
    shape : pair of int, optional
        (n_L, n_0), where the cost does not know it.
    least_cost, tolerance : float
        The algorithm ends once C(A) <= least_cost + tolerance * (C(0) - least_cost).

    Returns
    -------
    SaddlePath
        The last point of every width, and the descents between them, times being steps times eta.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.

    References
    ----------
    arXiv 2106.15933v2, the greedy low-rank algorithm.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved(np.diag([3.0, 2.0]))
    >>> path = greedy_low_rank(cost, 2, epsilon=0.01, learning_rate=0.1, steps=200)
    >>> [(saddle.rank, round(saddle.cost, 6)) for saddle in path.saddles]
    [(0, 6.5), (1, 2.0), (2, 0.0)]
    """
    zero, most, scale = limit_origin(cost, depth, shape, None)
    epsilon = checks.positive(epsilon, "epsilon")
    least, tolerance = checks.number(least_cost, "least_cost"), checks.nonnegative(tolerance, "tolerance")
    depth, (n_L, n_0) = zero.problem.depth, zero.A.shape
    weights = [np.empty((0, n_0)), *[np.empty((0, 0))] * (depth - 2), np.empty((n_L, 0))]
    goal = least + tolerance * (zero.objective - least)
    steps = checks.integer(steps, "steps", least=1)
    every = max(
        k for k in range(1, max(1, steps // SAVED) + 1) if steps % k == 0
    )  # so that the last one is saved
    saddles, segments = [visited(zero, scale)], []
    while saddles[-1].cost > goal and len(weights[0]) < most:
        weights = grown(weights, cost.gradient(saddles[-1].end_to_end), epsilon)
        segment = gradient_descent(cost, weights, learning_rate, steps, every=every, keep_weights=True)
        segments.append(segment)
        if segment.weights is None or not segment.success:
            break
        weights = [W[-1] for W in segment.weights]
        saddles.append(_trained(zero, segment, scale, goal))
    return SaddlePath(tuple(saddles), tuple(segments))


def _trained(zero: Point, segment: Trajectory, scale: float, goal: float) -> PathSaddle:
    """Where the descent of a width has ended, seen as the critical point that it approximates."""
    A, width = segment.end_to_end[-1], segment.start[0].shape[0]
    U, s, Vt = np.linalg.svd(A)
    rank = min(width, int(np.linalg.matrix_rank(A)))
    point = Point(zero.problem, U[:, :rank], s[:rank], Vt[:rank].T)
    kind = "minimum" if point.objective <= goal else "saddle"
    return replace(visited(point, scale), cost=point.objective, end_to_end=A, kind=kind)
