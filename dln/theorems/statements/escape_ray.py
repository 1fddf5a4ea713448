r"""Fastest escape from the origin: a ray of size c with :math:`\dot c = s^* c^{L-1}`, :math:`s^* = L^{1-L/2} s_1`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..points import steepest
from ..proof import Proof, collected, rotation
from ..runs import LINEAR_COST, NO_DECAY, UNIT_RATES, Run, draw_orthogonal, gap, linear_cost
from ..statement import Statement
from ..trial import Hypothesis, Trial


@dataclass(frozen=True, kw_only=True)
class Case(Run):
    """A run from ``size`` times the direction that belongs to the frames, unit vectors ``-v, h_1, .., h_{L-1}, u``."""

    frames: list[Array]
    size: float


def claim_direction(frames: Sequence[Any], r: Any) -> list[Any]:
    """Unit direction of the layers, by unit vectors of all spaces and ``r = 1/sqrt(L)``."""
    return [r * np.outer(y, x) for x, y in zip(frames, frames[1:], strict=False)]


def claim_speed(s: Any, r: Any, depth: Any) -> Any:
    """Speed of the fastest direction, by the largest singular value of the gradient."""
    return s * r ** (depth - 2)


def claim_ray(y: Any, speed: Any, time: Any, depth: Any) -> Any:
    """What ``y = c^(2-L)`` is after a time, L > 2; where it reaches zero the flow blows up."""
    return y - (depth - 2) * speed * time


def identities() -> Iterator[tuple[str, Any]]:
    c, s, t, L, y = sp.symbols("c s t L y", positive=True)
    U, V, H = rotation("phi"), rotation("psi"), rotation("chi")
    G = U @ np.diag([s, sp.Symbol("s_2")]) @ V.T
    for depth in (2, 3, 4, 5):
        r = sp.Symbol(f"r{depth}")
        direction = claim_direction([-V[:, 0], *[H[:, 0]] * (depth - 1), U[:, 0]], r)
        yield f"unit length at L = {depth}", sum(np.sum(W * W) for W in direction) - 1
        velocity = claim_speed(s, r, depth) * c ** (depth - 1)
        for gradient, W in zip(
            network.layer_gradients([c * W for W in direction], G), direction, strict=True
        ):
            yield f"the ray at L = {depth}", gradient + velocity * W
    motion = sp.diff(c ** (2 - L), c) * s * c ** (L - 1)
    yield "the ray at any L", collected(motion) - sp.diff(claim_ray(y, s, t, L), t)
    yield "the start of the ray", claim_ray(y, s, 0, L) - y


def residual(case: Case) -> float:
    """The layers some way to the blow-up, and the speed against the steepest ascent of -L <G, A> on the sphere."""
    depth, c = len(case.weights), case.size
    r, s = 1 / np.sqrt(depth), np.linalg.norm(case.cost.slope, 2)
    speed, direction = claim_speed(s, r, depth), claim_direction(case.frames, r)
    time = 0.1 * c ** (2 - depth) / (s * r ** (depth - 2) * max(depth - 2, 1))
    if depth == 2:
        end = c * np.exp(speed * time)
    else:
        end = claim_ray(c ** (2 - depth), speed, time, depth) ** (1 / (2 - depth))
    start = [W + 0.01 * c for W in case.weights]
    return float(
        max(
            gap(case.flow(time), [end * W for W in direction]),
            abs(depth * steepest(start, case.cost.slope) / speed - 1),
        )
    )


def _start(frames: list[Array], size: float) -> list[Array]:
    scale = size / np.sqrt(len(frames) - 1)
    return [scale * np.outer(y, x) for x, y in zip(frames, frames[1:], strict=False)]


def _draw(rng: Generator, depth: int) -> Case:
    m, *hidden, n = rng.integers(2, 5, size=depth + 1)
    U, V = draw_orthogonal(rng, n), draw_orthogonal(rng, m)
    s = rng.uniform(1.5, 2.5) * np.array([1.0, 0.4, 0.2, 0.1])[: min(n, m)]
    G = U[:, : len(s)] * s @ V[:, : len(s)].T
    frames = [-V[:, 0], *(draw_orthogonal(rng, k)[0] for k in hidden), U[:, 0]]
    size = np.sqrt(depth) * rng.uniform(0.8, 1.1)
    return Case(
        weights=_start(frames, size),
        cost=linear_cost(G),
        rates=np.ones(depth),
        decays=np.zeros(depth),
        frames=frames,
        size=size,
    )


def _top(case: Case) -> bool:
    v, *_, u = case.frames
    return bool(np.isclose(-u @ case.cost.slope @ v, np.linalg.norm(case.cost.slope, 2)))


def _second(case: Case, _: Generator) -> Case:
    """The direction of the second pair of singular vectors."""
    U, Vt = np.linalg.svd(case.cost.slope)[::2]
    frames = [-Vt[1], *case.frames[1:-1], U[:, 1]]
    return replace(case, frames=frames, weights=_start(frames, case.size))


STATEMENT = Statement(
    title="the fastest escape from the origin is along a ray of rank one",
    formula="layers c(t) o_l o_{l-1}^T / sqrt(L), o_0 = -v_1, o_L = u_1, follow c' = s* c^(L-1), s* = L^(1-L/2) s_1, "
    "in the flow of <G, A>, G = s_1 u_1 v_1^T + .., so c = c_0 e^(s* t) at L = 2 and "
    "c^(2-L) = c_0^(2-L) - (L-2) s* t at L > 2; no direction has a larger -L <G, A>",
    source="A. Jacot et al., arXiv 2106.15933, optimal escape directions and paths",
    symbolic=Proof(
        "A of shape (2, 2) in any singular bases, L = 2, 3, 4, 5; the ray at any L > 2",
        identities,
        rules={sp.Symbol(f"r{depth}") ** 2: sp.Rational(1, depth) for depth in (2, 3, 4, 5)},
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the ends are the top singular vectors of the gradient": Hypothesis(_top, _second),
            "the cost is linear": LINEAR_COST,
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-10,
    ),
)
