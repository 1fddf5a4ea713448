"""Scalar networks, balanced or not."""

from __future__ import annotations

import numpy as np

from ..typing import Array

__all__ = ["two_weights"]


def two_weights(t: Array, u: Array, v: Array, s: Array) -> tuple[Array, Array]:
    r"""Both weights of u' = v (s - u v), v' = u (s - u v) at times t >= 0, all broadcast.

    In the eigenbasis of F = [[-kappa/2, s], [s, kappa/2]], kappa = v^2 - u^2, with eigenvalues +-k and start (x, y),

    .. math:: e^{Ft} q / \sqrt{N} = (x, y\,e^{-2kt}) / \sqrt{e^{-2kt} (1 + \psi y^2) + \psi x^2},
              \qquad \psi = (1 - e^{-2kt}) / (2k) .
    """
    half = (v - u) * (v + u) / 2
    k, angle = np.hypot(s, half), 0.5 * np.arctan2(s, -half)
    c, d = np.cos(angle), np.sin(angle)
    x, y = c * u + d * v, c * v - d * u
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        psi = np.where(k > 0, -np.expm1(-2 * k * t) / (2 * np.where(k > 0, k, 1.0)), t)
        size = np.hypot(np.exp(-k * t) * np.hypot(1.0, np.sqrt(psi) * y), np.sqrt(psi) * x)
        x, y = x / size, y * (np.exp(-k * t) / size) * np.exp(-k * t)
    return c * x - d * y, d * x + c * y
