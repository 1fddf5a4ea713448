r"""Infinite width: a deterministic tree of neurons stands for a Gaussian network, one for each singular mode.

The layers of the tree are those of `dln.inits.reduced_gaussian` at infinite width; the modes of A share no neuron.
"""

from __future__ import annotations

import math

import numpy as np

from .. import checks
from ..costs import FullyObserved
from ..inits import reduced_gaussian
from ..typing import ArrayLike
from .distances import distance_to_minimum

__all__ = ["distance_at_infinite_width"]

ORDER = {2: 0, 3: 11, 4: 7}  # 4 from there on; the trees of depth 2 and 3 do not branch


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
    L = checks.integer(depth, "depth", least=2, most=64)
    layers = reduced_gaussian(
        (1, *[math.inf] * (L - 1), 1), order=ORDER.get(L, 4), rho=checks.positive(rho, "rho")
    )
    modes = (distance_to_minimum(FullyObserved([[x]]), layers, restarts=0) for x in s if x > 0)
    return math.hypot(*map(float, modes))
