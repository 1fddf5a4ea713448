"""The inverse of the law of a balanced mode: z = ln x from the integral over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..typing import Array
from .integrals import LN2, regular, series

__all__ = ["Branch"]

ROUNDS, CLOSE = 12, 1e-9  # of Newton's method, which doubles the digits of a step that is close


@dataclass(frozen=True)
class Branch:
    """Integral of exp(qz) / (sigma - exp(z)) in z = ln x on one side of its pole, and its inverse.

    It is zero at x = 1/2 where s is approached from below, otherwise at infinity, from where values come in a finite
    time; nearly linear in exp(qz) for x < 1/2, in exp((q - 1) z) for x > 2, and in l in between.
    """

    q: float
    sigma: float
    above: bool

    def pole(self, z: Any) -> Any:
        """l = -sigma ln|1 - sigma exp(-z)|."""
        return -self.sigma * np.log(np.abs(1 - self.sigma * np.exp(-z)))

    def unpole(self, l: Array) -> Array:
        if self.sigma < 0:
            return -np.log(np.expm1(l))
        return -np.log(-np.expm1(-l)) if self.above else -np.log1p(np.exp(-l))

    @property
    def rising(self) -> bool:
        return self.sigma > 0 and not self.above

    @property
    def anchor(self) -> float:
        """Where the inner part begins."""
        return -LN2 if self.rising else LN2

    @property
    def at_anchor(self) -> float:
        return 0.0 if self.rising else float(self.right(np.array(LN2)))

    @property
    def at_half(self) -> float:
        z = np.array(-LN2)
        return 0.0 if self.rising else float(self.inner(z, self.pole(z)))

    def left(self, z: Array, power: Array) -> Array:
        """The integral at x <= 1/2, by its leading power exp(qz)."""
        q, sigma, x = self.q, self.sigma, np.exp(z)
        first = z + LN2 if q == -1 else np.expm1((q + 1) * (z + LN2)) * 2 ** -(q + 1) / (q + 1)
        rest = x ** (q + 2) * series(q + 2, sigma * x) - 2 ** -(q + 2) * series(q + 2, np.array(sigma / 2))
        return self.at_half + sigma * (power - 2**-q) / q + first + sigma * rest

    def right(self, z: Array) -> Array:
        p = 1 - self.q
        return np.exp(-p * z) * series(p, self.sigma * np.exp(-z))

    def inner(self, z: Array, l: Array) -> Array:
        rest = regular(self.q, self.anchor, z - self.anchor, np.array(self.sigma))
        return self.at_anchor + l - self.pole(self.anchor) + rest

    def integral(self, z: Array, l: Array, power: Array) -> Array:
        return np.select((z < -LN2, z > LN2), (self.left(z, power), self.right(z)), self.inner(z, l))

    def solve(self, target: Array) -> Array:
        """z of a given integral: NaN before the blow-up."""
        left = np.zeros(target.shape, bool) if self.above else (target < self.at_half) == self.rising
        right = (target < self.at_anchor) & (not self.rising)
        z = np.where(np.isinf(target), 0.0 if self.sigma > 0 else -np.inf, np.nan)
        solvers = (self._solve_left, self._solve_right, self._solve_inner)
        for mine, solve in zip((left, right, ~left & ~right), solvers, strict=True):
            if (mine := mine & np.isfinite(target)).any():
                z[mine] = solve(target[mine])
        return z

    def _solve_left(self, target: Array) -> Array:
        q, sigma = self.q, self.sigma
        v = 2**-q + q * sigma * (target - self.at_half)
        for _ in range(ROUNDS):
            z = np.log(v) / q
            step = (self.left(z, v) - target) * q * (sigma - np.exp(z))
            v = np.maximum(v - step, 2**-q)
            if not (np.abs(step) > CLOSE * v).any():
                break
        return np.log(v) / q

    def _solve_right(self, target: Array) -> Array:
        p = 1 - self.q
        w = np.where(target > 0, p * target, np.nan)
        for _ in range(ROUNDS):
            z = -np.log(w) / p
            step = (self.right(z) - target) * p * (1 - self.sigma * np.exp(-z))
            w = np.minimum(w - step, 2**-p)
            if not (np.abs(step) > CLOSE * w).any():
                break
        return -np.log(w) / p

    def _solve_inner(self, target: Array) -> Array:
        bounds = (self.pole(LN2), self.pole(-LN2)) if self.sigma < 0 else (self.pole(self.anchor), np.inf)
        l = np.clip(self.pole(self.anchor) + target - self.at_anchor, *bounds)
        for _ in range(ROUNDS):
            z = self.unpole(l)
            step = (self.inner(z, l) - target) * np.exp(-self.q * z)
            l = np.clip(l - step, *bounds)
            if not (np.abs(step) > CLOSE * l).any():
                break
        return self.unpole(l)
