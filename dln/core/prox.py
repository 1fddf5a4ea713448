"""Roots of x + m x^-q = s, 0 <= q < 1: the stationary points of a power penalty, entry by entry.

For s above the saddle-node value s_sn there are two, x_- < x_sn < x_+ with x_sn = (m q)^(1/(1+q)), where the left side
is least. With y = x/s and tau^2 = 1 - (s_sn/s)^(1+q) both are one analytic function y(tau), at tau and -tau: a
polynomial in tau that agrees with it to second order at both ends of [0, 1] begins the iteration, which is Newton's
series carried to fourth order: two logarithms and two exponentials give most roots to the last bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types, void

from .compile import compiled, helper, vector

__all__ = ["ENTRIES", "kernels", "penalty"]

ENTRIES = 13  # of the numbers that the kernels need of a penalty, see `penalty`
EXACT = 2e-4  # step in units of the radius of its series, after which nothing is left to do
TRUSTED = 0.1  # the same, up to which the series is used at all
GENTLE = 0.25  # below this power x may be a small difference of s and m, see `_power`
MOST = 100  # steps; two are usual, some 50 at a double root


def penalty(m: Any, q: Any, rest: Any = 0.0) -> Any:
    """Numbers m, q, x_sn, s_sn, x_jump, s_jump, the polynomial y(tau) and the rest, as rows of shape (.., 13).

    `rest` is what float64 cannot hold of m: x may be a small difference of s and m. At s_jump the objective
    (x - s)^2/2 + m x^(1-q)/(1-q) at x_+ = x_jump equals that at 0.
    """
    m, q, rest = np.broadcast_arrays(*(np.asarray(x, float) for x in (m, q, rest)))
    root = 1.0 / (1.0 + q)
    # x (1+q)/q without the division by zero at q = 0, where both thresholds are m
    scale = (1.0 + q) * m**root * q ** (-q * root)
    wide = (2.0 / (1.0 - q)) ** root
    y, slope = q * root, np.sqrt(2.0 * q * root**3)
    node = [y, slope, 4.0 / 3.0 * (1.0 - q) * root**2]  # y, y', y'' at tau = 0
    k = root * y**q
    end = [np.ones_like(q), 2.0 * k, 2.0 * k - 8.0 * q * k * k]  # and at tau = 1
    gap = end[0] - node[0] - node[1] - 0.5 * node[2]
    turn = end[1] - node[1] - node[2]
    bend = end[2] - node[2]
    hermite = [
        *(node[0], node[1], 0.5 * node[2]),
        *(
            10.0 * gap - 4.0 * turn + 0.5 * bend,
            -15.0 * gap + 7.0 * turn - bend,
            6.0 * gap - 3.0 * turn + 0.5 * bend,
        ),
    ]
    power = m**root * q**root
    return np.stack([m, q, power, scale, wide * power, 0.5 * wide * scale, *hermite, rest], axis=-1)


@helper
def _power(x: float, s: float, m: float, q: float, rest: float) -> tuple[float, float]:
    """m x^-q, and the residual x + m x^-q - s; for small q by the digits of s - m."""
    if q < GENTLE:
        exponent = -q * math.log(x)
        if abs(exponent) < 0.5:
            change = m * math.expm1(exponent)
            return m + change, x - ((s - m) - rest) + change
    power = m * x**-q
    return power, (x - s) + power


@helper
def _root(x: float, barrier: float, s: float, m: float, q: float, rest: float) -> float:
    """The root on that side of the barrier x_sn on which x lies, in (0, s]."""
    last = np.inf
    above = x > barrier
    for _ in range(MOST):
        power, residual = _power(x, s, m, q, rest)
        # derivatives of the residual over their factorials, for a step relative to x
        first = x - q * power
        if first == 0.0:
            return x
        newton = -residual / first
        second = 0.5 * q * (1.0 + q) * power / first
        third = -second * (2.0 + q) / 3.0
        fourth = -third * (3.0 + q) / 4.0
        turn = second * newton
        step = newton
        if abs(turn) < TRUSTED:
            cubic = 2.0 * second * second - third
            quartic = 5.0 * second * (third - second * second) - fourth
            step = newton * (1.0 - newton * (second - newton * (cubic + newton * quartic)))
        after = x + step * x
        if (above and not after > barrier) or (not above and not (0.0 < after < barrier)):
            after = 0.5 * (x + barrier)
            step = after / x - 1.0
        elif abs(turn) < TRUSTED and not abs(step) < last:  # nothing but rounding is left
            return x
        x, last = after, abs(step)
        if last * max(1.0, abs(second)) < EXACT:
            return x
    return x


@helper
def _upper(s: float, numbers: Any) -> float:
    m, q, node, value = numbers[0], numbers[1], numbers[2], numbers[3]
    if q == 0.0:
        return (s - m) - numbers[12]
    tau = math.sqrt(max(0.0, 1.0 - math.exp((1.0 + q) * math.log(value / s))))
    y = numbers[11]
    for k in range(10, 5, -1):
        y = y * tau + numbers[k]
    return _root(max(y * s, node * (1.0 + 1e-15)), node, s, m, q, numbers[12])


def all_roots(s: Any, numbers: Any, upper: Any, lower: Any) -> None:
    """x_+ and x_- of every |s| above s_sn with the sign of s, NaN for the others; x_- is NaN for q = 0."""
    for i in range(len(s)):
        row = numbers[i if len(numbers) > 1 else 0]
        size = abs(s[i])
        upper[i] = lower[i] = np.nan
        if size > row[3]:
            upper[i] = math.copysign(_upper(size, row), s[i])
            if row[1] > 0.0:
                start = (row[0] / size) ** (1.0 / row[1])  # there the power alone is s
                low = _root(start, row[2], size, row[0], row[1], row[12]) if start > 0.0 else 0.0
                lower[i] = math.copysign(low, s[i])


def proximal(s: Any, numbers: Any, out: Any) -> None:
    """x_+ of every |s| above s_jump with the sign of s, and 0 for the others."""
    for i in range(len(s)):
        row = numbers[i if len(numbers) > 1 else 0]
        size = abs(s[i])
        out[i] = math.copysign(_upper(size, row), s[i]) if size > row[5] else 0.0


@functools.cache
def kernels() -> tuple[Callable[..., None], Callable[..., None]]:
    """Both kernels, compiled."""
    rows = types.Array(types.float64, 2, "C")
    return compiled(all_roots, void(vector, rows, vector, vector)), compiled(
        proximal, void(vector, rows, vector)
    )
