r"""When a small start leaves each saddle: homogeneous flows, joined by the orbits of the limit path.

At a saddle :math:`C(A_\theta)` is, in the neurons that wait there, a constant plus
:math:`H = \langle G, A_\theta \rangle` of degree L. Its flow turns into the optimal direction, on which the size c of
the weights obeys :math:`\dot c = s\,c^{L-1}`: it grows exponentially for L = 2, and blows up at a finite time T* for
L >= 3. The orbit leaves the saddle with the same law, so that times along it are measured from its own (virtual) T*.
The neurons that have grown take one direction h_l of every hidden layer; what waits for the next saddle is the rest of
the weights, orthogonal to those.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..costs import Cost
from ..critical import escape_speed
from ..network import layer_gradients
from ..problem import Problem, as_state
from ..trajectory import Trajectory
from ..typing import Array, ArrayLike, Layers
from .path import SaddlePath, saddle_to_saddle

__all__ = ["blow_up_time", "escape_time", "escape_times"]

RTOL = 1e-12  # of the homogeneous flow on the sphere
TAIL = 1e-12  # what is left of T*, or the square of the misalignment, at which the law of the ray takes over
GROWN = 1e5  # growth of the weights after which one mode has outgrown what waits for the next saddle
OTHER = 1e-3  # share of the first layer in the mode that should have grown, below which another one has
ROUNDING = 1e-8  # of what is left of the weights once one mode has grown, relative to the start
FAR = 300.0  # growth exponent of the next mode up to which an orbit is followed
PIECES = 8  # of each step of an orbit, along which what waits is moved


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
    return _homogeneous(G, layers).blow_up


def escape_time(cost: Cost, weights: Layers) -> float:
    r"""First time at which the leading singular value of A reaches half of what it has at the next critical point.

    The first of `escape_times`; for full observation, with c_L the time from half back to the blow-up,

    .. math::
        L = 2 &: \quad \frac{1}{2 s_1} \ln \frac{4 s_1}{|W_1 v_1 + W_2^T u_1|^2} \\
        L \ge 3 &: \quad T^* + c_L\, s_1^{-(2L-2)/L} ,

    T* being `blow_up_time`.

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
    times = escape_times(cost, weights, most=1)
    return float(times[0]) if len(times) else math.inf


def escape_times(cost: Cost, weights: Layers, *, most: int | None = None) -> Array:
    r"""Times at which the flow leaves one saddle of its limit path after the other, from a small start.

    The k-th is the time at which the k-th singular value of A reaches half of what it has at the k-th critical point
    after zero. From a start :math:`\alpha\theta_0` the errors vanish with alpha, the better the smaller s_2/s_1 is at
    each saddle passed, and the more of an orbit is over when the next begins:

    * the first time errs by :math:`O(\alpha^{2(1 - s_2/s_1)})` where A is fully observed, by
      :math:`O(\alpha^{1 - s_2/s_1})` else;
    * for L = 2 so do the later ones, of any cost; where an orbit ends slowly, its rest at the next escape adds to that;
    * for L >= 3 the later ones are right to a relative error of order :math:`\alpha^2` or that of the first time where
      A is fully observed, and of order alpha else.

    Parameters
    ----------
    cost : Cost
        The cost C; the largest singular values of its gradients at the saddles must be simple.
    weights : sequence of array_like
        A small start [W_1, .., W_L], L >= 2.
    most : int, optional
        How many escapes to follow; all by default, up to the least width.

    Returns
    -------
    ndarray
        Increasing; inf from the first saddle on that the start does not leave by its fastest mode, and where no
        critical point follows.

    Raises
    ------
    ValueError, TypeError
        If the weights do not fit the cost or there is one layer.

    Notes
    -----
    For L = 2 the waiting weights obey :math:`[W_1^T; W_2]' = K(t)\,[W_1^T; W_2]` along the whole path. For L >= 3 they
    move during the time :math:`\alpha^{2-L}` at a saddle and stand still during an orbit.

    References
    ----------
    arXiv 2106.15933v2, the saddle-to-saddle conjecture; times: derived.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved(np.diag([2.0, 1.0]))
    >>> np.round(escape_times(cost, dln.inits.aligned(cost.target, 3, scale=1e-9)), 6)
    array([499.662578, 999.14975 ])
    >>> dln.exact.mode_time([1.0, 0.5], 1e-9, [2.0, 1.0], 3).round(6)
    array([499.662578, 999.149749])
    """
    problem = Problem.checked(cost, weights, 0.0)
    if problem.depth < 2:
        raise ValueError("`weights` must have at least two layers, got one. One layer has no saddle.")
    shape, narrowest = (problem.widths[-1], problem.widths[0]), min(problem.widths)
    count = narrowest if most is None else checks.integer(most, "most", least=1)
    path = saddle_to_saddle(cost, problem.depth, shape=shape, max_rank=min(count, narrowest), rtol=1e-10)
    law = _two_layers if problem.depth == 2 else _deep
    times = np.full(len(path.segments), math.inf)
    for k, time in enumerate(law(path, list(problem.weights))):
        times[k] = time
    return times


@dataclass(frozen=True, eq=False)
class _Stage:
    """A saddle, its gradient G between the complements of the singular spaces of A, and the orbit from there."""

    segment: Trajectory
    rank: int
    G: Array
    u: Array  # top singular triple of -G
    v: Array
    s: float
    goal: float  # singular value of the new mode after the orbit

    @cached_property
    def half(self) -> float:
        """Time on the orbit at which the new mode first has half its size."""
        from scipy.optimize import brentq

        t, s = self.segment.t, self.segment.singular_values[:, self.rank]
        i = int(np.argmax(s >= self.goal / 2))

        def above(time: float) -> float:
            A = self.segment.at(time)
            return float(np.linalg.svd(A, compute_uv=False)[self.rank]) - self.goal / 2

        return float(brentq(above, t[i - 1], t[i], xtol=1e-14 * t[i], rtol=1e-14))

    @cached_property
    def late(self) -> float:
        """By how much the orbit starts later than the law of the ray has it, to first order in the size there."""
        pair = np.outer(self.u, self.v)
        A = self.segment.end_to_end[0]
        bend = float(np.sum(pair * self.segment.cost_function.raw_hessian_vector(A, pair)))
        return bend * self.size**2 / (2 * self.segment.depth * self.s**2)

    @property
    def size(self) -> float:
        """Norm of the weights of the new mode at the start of the orbit."""
        first, *rest = (W[0] for W in self.segment.weights or ())
        return math.sqrt(first[-1] @ first[-1] + sum(W[:, -1] @ W[:, -1] for W in rest))

    @property
    def z(self) -> Array:
        """Growing direction of [W_1^T; W_2]."""
        return np.concatenate([self.v, self.u]) / math.sqrt(2)


def _stages(path: SaddlePath) -> list[_Stage]:
    stages = []
    for (saddle, after), segment in zip(pairwise(path.saddles), path.segments, strict=True):
        if after.kind == "unbounded":
            break
        left, right = _complements(saddle.end_to_end, saddle.rank)
        G = left @ left.T @ segment.cost_function.raw_gradient(saddle.end_to_end) @ right @ right.T
        U, s, Vt = np.linalg.svd(-G)
        goal = np.linalg.svd(after.end_to_end, compute_uv=False)[saddle.rank]
        stages.append(_Stage(segment, saddle.rank, G, U[:, 0], Vt[0], float(s[0]), float(goal)))
    return stages


def _complements(A: Array, rank: int) -> tuple[Array, Array]:
    """Bases of what is orthogonal to the leading singular vectors, left and right, over leading axes."""
    U, _, Vt = np.linalg.svd(A)
    return U[..., rank:], np.swapaxes(Vt, -1, -2)[..., rank:]


def _two_layers(path: SaddlePath, weights: list[Array]) -> Iterator[float]:
    """The waiting Q = [W_1^T; W_2] is moved from saddle to saddle by Q' = K Q, K = [[0, -G^T], [-G, 0]]."""
    t, stages, Q = 0.0, _stages(path), np.vstack([weights[0].T, weights[1]])
    for k, stage in enumerate(stages):
        if k == 0:
            h, Q = _parted(Q, stage.z)
        size = float(np.linalg.norm(h))
        if size == 0.0:
            return
        wait = math.log(stage.size / size) / stage.s + stage.late  # until the orbit starts
        yield t + wait + stage.half
        if k + 1 < len(stages):
            values, vectors = np.linalg.eigh(_generator(stage.G))
            growth = np.where((values < 0) & (wait < 0), 0.0, np.exp(wait * values))  # what is gone is gone
            h, Q, passed = _along(stage.segment, (vectors * growth) @ (vectors.T @ Q), stages[k + 1])
            t += wait + passed


def _parted(Q: Array, z: Array) -> tuple[Array, Array]:
    """What of Q grows along z, the row h = z^T Q, and the rest in the hidden directions orthogonal to h."""
    h = z @ Q
    rest = Q - np.outer(Q @ h, h) / max(float(h @ h), 1e-300)
    rest -= np.outer(z, z @ rest)
    return h, rest * (np.linalg.norm(rest) > 1e-14 * np.linalg.norm(Q))


def _generator(G: Array) -> Array:
    n_L, n_0 = G.shape[-2:]
    K = np.zeros((*G.shape[:-2], n_0 + n_L, n_0 + n_L))
    K[..., n_0:, :n_0], K[..., :n_0, n_0:] = -G, -np.swapaxes(G, -1, -2)
    return K


def _along(segment: Trajectory, Q: Array, after: _Stage) -> tuple[Array, Array, float]:
    """Both parts of Q at the end of an orbit, and its time: exponentials of Magnus' series, order 4.

    The row z^T Q there is (z^T Phi) Q before; what Phi^T z sees is taken from the rest, lest its rounding grow.
    """
    from scipy.linalg import expm

    t = _refined(segment.t[: max(2, int(np.sum(after.s * segment.t < FAR)))])
    h, shift = np.diff(t)[:, None, None], math.sqrt(3) / 6
    early, late = (
        _generator(segment.cost_function.raw_gradient(segment.at(t[:-1] + x * np.diff(t))))
        for x in (0.5 - shift, 0.5 + shift)
    )
    steps = expm(h / 2 * (early + late) + h**2 * (shift / 2) * (late @ early - early @ late))
    seen, log_size = [after.z], 0.0
    for step in steps[::-1]:
        z = step.T @ seen[-1]
        seen.append(z / np.linalg.norm(z))
        log_size += math.log(np.linalg.norm(z))
    row, Q = _parted(Q, seen.pop())
    for step in steps:
        z = seen.pop()
        Q = step @ Q
        Q -= np.outer(z, z @ Q)
    return math.exp(log_size) * row, Q, float(t[-1])


def _refined(t: Array) -> Array:
    """Times with each step in pieces."""
    return np.interp(np.arange(PIECES * (len(t) - 1) + 1) / PIECES, np.arange(len(t)), t)


def _deep(path: SaddlePath, weights: list[Array]) -> Iterator[float]:
    """L >= 3: from one blow-up to the next, each with what the last has left in the complement."""
    depth, t = len(weights), 0.0
    known, stages = ROUNDING * float(np.linalg.norm(as_state(weights))), _stages(path)
    for stage in stages:
        flow = _homogeneous(stage.G, weights)
        first = flow.layers[0]
        if math.isinf(flow.blow_up) or np.linalg.norm(first @ stage.v) < OTHER * np.linalg.norm(first):
            return
        power = depth - 2
        left = stage.size**-power / (power * escape_speed(np.diag([stage.s]), depth))
        yield t + flow.blow_up + (stage.half + stage.late - left)
        if stage is stages[-1]:
            return
        frames = [stage.v]
        for W in flow.layers[:-1]:
            h = W @ frames[-1]
            frames.append(h / np.linalg.norm(h))
        inner = [np.eye(len(h)) - np.outer(h, h) for h in frames[1:]]
        left_turn, right_turn = _turned(stage)
        maps = [right_turn, *inner, left_turn]
        weights = [P @ W @ R.T for W, (R, P) in zip(flow.layers, pairwise(maps), strict=True)]
        weights = [W * (np.linalg.norm(W) > known) for W in weights]
        t += flow.elapsed


def _turned(stage: _Stage) -> list[Array]:
    """How an orbit turns the complements of its singular spaces, left and right: by parallel transport."""
    t = _refined(stage.segment.t)
    turns = []
    for N in _complements(stage.segment.at(t), stage.rank + 1):
        U, _, Vt = np.linalg.svd(np.swapaxes(N[1:], 1, 2) @ N[:-1])
        turn = N[0].T
        for rotation in U @ Vt:
            turn = rotation @ turn
        turns.append(N[-1] @ turn)
    return turns


class _Flow(NamedTuple):
    """A homogeneous flow: its blow-up time, and the layers once they have grown, after a time."""

    blow_up: float
    elapsed: float
    layers: list[Array]


def _homogeneous(G: Array, layers: tuple[Array, ...] | list[Array]) -> _Flow:
    """On the unit sphere, in the time of the radius; then the law of the ray."""
    from scipy.integrate import solve_ivp

    depth, shapes = len(layers), [W.shape for W in layers]
    ends = np.cumsum([0, *(W.size for W in layers)])
    theta = as_state(layers)
    radius = float(np.linalg.norm(theta))
    best = escape_speed(G, depth)
    if radius == 0.0 or best == 0.0:
        return _Flow(math.inf, math.inf, list(layers))

    def parts(e: Array) -> list[Array]:
        return [e[a:b].reshape(shape) for (a, b), shape in zip(pairwise(ends), shapes, strict=True)]

    def force(e: Array) -> Array:
        return -as_state(layer_gradients(parts(e), G))

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

    def grown(tau: float, y: Array) -> float:
        return float(y[-2]) - math.log(GROWN)

    arrived.terminal = True  # type: ignore[attr-defined]
    start = np.concatenate([theta / radius, [0.0, 0.0]])
    done: Any = solve_ivp(
        velocity, (0.0, 1e6 / best), start, method="DOP853", rtol=RTOL, atol=1e-14, events=(arrived, grown)
    )
    if done.status != 1:
        return _Flow(math.inf, math.inf, list(layers))
    last = done.y[:, -1]
    then = done.y_events[1][0] if len(done.t_events[1]) else last
    unit = radius ** (2 - depth)
    size = radius * math.exp(then[-2]) / float(np.linalg.norm(then[:-2]))
    return _Flow(float(unit * (last[-1] + left(last))), float(unit * then[-1]), parts(size * then[:-2]))
