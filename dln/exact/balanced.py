r"""The law of a balanced mode, for every depth: time from value to value, and value at a time.

With q = 2/L - 1, x = a/|s| = exp(z) and sigma the sign of s, the law a' = L a^(2 - 2/L) (s - a) reads

.. math:: L\,s^2 |s|^{-2/L}\,dt = \frac{e^{qz}}{\sigma - e^z}\,dz .

Below x = 1/2 and above x = 2 the right side is integrated as a power series, which holds the branch points at 0 and at
infinity. In between, l = -sigma ln|1 - sigma/x| takes the pole at saturation, and what remains,
(exp(qz) - 1)/(sigma - exp(z)), has no singularity nearer than pi: Gauss-Legendre. Differences of close values are
integrated from one to the other, so nothing cancels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..typing import Array
from .branch import Branch
from .integrals import NODES, WEIGHTS, log_ratio, pole_ratio, regular, series

__all__ = ["Law"]

NEAR = 0.5  # |ln(a/a0)| below which a difference is integrated rather than subtracted
FAR = 1e18  # multiple of s beyond which s is lost beside the value
KINDS = ((1.0, False), (1.0, True), (-1.0, False))  # sign of s, and whether the value is above s


@dataclass(frozen=True)
class Law:
    """The law of one depth; arrays are flat, and s is signed."""

    depth: float

    @property
    def q(self) -> float:
        return 2 / self.depth - 1

    @property
    def per(self) -> float:
        """Factor of the time: L, or 1 where it is measured in units of 1/L."""
        return self.depth if np.isfinite(self.depth) else 1.0

    def root(self, a: Array) -> Array:
        """a^(1/L), with the rounding of 1/L undone by a step of Newton's method."""
        if not np.isfinite(self.depth):
            return np.ones_like(a)
        u = a ** (1 / self.depth)
        correction = (u**self.depth - a) / (self.depth * a) * u
        return np.where(np.isfinite(correction), u - correction, u)

    # Time from value to value.

    def time(self, a: Array, a0: Array, s: Array) -> Array:
        fixed = [(x == s) | ((x == 0) & (self.depth > 1)) for x in (a, a0)]
        forever = np.inf * np.sign(a - a0) * np.sign((s - a) + (s - a0))
        t = self._time(a, a0, s)
        t = np.where(
            fixed[0] | fixed[1] | np.isnan(t), forever, t
        )  # a difference of times that are both too large
        t = np.where(np.sign(s - a) * np.sign(s - a0) < 0, np.nan, t)
        return np.where(a == a0, 0.0, t)

    def _time(self, a: Array, a0: Array, s: Array) -> Array:
        if self.depth == 1:
            return -log_ratio(s - a, s - a0, a0 - a)
        if self.depth == 2:
            return np.where(s == 0, (a0 - a) / (2 * a) / a0, -pole_ratio(a, a0, s) / (2 * s))
        low, high = np.abs(s) / 2, 2 * np.abs(s)
        left = self._outer(self._left, np.minimum(a, low), np.minimum(a0, low), s)
        inner = self._inner(np.clip(a, low, high), np.clip(a0, low, high), s)
        right = self._outer(self._right, np.maximum(a, high), np.maximum(a0, high), s)
        return np.where(s == 0, 0.0, left + inner) + right

    def _outer(self, far: Callable[..., Array], a: Array, a0: Array, s: Array) -> Array:
        """Time where x <= 1/2 or x >= 2, by its series unless the two values are near."""
        difference = log_ratio(a, a0, a - a0)
        near = np.abs(difference) < NEAR
        t = np.zeros_like(a)
        for some, law in ((near & (difference != 0), self._quadrature), (~near, far)):
            if some.any():
                t[some] = law(a[some], a0[some], s[some], difference[some])
        return t

    def _quadrature(self, a: Array, a0: Array, s: Array, difference: Array) -> Array:
        """Integral of exp(q z) / (s - a0 exp(z)) from 0 to ln(a/a0)."""
        total = np.zeros_like(a)
        for node, weight in zip(NODES, WEIGHTS, strict=True):
            z = difference * (0.5 + 0.5 * node)
            total += 0.5 * weight * np.exp(self.q * z) / (s - a0 * np.exp(z))
        return self.root(a0) ** 2 / a0 / self.per * difference * total

    def _left(self, a: Array, a0: Array, s: Array, difference: Array) -> Array:
        u, u0, m = self.root(a) ** 2, self.root(a0) ** 2, self.q + 1
        plateau = (u / a - u0 / a0) / self.q
        larger = np.maximum(u, u0)  # of u and u0, whose difference over m is a logarithm in the limit
        first = (
            np.sign(difference)
            * larger
            * (-np.expm1(-m * np.abs(difference)) / m if m > 0 else abs(difference))
        )
        rest = [square * x * series(self.q + 2, x) for square, x in ((u, a / s), (u0, a0 / s))]
        return (plateau + (first + rest[0] - rest[1]) / s) / s / self.per

    def _right(self, a: Array, a0: Array, s: Array, difference: Array) -> Array:
        parts = [(self.root(x) / x) ** 2 * series(1 - self.q, s / x) for x in (a, a0)]
        return (parts[0] - parts[1]) / self.per

    def _inner(self, a: Array, a0: Array, s: Array) -> Array:
        if np.array_equal(a, a0):
            return np.zeros_like(a)
        scale = (self.root(np.abs(s)) / s) ** 2 / self.per
        width, sigma = log_ratio(a, a0, a - a0), np.sign(s)
        z0 = log_ratio(a0, np.abs(s), a0 - np.abs(s))
        return np.where(
            a == a0, 0.0, scale * (-sigma * pole_ratio(a, a0, s) + regular(self.q, z0, width, sigma))
        )

    # Value at a time.

    def value(self, t: Array, a0: Array, s: Array) -> Array:
        if self.depth == 1:
            return _limit(t, a0 * np.exp(-t) - s * np.expm1(-t), s, -np.sign(s - a0) * np.inf)
        if self.depth == 2:
            a = self._logistic(t, a0, s)
        else:
            a = self._inverse(t, a0, s)
        rest = np.where(s > 0, s, 0.0)
        a = _limit(t, a, rest, np.where((s > 0) & (a0 < s), 0.0, np.nan))
        return np.where((a0 == 0) | (a0 == s) | (t == 0), a0, a)

    def _logistic(self, t: Array, a0: Array, s: Array) -> Array:
        decay, gained = np.exp(-2 * s * t), np.where(s == 0, 2 * t, -np.expm1(-2 * s * t) / s)
        divisor = np.where((s > 0) & (a0 < s), a0 / s + (s - a0) / s * decay, decay + a0 * gained)
        return np.where(divisor > 0, a0 / divisor, np.nan)

    def _inverse(self, t: Array, a0: Array, s: Array) -> Array:
        free = self._power(t, a0)
        far = np.minimum(a0, free) > FAR * np.abs(s)
        kinds = ((s > 0) & (a0 < s) & ~far, (s > 0) & (a0 >= s) & ~far, (s < 0) & ~far)
        a = free.copy()
        for mine, kind in zip(kinds, KINDS, strict=True):
            if mine.any():
                a[mine] = self._branch(*kind)(t[mine], a0[mine], s[mine])
        return self._polished(a, t, a0, s)

    def _power(self, t: Array, a0: Array) -> Array:
        """Value while s is negligible: its power q - 1 grows linearly."""
        gained = (1 - self.q) * self.per * t * (a0 / self.root(a0)) ** 2
        return a0 * np.exp(np.log1p(gained) / (self.q - 1))

    def _branch(self, sigma: float, above: bool) -> Callable[[Array, Array, Array], Array]:
        branch = Branch(self.q, sigma, above)

        def value(t: Array, a0: Array, s: Array) -> Array:
            size = np.abs(s)
            z0, pole0 = (
                log_ratio(a0, size, a0 - size),
                -sigma * log_ratio(np.abs(s - a0), a0, -sigma * size),
            )
            scale = (size / self.root(size)) ** 2
            power = self.root(a0) ** 2 / a0 / size * scale
            z = branch.solve(branch.integral(z0, pole0, power) + self.per * t * scale)
            return size * np.exp(z)

        return value

    def _polished(self, a: Array, t: Array, a0: Array, s: Array) -> Array:
        """One step of Newton's method by the difference of times, which is right where a is tiny or close to a0."""
        step = ((t - self.time(a, a0, s)) * (s - a)) * (self.per * a / self.root(a) ** 2)
        close = np.abs(a - a0) < a0 / 2
        helps = (np.abs(step) < 1e-3) & (close | (np.abs(s - a) > np.abs(s) / 4))
        change = np.where(helps, a * step, 0.0)
        better = np.where(close, a0 + ((a - a0) + change), a + change)
        return np.where(np.sign(better - s) == np.sign(a - s), better, a)


def _limit(t: Array, value: Array, after: Array, before: Array) -> Array:
    """The value, or its limit at infinite times."""
    return np.where(np.isposinf(t), after, np.where(np.isneginf(t), before, value))
