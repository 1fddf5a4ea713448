r"""One mode of an aligned balanced network: time as a function of value, and its inverse, for every depth.

With q = 2/L - 1, x = a/|s| = exp(z) and sigma the sign of s, the law a' = L a^(2 - 2/L) (s - a) reads

.. math:: L\,s^2 |s|^{-2/L}\,dt = \frac{e^{qz}}{\sigma - e^z}\,dz .

Below x = 1/2 and above x = 2 the right side is integrated as a power series, which holds the branch point at 0 and at
infinity. In between, l = -sigma ln|1 - sigma/x| takes the pole at saturation, and what remains,
(e^(qz) - 1)/(sigma - e^z), has no singularity nearer than pi: Gauss-Legendre. Differences of close values are
integrated from one to the other, so nothing cancels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .. import checks
from ..typing import Array, ArrayLike

__all__ = ["mode", "mode_time"]

NODES, WEIGHTS = np.polynomial.legendre.leggauss(13)
TERMS = 56  # of the power series at |x| <= 1/2
LN2 = float(np.log(2.0))
NEAR = 0.5  # |ln(a/a0)| below which a difference is integrated rather than subtracted
FAR = 1e18  # multiple of s beyond which s is lost beside the value
ROUNDS, CLOSE = 12, 1e-9  # of Newton's method, which doubles the digits of a step that is close


def mode_time(a: ArrayLike, a0: ArrayLike, s: ArrayLike, depth: ArrayLike) -> Any:
    r"""Time in which an aligned balanced mode goes from `a0` to `a`.

    .. math:: t = \int_{a_0}^{a} \frac{dx}{L\,x^{2-2/L}\,(s - x)} .

    Parameters
    ----------
    a, a0 : array_like
        Singular values of the mode, >= 0 (of any sign for ``depth=1``).
    s : array_like
        The target's singular value. Zero and negative ones are those of a mode that dies.
    depth : array_like of int
        Number of layers L >= 1; inf gives the limit of L t.

    Returns
    -------
    ndarray or float
        Broadcast over all arguments. Negative where `a` came before `a0`, infinite where one of them is a fixed point
        (0 or s), NaN where they lie on different sides of `s`.

    Raises
    ------
    ValueError, TypeError
        If a value is negative with ``depth > 1``, not finite, or a depth is not a whole number >= 1 or inf.

    Notes
    -----
    Logarithms for L = 1 and 2, an arctangent besides for L = 3, a 2F1 in general. The relative error is a few units of
    rounding for values from 1e-300 to 1 - 1e-16 of saturation, also where `a` and `a0` differ in their last digit.

    References
    ----------
    A. Saxe, J. McClelland, S. Ganguli, arXiv 1312.6120; D. Gissin, S. Shalev-Shwartz, A. Daniely, arXiv 1909.12051.

    Examples
    --------
    >>> mode_time(0.5, 1e-6, 1.0, 2)  # ln(s/a0 - 1) / (2 s)
    6.90775...
    >>> np.round(mode_time(0.5, 1e-6, 1.0, [1, 2, 3, 4, np.inf]), 3)
    array([6.93000000e-01, 6.90800000e+00, 9.91500000e+01, 4.99733000e+02,
           1.00001182e+06])
    """
    values, depths, scalar = _checked((a, a0, s), depth, ("a", "a0", "s"), nonnegative=2)
    return _by_depth(lambda law, *args: law.time(*args), values, depths, scalar)


def mode(t: ArrayLike, a0: ArrayLike, s: ArrayLike, depth: ArrayLike) -> Any:
    r"""Singular value of an aligned balanced mode at time `t`: the solution of :math:`\dot a = L a^{2-2/L}(s - a)`.

    Parameters
    ----------
    t : array_like
        Times; negative ones lead back, inf to the limit.
    a0 : array_like
        Value at t = 0, >= 0 (of any sign for ``depth=1``).
    s : array_like
        The target's singular value, of any sign.
    depth : array_like of int
        Number of layers L >= 1; inf gives the limit with time in units of 1/L.

    Returns
    -------
    ndarray or float
        Broadcast over all arguments; NaN before the blow-up in the past of a value above `s`.

    Raises
    ------
    ValueError, TypeError
        If a value is negative with ``depth > 1``, not finite, a time is NaN, or a depth is not a whole number >= 1
        or inf.

    Notes
    -----
    Right to a few units of rounding of `a`, and of the time: where the value escapes late, the rounding of `t` alone
    moves it by much more.

    Examples
    --------
    >>> mode([0.0, 5.0, np.inf], 1e-4, 2.0, 2)
    array([1.00000000e-04, 1.99991756e+00, 2.00000000e+00])
    >>> round(mode(mode_time(0.7, 1e-9, 1.0, 3), 1e-9, 1.0, 3), 12)
    0.7
    """
    values, depths, scalar = _checked((t, a0, s), depth, ("t", "a0", "s"), nonnegative=1)
    return _by_depth(lambda law, *args: law.value(*args), values, depths, scalar)


def _checked(
    given: tuple[Any, ...], depth: Any, names: tuple[str, ...], *, nonnegative: int
) -> tuple[list[Array], Array, bool]:
    """The arguments and depths, broadcast and flat but for the shape of the last, and whether all were scalars."""
    arrays = [checks.array(x, name, finite=name != "t") for x, name in zip(given, names, strict=True)]
    depths = checks.array(depth, "depth", finite=False)
    if np.isnan(arrays[0]).any():
        raise ValueError(f"`{names[0]}` must not be NaN, got NaN. Remove such entries.")
    wrong = ~((depths >= 1) & (np.isinf(depths) | (depths == np.round(depths))))
    if wrong.any():
        raise ValueError(
            f"`depth` must be a whole number >= 1 or inf, got {depths[wrong].flat[0]}. Count the layers."
        )
    try:
        *values, depths = np.broadcast_arrays(*arrays, depths)
    except ValueError:
        shapes = ", ".join(
            f"`{n}` {x.shape}" for n, x in zip((*names, "depth"), (*arrays, depths), strict=True)
        )
        raise ValueError(f"`{names[0]}` must broadcast with the others, got {shapes}. Add axes.") from None
    for value, name in list(zip(values, names, strict=True))[2 - nonnegative : 2]:
        if (below := (value < 0) & (depths > 1)).any():
            raise ValueError(
                f"`{name}` must be zero or positive, got {value[below].flat[0]}. Change its sign and that of `s`."
            )
    return values, depths, depths.ndim == 0


def _by_depth(law: Callable[..., Array], values: list[Array], depths: Array, scalar: bool) -> Any:
    result = np.empty(depths.shape)
    with np.errstate(all="ignore"):
        for depth in np.unique(depths):
            mine = depths == depth
            result[mine] = law(_law(float(depth)), *(x[mine] for x in values))
    return float(result) if scalar else result


@lru_cache(maxsize=64)
def _law(depth: float) -> _Law:
    return _Law(depth)


@dataclass(frozen=True)
class _Law:
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
        t = np.where(fixed[0] | fixed[1], forever, self._time(a, a0, s))
        t = np.where(np.sign(s - a) * np.sign(s - a0) < 0, np.nan, t)
        return np.where(a == a0, 0.0, t)

    def _time(self, a: Array, a0: Array, s: Array) -> Array:
        if self.depth == 1:
            return -_log_ratio(s - a, s - a0, a0 - a)
        if self.depth == 2:
            return np.where(s == 0, (a0 - a) / (2 * a) / a0, -_pole(a, a0, s) / (2 * s))
        low, high = np.abs(s) / 2, 2 * np.abs(s)
        left = self._outer(self._left, np.minimum(a, low), np.minimum(a0, low), s)
        inner = self._inner(np.clip(a, low, high), np.clip(a0, low, high), s)
        right = self._outer(self._right, np.maximum(a, high), np.maximum(a0, high), s)
        return np.where(s == 0, 0.0, left + inner) + right

    def _outer(self, far: Callable[..., Array], a: Array, a0: Array, s: Array) -> Array:
        """Time where x <= 1/2 or x >= 2, by its series unless the two values are near."""
        difference = _log_ratio(a, a0, a - a0)
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
        rest = [square * x * _series(self.q + 2, x) for square, x in ((u, a / s), (u0, a0 / s))]
        return (plateau + (first + rest[0] - rest[1]) / s) / s / self.per

    def _right(self, a: Array, a0: Array, s: Array, difference: Array) -> Array:
        parts = [(self.root(x) / x) ** 2 * _series(1 - self.q, s / x) for x in (a, a0)]
        return (parts[0] - parts[1]) / self.per

    def _inner(self, a: Array, a0: Array, s: Array) -> Array:
        if np.array_equal(a, a0):
            return np.zeros_like(a)
        scale = (self.root(np.abs(s)) / s) ** 2 / self.per
        width, sigma = _log_ratio(a, a0, a - a0), np.sign(s)
        z0 = _log_ratio(a0, np.abs(s), a0 - np.abs(s))
        return np.where(a == a0, 0.0, scale * (-sigma * _pole(a, a0, s) + self._regular(z0, width, sigma)))

    def _regular(self, z0: Array | float, width: Array, sigma: Array) -> Array:
        """Integral of (e^(qz) - 1) / (sigma - e^z) from z0 over a width."""
        total = np.zeros_like(width)
        for node, weight in zip(NODES, WEIGHTS, strict=True):
            z = z0 + width * (0.5 + 0.5 * node)
            below = np.where(sigma > 0, -np.expm1(z), -1 - np.exp(z))
            total += 0.5 * weight * np.where(below == 0, -self.q, np.expm1(self.q * z) / below)
        return width * total

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
        branch = _Branch(self, sigma, above)

        def value(t: Array, a0: Array, s: Array) -> Array:
            size = np.abs(s)
            z0, pole0 = (
                _log_ratio(a0, size, a0 - size),
                -sigma * _log_ratio(np.abs(s - a0), a0, -sigma * size),
            )
            scale = (size / self.root(size)) ** 2
            power = self.root(a0) ** 2 / a0 / size * scale
            z = branch.solve(branch.integral(z0, pole0, power) + self.per * t * scale)
            return size * np.exp(z)

        return value

    def _polished(self, a: Array, t: Array, a0: Array, s: Array) -> Array:
        """One step of Newton's method by the difference of times, which is right where a is tiny or close to a0."""
        step = (t - self.time(a, a0, s)) * self.per / self.root(a) ** 2 * a * (s - a)
        close = np.abs(a - a0) < a0 / 2
        helps = (np.abs(step) < 1e-3) & (close | (np.abs(s - a) > np.abs(s) / 4))
        change = np.where(helps, a * step, 0.0)
        better = np.where(close, a0 + ((a - a0) + change), a + change)
        return np.where(np.sign(better - s) == np.sign(a - s), better, a)


KINDS = ((1.0, False), (1.0, True), (-1.0, False))  # sign of s, and whether the value is above s


@dataclass(frozen=True)
class _Branch:
    """Integral of exp(qz) / (sigma - exp(z)) in z = ln x on one side of its pole, and its inverse.

    It is zero at x = 1/2 where s is approached from below, otherwise at infinity, from where values come in a finite
    time; nearly linear in exp(qz) for x < 1/2, in exp((q - 1) z) for x > 2, and in l in between.
    """

    law: _Law
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
        q, sigma, x = self.law.q, self.sigma, np.exp(z)
        first = z + LN2 if q == -1 else np.expm1((q + 1) * (z + LN2)) * 2 ** -(q + 1) / (q + 1)
        rest = x ** (q + 2) * _series(q + 2, sigma * x) - 2 ** -(q + 2) * _series(q + 2, np.array(sigma / 2))
        return self.at_half + sigma * (power - 2**-q) / q + first + sigma * rest

    def right(self, z: Array) -> Array:
        p = 1 - self.law.q
        return np.exp(-p * z) * _series(p, self.sigma * np.exp(-z))

    def inner(self, z: Array, l: Array) -> Array:
        regular = self.law._regular(self.anchor, z - self.anchor, np.array(self.sigma))
        return self.at_anchor + l - self.pole(self.anchor) + regular

    def integral(self, z: Array, l: Array, power: Array) -> Array:
        return np.select((z < -LN2, z > LN2), (self.left(z, power), self.right(z)), self.inner(z, l))

    def solve(self, target: Array) -> Array:
        """z of a given integral: NaN before the blow-up."""
        left = np.zeros(target.shape, bool) if self.above else (target < self.at_half) == self.rising
        right = (target < self.at_anchor) & (not self.rising)
        z = np.empty_like(target)
        solvers = (self._solve_left, self._solve_right, self._solve_inner)
        for mine, solve in zip((left, right, ~left & ~right), solvers, strict=True):
            if mine.any():
                z[mine] = solve(target[mine])
        return z

    def _solve_left(self, target: Array) -> Array:
        q, sigma = self.law.q, self.sigma
        v = 2**-q + q * sigma * (target - self.at_half)
        for _ in range(ROUNDS):
            z = np.log(v) / q
            step = (self.left(z, v) - target) * q * (sigma - np.exp(z))
            v = np.maximum(v - step, 2**-q)
            if not (np.abs(step) > CLOSE * v).any():
                break
        return np.log(v) / q

    def _solve_right(self, target: Array) -> Array:
        p = 1 - self.law.q
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
            step = (self.inner(z, l) - target) * np.exp(-self.law.q * z)
            l = np.clip(l - step, *bounds)
            if not (np.abs(step) > CLOSE * l).any():
                break
        return self.unpole(l)


def _log_ratio(a: Array, b: Array, difference: Array) -> Array:
    """ln(a/b), where a - b is known."""
    relative = difference / b
    near, ratio = np.abs(relative) < 0.5, a / b
    far = np.where((ratio > 1e-300) & (ratio < 1e300), np.log(ratio), np.log(a) - np.log(b))
    return np.where(near, np.log1p(np.where(near, relative, 0.0)), far)


def _pole(a: Array, a0: Array, s: Array) -> Array:
    """ln of (s - a) a0 / ((s - a0) a)."""
    relative = s * ((a0 - a) / (s - a0)) / a
    near = np.abs(relative) < 0.5
    far = np.where(
        (a > np.abs(s)) & (a0 > np.abs(s)),
        np.log((s - a) / a / ((s - a0) / a0)),
        _log_ratio(np.abs(s - a), np.abs(s - a0), (a0 - a) * np.sign(s - a)) - _log_ratio(a, a0, a - a0),
    )
    return np.where(near, np.log1p(np.where(near, relative, 0.0)), far)


def _series(m: float, x: Array) -> Array:
    """Sum over n of x^n / (n + m), |x| <= 1/2."""
    total = np.full_like(x, 1 / (TERMS + m))
    for n in range(TERMS - 1, -1, -1):
        total = total * x + 1 / (n + m)
    return total


def _limit(t: Array, value: Array, after: Array, before: Array) -> Array:
    """The value, or its limit at infinite times."""
    return np.where(np.isposinf(t), after, np.where(np.isneginf(t), before, value))
