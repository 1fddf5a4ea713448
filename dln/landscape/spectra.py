r"""Spectra of the Hessian in closed form, where the network is balanced and aligned with its target.

In the singular bases of the target every layer is diagonal, :math:`W_l = \mathrm{diag}(g_1, g_2, \dots)` with
:math:`g_i = x_i^{1/L}`, padded by zeros. The Hessian falls into blocks: the entries (i, j) and (j, i) of all layers are
coupled with each other alone. With :math:`a_l = dW_l[i, j]`, :math:`b_l = dW_l[j, i]` and residuals
:math:`e_i = s_i - x_i`, the quadratic form of a block is

.. math::
    \lambda (|a|^2 + |b|^2) + \Big(\sum_l g_i^{L-l} g_j^{l-1} a_l\Big)^2 + \Big(\sum_l g_j^{L-l} g_i^{l-1} b_l\Big)^2
    - 2 \sum_{l < m} \big( e_i\, g_i^{L-1-d} g_j^{d-1} b_l a_m + e_j\, g_j^{L-1-d} g_i^{d-1} a_l b_m \big),
    \quad d = m - l,

whether or not the point is critical; for i = j it is
:math:`\lambda |a|^2 + g^{2L-2} (\sum_l a_l)^2 - 2 e g^{L-2} \sum_{l<m} a_l a_m`.
Indices beyond the singular values, which only wide layers have, are like modes with g = e = 0, all of them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..costs import Cost
from ..typing import Array, ArrayLike

__all__ = ["aligned_spectrum", "origin_spectrum", "spectrum"]

MOST = 2**27  # eigenvalues of the longest spectrum: 1 GiB
CHUNK = 2**22  # entries of the blocks that are in memory at once


def aligned_spectrum(
    target: ArrayLike, values: ArrayLike, widths: Sequence[int], *, weight_decay: float = 0.0
) -> Array:
    r"""Eigenvalues, ascending, of the Hessian at the balanced network aligned with a fully observed target.

    The objective is :math:`\tfrac12 \|W_L \cdots W_1 - A^*\|_F^2 + \tfrac\lambda2 \sum_l \|W_l\|_F^2`, the layers are
    balanced and their product is :math:`\sum_i x_i u_i v_i^T` in the singular vectors of A*. The x_i are any: those of
    a critical point, or those met on the way by a flow that starts at `dln.inits.aligned`. The work grows with the
    number of singular values, not with the hidden widths.

    Parameters
    ----------
    target : array_like, shape (n_L, n_0)
        A*.
    values : array_like, shape (..., min(n_0, n_L))
        x_i >= 0, in the order of the singular values of A* from the largest down.
    widths : sequence of int
        (n_0, .., n_L), no hidden one below the number of positive x_i.
    weight_decay : float
        lambda >= 0.

    Returns
    -------
    ndarray, shape (..., P)
        One eigenvalue for each of the P weights.

    Raises
    ------
    ValueError, TypeError
        If a value is negative, or the widths do not fit, or there are more than 2^27 weights.

    References
    ----------
    For two layers the blocks are those of P. Baldi and K. Hornik, Neural Networks 2(1), 1989; without decay compare
    A. Achour, F. Malgouyres, S. Gerchinovitz, arXiv 2107.13289.

    Examples
    --------
    >>> aligned_spectrum([[2.0]], [0.0], (1, 1, 1), weight_decay=0.5)
    array([-1.5,  2.5])
    >>> abs(aligned_spectrum([[8.0]], [8.0], (1, 1, 1, 1)).round(12))  # one curved direction, 3 * 8^(4/3)
    array([ 0.,  0., 48.])
    """
    target = checks.array(target, "target", ndim=2)
    n = checks.widths(widths)
    if (n[-1], n[0]) != target.shape:
        raise ValueError(
            f"`widths` must be (n_0, ..., n_L) = ({target.shape[1]}, ..., {target.shape[0]}), got {n}. "
            "It must fit the target."
        )
    x = checks.array(values, "values")
    s: Any = np.linalg.svd(target, compute_uv=False)
    if x.ndim == 0 or x.shape[-1] != len(s):
        raise ValueError(
            f"`values` must have shape (..., {len(s)}), got {x.shape}. One for each singular value of the target."
        )
    if not (x >= 0).all():
        raise ValueError(f"`values` must be zero or positive, got {x.min()}. Give singular values.")
    if (x > 0).sum(axis=-1).max() > min(n):
        raise ValueError(
            f"`values` must have at most {min(n)} positive entries, got {(x > 0).sum(axis=-1).max()}. "
            "Every hidden layer needs a neuron for each of them."
        )
    wd = checks.nonnegative(weight_decay, "weight_decay")
    found = [spectrum(s, row, n, wd) for row in x.reshape(-1, len(s))]
    return np.array(found).reshape(*x.shape[:-1], -1)


def origin_spectrum(cost: Cost, widths: Sequence[int], *, weight_decay: float = 0.0) -> Array:
    r"""Eigenvalues, ascending, of the Hessian at the origin, for any cost.

    For two layers :math:`\lambda \pm s_i`, s_i the singular values of dC/dA at 0, once for each hidden neuron, and
    lambda for the rest; for three and more layers lambda alone.

    Parameters
    ----------
    cost : Cost
        Any of `dln.costs`.
    widths : sequence of int
        (n_0, .., n_L), at least two layers.
    weight_decay : float
        lambda >= 0.

    Returns
    -------
    ndarray, shape (P,)
        One eigenvalue for each weight.

    Raises
    ------
    ValueError, TypeError
        If the widths do not fit the cost, describe one layer only, or give more than 2^27 weights.

    Examples
    --------
    >>> import dln
    >>> origin_spectrum(dln.costs.FullyObserved([[2.0, 0.0], [0.0, 1.0]]), (2, 1, 2), weight_decay=0.5)
    array([-1.5, -0.5,  1.5,  2.5])
    """
    n = checks.widths(widths)
    if not isinstance(cost, Cost):
        raise TypeError(
            f"`cost` must be a cost from dln.costs, got {type(cost).__name__}. Wrap it in dln.costs.Custom."
        )
    if len(n) < 3:
        raise ValueError(
            f"`widths` must describe at least two layers, got {n}. One layer has the Hessian of the cost itself."
        )
    s: Any = np.linalg.svd(cost.gradient(np.zeros((n[-1], n[0]))), compute_uv=False)
    return spectrum(s, np.zeros_like(s), n, checks.nonnegative(weight_decay, "weight_decay"))


def spectrum(s: Array, x: Array, widths: Sequence[int], weight_decay: float) -> Array:
    """Ascending eigenvalues at the aligned point with values x, for singular values s of the target."""
    P = sum(a * b for a, b in zip(widths[1:], widths, strict=False))
    if P > MOST:
        raise ValueError(f"`widths` must give at most {MOST} weights, got {P}. Take narrower layers.")
    g, e, count, there = _indices(s, x, widths)
    # Pairs of different indices: one for each combination, and those among equal ones; then every index with itself.
    i, j = (np.concatenate([pair, np.arange(len(g))]) for pair in np.triu_indices(len(g), 1))
    copies = np.where(i == j, count[i] * (count[i] - 1) // 2, count[i] * count[j])
    both = np.concatenate([there[i, 1:] & there[j, :-1], there[j, 1:] & there[i, :-1]], axis=1)
    alone = there[:, 1:] & there[:, :-1]
    parts = [np.empty(0)]
    step = max(1, CHUNK // (4 * len(widths) ** 2))
    for k in range(0, len(i), step):
        a, b = i[k : k + step], j[k : k + step]
        blocks = _pair_blocks(g[a], e[a], g[b], e[b], len(widths) - 1)
        parts += _eigenvalues(blocks, both[k : k + step], copies[k : k + step])
    for k in range(0, len(g), step):
        blocks = _single_blocks(g[k : k + step], e[k : k + step], len(widths) - 1)
        parts += _eigenvalues(blocks, alone[k : k + step], count[k : k + step])
    return np.sort(np.concatenate(parts)) + weight_decay


def _indices(
    s: Array, x: Array, widths: Sequence[int]
) -> tuple[Array, Array, NDArray[np.int64], NDArray[np.bool_]]:
    """g, e, number of copies, and in which of the layers 0 .. L it is, for every kind of index of rows and columns."""
    # The active modes come first: a narrow layer has room for them.
    order = np.argsort(x == 0, kind="stable")
    cuts = [n for n in sorted(set(widths)) if n > len(s)]
    last = np.array([*range(1, len(s) + 1), *cuts])
    count = np.diff(last, prepend=0)
    g, e = np.zeros(len(last)), np.zeros(len(last))
    g[: len(s)] = x[order] ** (1 / (len(widths) - 1))
    e[: len(s)] = (s - x)[order]
    return g, e, count, last[:, None] <= np.array(widths)


def _pair_blocks(g: Array, e: Array, h: Array, f: Array, depth: int) -> Array:
    """Blocks of the indices (i, j) without the decay, shape (pairs, 2L, 2L), for (g, e) of i and (h, f) of j."""
    g, e, h, f = (v[:, None, None] for v in (g, e, h, f))
    l = np.arange(depth)
    d = np.abs(l[:, None] - l)
    more, less = np.maximum(depth - 1 - d, 0), np.maximum(d - 1, 0)
    a, b = g ** (depth - 1 - l) * h**l, h ** (depth - 1 - l) * g**l
    # Rows a_l, columns b_m.
    C = np.triu(-f * h**more * g**less, 1) + np.tril(-e * g**more * h**less, -1)
    return np.block([[np.swapaxes(a, 1, 2) * a, C], [np.swapaxes(C, 1, 2), np.swapaxes(b, 1, 2) * b]])


def _single_blocks(g: Array, e: Array, depth: int) -> Array:
    """Blocks of the indices (i, i) without the decay, shape (indices, L, L)."""
    g, e = g[:, None, None], e[:, None, None]
    return g ** (2 * depth - 2) - e * g ** max(depth - 2, 0) * (1 - np.eye(depth))


def _eigenvalues(blocks: Array, there: NDArray[np.bool_], copies: NDArray[np.int64]) -> list[Array]:
    """Eigenvalues of the blocks on those rows and columns that are there, as often as there are copies."""
    found = []
    patterns, which = np.unique(there, axis=0, return_inverse=True)
    for number, rows in enumerate(patterns):
        chosen = np.flatnonzero((which.ravel() == number) & (copies > 0))
        if rows.any() and len(chosen):
            values = np.linalg.eigvalsh(blocks[chosen][:, rows][:, :, rows])
            found.append(np.repeat(values.ravel(), np.repeat(copies[chosen], rows.sum())))
    return found
