r"""What waits at a saddle while one mode grows: moved from escape to escape, and the times that follow from it.

For two layers the waiting weights obey a linear equation along the whole limit path. For more they move during the long
times at the saddles only, by homogeneous flows, and are turned with the singular spaces of A along the orbits between.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..critical import escape_speed
from ..network import layer_gradients
from ..problem import as_state
from ..trajectory import Trajectory
from ..typing import Array
from .path import SaddlePath

__all__ = ["Stage", "along", "deep", "homogeneous", "stages_of", "two_layers"]

RTOL = 1e-12  # of the homogeneous flow on the sphere
TAIL = 1e-12  # what is left of T*, or the square of the misalignment, at which the law of the ray takes over
GROWN = 1e5  # growth of the weights after which one mode has outgrown what waits for the next saddle
OTHER = 1e-3  # share of the first layer in the mode that should have grown, below which another one has
ROUNDING = 1e-8  # of what is left of the weights once one mode has grown, relative to the start
FAR = 300.0  # growth exponent of the next mode up to which an orbit is followed
PIECES = 8  # of each step of an orbit, along which what waits is moved


@dataclass(frozen=True, eq=False)
class Stage:
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


def stages_of(path: SaddlePath) -> list[Stage]:
    stages = []
    for (saddle, after), segment in zip(pairwise(path.saddles), path.segments, strict=True):
        if after.kind == "unbounded":
            break
        left, right = _complements(saddle.end_to_end, saddle.rank)
        G = left @ left.T @ segment.cost_function.raw_gradient(saddle.end_to_end) @ right @ right.T
        U, s, Vt = np.linalg.svd(-G)
        goal = np.linalg.svd(after.end_to_end, compute_uv=False)[saddle.rank]
        stages.append(Stage(segment, saddle.rank, G, U[:, 0], Vt[0], float(s[0]), float(goal)))
    return stages


def _complements(A: Array, rank: int) -> tuple[Array, Array]:
    """Bases of what is orthogonal to the leading singular vectors, left and right, over leading axes."""
    U, _, Vt = np.linalg.svd(A)
    return U[..., rank:], np.swapaxes(Vt, -1, -2)[..., rank:]


def two_layers(path: SaddlePath, weights: list[Array]) -> Iterator[float]:
    """The waiting Q = [W_1^T; W_2] is moved from saddle to saddle by Q' = K Q, K = [[0, -G^T], [-G, 0]]."""
    t, stages, Q = 0.0, stages_of(path), np.vstack([weights[0].T, weights[1]])
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
            h, Q, passed = along(stage.segment, (vectors * growth) @ (vectors.T @ Q), stages[k + 1])
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


def along(segment: Trajectory, Q: Array, after: Stage) -> tuple[Array, Array, float]:
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


def deep(path: SaddlePath, weights: list[Array]) -> Iterator[float]:
    """L >= 3: from one blow-up to the next, each with what the last has left in the complement."""
    depth, t = len(weights), 0.0
    known, stages = ROUNDING * float(np.linalg.norm(as_state(weights))), stages_of(path)
    for stage in stages:
        flow = homogeneous(stage.G, weights)
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


def _turned(stage: Stage) -> list[Array]:
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


class Flow(NamedTuple):
    """A homogeneous flow: its blow-up time, and the layers once they have grown, after a time."""

    blow_up: float
    elapsed: float
    layers: list[Array]


def homogeneous(G: Array, layers: tuple[Array, ...] | list[Array]) -> Flow:
    """On the unit sphere, in the time of the radius; then the law of the ray."""
    from scipy.integrate import solve_ivp

    depth, shapes = len(layers), [W.shape for W in layers]
    ends = np.cumsum([0, *(W.size for W in layers)])
    theta = as_state(layers)
    radius = float(np.linalg.norm(theta))
    best = escape_speed(G, depth)
    if radius == 0.0 or best == 0.0:
        return Flow(math.inf, math.inf, list(layers))

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
        return Flow(math.inf, math.inf, list(layers))
    last = done.y[:, -1]
    then = done.y_events[1][0] if len(done.t_events[1]) else last
    unit = radius ** (2 - depth)
    size = radius * math.exp(then[-2]) / float(np.linalg.norm(then[:-2]))
    return Flow(float(unit * (last[-1] + left(last))), float(unit * then[-1]), parts(size * then[:-2]))
