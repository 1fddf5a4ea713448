r"""Infinite width: a deterministic tree of neurons stands for a Gaussian network, one for each singular mode.

In a wide network of entries N(0, rho^2/w), the vectors that its layers make of an input or an output direction are
orthogonal to each other, and each layer multiplies lengths by rho. So W_1 leads from the input to the root of layer 1,
W_L from the root of layer L-1 to the output, and each hidden matrix, from either side, to a new neuron, every edge
of weight rho. The modes of A share no neuron.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .. import checks
from ..costs import FullyObserved
from ..typing import Array, ArrayLike
from .distances import distance_to_minimum

__all__ = ["distance_at_infinite_width", "tree"]

ORDER = {2: 0, 3: 12, 4: 8}  # 5 from there on; the trees of depth 2 and 3 do not branch


def distance_at_infinite_width(singular_values: ArrayLike, depth: int, rho: float) -> float:
    r"""Distance of a Gaussian start to the minima of 1/2 ||A - A*||_F^2 in the limit of infinite width at fixed rho.

    .. math:: d^2 = \sum_i d_\infty(s_i)^2

    with the singular values of A*, and the distance of a tree of neurons to the minima of :math:`\tfrac12 (a - s)^2`.
    At finite width those of A* - A(0) give the better answer. The tree is cut off: relative errors are below 1e-6 for
    L <= 3, 1e-4 for L = 4, and 1e-3 for L = 5.

    Parameters
    ----------
    singular_values : array_like, shape (r,)
    depth : int
        L >= 2.
    rho : float
        :math:`\sigma \sqrt w = w^{(1-\gamma)/2}`.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If the depth is less than 2, a singular value is negative, or rho is not positive.

    References
    ----------
    Derived: the limit of the dynamics at infinite width holds for the shortest way to a minimum too.

    Examples
    --------
    >>> s = np.array([1.5, 0.8])
    >>> print(f"{distance_at_infinite_width(s, 3, 10.0):.5f}, lazy {np.linalg.norm(s) / 3**0.5 / 100:.5f}")
    0.00981, lazy 0.00981
    >>> print(f"{distance_at_infinite_width(s, 3, 1e-9):.5f}, zero {np.sqrt(3 * np.sum(s ** (2 / 3))):.5f}")
    2.55273, zero 2.55273
    """
    s = np.atleast_1d(checks.array(singular_values, "singular_values"))
    if s.ndim != 1 or (s < 0).any():
        raise ValueError(
            f"`singular_values` must be a list of numbers >= 0, got {s}. Take those of a matrix."
        )
    layers = tree(checks.integer(depth, "depth", least=2, most=64), checks.positive(rho, "rho"))
    modes = (distance_to_minimum(FullyObserved([[x]]), layers, restarts=0) for x in s if x > 0)
    return math.hypot(*map(float, modes))


def tree(depth: int, rho: float, order: int | None = None) -> list[Array]:
    """Layers of the tree up to so many steps from its roots."""
    widths, edges = [1, *[0] * (depth - 1), 1], []

    def neuron(l: int) -> tuple[int, int]:
        widths[l] += 1
        return l, widths[l] - 1

    roots = newest = [neuron(1), neuron(depth - 1)]
    edges = [((0, 0), roots[0]), (roots[1], (depth, 0))]
    for _ in range(ORDER.get(depth, 5) if order is None else order):
        grown = []
        for below in newest:
            for l in {below[0] - 1, below[0] + 1} & set(range(1, depth)):
                grown.append(neuron(l))
                edges.append((below, grown[-1]))
        newest = grown
    layers = [np.zeros((n, m)) for m, n in pairwise(widths)]
    for (l, i), (_, j) in map(sorted, edges):
        layers[l][j, i] = rho
    return layers
