r"""A mode at infinite width: half-times, values and escapes, all from one function of one variable for each depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .. import checks
from ..exact import scalar, scalar_time
from ..typing import Array, ArrayLike
from .memory import Clock, clock
from .panels import Panels

ORDERS = range(12, 33, 4)  # nodes on a panel of the clock
NODES, STEP = 24, 2.0  # of the panels of a course, and their lengths
ROUNDING = 1e-13  # what rounding adds up to, relative
MOST_DEPTH = 20
LEAST_SIZE, MOST_SIZE = 1e-280, 1e3  # of (rho s^(-1/L))^L, and of rho s^(-1/L)
DONE = 40.0  # -ln(1 - a) of a mode that has been learned to rounding


@dataclass(frozen=True)
class Estimate:
    """A value at infinite width, how wrong it may be, and the order at which it was computed.

    Attributes
    ----------
    value : float or ndarray
        The value.
    error : float
        Bound of its error (absolute, the largest one of an array): what the last order changed, and rounding.
    order : int
        Number of nodes on a panel of the two-time functions; 0 for two layers, which are known in closed form.
    """

    value: Any
    error: float
    order: int

    def times(self, factor: float) -> Estimate:
        """The same of the value times a positive factor."""
        value = self.value * factor
        return replace(self, value=float(value) if np.ndim(value) == 0 else value, error=self.error * factor)


def half_time(s: float, rho: float, depth: int, *, rtol: float = 1e-10) -> Estimate:
    r"""Time at which a mode of the target is half learned at infinite width.

    .. math:: t(\rho, s) = s^{-(2L-2)/L}\, t(\rho s^{-1/L}, 1), \qquad
              t = T_L \frac{\rho^{2-L}}{s} + c_L s^{-(2L-2)/L} + O(\rho^2)

    for L >= 3, T_L being `escape_constant` and c_L the constant of `dln.exact.mode_time` from half back to the blow-up;
    for two layers the closed form of a scalar network with weights :math:`(0, \sqrt 2 \rho)`, near
    :math:`\ln(2 s / \rho^2) / (2 s)`.

    Parameters
    ----------
    s : float
        Singular value of the fully observed target, positive.
    rho : float
        :math:`\sigma \sqrt w`, positive.
    depth : int
        Number of layers, 2 to 20.
    rtol : float
        Relative error at which orders are no longer raised.

    Returns
    -------
    Estimate
        Of the time.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of its range, or :math:`\rho s^{-1/L}` is above 1000.

    References
    ----------
    Derived: the limit of the law of the Krylov form, and its closed equations, those of B. Bordelon and C. Pehlevan,
    arXiv 2205.09653. arXiv 2106.15933 for the regimes in rho.

    Examples
    --------
    >>> t = half_time(1.0, 0.1, 3)
    >>> f"{t.value:.9f}", t.error < 1e-9
    ('10.822497762', True)
    """
    s, rho, L, size = _checked(s, rho, depth)
    rtol = checks.positive(rtol, "rtol")
    if L == 2:
        return Estimate(scalar_time(s / 2, [0.0, math.sqrt(2) * rho], s), 0.0, 0)
    return _settled(lambda clock: _Course(clock, size).half(), L, rtol).times(s ** (2 / L - 2))


def mode(t: ArrayLike, s: float, rho: float, depth: int, *, rtol: float = 1e-10) -> Estimate:
    """Singular value of a mode at times, at infinite width; arguments as for `half_time`.

    Parameters
    ----------
    t : array_like
        Times >= 0.
    s, rho, depth, rtol
        As for `half_time`; the error is relative to s.

    Returns
    -------
    Estimate
        Of the values, in the shape of `t`.

    Raises
    ------
    ValueError, TypeError
        As for `half_time`, and if a time is negative.

    Examples
    --------
    >>> np.round(mode([0.0, 10.8224977616, 30.0], 1.0, 0.1, 3).value, 9)
    array([0. , 0.5, 1. ])
    """
    times = checks.array(t, "t")
    if times.size and times.min() < 0:
        raise ValueError(f"`t` must be zero or positive, got {times.min():g}. The flow runs forward.")
    s, rho, L, size = _checked(s, rho, depth)
    rtol = checks.positive(rtol, "rtol")
    if L == 2:
        return Estimate(scalar(times, [0.0, math.sqrt(2) * rho], s).prod(axis=-1), 0.0, 0)
    later = times.ravel() * s ** (2 - 2 / L)
    found = _settled(lambda clock: _Course(clock, size).values(later), L, rtol).times(s)
    return replace(found, value=found.value.reshape(times.shape))


def escape_constant(depth: int, *, rtol: float = 1e-10) -> Estimate:
    r"""Time T_L at which the homogeneous flow of infinite width blows up, for rho = 1 and a gradient of norm 1.

    A start of size rho leaves zero along a mode s at :math:`T_L\, \rho^{2-L} / s`, whatever its draw.

    Parameters
    ----------
    depth : int
        Number of layers, 3 to 20.
    rtol : float
        As for `half_time`.

    Returns
    -------
    Estimate
        Of T_L.

    Raises
    ------
    ValueError, TypeError
        If `depth` is below 3 (two layers do not blow up: see `half_time`) or `rtol` is not positive.

    Examples
    --------
    >>> T = escape_constant(3)
    >>> f"{T.value:.10f}", T.error < 1e-10
    ('1.1679727711', True)
    """
    L = checks.integer(depth, "depth", least=3, most=MOST_DEPTH)
    return _settled(_blow_up, L, checks.positive(rtol, "rtol")).times(1.0)


def _checked(s: Any, rho: Any, depth: Any) -> tuple[float, float, int, float]:
    """The arguments and rho in units of the target."""
    L = checks.integer(depth, "depth", least=2, most=MOST_DEPTH)
    target, scale = checks.positive(s, "s"), checks.positive(rho, "rho")
    size = scale * target ** (-1 / L)
    if not size <= MOST_SIZE:
        raise ValueError(
            f"`rho` must be at most {MOST_SIZE:g} s^(1/L), got {size:g} s^(1/L). Beyond it modes are learned linearly, "
            "a = s (1 - exp(-L rho^(2L-2) t))."
        )
    if not size**L >= LEAST_SIZE:
        raise ValueError(
            f"`rho` must be at least {LEAST_SIZE:g}^(1/L) s^(1/L), got {size:g} s^(1/L). Below it the half-time is "
            "escape_constant(L) rho^(2-L) / s for three layers and more, ln(2 s / rho^2) / (2 s) for two."
        )
    return target, scale, L, size


def _settled(compute: Callable[[Clock], tuple[Array, float]], depth: int, rtol: float) -> Estimate:
    """A quantity (and how much of it may be rounding) at the order from which on it no longer changes."""
    before, _ = compute(clock(depth, ORDERS[0]))
    for order in ORDERS[1:]:
        value, rounding = compute(clock(depth, order))
        error = float(np.abs(value - before).max()) + rounding
        if error <= max(rtol * float(np.abs(value).max()), 2 * rounding):
            break
        before = value
    return Estimate(value, error, order)


def _blow_up(clock: Clock) -> tuple[Array, float]:
    time = clock.blow_up()
    return np.array(time), ROUNDING * time


@dataclass(frozen=True, eq=False)
class _Course:
    """Time of a mode s = 1 from rho = size, along zeta: a / (1 - a) = c sinh(zeta), c the smaller of size^L and 1."""

    clock: Clock
    size: float

    @cached_property
    def scale(self) -> float:
        return float(min(self.size**self.clock.depth, 1.0))

    @cached_property
    def panels(self) -> Panels:
        first, last = self.clock.panels.edges[:7], math.asinh(math.exp(DONE) / self.scale)
        return Panels(np.r_[first, np.arange(first[-1] + STEP, last + STEP, STEP)], NODES)

    def a(self, zeta: Array) -> Array:
        odds = self.scale * np.sinh(zeta)
        return np.asarray(odds / (1 + odds))

    def speeds(self, zeta: Array) -> Array:
        """da / d zeta."""
        return np.asarray(self.scale * np.cosh(zeta) / (1 + self.scale * np.sinh(zeta)) ** 2)

    def rates(self, zeta: Array) -> Array:
        """dt / d zeta by dt = size^(2 - L) d tau / (1 - a), in which sinh(xi) = a / size^L."""
        L = self.clock.depth
        xi = np.arcsinh(self.a(zeta) / self.size**L)
        pace = self.clock.rate(xi) * self.speeds(zeta) / (self.size**L * np.cosh(xi))  # d tau / d zeta
        return np.asarray(self.size ** (2 - L) * pace * (1 + self.scale * np.sinh(zeta)))

    @cached_property
    def times(self) -> Array:
        return self.panels.integral(self.panels.series(self.rates(self.panels.nodes)))

    def half(self) -> tuple[Array, float]:
        """Time at which a = 1/2."""
        time = self.panels.at(self.times, np.array([math.asinh(1 / self.scale)]))[0]
        return time, ROUNDING * float(time)

    def values(self, t: Array) -> tuple[Array, float]:
        """a at times, by halving; rounding of a time t moves it by t da/dt."""
        low, high = (np.full(t.shape, edge) for edge in self.panels.edges[[0, -1]])
        for _ in range(64):
            middle = (low + high) / 2
            later = self.panels.at(self.times, middle) < t
            low, high = np.where(later, middle, low), np.where(later, high, middle)
        speed = self.speeds(low) / self.rates(low)
        return self.a(low), min(ROUNDING * float(max(1.0, (t * speed).max())), 1.0)
