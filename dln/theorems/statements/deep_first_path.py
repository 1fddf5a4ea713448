r"""The first path at L > 2 under full observation: when a small start is on it, and how far from it its modes are.

On the path every layer is :math:`u\,h_l h_{l-1}^T`, and what the outer ones have of a waiting mode j obeys
:math:`d \ln(p/u) = -(s_1 - s_j)\, u^{L-2}\, dt = -\frac{1 - s_j/s_1}{L}\, d \ln\frac{a}{s_1 - a}`, :math:`a = u^L`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.special import hyp2f1

from ... import network
from ...typing import Array
from ..proof import Proof, derivative, rotation
from ..runs import FULL_OBSERVATION, Quadratic, flat, gap, product
from ..starts import GENERIC, ONE_PACE, SIMPLE, UNDECAYED, SmallStart, draw_small_start, homogeneous
from ..statement import Statement
from ..trial import Hypothesis, Trial
from . import escape_ray, first_path, mode_times

SMALL = {3: 1e-4, 4: 8e-4}  # sizes of the starts; the time, of order alpha^(2-L), is to have 12 digits
LONGEST = 20.0  # after the blow-up; the path takes less, and to integrate the flow is slow where it rests
GROWTH = 14.0  # logarithm of that of the layers up to the last stretch before the blow-up


def claim_blow_up(time: Any, size: Any, speed: Any, depth: Any) -> Any:
    """When the homogeneous flow blows up, by its size at a late time."""
    return time + size ** (2 - depth) / ((depth - 2) * speed)


def claim_growth(a: Any, start: Any, s: Any, depth: Any) -> Any:
    """How much a layer on its ray grows while the leading mode goes from a much smaller size `start` to a."""
    return (a * s / ((s - a) * start)) ** (1 / depth)


def claim_beside(a: Any, share: Any, growth: Any, ratio: Any) -> Any:
    """An entry beside the leading mode a, by its share of it at the start, and ``ratio = s_j / s_1``."""
    return a * share * growth ** (ratio - 1)


def identities() -> Iterator[tuple[str, Any]]:
    for depth in (3, 4, 5):
        yield from _blow_up(depth)
        yield from _path(depth)


def _blow_up(depth: int) -> Iterator[tuple[str, Any]]:
    t, c, u, s = sp.symbols("t c u s", positive=True)
    left = claim_blow_up(t, c, s, depth) - t
    yield f"the blow-up at L = {depth}", escape_ray.claim_ray(c ** (2 - depth), s, left, depth)
    # Seen from its blow-up, the ray of layers u has the first term of F for a time.
    ray = claim_blow_up(mode_times.claim_term(0, u, s, depth), c, s * (u / c) ** (depth - 2), depth)
    yield f"the time on the ray at L = {depth}", ray


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


def residual(case: SmallStart) -> float:
    """The flow from alpha times the start at half height and above it, by the homogeneous flow from the start."""
    depth, s, alpha = len(case.weights), case.s, case.alpha
    speed = escape_ray.claim_speed(s[0], depth**-0.5, depth)
    late, time = homogeneous(case, GROWTH / speed)
    size = np.linalg.norm(flat(late.weights))
    blow_up, a_0 = claim_blow_up(time, size, speed, depth), (size * depth**-0.5) ** depth
    gaps = []
    for a in s[0] * np.array([0.5, 0.8]):
        arrival = first_path.claim_time(blow_up, alpha, depth) + _rest(a, s[0], depth)
        end = float(np.clip(arrival, 0.0, time * alpha ** (2 - depth) + LONGEST))
        run = replace(case, weights=case.small().flow(end))
        growth = claim_growth(a, alpha**depth * a_0, s[0], depth)
        beside = claim_beside(a, _beside(late) / a_0, growth, s[1:] / s[0])
        gaps.append(abs(case.U[:, 0] @ product(run.weights) @ case.V[:, 0] / a - 1))
        gaps.append(gap(_beside(run), beside))
        gaps.append(gap(_singular_values(run, 0), np.full(depth, a ** (1 / depth))))
        gaps.append(gap(_singular_values(run, 1), alpha * _singular_values(late, 1)))
    return float(np.max(gaps))


def _rest(a: float, s: float, depth: int) -> float:
    """F, see `mode_times`."""
    p, q, b = mode_times.claim_parameters(depth)
    return float(mode_times.claim_term(0, a ** (1 / depth), s, depth) * hyp2f1(p, q, b, a / s))


def _beside(case: SmallStart) -> Array:
    """Mean of the entries of A beside the leading mode and of their partners across the diagonal."""
    A: Array = case.U.T @ product(case.weights) @ case.V
    return (A[1:, 0] + A[0, 1:]) / 2


def _singular_values(case: SmallStart, i: int) -> Array:
    return np.array([np.linalg.svd(W, compute_uv=False)[i] for W in case.weights])


def _draw(rng: Generator, depth: int) -> SmallStart:
    """The remainder is of order alpha^(2 - 2 s_2/s_1) and alpha^(1 + s_j/s_1)."""
    return draw_small_start(rng, depth, alpha=SMALL[depth] * rng.uniform(1.0, 2.0), H=np.eye(9))


def _reweighted(case: SmallStart, rng: Generator) -> SmallStart:
    """Every entry of A is observed with a weight of its own, and the gradient at zero is the same."""
    weights = rng.uniform(1.5, 3.0, size=case.cost.target.size)
    target = case.cost.target / weights.reshape(case.cost.target.shape)
    return replace(case, cost=Quadratic(target, np.diag(weights)))


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
            "the largest singular value of the gradient at zero is simple": SIMPLE,
            "the start has something of the first mode": GENERIC,
            "the cost is full observation": Hypothesis(FULL_OBSERVATION.holds, _reweighted),
            "there is no weight decay": UNDECAYED,
            "all layers move at one rate": ONE_PACE,
        },
        residual=residual,
        tolerance=4e-4,
        depths=(3, 4),
        repeats=1,
    ),
)
