"""Scalar networks of any depth, balanced or not, under the square loss and near the origin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import checks
from ..typing import Array, ArrayLike
from .chain import Chain, chain

__all__ = ["blow_up_time", "scalar", "scalar_time"]

SQUARED = 1e-140  # size from which on squares of weights are not lost to underflow


def scalar(t: ArrayLike, weights: ArrayLike, s: ArrayLike) -> Array:
    r"""Weights of a scalar network at time t: :math:`\dot w_l = (s - \prod_m w_m) \prod_{m \ne l} w_m`.

    Hyperbolic functions for two weights. For more, with the conserved :math:`d_l = w_l^2 - w_1^2`,

    .. math:: t = \int \frac{dx}{(s - a)\,b}, \qquad b = \prod_{l > 1} \sqrt{x^2 + d_l}, \qquad a = x b,
              \qquad x = w_1 ,

    is integrated in the variable in which each square root is analytic, and inverted by Newton's method. The smallest
    weight may change its sign on the way.

    Parameters
    ----------
    t : array_like
        Times >= 0.
    weights : array_like, shape (..., L)
        Weights at t = 0, L >= 2.
    s : array_like
        Target.

    Returns
    -------
    ndarray, shape (..., L)
        `t`, `s` and the leading axes of `weights` are broadcast. The error is about 1e-14 of a weight (of the next
        larger one while the smallest crosses zero), and what the rounding of t makes of it where one escapes late.

    Raises
    ------
    ValueError, TypeError
        If a time is negative, there are fewer than two weights, or a number is not finite.

    References
    ----------
    A. Saxe, J. McClelland, S. Ganguli, arXiv 1312.6120 (two weights).

    Examples
    --------
    >>> np.round(scalar([0.0, 4.0, 8.0, 40.0], [-0.1, 0.5, 1.0], 1.0).prod(axis=-1), 6)
    array([-0.05    ,  0.999711,  1.      ,  1.      ])
    """
    times, w, s, shape = _broadcast(t, "t", weights, s)
    if times.min() < 0:
        raise ValueError(f"`t` must be zero or positive, got {times.min():g}. The law runs forward.")
    two = (w.shape[-1] == 2) & (np.abs(w).max(axis=-1) > SQUARED)
    result = np.empty_like(w)
    result[two] = _two(times[two], w[two], s[two]) if two.any() else 0.0
    result[~two] = _each(times[~two], w[~two], s[~two], lambda c, t: c.weights(t), w[~two])
    return result.reshape(*shape, -1)


def scalar_time(value: ArrayLike, weights: ArrayLike, s: ArrayLike) -> Any:
    """Time at which the product of a scalar network reaches a value: the inverse of `scalar`.

    Parameters
    ----------
    value : array_like
        Values of the product.
    weights : array_like, shape (..., L)
        Weights at t = 0, L >= 2.
    s : array_like
        Target.

    Returns
    -------
    ndarray or float
        Broadcast; inf for the limit of the product, NaN for values that are never reached.

    Raises
    ------
    ValueError, TypeError
        If there are fewer than two weights, or a number is not finite.

    Examples
    --------
    >>> scalar_time([0.0, 0.5, 1.0, 2.0], [-0.1, 0.5, 1.0], 1.0)
    array([0.19857335, 1.39652534,        inf,        nan])
    """
    values, w, s, shape = _broadcast(value, "value", weights, s)
    still = np.where(values == w.prod(axis=-1), 0.0, np.nan)
    result = _each(values, w, s, lambda c, v: c.arrival(v), still).reshape(shape)
    return float(result) if result.ndim == 0 else result


def blow_up_time(weights: ArrayLike, s: ArrayLike) -> Any:
    r"""Time at which the flow of a scalar network near the origin, :math:`\dot w_l = s \prod_{m \ne l} w_m`, blows up.

    .. math:: T = \int_{w_1}^\infty \frac{dx}{s \prod_{l > 1} \sqrt{x^2 + d_l}}, \qquad d_l = w_l^2 - w_1^2 ,

    for the smallest weight w_1, signs such that the others and s are positive.

    Parameters
    ----------
    weights : array_like, shape (..., L)
        Weights at t = 0, L >= 2.
    s : array_like
        Minus the gradient of the cost at the origin.

    Returns
    -------
    ndarray or float
        Broadcast; inf where the flow does not blow up: for L = 2, s = 0, two weights that are zero, or two smallest
        ones of the same size whose product with the rest has not the sign of s.

    Raises
    ------
    ValueError, TypeError
        If there are fewer than two weights, or a number is not finite.

    References
    ----------
    arXiv 2106.15933, escape from the saddle at the origin.

    Examples
    --------
    >>> round(blow_up_time([0.1, 0.1, 0.1], 2.0), 12)  # 1 / (s u)
    5.0
    """
    _, w, s, shape = _broadcast(0.0, "s", weights, s)
    result = _each(s, w, s, lambda c, t: np.full(len(t), c.blow_up), np.full(len(w), np.inf), free=True)
    return float(result[0]) if shape == () else result.reshape(shape)


def _broadcast(
    value: ArrayLike, name: str, weights: ArrayLike, s: ArrayLike
) -> tuple[Array, Array, Array, tuple[int, ...]]:
    """Values (n,), weights (n, L), targets (n,), and their common shape."""
    v, w, r = checks.array(value, name), checks.array(weights, "weights"), checks.array(s, "s")
    if w.ndim == 0 or w.shape[-1] < 2:
        raise ValueError(
            f"`weights` must have a last axis of at least two weights, got shape {w.shape}. Give L >= 2."
        )
    try:
        shape = np.broadcast_shapes(v.shape, w.shape[:-1], r.shape)
    except ValueError:
        raise ValueError(
            f"`{name}` must broadcast with the others, got {v.shape}, `weights` {w.shape}, `s` {r.shape}. Add axes."
        ) from None
    flat = [np.broadcast_to(x, shape).ravel() for x in (v, r)]
    return flat[0], np.broadcast_to(w, (*shape, w.shape[-1])).reshape(-1, w.shape[-1]), flat[1], shape


def _each(
    values: Array,
    w: Array,
    s: Array,
    law: Callable[[Chain, Array], Array],
    still: Array,
    *,
    free: bool = False,
) -> Array:
    """A law of every network at its values; `still` holds what it is for networks that do not move."""
    result = np.array(still)
    networks, which = np.unique(np.column_stack([w, s]), axis=0, return_inverse=True)
    for i, network in enumerate(networks):
        moving, mine = chain(network[:-1], float(network[-1]), free=free), np.flatnonzero(which.ravel() == i)
        if moving is not None:
            result[mine] = law(moving, values[mine])
    return result


def _two(t: Array, w: Array, s: Array) -> Array:
    r"""Two weights at times t, shape (n, 2).

    The smaller one is x = m sinh z, the other m cosh z with the conserved m^2. P = (x + m cosh z)^2 = m^2 e^(2z) solves
    P' = -(P - P_+)(P - P_-)/2, P_+- = 2s +- h, h^2 = 4 s^2 + m^4. In terms without a difference, N = (x - m cosh z)^2,

    .. math:: \frac{P}{P_0} = \frac{N_0\,g + (P_+ + |P_-| e^{-ht})/h}{P_0\,g + (|P_-| + P_+ e^{-ht})/h}
              = 1 + \frac{4 (s - a_0)\,g}{\dots}, \qquad g = (1 - e^{-ht}) / h .
    """
    small, n = np.argmin(np.abs(w), axis=1), np.arange(len(w))
    sign = np.where(w[n, 1 - small] < 0, -1.0, 1.0)
    x, y = w[n, small] * sign, np.abs(w[n, 1 - small])
    m = np.sqrt(y - np.abs(x)) * np.sqrt(y + np.abs(x))
    h = np.hypot(2 * s, m**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        g = np.where(h > 0, -np.expm1(-h * t) / h, t)
        low = np.where(h > 0, m**2 / h * (m**2 / (h + 2 * np.abs(s))), 1.0)  # (h - 2|s|) / h
        high = np.where(h > 0, 1 + 2 * np.abs(s) / h, 1.0)
        minus, plus = np.where(s > 0, low, high), np.where(s > 0, high, low)  # |P_-| / h, P_+ / h
        decay = np.exp(-h * t)
        above, below = (x - y) ** 2 * g + plus + minus * decay, (x + y) ** 2 * g + minus + plus * decay
        change = 4 * (s - x * y) * g / below
        shift = np.where(np.abs(change) < 0.5, np.log1p(change), np.log(above) - np.log(below)) / 2
        moved = np.where(m > 0, m * np.sinh(np.arcsinh(x / m) + shift), x * np.exp(np.sign(x) * shift))
    result = np.empty_like(w)
    result[n, small], result[n, 1 - small] = sign * moved, sign * np.hypot(moved, m)
    return np.where((t == 0)[:, None], w, result)
