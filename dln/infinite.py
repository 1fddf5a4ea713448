r"""Gaussian networks of infinite width at a fixed :math:`\rho = \sigma \sqrt w`: deterministic, and modes move alone.

The images of the ends of the network under its Gaussian layers are orthogonal in the limit of infinite width, and so
are the images of these: each singular mode of the target lives on a tree of its own, whose edges all begin at rho (for
three layers on a chain). Cut at an order it is a small network, `dln.inits.reduced_gaussian` at infinite width; what
the cut changes falls faster than geometrically with the order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import checks
from .costs import Cost, FullyObserved
from .exact import scalar, scalar_time
from .flow import gradient_flow
from .inits import reduced_gaussian
from .problem import Until
from .saddles import blow_up_time
from .trajectory import Trajectory
from .typing import Array, ArrayLike

__all__ = ["Estimate", "escape_constant", "half_time", "mode", "trajectory"]

RTOL = 1e-13  # of a step
ROUNDING = 1e-12  # what the steps may add up to, relative
MOST_ENTRIES = 350_000  # of the layers of a tree for one mode
MOST_SIZE = 1e3  # of rho s^(-1/L)
STEP, LEAST = 1e-2, 1e-13  # tolerance of a step of a trajectory: this part of `rtol`, and the least
SMALL = 1e-13  # of the L-th power of it, from where on the law of small starts is exact to rounding


@dataclass(frozen=True)
class Estimate:
    """A value at infinite width, how wrong it may be, and the order at which the tree was cut.

    Attributes
    ----------
    value : float or ndarray
        The value.
    error : float
        Estimate of its error (absolute, the largest one of an array), from what the last orders changed.
    order : int
        Order of the Krylov form.
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
        Number of layers L >= 2.
    rtol : float
        Relative error at which orders are no longer raised. From five layers on they end before, at trees of 350 000
        entries; `Estimate.error` tells.

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
    Derived: the limit of the law of the Krylov form. arXiv 2106.15933 for the regimes in rho.

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
    if size**L > SMALL:
        return _settled(lambda layers: np.array(_half(layers)), size, L, rtol).times(s ** (2 / L - 2))
    law = escape_constant(L, rtol=rtol).times(rho ** (2 - L) / s)
    return replace(law, value=law.value + _from_blow_up(L) * s ** (2 / L - 2))


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
    later, back = np.unique(times.ravel() * s ** (2 - 2 / L), return_inverse=True)
    found = _settled(lambda layers: _values(layers, later), size, L, rtol).times(s)
    return replace(found, value=found.value[back].reshape(times.shape))


def escape_constant(depth: int, *, rtol: float = 1e-10) -> Estimate:
    r"""Time T_L at which the homogeneous flow of infinite width blows up, for rho = 1 and a gradient of norm 1.

    A start of size rho leaves zero along a mode s at :math:`T_L\, \rho^{2-L} / s`, whatever its draw.

    Parameters
    ----------
    depth : int
        Number of layers L >= 3.
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
    L = checks.integer(depth, "depth", least=3, most=checks.MOST)
    rtol = checks.positive(rtol, "rtol")
    return _settled(lambda layers: np.array(blow_up_time([[-1.0]], layers)), 1.0, L, rtol).times(1.0)


def trajectory(
    cost: Cost,
    depth: int,
    t_span: tuple[float, float],
    *,
    rho: float,
    rtol: float = 1e-6,
    t_eval: ArrayLike | None = None,
    until: Until | None = None,
) -> Trajectory:
    r"""Trajectory of a network of infinite width, for any cost.

    For a fully observed target A* = U S V^T it is :math:`A(t) = U \,\mathrm{diag}(a_i(t))\, V^T`, a_i being `mode`.

    Parameters
    ----------
    cost : Cost
        A cost of a known shape.
    depth : int
        Number of layers L >= 2.
    t_span, t_eval, until
        As for `dln.gradient_flow`.
    rho : float
        :math:`\sigma \sqrt w`, positive.
    rtol : float
        Distance of A from its limit, relative to the largest A, at which orders are no longer raised; steps are allowed
        a hundredth of it.

    Returns
    -------
    Trajectory
        Of the cut network; `form_error` is the distance from the limit over the saved times, estimated as for
        `half_time`.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, or the cost has no shape.
    RuntimeError
        If the trees of the order needed are too large; the message tells what was reached.

    Examples
    --------
    >>> import dln
    >>> run = trajectory(dln.costs.FullyObserved(np.diag([2.0, 1.0])), 3, (0.0, 40.0), rho=0.1)
    >>> [saddle.rank for saddle in dln.find_saddles(run)], run.form_error < 1e-6
    ([0, 1, 2], True)
    """
    if not isinstance(cost, Cost) or cost.shape is None:
        raise TypeError(
            f"`cost` must be a cost from dln.costs with a shape, got {cost!r}. Take FullyObserved, say."
        )
    L = checks.integer(depth, "depth", least=2, most=checks.MOST)
    tolerance, n = checks.positive(rtol, "rtol"), cost.shape
    before, changes = list[Array](), list[float]()

    def followed(layers: list[Array], span: tuple[float, float], **options: Any) -> Trajectory:
        return gradient_flow(cost, layers, span, form="weights", rtol=max(STEP * tolerance, LEAST), **options)

    for order in itertools.count():
        layers = reduced_gaussian((n[1], *[math.inf] * (L - 1), n[0]), order=order, rho=rho)
        if sum(W.size for W in layers) > MOST_ENTRIES * max(n):
            break
        run = followed(layers, t_span, t_eval=t_eval, until=until)
        if not run.success or [W.shape for W in layers] == [W.shape for W in before]:  # closed
            return run
        if before:
            other = followed(before, (run.t_start, max(run.t[-1], run.t_start + 1.0)), t_eval=run.t)
            changes.append(_distance(run.end_to_end, other.end_to_end))
            size = _distance(run.end_to_end, 0.0)
            error = _remainder(changes, tolerance * STEP * size)
            if error <= tolerance * size:
                return replace(run, form_error=error)
        before = layers
    raise RuntimeError(
        f"the tree of order {order} is too large, and the order before changed A by {changes[-1]:.2g}. Raise rtol."
    )


def _distance(left: Array, right: Array | float) -> float:
    """Largest Frobenius norm of a difference over all times."""
    return float(np.linalg.norm(left - right, axis=(1, 2)).max())


def _checked(s: Any, rho: Any, depth: Any) -> tuple[float, float, int, float]:
    """The arguments and rho in units of the target."""
    L = checks.integer(depth, "depth", least=2, most=checks.MOST)
    target, scale = checks.positive(s, "s"), checks.positive(rho, "rho")
    size = scale * target ** (-1 / L)
    if not size <= MOST_SIZE:
        raise ValueError(
            f"`rho` must be at most {MOST_SIZE:g} s^(1/L), got {size:g} s^(1/L). Beyond it modes are learned linearly, "
            "a = s (1 - exp(-L rho^(2L-2) t))."
        )
    return target, scale, L, size


def _settled(compute: Callable[[list[Array]], Array], rho: float, depth: int, rtol: float) -> Estimate:
    """A quantity of the tree of one mode, at the order from which on it no longer changes."""
    values: list[Array] = []
    changes: list[float] = []
    error = math.inf
    for order in itertools.count():
        layers = reduced_gaussian((1, *[math.inf] * (depth - 1), 1), order=order, rho=rho)
        if sum(W.size for W in layers) > MOST_ENTRIES:
            break
        values.append(compute(layers))
        size = float(np.abs(values[-1]).max())
        changes += [float(np.abs(values[-1] - value).max()) for value in values[-2:-1]]
        error = _remainder(changes, ROUNDING * size) + ROUNDING * size
        if error <= max(rtol, 3 * ROUNDING) * size:
            break
    return Estimate(values[-1], error, len(values) - 1)


def _remainder(changes: list[float], rounding: float) -> float:
    """Twice what is still to come if each change is to the one before as the larger of the last two ratios."""
    if len(changes) < 3:
        return math.inf
    third, second, last = changes[-3:]
    if last <= rounding:
        return last
    ratio = max(last / second, second / third)
    return 2 * last * ratio / (1 - ratio) if ratio < 1 else math.inf


def _from_blow_up(depth: int) -> float:
    """The constant c_L, from the blow-up to half of a mode s = 1 that comes from zero: negative."""
    from scipy.special import hyp2f1

    p = 2 / depth
    return float(2 ** (1 - p) / (2 - depth) * hyp2f1(1.0, p - 1, p, 0.5))


def _half(layers: list[Array]) -> float:
    """Time at which the product of a network with the target 1 is 1/2."""
    from scipy.optimize import brentq

    run = _run(layers, (0.0, math.inf), until=Until(cost=0.12))
    i = int(np.argmax(run.end_to_end[:, 0, 0] >= 0.5))
    before, after = float(run.t[i - 1]), float(run.t[i])
    return float(brentq(lambda t: run.at(t)[0, 0] - 0.5, before, after, xtol=1e-15 * after, rtol=1e-14))


def _values(layers: list[Array], t: Array) -> Array:
    """Products of such a network at increasing times."""
    end = float(t[-1]) if t[-1] > 0 else 1.0
    return _run(layers, (0.0, end), t_eval=t).end_to_end[:, 0, 0]


def _run(layers: list[Array], t_span: tuple[float, float], **options: Any) -> Trajectory:
    run = gradient_flow(FullyObserved([[1.0]]), layers, t_span, form="weights", rtol=RTOL, **options)
    if not run.success:
        raise RuntimeError(f"the flow at infinite width could not be followed: {run.message}")
    return run
