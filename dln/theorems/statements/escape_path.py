r"""The optimal escape path from the origin is one: at every order it leaves its ray by a determined amount.

Along the path the weights are :math:`c\,e + \sum_k c^{kL+1} w_k` with :math:`w_k` across the optimal direction e. Order
k asks for :math:`(kL + 1)\, s\, w_k + \nabla^2 H(e)\, w_k = -b_k`, where :math:`b_k` is known from the orders before:
:math:`b_1 = \nabla Q(e)`, Q being the part of degree 2L of the cost. Across e :math:`\nabla^2 H(e)` is
:math:`-s (1 + \rho)` with the rates :math:`\rho \le 0` of `escape_stability`, so there is one solution,
:math:`-b_k / (s (kL - \rho))`. A flow that begins on the bare ray lacks :math:`w_1` there, and forgets it like
:math:`c^\rho`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..proof import Proof, collected, derivative, rotation
from ..runs import NO_DECAY, UNIT_RATES, Quadratic, Run, draw_orthogonal, flat
from ..statement import Statement
from ..trial import Hypothesis, Trial
from .escape_stability import claim_pair


@dataclass(frozen=True, kw_only=True)
class Case(Run):
    """A network of width 1 on a ray: the singular triples of minus the gradient at zero, and sizes at both ends."""

    U: Array
    V: Array
    s: Array
    sizes: tuple[float, float]


def claim_factor(order: Any, rate: Any, depth: Any) -> Any:
    """What order k multiplies a part of w_k by, in units of the speed s, where directions turn at that rate."""
    return order * depth - rate


def claim_turn(drive: Any, s: Any, factor: Any, r: Any, depth: Any) -> Any:
    """Part of w_1 that is even (odd) in an outer layer and its partner, by the even (odd) part of what drives them.

    The drive is an entry of the curvature C''(u v^T), s the growing singular value, and r = 1/sqrt(L).
    """
    return -drive * r ** (depth + 1) / (s * factor)


def claim_lost(start: Any, size: Any, factor: Any) -> Any:
    """The share of a part of w_1 that is still missing after a bare start on the ray."""
    return (start / size) ** factor


def _gradient(G: Any, layer: int, weights: list[Any]) -> Any:
    return network.layer_gradients(weights, G)[layer]


def identities() -> Iterator[tuple[str, Any]]:
    """The spectrum across e at any order, what the curvature drives there, and how a bare start is forgotten."""
    for depth in (2, 3, 4):
        yield from _orders(depth)
    c, c_0, f = sp.symbols("c c_0 f", positive=True)
    lost = claim_lost(c_0, c, f)
    yield "how a bare start is forgotten", collected(c * sp.diff(lost, c) / lost) + f
    yield "a bare start", lost.subs(c, c_0) - 1


def _orders(depth: int) -> Iterator[tuple[str, Any]]:
    U, V, r = rotation("phi"), rotation("psi"), sp.Symbol(f"r{depth}", positive=True)
    k, s, s_2, a, b = sp.symbols("k s s_2 a b", positive=True)
    speed, hidden = s * r ** (depth - 2), [np.array([[r]])] * (depth - 2)
    e = [r * V[None, :, 0], *hidden, r * U[:, :1]]
    G, Z = -(U * np.array([s, s_2])) @ V.T, r**depth * (U @ np.array([[0, a], [b, 0]]) @ V.T)

    def asked(layer: int, step: list[Any], order: Any) -> Any:
        """What multiplies w_k in the equation for order k, of a layer."""
        bent = derivative(partial(_gradient, G, layer), e, step)
        return (order * depth + 1) * speed * step[layer] + bent

    def turn(even: Any, odd: Any) -> list[Any]:
        return [(even + odd) * V[None, :, 1], *[0 * W for W in hidden], (even - odd) * U[:, 1:]]

    even, odd, same = claim_pair(s_2 / s, 1), claim_pair(s_2 / s, -1), claim_pair(1, -1)
    steps = [(turn(1, 0), even), (turn(0, 1), odd)]
    for l in range(depth - 1):
        steps.append(([((i == l) - (i == l + 1)) * W for i, W in enumerate(e)], same))
    for step, rate in steps:
        for l, W in enumerate(step):
            yield f"order k at L = {depth}", asked(l, step, k) - speed * claim_factor(k, rate, depth) * W
    drives = zip(((a + b) / 2, (a - b) / 2), (even, odd), strict=True)
    w = turn(*(claim_turn(drive, s, claim_factor(1, rate, depth), r, depth) for drive, rate in drives))
    for l, drive in enumerate(network.layer_gradients(e, Z)):
        yield f"layer {l + 1} at L = {depth}", asked(l, w, 1) + drive


def residual(case: Case) -> float:
    """From an early and a late start on the bare ray: what the layers have across e, and how the two differ."""
    start, end = case.sizes
    e = flat(case.weights) / start
    late = _on_ray(replace(case, sizes=(end / 3, end)))
    (x, w, lost), (y, _, more) = ((_grown(run, e), *_expected(run)) for run in (case, late))
    return float(max(_distance(x, w), _distance(x - y, more - lost)))


def _distance(found: Array, expected: Array) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _grown(case: Case, e: Array) -> Array:
    """What the layers have across e after the time of the ray, in units of c^(L+1)."""
    depth, (start, end) = len(case.weights), case.sizes
    speed = case.s[0] * depth ** (1 - depth / 2)
    ray = np.log(end / start) if depth == 2 else (start ** (2 - depth) - end ** (2 - depth)) / (depth - 2)
    theta = flat(case.flow(ray / speed))
    size = theta @ e
    return np.asarray((theta - size * e) / size ** (depth + 1))


def _expected(case: Case) -> tuple[Array, Array]:
    """The same on the path, and what of it is lost by the start, by the claims; the hidden layers have nothing."""
    depth, r = len(case.weights), len(case.weights) ** -0.5
    w = lost = np.zeros(sum(W.size for W in case.weights))
    curved = case.cost.H @ np.outer(case.U[:, 0], case.V[:, 0]).ravel()
    Z = case.U.T @ curved.reshape(case.cost.target.shape) @ case.V
    for j in range(1, len(case.s)):
        for sign in (1, -1):
            factor = claim_factor(1, claim_pair(case.s[j] / case.s[0], sign), depth)
            part = claim_turn((Z[0, j] + sign * Z[j, 0]) / 2, case.s[0], factor, r, depth)
            turn = np.concatenate([part * case.V[:, j], np.zeros(depth - 2), sign * part * case.U[:, j]])
            w, lost = w + turn, lost + claim_lost(*case.sizes, factor) * turn
    return w, lost


def _on_ray(case: Case) -> Case:
    """The case with its layers at the first size."""
    depth = len(case.weights)
    size = case.sizes[0] * depth**-0.5
    hidden = [np.full((1, 1), size)] * (depth - 2)
    return replace(case, weights=[size * case.V[:, :1].T, *hidden, size * case.U[:, :1]])


def _draw(rng: Generator, depth: int) -> Case:
    n = int(rng.integers(2, 4))
    U, V = draw_orthogonal(rng, n), draw_orthogonal(rng, n)
    s = rng.uniform(1.0, 2.0) * np.array([1.0, 1 / (depth + 3), 1 / (depth + 4)])[:n]
    S = rng.normal(size=(n * n, n * n))
    H = 0.5 * np.eye(n * n) + S @ S.T / (n * n)
    target = np.linalg.solve(H, ((U * s) @ V.T).ravel()).reshape(n, n)
    end = 1e-4 ** (1 / depth)
    start = end / (100 if depth == 2 else 12)
    case = Case(
        weights=[np.zeros((1, 1))] * depth,
        cost=Quadratic(np.asarray(target, dtype=float), np.asarray(H, dtype=float)),
        rates=np.ones(depth),
        decays=np.zeros(depth),
        U=U,
        V=V,
        s=s,
        sizes=(start, end),
    )
    return _on_ray(case)


def _top(case: Case) -> bool:
    return bool(case.s[0] == case.s.max())


def _second(case: Case, _: Generator) -> Case:
    """The ray of the second singular pair, whose first rate exceeds L."""
    order = [1, 0, *range(2, len(case.s))]
    return _on_ray(replace(case, U=case.U[:, order], V=case.V[:, order], s=case.s[order]))


STATEMENT = Statement(
    title="the optimal escape path is one, and flows from its ray find it",
    formula="the path of width 1 that leaves 0 along e = (v, 1, .., 1, u)/sqrt(L), by the top singular pair of -dC/dA "
    "at 0, is c e + sum_k c^(kL+1) w_k, w_k across e; what order k asks of w_k is s* (kL - rho) > 0 for every part "
    "that turns at a rate rho <= 0, so that w_k is determined. w_1 has the parts "
    "-L^(-(L+1)/2) (a_j +- b_j)/(2 s_1 (L + 1 -+ s_j/s_1)) on v_j in W_1 and, times +-1, on u_j in W_L, where "
    "a_j = <u v_j^T, C''(u v^T)>, b_j = <u_j v^T, C''(u v^T)>; of these, a flow from the bare ray at c_0 lacks the "
    "share (c_0/c)^(L + 1 -+ s_j/s_1) at c",
    source="A. Jacot et al., arXiv 2106.15933, uniqueness of the optimal escape path; the orders derived",
    symbolic=Proof("A of shape (2, 2) in any singular bases, width 1, L = 2, 3, 4", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the ray is that of the top singular pair": Hypothesis(_top, _second),
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=6e-4,
        depths=(2, 3),
    ),
)
