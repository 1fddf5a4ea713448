r"""The optimal escape path from the origin is one: it leaves its ray, to first order, by a determined amount.

Along the path the weights are :math:`c\,e + c^{L+1} w + O(c^{2L+1})` with w orthogonal to the optimal direction e. As
no rate of e exceeds 0, :math:`(L + 1)\, s\, w + \nabla^2 H(e)\, w = -\nabla Q(e)` across e has one solution, Q being
the part of degree 2L of the cost; and so has every later order.
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
from ..proof import Proof, derivative, rotation
from ..runs import NO_DECAY, UNIT_RATES, Quadratic, Run, draw_orthogonal, flat
from ..statement import Statement
from ..trial import Hypothesis, Trial


@dataclass(frozen=True, kw_only=True)
class Case(Run):
    """A network of width 1 on a ray: the singular triples of minus the gradient at zero, and sizes at both ends."""

    U: Array
    V: Array
    s: Array
    sizes: tuple[float, float]


def claim_turn(drive: tuple[Any, Any], s: tuple[Any, Any], r: Any, depth: Any) -> Any:
    """Component of w in an outer layer along a waiting singular vector, by what drives it and its partner.

    The drives are entries of the curvature C''(u v^T), s those of the growing and the waiting mode, r = 1/sqrt(L).
    """
    (mine, other), (own, waiting) = drive, s
    rate = (depth + 1) * own
    return -(r ** (depth + 1)) * (rate * mine + waiting * other) / (rate**2 - waiting**2)


def _gradient(G: Any, layer: int, weights: list[Any]) -> Any:
    return network.layer_gradients(weights, G)[layer]


def identities() -> Iterator[tuple[str, Any]]:
    """The curvature drives the outer layers across e."""
    U, V = rotation("phi"), rotation("psi")
    s, s_2, a, b = sp.symbols("s s_2 a b", positive=True)
    for depth in (2, 3, 4):
        r = sp.Symbol(f"r{depth}", positive=True)
        hidden = [np.array([[r]]) for _ in range(depth - 2)]
        direction = [r * V[None, :, 0], *hidden, r * U[:, :1]]
        first, last = (claim_turn(drive, (s, s_2), r, depth) for drive in ((a, b), (b, a)))
        w = [first * V[None, :, 1], *[0 * W for W in hidden], last * U[:, 1:]]
        G, Z = -(U * np.array([s, s_2])) @ V.T, r**depth * (U @ np.array([[0, a], [b, 0]]) @ V.T)
        for k, drive in enumerate(network.layer_gradients(direction, Z)):
            turned = derivative(partial(_gradient, G, k), direction, w)
            yield f"layer {k + 1} at L = {depth}", (depth + 1) * s * r ** (depth - 2) * w[k] + turned + drive


def residual(case: Case) -> float:
    """From the bare ray, grown: what the layers have across e, against the claim."""
    depth, (start, end) = len(case.weights), case.sizes
    speed = case.s[0] * depth ** (1 - depth / 2)
    ray = np.log(end / start) if depth == 2 else (start ** (2 - depth) - end ** (2 - depth)) / (depth - 2)
    theta, e = flat(case.flow(ray / speed)), flat(case.weights) / start
    size = theta @ e
    expected = size ** (depth + 1) * flat(_turn(case))
    return float(np.linalg.norm(theta - size * e - expected) / np.linalg.norm(expected))


def _turn(case: Case) -> list[Array]:
    """w: its hidden layers vanish."""
    depth, r = len(case.weights), len(case.weights) ** -0.5
    Z = (
        case.U.T
        @ (case.cost.H @ np.outer(case.U[:, 0], case.V[:, 0]).ravel()).reshape(case.cost.target.shape)
        @ case.V
    )
    turns = [claim_turn((Z[0, j], Z[j, 0]), (case.s[0], case.s[j]), r, depth) for j in range(1, len(case.s))]
    back = [claim_turn((Z[j, 0], Z[0, j]), (case.s[0], case.s[j]), r, depth) for j in range(1, len(case.s))]
    first, last = case.V[:, 1:] @ np.array(turns), case.U[:, 1:] @ np.array(back)
    return [first[None], *[np.zeros((1, 1))] * (depth - 2), last[:, None]]


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
    end = 2e-4 ** (1 / depth)
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
    title="the optimal escape path leaves its ray in one way",
    formula="the weights of the path of width 1 that leaves 0 along e = (v, 1, .., 1, u)/sqrt(L), by the top singular "
    "pair of -dC/dA at 0, are c e + c^(L+1) w + O(c^(2L+1)); w vanishes in the hidden layers and has the components "
    "-L^(-(L+1)/2) ((L+1) s_1 a_j + s_j b_j)/((L+1)^2 s_1^2 - s_j^2) on v_j in W_1, and with a_j, b_j exchanged on u_j "
    "in W_L, where a_j = <u v_j^T, C''(u v^T)>, b_j = <u_j v^T, C''(u v^T)>; the flow from the bare ray finds it",
    source="A. Jacot et al., arXiv 2106.15933, uniqueness of the optimal escape path; the correction derived",
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
