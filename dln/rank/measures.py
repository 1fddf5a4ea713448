"""How many singular values of a matrix count, and how far it is from the matrices of lower rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..typing import Array, ArrayLike

__all__ = [
    "NORMS",
    "Counts",
    "Forgetting",
    "corrected",
    "counted",
    "effective",
    "forgetting",
    "numerical",
    "rates",
    "stable",
    "tail",
    "tails",
    "threshold",
]

Counts = NDArray[np.int64]

# Norms of the singular values from each one on (s_k, s_{k+1}, ...), along the last axis.
_FROM: dict[str, Callable[[Array], Array]] = {
    "spectral": lambda s: s,
    "frobenius": lambda s: s[..., :1] * np.sqrt(_summed_from(np.square(_relative(s)))),
    "nuclear": lambda s: _summed_from(s),
}
NORMS = tuple(_FROM)
_COUNTED = ("spectral", "frobenius")


def numerical(W: ArrayLike, epsilon: float = 1e-3, norm: str = "spectral") -> Counts:
    r"""Number of singular values above epsilon times the norm, :math:`\#\{i : \sigma_i(W) > \epsilon \|W\|\}`.

    With the spectral norm this is the least r for which a matrix of rank r lies within :math:`\epsilon \|W\|_2` of W in
    that norm (Eckart, Young, Mirsky). The text of arXiv 2206.05794 defines it so; the figures of that paper were made
    with the Frobenius norm, which counts fewer.

    Parameters
    ----------
    W : array_like, shape (..., m, n)
        Matrices. Convolution kernels: see `flattened` and `operator`.
    epsilon : float
        Threshold, 0 < epsilon < 1.
    norm : str
        "spectral" or "frobenius".

    Returns
    -------
    rank : ndarray of int, shape (...)
        0 for a matrix of zeros.

    Raises
    ------
    ValueError, TypeError
        If W is not a finite real matrix, `epsilon` is not between 0 and 1, or the norm is unknown.

    References
    ----------
    arXiv 2206.05794 (T. Galanti, Z. Siegel, A. Gupte, T. Poggio), section on the rank measure.

    Examples
    --------
    >>> W = np.diag([1.0, 1.0, 1.0, 1.0, 0.15])
    >>> print(numerical(W, 0.1), numerical(W, 0.1, norm="frobenius"))
    5 4
    """
    return counted(_singular_values(W), epsilon, norm)


def stable(W: ArrayLike) -> Array:
    r"""Stable rank :math:`\|W\|_F^2 / \|W\|_2^2`, between 1 and the rank.

    Parameters
    ----------
    W : array_like, shape (..., m, n)
        Matrices.

    Returns
    -------
    rank : ndarray, shape (...)
        0 for a matrix of zeros.

    Raises
    ------
    ValueError, TypeError
        If W is not a finite real matrix.

    Examples
    --------
    >>> print(stable(np.diag([2.0, 1.0, 1.0])))
    1.5
    """
    return np.sum(np.square(_relative(_singular_values(W))), axis=-1)


def effective(W: ArrayLike) -> Array:
    r"""Effective rank :math:`\exp(-\sum_i p_i \log p_i)` of the shares :math:`p_i = \sigma_i / \sum_j \sigma_j`.

    The singular values themselves are normalised to sum 1, not their squares. It lies between 1 and the rank, and is
    the rank if all singular values that are not zero agree.

    Parameters
    ----------
    W : array_like, shape (..., m, n)
        Matrices.

    Returns
    -------
    rank : ndarray, shape (...)
        0 for a matrix of zeros.

    Raises
    ------
    ValueError, TypeError
        If W is not a finite real matrix.

    References
    ----------
    O. Roy, M. Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.

    Examples
    --------
    >>> print(round(float(effective(np.diag([1.0, 1.0, 1.0, 0.0]))), 12))
    3.0
    """
    s = _relative(_singular_values(W))
    total = np.sum(s, axis=-1, keepdims=True)
    p = s / np.where(total > 0, total, 1.0)
    entropy = -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)
    return np.where(total[..., 0] > 0, np.exp(entropy), 0.0)[()]


def tail(W: ArrayLike, rank: int, norm: str = "frobenius") -> Array:
    r"""Distance of W to the matrices of rank at most r: the norm of :math:`(\sigma_{r+1}, \sigma_{r+2}, \dots)`.

    Parameters
    ----------
    W : array_like, shape (..., m, n)
        Matrices.
    rank : int
        r >= 0; from ``min(m, n)`` on the distance is 0.
    norm : str
        "spectral", "frobenius" or "nuclear".

    Returns
    -------
    distance : ndarray, shape (...)

    Raises
    ------
    ValueError, TypeError
        If W is not a finite real matrix, `rank` is negative, or the norm is unknown.

    References
    ----------
    C. Eckart, G. Young, 1936; L. Mirsky, 1960 (every unitarily invariant norm).

    Examples
    --------
    >>> W = np.diag([5.0, 4.0, 3.0])
    >>> print(tail(W, 1), tail(W, 1, "spectral"), tail(W, 1, "nuclear"))
    5.0 4.0 7.0
    """
    known = checks.one_of(norm, "norm", NORMS)
    s = _singular_values(W)
    r = min(checks.integer(rank, "rank", least=0), s.shape[-1])
    return tails(s, known)[..., r]


def tails(s: Array, norm: str) -> Array:
    """Distances to the matrices of rank at most 0, 1, .., from singular values in decreasing order: one more entry."""
    return np.concatenate([_FROM[norm](s), np.zeros_like(s[..., :1])], axis=-1)


class Forgetting(NamedTuple):
    """What is left of the start after 0, 1, .., T steps: factors D_t = prod (1 - x_s), times tau_t = sum x_s."""

    factor: Array
    time: Array


def forgetting(learning_rate: ArrayLike, weight_decay: ArrayLike, steps: int | None = None) -> Forgetting:
    r"""Factor :math:`D_t = \prod_{s<t} (1 - x_s)` and time :math:`\tau_t = \sum_{s<t} x_s`, x = learning rate x decay.

    SGD with weight decay on any architecture is :math:`W_T = D_T W_0 + U_T` with a U_T made of gradients alone;
    :math:`D_T \le e^{-\tau_T}`. Below :math:`\tau \approx \log(1/\epsilon)` a measured rank is that of the start.

    Parameters
    ----------
    learning_rate, weight_decay : float or array_like, shape (T,)
        Rates of each step; scalars with `steps`.
    steps : int, optional
        T, needed where both are scalars.

    Returns
    -------
    Forgetting
        `factor` and `time`, shape (T + 1,).

    Raises
    ------
    ValueError, TypeError
        If a rate is negative or the lengths do not fit.

    Examples
    --------
    >>> factor, time = forgetting(0.1, 0.5, steps=2)
    >>> print(factor, time.round(12))
    [1.     0.95   0.9025] [0.   0.05 0.1 ]
    """
    x = np.prod(rates(learning_rate, weight_decay, steps), axis=0)
    return Forgetting(np.append(1.0, np.cumprod(1.0 - x)), np.append(0.0, np.cumsum(x)))


def corrected(
    W: ArrayLike,
    start: ArrayLike,
    factor: ArrayLike,
    epsilon: float = 1e-3,
    norm: str = "spectral",
) -> Counts:
    r"""Numerical rank of what training has added, :math:`\#\{i : \sigma_i(W_T - D_T W_0) > \epsilon \|W_T\|\}`.

    The norm is that of W_T, so that the number compares with ``numerical(W, epsilon, norm)``.

    Parameters
    ----------
    W : array_like, shape (..., m, n)
        Weights after training.
    start : array_like, shape (m, n) or (..., m, n)
        Weights W_0 at the start.
    factor : array_like, shape (...)
        D_T, from `forgetting`; with momentum the first entry a_T of the propagators.
    epsilon, norm
        As in `numerical`.

    Returns
    -------
    rank : ndarray of int, shape (...)

    Raises
    ------
    ValueError, TypeError
        If the shapes do not fit, and as `numerical`.

    Examples
    --------
    >>> start = np.eye(4)
    >>> W = 0.5 * start - 2.0 * np.outer([1, 0, 0, 0], [0, 1, 0, 0])
    >>> print(numerical(W), corrected(W, start, 0.5))
    4 1
    """
    after, before = _matrices(W, "W"), _matrices(start, "start")
    D = checks.array(factor, "factor")
    try:
        added = after - D[..., None, None] * before
    except ValueError:
        added = np.empty(0)
    if added.shape != after.shape:
        raise ValueError(
            f"`start` and `factor` must fit W of shape {after.shape}, got {before.shape} and {D.shape}. "
            "One factor for each matrix."
        )
    unit = tails(_singular_values(after), checks.one_of(norm, "norm", _COUNTED))[..., :1]
    s = _singular_values(added)
    return np.sum(s > threshold(epsilon) * unit, axis=-1)


def rates(learning_rate: Any, weight_decay: Any, steps: int | None = None) -> tuple[Array, Array]:
    """Learning rates and decays of every step, both of shape (T,); scalars are repeated `steps` times."""
    lr, wd = (
        checks.array(value, name)
        for value, name in ((learning_rate, "learning_rate"), (weight_decay, "weight_decay"))
    )
    for value, name in ((lr, "learning_rate"), (wd, "weight_decay")):
        if value.ndim > 1 or (value < 0).any():
            raise ValueError(
                f"`{name}` must be one number >= 0 or one for each step, got {value.min()} in shape {value.shape}. "
                "Give an array of shape (T,)."
            )
    lengths = {value.size for value in (lr, wd) if value.ndim} | (
        set() if steps is None else {checks.integer(steps, "steps", least=0)}
    )
    if len(lengths) != 1:
        raise ValueError(
            f"`steps` must be given once, or agree with the rates, got {sorted(lengths) or 'none'}. "
            "Give an array of rates, or steps."
        )
    shape = (lengths.pop(),)
    return np.broadcast_to(lr, shape).copy(), np.broadcast_to(wd, shape).copy()


def counted(s: Array, epsilon: float, norm: str) -> Counts:
    """Numbers of singular values above epsilon times their norm."""
    size = tails(s, checks.one_of(norm, "norm", _COUNTED))[..., :1]
    return np.sum(s > threshold(epsilon) * size, axis=-1)


def threshold(epsilon: Any) -> float:
    """A share of a norm: 0 < epsilon < 1."""
    value = checks.positive(epsilon, "epsilon")
    if not value < 1:
        raise ValueError(f"`epsilon` must be below 1, got {value}. It is a share of the norm.")
    return value


def _relative(s: Array) -> Array:
    """Singular values in units of the largest; zeros stay zero."""
    return s / np.where(s[..., :1] > 0, s[..., :1], 1.0)


def _summed_from(s: Array) -> Array:
    """s_k + s_{k+1} + .. for every k, the small ones first."""
    return np.cumsum(s[..., ::-1], axis=-1)[..., ::-1]


def _singular_values(W: Any) -> Array:
    return np.asarray(np.linalg.svd(_matrices(W, "W"), compute_uv=False), dtype=np.float64)


def _matrices(W: Any, name: str) -> Array:
    result = checks.array(W, name)
    if result.ndim < 2:
        raise ValueError(f"`{name}` must have at least 2 axes, got shape {result.shape}. Give matrices.")
    return result
