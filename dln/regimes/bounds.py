r"""Lower bounds of distances: how far layers must move before their product can be another.

If layer l moves by :math:`\delta_l` and :math:`d^2 = \sum_l \|\delta_l\|_F^2`, the product moves by at most
:math:`\sum_k c_k d^k`: each choice of k layers contributes the norms of the products between them times
:math:`\prod \|\delta_l\| \le (d/\sqrt k)^k`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..network import end_to_end, forward_products, tangent_bound
from ..typing import Array
from .factors import DENSE
from .minimisers import Minimisers

__all__ = ["below_minimum", "below_saddle"]


def below_minimum(weights: Sequence[Array], goal: Minimisers) -> float:
    """Lower bound of the distance to layers whose product minimises the cost."""
    depth = len(weights)
    norms = [_norm(W) for W in weights]
    few = len(goal.values) <= DENSE
    steepest = _norm(goal.kernel(weights)) if few else tangent_bound(weights)
    reach = [math.sqrt(steepest), *_growth(_products(weights, norms))[1:]]
    moved = _least(reach, float(np.linalg.norm(goal.excess(end_to_end(weights)))))
    n = min(goal.shape)
    if goal.point is None:
        # sum_i s_i^(2/L) >= ||A||_F^(2/L), the least of which among the minimisers is |y|
        grown = float(np.linalg.norm(goal.values)) ** (1 / depth) - math.sqrt(n) * max(norms)
        return max(moved, math.sqrt(depth) * grown)
    s = np.linalg.svd(goal.point, compute_uv=False)
    return max(moved, math.sqrt(depth * np.sum(np.maximum(s ** (1 / depth) - max(norms), 0.0) ** 2)))


def below_saddle(weights: Sequence[Array]) -> float:
    """Lower bound of the distance to layers with W_L .. W_2 and W_(L-1) .. W_1 both of less than full rank."""
    norms = [_norm(W) for W in weights]
    sides = []
    for chain, sizes in ((weights[1:], norms[1:]), ([W.T for W in weights[-2::-1]], norms[-2::-1])):
        B = forward_products([W.T for W in reversed(chain)])[-1]  # n_1 rows or n_(L-1), n_L columns or n_0
        rank_kept = float(np.linalg.svd(B, compute_uv=False)[-1]) if B.shape[0] >= B.shape[1] else 0.0
        sides.append(_least(_growth(_products(chain, sizes)), rank_kept))
    # two layers: each side is a layer of its own
    return math.hypot(*sides) if len(weights) == 2 else max(sides)


def _norm(W: Array) -> float:
    return float(np.linalg.norm(W, 2))


def _products(weights: Sequence[Array], norms: Sequence[float]) -> Array:
    """P[i, j] bounds the norm of W_j ... W_(i+1); those that begin at W_1 or end at W_L are narrow, and exact."""
    L = len(weights)
    P = np.ones((L + 1, L + 1))
    for i in range(L):
        P[i, i + 1 :] = np.cumprod(norms[i:])
    forward = forward_products(weights) if weights[0].shape[1] < weights[0].shape[0] else []
    for j, F in enumerate(forward[1:], start=2):
        P[0, j] = min(P[0, j], _norm(F))
    backward = (
        forward_products([W.T for W in reversed(weights)])
        if weights[-1].shape[0] < weights[-1].shape[1]
        else []
    )
    for i, B in enumerate(backward[1:], start=2):
        P[L - i, L] = min(P[L - i, L], _norm(B))
    return P


def _growth(P: Array) -> list[float]:
    """The coefficients c_1, .., c_L."""
    L = len(P) - 1
    first = np.array([P[0, j] * P[j + 1, L] for j in range(L)])  # layer j + 1 alone
    ending, result = P[0, :L].copy(), [float(np.linalg.norm(first))]
    for k in range(2, L + 1):
        # sums over k layers, the last of which is layer j + 1
        ending = np.array([sum(ending[i] * P[i + 1, j] for i in range(j)) for j in range(L)])
        result.append(float(sum(ending[j] * P[j + 1, L] for j in range(L))) * k ** (-k / 2))
    return result


def _least(coefficients: Sequence[float], gap: float) -> float:
    """Least d >= 0 with sum_k c_k d^k >= gap, from below."""
    low, high = 0.0, 1.0
    powers = np.arange(1, len(coefficients) + 1)

    def reached(d: float) -> bool:
        return float(np.sum(coefficients * d**powers)) >= gap

    while not reached(high):
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if reached(middle) else (middle, high)
    return low
