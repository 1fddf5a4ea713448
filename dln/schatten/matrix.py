"""Matrices: the penalty of their singular values, its subgradient, proximal operator, and the factors behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import checks, inits
from ..typing import Array, ArrayLike
from .scalar import shrunk

__all__ = ["factorize", "prox", "subgradient", "value"]


def value(A: ArrayLike, depth: int) -> Array:
    r"""Least :math:`\tfrac12 \sum_l \|W_l\|_F^2` of L layers with product A, :math:`\tfrac L2 \sum_i \sigma_i^{2/L}`.

    Weight decay lambda on the layers of a network is lambda times this penalty on their product, provided that every
    hidden layer is at least as wide as the rank of A.

    Parameters
    ----------
    A : array_like, shape (..., n_L, n_0)
        Matrices.
    depth : int
        Number of layers L >= 1.

    Returns
    -------
    value : ndarray, shape (...)
        For L = 1 half the squared Frobenius norm, for L = 2 the nuclear norm. For L >= 3 a singular value that is
        rounding alone, e, counts as (L/2) e^(2/L), which is not small.

    Raises
    ------
    ValueError, TypeError
        If A is not a finite real matrix or `depth` is not a positive integer.

    References
    ----------
    arXiv 2106.15933v1, representation cost; arXiv 2010.00095 (Z. Dai, M. Karzand, N. Srebro).

    Examples
    --------
    >>> print(value(np.diag([8.0, 1.0]), 3))
    7.5
    """
    A, depth = _matrices(A), _depth(depth)
    powers = np.linalg.svd(A, compute_uv=False) ** (2 / depth)
    return depth / 2 * np.sum(powers, axis=-1)


def subgradient(A: ArrayLike, depth: int) -> Array:
    r"""Subgradient of least norm of the penalty `value`: :math:`\sum_{\sigma_i > 0} \sigma_i^{2/L-1} u_i v_i^T`.

    At full rank it is the gradient. Otherwise the subgradients are this matrix plus any M with :math:`U^T M = 0` and
    :math:`M V = 0`, of spectral norm at most 1 for L = 2, arbitrary for L >= 3, and 0 for L = 1.

    Parameters
    ----------
    A : array_like, shape (..., n_L, n_0)
        Matrices. Singular values below ``max(n_0, n_L) eps`` times the largest count as zero.
    depth : int
        Number of layers L >= 1.

    Returns
    -------
    subgradient : ndarray, shape (..., n_L, n_0)

    Raises
    ------
    ValueError, TypeError
        If A is not a finite real matrix or `depth` is not a positive integer.

    Examples
    --------
    >>> subgradient(np.diag([8.0, 0.0]), 3)
    array([[0.5, 0. ],
           [0. , 0. ]])
    """
    A, depth = _matrices(A), _depth(depth)
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    zero = s <= max(A.shape[-2:]) * np.finfo(float).eps * s[..., :1]
    slopes = np.where(zero, 0.0, np.where(zero, 1.0, s) ** (2 / depth - 1))
    return np.asarray((U * slopes[..., None, :]) @ Vt)


def prox(A: ArrayLike, weight_decay: float, depth: int) -> Array:
    r"""Minimiser of :math:`\tfrac12 \|Z - A\|_F^2 + \lambda \tfrac L2 \sum_i \sigma_i(Z)^{2/L}` over Z.

    It is the matrix with the singular vectors of A and its singular values taken through the scalar operator
    (`prox_power` with p = 2/L, mu = lambda L/2): s / (1 + lambda) for L = 1, max(s - lambda, 0) for L = 2, and for
    L >= 3 zero up to `threshold` and x_+ of `branches` above. It is also W_L ... W_1 at the global minimum of
    :math:`\tfrac12 \|W_L \cdots W_1 - A\|_F^2 + \tfrac\lambda2 \sum_l \|W_l\|_F^2`.

    Parameters
    ----------
    A : array_like, shape (..., n_L, n_0)
        Matrices.
    weight_decay : float
        lambda >= 0.
    depth : int
        Number of layers L >= 1.

    Returns
    -------
    Z : ndarray, shape (..., n_L, n_0)
        Unique unless a singular value of A is repeated or stands exactly at the threshold, where 0 is taken.

    Raises
    ------
    ValueError, TypeError
        If A is not a finite real matrix, `weight_decay` is negative, or `depth` is not a positive integer.

    References
    ----------
    arXiv 2106.15933v1; arXiv 2603.27072 for the thresholds.

    Examples
    --------
    >>> prox(np.diag([9.0, 3.0]), 2.0, 3)  # 8 + 2 / 8^(1/3) = 9; nothing up to s_jump = 3.36
    array([[8., 0.],
           [0., 0.]])
    """
    A, depth = _matrices(A), _depth(depth)
    decay = checks.nonnegative(weight_decay, "weight_decay")
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    x = shrunk(s, decay, depth)
    rank = int(np.count_nonzero(x, axis=-1).max())
    return np.asarray((U[..., :rank] * x[..., None, :rank]) @ Vt[..., :rank, :])


def factorize(A: ArrayLike, depth: int, *, widths: Sequence[int] | None = None) -> list[Array]:
    r"""Layers with product A of least :math:`\sum_l \|W_l\|_F^2`: :math:`W_l = O_l S^{1/L} O_{l-1}^T`.

    With :math:`A = U S V^T`, O_0 = V, O_L = U; the hidden O_l, which are free, are the first columns of the identity
    (`dln.inits.balanced` draws them at random). The layers are balanced, and their squared norms sum to
    2 `value(A, depth)`.

    Parameters
    ----------
    A : array_like, shape (n_L, n_0)
        The product.
    depth : int
        Number of layers L >= 1.
    widths : sequence of int, optional
        (n_0, .., n_L), hidden ones at least the rank of A; by default all hidden widths are min(n_0, n_L).

    Returns
    -------
    weights : list of ndarray
        [W_1, .., W_L].

    Raises
    ------
    ValueError, TypeError
        If a hidden width is below the rank of A, or the widths do not fit A and the depth.

    References
    ----------
    arXiv 2106.15933v1, representation cost.

    Examples
    --------
    >>> weights = factorize(np.diag([8.0, 1.0]), 3, widths=(2, 2, 4, 2))
    >>> print(round(sum(np.sum(W**2) for W in weights), 12), 2 * value(np.diag([8.0, 1.0]), 3))
    15.0 15.0
    """
    return inits.balanced_factors(A, depth, widths, np.eye)


def _matrices(A: ArrayLike) -> Array:
    checked = checks.array(A, "A")
    if checked.ndim < 2:
        raise ValueError(f"`A` must have at least 2 axes, got shape {checked.shape}. Give (..., n_L, n_0).")
    return checked


def _depth(depth: int) -> int:
    return checks.integer(depth, "depth", least=1, most=checks.MOST)
