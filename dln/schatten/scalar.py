r"""One singular value at a time: the proximal operator of a power, its two branches and its thresholds.

The objective :math:`\tfrac12 (x - s)^2 + \mu x^p` on x >= 0, with 0 < p < 1, is stationary where
:math:`x + \mu p\,x^{p-1} = s`. Above the saddle-node s_sn there are two such points, :math:`x_+ > x_{sn} > x_-`, a
minimum and a maximum; above the jump s_jump > s_sn the minimum is lower than that at 0. Weight decay lambda on L
layers means :math:`p = 2/L` and :math:`\mu = \lambda L/2`, so that :math:`\mu p = \lambda`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .. import checks
from ..core import prox
from ..typing import Array, ArrayLike

__all__ = ["branches", "jump", "prox_power", "saddle_node", "shrunk", "threshold"]


def prox_power(s: ArrayLike, mu: ArrayLike, p: ArrayLike) -> Array:
    r"""Minimiser of :math:`\tfrac12 (x - s)^2 + \mu |x|^p` over the real x, entry by entry.

    It is odd in s, 0 up to the jump

    .. math:: s_{jump} = \frac{2-p}{2(1-p)}\,x_{jump}, \qquad x_{jump} = [2\mu(1-p)]^{1/(2-p)} ,

    and the larger root x_+ of :math:`x + \mu p\,x^{p-1} = s` above it. At s = s_jump both 0 and x_jump are minimisers,
    and 0 is returned; within rounding of s_jump either may be. For p = 1 it is the soft threshold.

    Parameters
    ----------
    s, mu, p : array_like
        Point, weight ``mu >= 0`` and power ``0 < p <= 1``; they are broadcast.

    Returns
    -------
    x : ndarray
        The minimisers; the relative error is at most a few units of rounding, and 1e-14 where p is close to 1 and x a
        small difference of s and mu.

    Raises
    ------
    ValueError, TypeError
        If s or mu is not finite, mu is negative, p is outside (0, 1], or the shapes do not fit.

    References
    ----------
    G. Marjanovic, V. Solo, IEEE Trans. Signal Process. 60 (2012) 5714, for the threshold; for p = 1/2 and 2/3 the
    roots of the cubic and the quartic in closed form agree (`dln.theorems`, "schatten_prox").

    Examples
    --------
    >>> prox_power([-5.0, 3.0, 5.0], 4.0, 0.5)  # 4 + 2 / sqrt(4) = 5; nothing up to s_jump = 3.78
    array([-4.,  0.,  4.])
    """
    points, weights = checks.array(s, "s"), checks.array(mu, "mu")
    powers = checks.array(p, "p")
    if not (weights >= 0).all():
        raise ValueError(
            f"`mu` must be zero or positive, got {weights.min()}. Penalise with a weight of at least 0."
        )
    if not ((powers > 0) & (powers <= 1)).all():
        wrong = powers[~((powers > 0) & (powers <= 1))].flat[0]
        raise ValueError(f"`p` must be in (0, 1], got {wrong}. For p = 2 the minimiser is s / (1 + 2 mu).")
    _shape(s=points, mu=weights, p=powers)
    m, q = weights * powers, 1.0 - powers
    rest = np.where(powers >= 0.5, (weights - m) - weights * q, 0.0)  # of m; there 1 - p and mu - m are exact
    return _proximal(points, prox.penalty(m, q, rest))


def branches(s: ArrayLike, weight_decay: ArrayLike, depth: int) -> tuple[Array, Array]:
    r"""Both stationary points x_+ and x_- of a mode: the roots of :math:`x + \lambda x^{2/L-1} = s`.

    These are the singular values that a critical point of :math:`\tfrac12 \|W_L \cdots W_1 - A^*\|_F^2 + \tfrac\lambda2
    \sum_l \|W_l\|_F^2` may have at a singular value s of A*, beside 0.

    Parameters
    ----------
    s, weight_decay : array_like
        Singular values and lambda >= 0; they are broadcast.
    depth : int
        Number of layers L >= 1.

    Returns
    -------
    upper, lower : ndarray
        x_+ and x_-; NaN where there is none, that is up to `saddle_node` and, for x_-, at depths 1 and 2. An x_- below
        the least positive number of float64 is 0.

    Raises
    ------
    ValueError, TypeError
        If s is not finite or negative, `weight_decay` is negative, or `depth` is not a positive integer.

    References
    ----------
    arXiv 2506.20344; arXiv 2603.27072.

    Examples
    --------
    >>> branches([2.0, 5.0], 2.0, 4)  # (sqrt(2) - 1)^2 is the other root
    (array([nan,  4.]), array([       nan, 0.17157288]))
    """
    points, decay, depth = _modes(s, weight_decay, depth)
    if depth == 1:
        upper = np.asarray(points / (1.0 + decay))
        return upper[()], np.full_like(upper, np.nan)[()]
    shape, flat, numbers = _flat(points, prox.penalty(decay, 1.0 - 2.0 / depth))
    upper, lower = np.empty_like(flat), np.empty_like(flat)
    prox.kernels()[0](flat, numbers, upper, lower)
    return upper.reshape(shape)[()], lower.reshape(shape)[()]


def shrunk(s: Array, weight_decay: float, depth: int) -> Array:
    """Minimiser of (x - s)^2/2 + lambda (L/2) x^(2/L) over x >= 0, for checked input."""
    if depth == 1:
        return np.asarray(s / (1.0 + weight_decay))
    return _proximal(s, _penalty(weight_decay, depth))


@functools.lru_cache(maxsize=64)
def _penalty(weight_decay: float, depth: int) -> Array:
    """What the kernels need, once for the many calls of an iteration."""
    return np.asarray(prox.penalty(weight_decay, 1.0 - 2.0 / depth))


def saddle_node(weight_decay: ArrayLike, depth: int) -> tuple[Array, Array]:
    r"""Where the two branches of a mode are born: x_sn, and the singular value s_sn of the target.

    .. math:: x_{sn} = [\lambda (1 - 2/L)]^{L/(2L-2)}, \qquad s_{sn} = \frac{2L-2}{L-2}\,x_{sn}

    At depth 2 this is (0, lambda), at depth 1 (0, 0).

    Parameters
    ----------
    weight_decay : array_like
        lambda >= 0.
    depth : int
        Number of layers L >= 1.

    Returns
    -------
    x, s : ndarray
        Of the shape of `weight_decay`.

    Raises
    ------
    ValueError, TypeError
        If `weight_decay` is negative or `depth` is not a positive integer.

    Examples
    --------
    >>> x, s = saddle_node(1.0, 4)
    >>> print(f"{x:.6f} {s:.6f}")
    0.629961 1.889882
    """
    return _thresholds(weight_decay, depth, 2)


def jump(weight_decay: ArrayLike, depth: int) -> tuple[Array, Array]:
    r"""Where a mode begins to pay: x_jump, and the singular value s_jump of the target.

    .. math:: x_{jump} = [\lambda (L-2)]^{L/(2L-2)}, \qquad s_{jump} = \frac{L-1}{L-2}\,x_{jump}

    There the objective at x_+ = x_jump equals that at 0. At depth 2 this is (0, lambda), at depth 1 (0, 0).

    Parameters
    ----------
    weight_decay : array_like
        lambda >= 0.
    depth : int
        Number of layers L >= 1.

    Returns
    -------
    x, s : ndarray
        Of the shape of `weight_decay`.

    Raises
    ------
    ValueError, TypeError
        If `weight_decay` is negative or `depth` is not a positive integer.

    Examples
    --------
    >>> x, s = jump(1.0, 4)
    >>> print(f"{x:.6f} {s:.6f}")
    1.587401 2.381102
    """
    return _thresholds(weight_decay, depth, 4)


def threshold(weight_decay: ArrayLike, depth: int) -> Array:
    """Singular value of A up to which the proximal operator gives 0: s_jump, see `jump`.

    Parameters
    ----------
    weight_decay : array_like
        lambda >= 0.
    depth : int
        Number of layers L >= 1.

    Returns
    -------
    s : ndarray
        Of the shape of `weight_decay`.

    Raises
    ------
    ValueError, TypeError
        If `weight_decay` is negative or `depth` is not a positive integer.

    Examples
    --------
    >>> print(f"{threshold(0.1, 2):.6f} {threshold(0.1, 3):.6f}")
    0.100000 0.355656
    """
    return jump(weight_decay, depth)[1]


def _thresholds(weight_decay: ArrayLike, depth: int, column: int) -> tuple[Array, Array]:
    _, decay, depth = _modes(0.0, weight_decay, depth)
    if depth == 1:
        return np.zeros_like(decay)[()], np.zeros_like(decay)[()]
    numbers = prox.penalty(decay, 1.0 - 2.0 / depth)
    return numbers[..., column], numbers[..., column + 1]


def _modes(s: ArrayLike, weight_decay: ArrayLike, depth: Any) -> tuple[Array, Array, int]:
    points, decay = checks.array(s, "s"), checks.array(weight_decay, "weight_decay")
    for name, values in (("s", points), ("weight_decay", decay)):
        if not (values >= 0).all():
            raise ValueError(
                f"`{name}` must be zero or positive, got {values.min()}. Give values of at least 0."
            )
    _shape(s=points, weight_decay=decay)
    return points, decay, checks.integer(depth, "depth", least=1, most=checks.MOST)


def _shape(**arrays: Array) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*(values.shape for values in arrays.values()))
    except ValueError:
        names, shapes = list(arrays), [values.shape for values in arrays.values()]
        raise ValueError(
            f"`{names[-1]}` must broadcast with {', '.join(f'`{name}`' for name in names[:-1])}, got shapes "
            f"{shapes[-1]} and {', '.join(map(str, shapes[:-1]))}. Add axes or give numbers."
        ) from None


def _flat(points: Array, numbers: Array) -> tuple[tuple[int, ...], Array, Array]:
    """Shape of the result, the points one after another, and the numbers of their penalty, one row or one for each."""
    shape = np.broadcast_shapes(points.shape, numbers.shape[:-1])
    if numbers.size > prox.ENTRIES:
        numbers = _whole(numbers, (*shape, prox.ENTRIES))
    return shape, _whole(points, shape).reshape(-1), numbers.reshape(-1, prox.ENTRIES)


def _whole(values: Array, shape: tuple[int, ...]) -> Array:
    return values if values.shape == shape else np.broadcast_to(values, shape).copy()


def _proximal(points: Array, numbers: Array) -> Array:
    shape, flat, rows = _flat(points, numbers)
    out = np.empty_like(flat)
    prox.kernels()[1](flat, rows, out)
    return out.reshape(shape)[()]
