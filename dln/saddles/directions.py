r"""Escape directions of the homogeneous flow at a saddle, and how nearby directions turn towards or away from them.

There :math:`\dot\theta = -\nabla H`, :math:`H = \langle G, A_\theta \rangle` of degree L. A direction e with
:math:`\nabla H(e) = -s\,e` is a ray :math:`\theta = c\,e`, :math:`\dot c = s\,c^{L-1}`; in the time
:math:`d\tau = c^{L-2} dt` the unit sphere carries a flow of its own, of which e is a fixed point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from .. import checks
from ..critical import escape_speed, singular_modes
from ..typing import Array, ArrayLike

__all__ = ["escape_direction", "escape_rates"]

EQUAL = 1e-12  # relative spread of singular values that two layers take for one


def escape_direction(
    gradient: ArrayLike, depth: int, modes: Sequence[int] = (0,), *, width: int | None = None
) -> list[Array]:
    r"""Unit direction [W_1, ..., W_L] in which a set S of singular modes of the gradient escapes together.

    With :math:`-G = \sum_i s_i u_i v_i^T` and hidden unit vectors :math:`h_i`,

    .. math:: W_1 = \sum_{i \in S} c_i\, h_i v_i^T, \quad W_l = \sum_{i \in S} c_i\, h_i h_i^T, \quad
        W_L = \sum_{i \in S} c_i\, u_i h_i^T, \qquad c_i = (s_S / s_i)^{1/(L-2)} ,

    a solution of :math:`\nabla H(e) = -s_S\,e`, s_S being `dln.escape_speed`. For one mode every layer has rank one and
    norm :math:`1/\sqrt L`; the first mode alone is the fastest.

    Parameters
    ----------
    gradient : array_like, shape (n_L, n_0)
        Gradient dC/dA at the saddle.
    depth : int
        Number of layers L >= 2.
    modes : sequence of int
        Singular modes that grow together, counted from 0. Two layers want them to have equal singular values.
    width : int, optional
        Of the hidden layers, at least the number of modes, which is the default; the other neurons are zero.

    Returns
    -------
    list of ndarray
        Any rotation of its hidden layers (`dln.network.rotate`) is an escape direction too.

    Raises
    ------
    ValueError, TypeError
        If a mode does not exist, has the singular value 0, or, for L = 2, differs from another; or the width is small.

    References
    ----------
    arXiv 2106.15933v2, optimal escape directions; sets of modes: derived.

    Examples
    --------
    >>> G = np.diag([-2.0, -1.0])
    >>> W_1, W_2, W_3 = escape_direction(G, 3, width=2)
    >>> np.round(W_3 @ W_2 @ W_1, 4)  # 3^(-3/2) u_1 v_1^T
    array([[0.1925, 0.    ],
           [0.    , 0.    ]])
    """
    G, depth, chosen = singular_modes(gradient, depth, modes)
    w = checks.integer(len(chosen) if width is None else width, "width", least=len(chosen), most=checks.MOST)
    U, s, Vt = np.linalg.svd(G, full_matrices=False)
    c = _entries(G, s, depth, chosen)
    h = np.eye(w)[: len(chosen)]
    return [(h.T * c) @ Vt[chosen], *[(h.T * c) @ h] * (depth - 2), (-U[:, chosen] * c) @ h]


def escape_rates(
    gradient: ArrayLike, depth: int, width: int, modes: Sequence[int] = (0,)
) -> tuple[Array, Array]:
    r"""Rates at which perturbations of an escape direction grow, as powers of the size c, and how often each occurs.

    A direction :math:`e + \delta` near that of `escape_direction` turns like :math:`\delta \sim c^{\text{rate}}` on the
    unit sphere: the rates are the eigenvalues of :math:`-\nabla^2 H(e)/s_S - 1` there. At the fastest direction,
    S = {1}, L >= 3, they are 0 (rotations of the hidden layers), :math:`-1 \pm s_j/s_1` (rotations of the singular
    vectors), -2 (imbalance) and -1. Every other set of modes has positive rates, but for equal singular values.

    Parameters
    ----------
    gradient : array_like, shape (n_L, n_0)
        Gradient dC/dA at the saddle.
    depth : int
        Number of layers L >= 2.
    width : int
        Of the hidden layers, at least the number of modes.
    modes : sequence of int
        As for `escape_direction`.

    Returns
    -------
    rates, multiplicities : ndarray
        Distinct rates, the largest first; the multiplicities add up to the number of weights less one (the radius).

    Raises
    ------
    ValueError, TypeError
        As for `escape_direction`.

    Notes
    -----
    Perturbations of the entries (i, j) and (j, i) of all layers form blocks of their own. For two modes of S the rates
    are :math:`-1 \pm` the singular values of the L x L matrix with :math:`r^{l-m-1}` below its empty diagonal and
    :math:`r^{l-m+1}` above it, r = c_j/c_i.

    References
    ----------
    arXiv 2106.15933v2, optimal escape directions; rates: derived.

    Examples
    --------
    >>> rates, multiplicities = escape_rates(np.diag([2.0, 1.0]), depth=3, width=2)
    >>> dict(zip(rates.tolist(), multiplicities.tolist()))
    {0.0: 2, -0.5: 1, -1.0: 3, -1.5: 1, -2.0: 4}
    """
    G, depth, chosen = singular_modes(gradient, depth, modes)
    w = checks.integer(width, "width", least=len(chosen), most=checks.MOST)
    s = np.asarray(np.linalg.svd(G, compute_uv=False), dtype=float)
    c = _entries(G, s, depth, chosen)
    found = _two_layers(s, w, chosen) if depth == 2 else _deep(s, c, depth, w, chosen)
    found[-1.0] += (sum(G.shape) + (depth - 2) * w) * w - 1 - sum(found.values())  # no others are coupled
    rates = np.array(sorted((rate for rate, count in found.items() if count), reverse=True))
    return rates, np.array([found[rate] for rate in rates])


def _entries(G: Array, s: Array, depth: int, chosen: list[int]) -> Array:
    """What every layer of the direction has on the diagonal, for the chosen modes."""
    picked = s[chosen]
    if not picked.min() > 0:
        raise ValueError(
            f"`modes` must have positive singular values, got {picked.min():g}. The others do not escape."
        )
    if depth > 2:
        return np.asarray((escape_speed(G, depth, chosen) / picked) ** (1 / (depth - 2)))
    if np.ptp(picked) > EQUAL * picked.max():
        raise ValueError(
            f"`modes` must have equal singular values for two layers, got {picked.tolist()}. Each grows at its own "
            "rate; choose one mode."
        )
    return np.full(len(chosen), (2 * len(chosen)) ** -0.5)


def _two_layers(s: Array, width: int, chosen: list[int]) -> Counter[float]:
    """Every mode grows and decays once with each hidden neuron."""
    found: Counter[float] = Counter()
    for i, x in enumerate(s):
        ratio = 1.0 if i in chosen else float(x / s[chosen[0]])
        found[ratio - 1] += width
        found[-ratio - 1] += width
    found[0.0] -= 1  # the radius
    return found


def _deep(s: Array, c: Array, depth: int, width: int, chosen: list[int]) -> Counter[float]:
    """L >= 3, by what couples the entries (i, j) and (j, i): i in S alone, or both."""
    k = len(chosen)
    found: Counter[float] = Counter({0.0: k * (depth - 1) * (width - k), float(depth - 2): k - 1})
    found[-2.0] = k * (depth - 1) * (width - k + 1)
    for i in chosen:
        for j in set(range(len(s))) - set(chosen):
            ratio = float(s[j] / s[i])
            found[ratio - 1] += 1
            found[-ratio - 1] += 1
    for a, b in combinations(c, 2):
        for sigma in np.linalg.svd(_pair(b / a, depth), compute_uv=False).tolist():
            found[sigma - 1] += 1
            found[-sigma - 1] += 1
    return found


def _pair(r: float, depth: int) -> Array:
    """How the entry (i, j) of layer l and (j, i) of layer m of two growing modes drive each other, by r = c_j/c_i."""
    d = np.subtract.outer(np.arange(depth), np.arange(depth))
    return np.where(d == 0, 0.0, r ** (d - np.sign(d)).astype(float))
