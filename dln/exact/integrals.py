"""What the law of a balanced mode is made of: logarithms of ratios, power series, and a regular integral."""

from __future__ import annotations

import numpy as np

from ..typing import Array

__all__ = ["LN2", "NODES", "WEIGHTS", "log_ratio", "pole_ratio", "regular", "series"]

NODES, WEIGHTS = np.polynomial.legendre.leggauss(13)  # Gauss-Legendre on [-1, 1]
TERMS = 56  # of the power series at |x| <= 1/2
LN2 = float(np.log(2.0))


def log_ratio(a: Array, b: Array, difference: Array) -> Array:
    """ln(a/b), where a - b is known."""
    relative = difference / b
    near, ratio = np.abs(relative) < 0.5, a / b
    far = np.where((ratio > 1e-300) & (ratio < 1e300), np.log(ratio), np.log(a) - np.log(b))
    return np.where(near, np.log1p(np.where(near, relative, 0.0)), far)


def pole_ratio(a: Array, a0: Array, s: Array) -> Array:
    """ln of (s - a) a0 / ((s - a0) a)."""
    relative = s * ((a0 - a) / (s - a0)) / a
    near = np.abs(relative) < 0.5
    far = np.where(
        (a > np.abs(s)) & (a0 > np.abs(s)),
        np.log((s - a) / a / ((s - a0) / a0)),
        log_ratio(np.abs(s - a), np.abs(s - a0), (a0 - a) * np.sign(s - a)) - log_ratio(a, a0, a - a0),
    )
    return np.where(near, np.log1p(np.where(near, relative, 0.0)), far)


def series(m: float, x: Array) -> Array:
    """Sum over n of x^n / (n + m), |x| <= 1/2."""
    total = np.full_like(x, 1 / (TERMS + m))
    for n in range(TERMS - 1, -1, -1):
        total = total * x + 1 / (n + m)
    return total


def regular(q: float, z0: Array | float, width: Array, sigma: Array) -> Array:
    """Integral of (exp(qz) - 1) / (sigma - exp(z)) from z0 over a width, |z| <= ln 2."""
    total = np.zeros_like(width)
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        z = z0 + width * (0.5 + 0.5 * node)
        below = np.where(sigma > 0, -np.expm1(z), -1 - np.exp(z))
        total += 0.5 * weight * np.where(below == 0, -q, np.expm1(q * z) / below)
    return width * total
