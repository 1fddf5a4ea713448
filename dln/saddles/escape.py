r"""When a small start leaves zero: the homogeneous flow of the gradient there, then the first orbit of the limit path.

Near zero :math:`C(A) = C(0) + H(\theta) + \dots` with :math:`H = \langle G, A_\theta \rangle`, G = dC/dA at 0, which is
homogeneous of degree L. Its flow turns into the optimal direction, on which the size c of the weights obeys
:math:`\dot c = s\,c^{L-1}`: it grows exponentially for L = 2, and blows up at a finite time T* for L >= 3. The first
orbit leaves zero with the same law, so that times along it are measured from its own (virtual) T*.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .. import checks
from ..costs import Cost
from ..critical import escape_speed
from ..network import layer_gradients
from ..problem import Problem, as_state
from ..trajectory import Trajectory
from ..typing import Array, ArrayLike, Layers
from .path import limit_origin, orbit

__all__ = ["blow_up_time", "escape_time"]

RTOL = 1e-12  # of the homogeneous flow on the sphere
TAIL = 1e-12  # what is left of T*, or the square of the misalignment, at which the law of the ray takes over


def blow_up_time(gradient: ArrayLike, weights: Layers) -> float:
    r"""Time T* at which the homogeneous flow at zero, :math:`\dot W_l = -B_l^T G F_{l-1}^T`, becomes infinite.

    It scales like :math:`T^*(\alpha \theta) = \alpha^{2-L} T^*(\theta)`.

    Parameters
    ----------
    gradient : array_like, shape (n_L, n_0)
        G = dC/dA at A = 0.
    weights : sequence of array_like
        Layers [W_1, .., W_L] at time 0.

    Returns
    -------
    float
        inf for L <= 2, where the growth is exponential, and where the weights do not grow at all.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not fit or an entry is not finite.

    References
    ----------
    arXiv 2106.15933v2, escape from the origin; for scalar networks see `dln.exact.blow_up_time`.

    Examples
    --------
    >>> round(blow_up_time([[-1.0]], [[[0.1]], [[0.1]], [[0.1]]]), 9)  # u' = u^2
    10.0
    """
    layers = checks.layers(weights)
    G = checks.array(gradient, "gradient", shape=(layers[-1].shape[0], layers[0].shape[1]))
    if len(layers) <= 2 or not G.any():
        return math.inf
    return _blow_up(G, layers)


def escape_time(cost: Cost, weights: Layers) -> float:
    r"""First time at which the leading singular value of A reaches half of what it has at the next critical point.

    To leading order in the size of the start. For full observation, with c_L the time from half back to the blow-up,

    .. math::
        L = 2 &: \quad \frac{1}{2 s_1} \ln \frac{4 s_1}{|W_1 v_1 + W_2^T u_1|^2} \\
        L \ge 3 &: \quad T^* + c_L\, s_1^{-(2L-2)/L} ,

    T* being `blow_up_time`; for other costs the second term comes from the first orbit of `dln.saddle_to_saddle`.

    Parameters
    ----------
    cost : Cost
        The cost C; the largest singular value of its gradient at 0 must be simple.
    weights : sequence of array_like
        A small start [W_1, .., W_L], L >= 2.

    Returns
    -------
    float
        inf where the start does not escape.

    Raises
    ------
    ValueError, TypeError
        If the weights do not fit the cost or there is one layer.

    References
    ----------
    arXiv 2106.15933v2, first escape path.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved([[1.0]])
    >>> print(f"{escape_time(cost, [[[1e-3]], [[1e-3]]]):.6f}")  # ln(1e6) / 2
    6.907755
    """
    problem = Problem.checked(cost, weights, 0.0)
    if problem.depth < 2:
        raise ValueError("`weights` must have at least two layers, got one. One layer has no saddle.")
    point, _, scale = limit_origin(cost, problem.depth, (problem.widths[-1], problem.widths[0]), None)
    if scale == 0.0:
        return math.inf
    first = orbit(point, scale, 1e-10)
    half, U, s, Vt = _half_time(first), *np.linalg.svd(point.G)
    start = float(np.sqrt(sum(np.sum(W[0] ** 2) for W in first.weights or ())))
    if problem.depth == 2:
        W_1, W_2 = problem.weights
        size = float(np.linalg.norm(W_1 @ Vt[0] - W_2.T @ U[:, 0])) / math.sqrt(2)
        return half + math.log(start / size) / float(s[0]) if size > 0 else math.inf
    power = problem.depth - 2
    left = start**-power / (power * escape_speed(np.diag(s[:1]), problem.depth))
    return _blow_up(point.G, problem.weights) + (half - left)


def _half_time(first: Trajectory) -> float:
    """Time on the first orbit at which the leading singular value of A is half its last one."""
    from scipy.optimize import brentq

    s = first.singular_values[:, 0]
    i = int(np.argmax(s >= s[-1] / 2))

    def above(t: float) -> float:
        return float(np.linalg.norm(first.at(t), 2)) - s[-1] / 2

    return float(brentq(above, first.t[i - 1], first.t[i], xtol=1e-14 * first.t[i], rtol=1e-14))


def _blow_up(G: Array, layers: tuple[Array, ...] | list[Array]) -> float:
    """On the unit sphere, in the time of the radius; then the law of the ray."""
    from scipy.integrate import solve_ivp

    depth, shapes = len(layers), [W.shape for W in layers]
    ends = np.cumsum([0, *(W.size for W in layers)])
    theta = as_state(layers)
    radius = float(np.linalg.norm(theta))
    if radius == 0.0:
        return math.inf
    best = escape_speed(G, depth)

    def force(e: Array) -> Array:
        parts = [e[a:b].reshape(shape) for (a, b), shape in zip(pairwise(ends), shapes, strict=True)]
        return -as_state(layer_gradients(parts, G))

    def velocity(tau: float, y: Array) -> Array:
        # y = direction, log of the radius, time; d/dtau = radius^(2-L) d/dt
        e = y[:-2] / np.linalg.norm(y[:-2])
        f = force(e)
        growth = float(e @ f)
        return np.concatenate([f - growth * e, [growth, math.exp((2 - depth) * y[-2])]])

    def left(y: Array) -> float:
        return math.exp((2 - depth) * y[-2]) / ((depth - 2) * best)

    def arrived(tau: float, y: Array) -> float:
        e = y[:-2] / np.linalg.norm(y[:-2])
        growth = float(e @ force(e))
        if growth <= 0:
            return 1.0
        return max(0.0, min(left(y) / (left(y) + y[-1]), (1 - growth / best)) - TAIL)

    arrived.terminal = True  # type: ignore[attr-defined]
    start = np.concatenate([theta / radius, [0.0, 0.0]])
    done = solve_ivp(
        velocity, (0.0, 1e6 / best), start, method="DOP853", rtol=RTOL, atol=1e-14, events=arrived
    )
    if done.status != 1:
        return math.inf
    return float(radius ** (2 - depth) * (done.y[-1, -1] + left(done.y[:, -1])))
