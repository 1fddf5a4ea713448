r"""The first path at L > 2: a small start follows it once the flow of the lowest-order part of the cost blows up.

That flow, :math:`\dot\theta = -\nabla H`, takes :math:`\alpha\theta_0` along the path of :math:`\theta_0` in
:math:`\alpha^{2-L}` times the time, towards the fastest escape direction. There every layer is :math:`u\,h_l h_{l-1}^T`
and what it has of a waiting mode j, p in the outer layers, obeys
:math:`d \ln(p/u) = -(s_1 - s_j)\, u^{L-2}\, dt = -\frac{1 - s_j/s_1}{L}\, d \ln\frac{a}{s_1 - a}`, :math:`a = u^L`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.integrate import solve_ivp
from scipy.special import hyp2f1

from ... import network
from ...typing import Array
from ..proof import Proof, derivative, layers, matrix, rotation
from ..runs import (
    FULL_OBSERVATION,
    NO_DECAY,
    UNIT_RATES,
    Quadratic,
    Run,
    draw_layers,
    draw_orthogonal,
    flat,
    full_observation,
    gap,
    product,
)
from ..statement import Statement
from ..trial import Hypothesis, Trial
from . import escape_ray, mode_times

SMALL = {3: 1e-4, 4: 8e-4}  # sizes of the starts; the time, of order alpha^(2-L), is to have 12 digits
LONGEST = 20.0  # beyond the blow-up; the path takes less, and the flow is slow to integrate where it rests
GROWTH = 14.0  # logarithm of that of the layers up to the last stretch before the blow-up


@dataclass(frozen=True, kw_only=True)
class Case(Run):
    """A run from alpha times its layers; the singular triples of minus the gradient at zero."""

    alpha: float
    U: Array
    V: Array
    s: Array


def claim_blow_up(time: Any, size: Any, speed: Any, depth: Any) -> Any:
    """When the homogeneous flow blows up, by its size at a late time."""
    return time + size ** (2 - depth) / ((depth - 2) * speed)


def claim_arrival(blow_up: Any, rest: Any, alpha: Any, depth: Any) -> Any:
    """When alpha times a start has a mode of given size, which needs the time F = `rest` after the blow-up."""
    return blow_up * alpha ** (2 - depth) + rest


def claim_growth(a: Any, start: Any, s: Any, depth: Any) -> Any:
    """How much a layer on its ray grows while the leading mode goes from a much smaller size `start` to a."""
    return (a * s / ((s - a) * start)) ** (1 / depth)


def claim_beside(a: Any, share: Any, growth: Any, ratio: Any) -> Any:
    """An entry beside the leading mode a, by its share of it at the start, and ``ratio = s_j / s_1``."""
    return a * share * growth ** (ratio - 1)


def identities() -> Iterator[tuple[str, Any]]:
    for depth in (3, 4, 5):
        yield from _homogeneous_flow(depth)
        yield from _path(depth)


def _homogeneous_flow(depth: int) -> Iterator[tuple[str, Any]]:
    alpha, t, c, u, s, F = sp.symbols("alpha t c u s F", positive=True)
    weights, G = layers([2, *[1] * (depth - 1), 2]), matrix("G", 2, 2)
    small = [alpha * W for W in weights]
    A, faster = network.end_to_end(weights), claim_arrival(1, 0, alpha, depth)
    for k in range(depth):
        scaled = alpha * network.layer_gradients(weights, G)[k]
        yield (
            f"the flow of a small start at L = {depth}",
            scaled - faster * network.layer_gradients(small, G)[k],
        )
        scaled = alpha ** (2 * depth - 1) * network.layer_gradients(weights, A)[k]
        left_out = network.layer_gradients(small, network.end_to_end(small))[k]
        yield f"what it leaves out at L = {depth}", scaled - left_out
    left = claim_blow_up(t, c, s, depth) - t
    yield f"the blow-up at L = {depth}", escape_ray.claim_ray(c ** (2 - depth), s, left, depth)
    # Seen from its blow-up, the ray of layers u has the first term of F for a time.
    ray = claim_blow_up(mode_times.claim_term(0, u, s, depth), c, s * (u / c) ** (depth - 2), depth)
    yield f"the time on the ray at L = {depth}", ray
    yield f"the time after the blow-up at L = {depth}", claim_arrival(0, F, alpha, depth) - F


def _path(depth: int) -> Iterator[tuple[str, Any]]:
    """The layers of the path, and to first order what the outer ones have of another mode."""
    U, V = rotation("phi"), rotation("psi")
    u, p, s, s_2, g, a, a_0 = sp.symbols("u p s s_2 g a a_0", positive=True)
    target, hidden = (U * np.array([s, s_2])) @ V.T, [np.array([[u]])] * (depth - 2)
    path = [u * V[None, :, 0], *hidden, u * U[:, :1]]
    turn = [p * V[None, :, 1], *[0 * W for W in hidden], p * U[:, 1:]]

    def gradients(layer: int, weights: Any) -> Any:
        return network.layer_gradients(weights, network.end_to_end(weights) - target)[layer]

    rate = u ** (depth - 2) * (s - u**depth)
    power = claim_growth(a, a_0, s, sp.Integer(depth)) ** depth
    growing = (a * rate * sp.diff(power, a) / power).subs(a, u**depth)
    turning = growing * (sp.diff(claim_beside(1, 1, g, s_2 / s), g)).subs(g, 1)
    for k in range(depth):
        label = f"layer {k + 1} at L = {depth}"
        yield f"the path, {label}", gradients(k, path) + rate * path[k]
        turned = derivative(partial(gradients, k), path, turn)
        yield f"the turn, {label}", turned + (rate + turning) * turn[k]
    beside = U.T @ derivative(network.end_to_end, path, turn) @ V
    claimed = claim_beside(u**depth, p / u, 1, s_2 / s)
    yield f"the entries beside at L = {depth}", [beside[0, 1] - claimed, beside[1, 0] - claimed]
    yield "where the growth begins", (power / a).subs(a, 0) - 1 / a_0


def residual(case: Case) -> float:
    """The flow from alpha times the start at half height and above it, by the homogeneous flow from the start."""
    depth, s, alpha = len(case.weights), case.s, case.alpha
    speed = escape_ray.claim_speed(s[0], depth**-0.5, depth)
    late, time = _homogeneous(case, GROWTH / speed)
    size = np.linalg.norm(flat(late.weights))
    blow_up, a_0 = claim_blow_up(time, size, speed, depth), (size * depth**-0.5) ** depth
    run, now, gaps = replace(case, weights=[alpha * W for W in case.weights]), 0.0, []
    for a in s[0] * np.array([0.5, 0.8]):
        arrival = claim_arrival(blow_up, _rest(a, s[0], depth), alpha, depth)
        if not abs(arrival - time * alpha ** (2 - depth)) < LONGEST:
            return np.inf
        run, now = replace(run, weights=run.flow(arrival - now)), arrival
        growth = claim_growth(a, alpha**depth * a_0, s[0], depth)
        beside = claim_beside(a, _beside(late) / a_0, growth, s[1:] / s[0])
        gaps.append(abs(case.U[:, 0] @ product(run.weights) @ case.V[:, 0] / a - 1))
        gaps.append(gap(_beside(run), beside))
        gaps.append(gap(_singular_values(run, 0), np.full(depth, a ** (1 / depth))))
        gaps.append(gap(_singular_values(run, 1), alpha * _singular_values(late, 1)))
    return float(np.max(gaps))


def _homogeneous(case: Case, duration: float) -> tuple[Case, float]:
    """The flow of H from the layers, and the time, in a clock by which the layers grow exponentially."""
    G, depth = -(case.U * case.s) @ case.V.T, len(case.weights)

    def velocity(_: float, state: Array) -> Array:
        pace = float(np.linalg.norm(state[:-1])) ** (2 - depth)
        gradients = network.layer_gradients(case.at(state[:-1]).weights, G)
        return pace * np.append(-flat(gradients), 1.0)

    start = np.append(flat(case.weights), 0.0)
    solution = solve_ivp(velocity, (0.0, duration), start, method="DOP853", rtol=1e-12, atol=1e-14)
    *state, time = solution.y[:, -1]
    return case.at(np.array(state)), float(time)


def _rest(a: float, s: float, depth: int) -> float:
    """F, see `mode_times`."""
    p, q, b = mode_times.claim_parameters(depth)
    return float(mode_times.claim_term(0, a ** (1 / depth), s, depth) * hyp2f1(p, q, b, a / s))


def _beside(case: Case) -> Array:
    """Mean of the entries of A beside the leading mode and of their partners across the diagonal."""
    A: Array = case.U.T @ product(case.weights) @ case.V
    return (A[1:, 0] + A[0, 1:]) / 2


def _singular_values(case: Case, i: int) -> Array:
    return np.array([np.linalg.svd(W, compute_uv=False)[i] for W in case.weights])


def _draw(rng: Generator, depth: int) -> Case:
    """Random layers that grow from the first; the remainder is of order alpha^(2 - 2 s_2/s_1), alpha^(1 + s_j/s_1)."""
    U, V = draw_orthogonal(rng, 3), draw_orthogonal(rng, 3)
    s = rng.uniform(1.0, 2.0) * np.array([1.0, 0.2, 0.1])
    target, hidden = (U * s) @ V.T, [int(n) for n in rng.integers(2, 5, size=depth - 1)]
    while True:
        weights = draw_layers(rng, [3, *hidden, 3])
        if np.sum(target * product(weights)) > 0.1 * s[0]:
            break
    return Case(
        weights=weights,
        cost=full_observation(target),
        rates=np.ones(depth),
        decays=np.zeros(depth),
        alpha=SMALL[depth] * rng.uniform(1.0, 2.0),
        U=U,
        V=V,
        s=s,
    )


def _mixed(case: Case, M: Array) -> Case:
    """The outer layers with their parts in the singular modes mixed: ``W_1 v_k`` becomes ``sum_j W_1 v_j M_jk``."""
    first, *hidden, last = case.weights
    mixed = [first @ case.V @ M @ case.V.T, *hidden, case.U @ M.T @ case.U.T @ last]
    return replace(case, weights=mixed)


def _blind(case: Case, _: Generator) -> Case:
    """Nothing of the first mode, which then never grows."""
    return _mixed(case, np.diag([0.0, 1.0, 1.0]))


def _sees(case: Case) -> bool:
    return bool(np.linalg.norm(case.weights[0] @ case.V[:, 0]) > 1e-9)


def _double(case: Case, _: Generator) -> Case:
    """The first two modes are alike, in the target and in the start."""
    s = case.s[[0, 0, 2]]
    alike = _mixed(case, np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    return replace(alike, s=s, cost=full_observation((case.U * s) @ case.V.T))


def _reweighted(case: Case, rng: Generator) -> Case:
    """Every entry of A is observed with a weight of its own, and the gradient at zero is the same."""
    weights = rng.uniform(1.5, 3.0, size=case.cost.target.size)
    target = case.cost.target / weights.reshape(case.cost.target.shape)
    return replace(case, cost=Quadratic(target, np.diag(weights)))


def _decaying(case: Case, _: Generator) -> Case:
    """A decay of the order of the growth at the start."""
    depth = len(case.weights)
    return replace(case, decays=np.full(depth, 0.1 * case.alpha ** (depth - 2)))


def _slower(case: Case, _: Generator) -> Case:
    """The first layers move more slowly."""
    return replace(case, rates=np.linspace(0.5, 1.0, len(case.weights)))


STATEMENT = Statement(
    title="small starts of more than two layers follow the first path",
    formula="for L > 2 and alpha -> 0, the flow from alpha theta_0 has u_1^T A v_1 = a at alpha^(2-L) T* + F(a), F as "
    "in mode_times: s_1/2 at alpha^(2-L) T* + c_L s_1^(-(2L-2)/L), c_L as in half_times. Then s_1(W_l) = a^(1/L), "
    "s_2(W_l) = alpha sigma_l, and u_j^T A v_1, u_1^T A v_j = a k_j (alpha^L (s_1 - a)/a)^((1 - s_j/s_1)/L), of order "
    "alpha^(1 - s_j/s_1). In the flow theta' = -grad H from theta_0, H = <dC/dA(0), A>: it blows up at T*, where "
    "s_2(W_l) -> sigma_l and u_j^T A v_1 ~ a k_j (s_1/a)^((1 - s_j/s_1)/L)",
    source="A. Jacot et al., arXiv 2106.15933, theorem on the first path, L > 2; the times and rates derived",
    symbolic=Proof(
        "A of shape (2, 2) in any singular bases, the network of width 1, L = 3, 4, 5", identities
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the start is small": Hypothesis(
                lambda case: case.alpha < 0.01, lambda case, _: replace(case, alpha=0.3)
            ),
            "the largest singular value of the gradient at zero is simple": Hypothesis(
                lambda case: bool(case.s[0] > case.s[1]), _double
            ),
            "the start has something of the first mode": Hypothesis(_sees, _blind),
            "the cost is full observation": Hypothesis(FULL_OBSERVATION.holds, _reweighted),
            "there is no weight decay": Hypothesis(NO_DECAY.holds, _decaying),
            "all layers move at one rate": Hypothesis(UNIT_RATES.holds, _slower),
        },
        residual=residual,
        tolerance=4e-4,
        depths=(3, 4),
        repeats=1,
    ),
)
