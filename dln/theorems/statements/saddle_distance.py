r"""A saddle is at a distance of order rho from a wide start, for every rho.

At a critical point with :math:`G = \nabla C(A) \ne 0` there is a unit u with :math:`u^T W_L \cdots W_2 = 0`: the left
singular vector of G. That product has lost rank, and its change from the start is at most
:math:`(M + d / \sqrt{L-1})^{L-1} - M^{L-1}` for layers of norm M that moved by d together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.optimize import brentq

from ... import network
from ...typing import Array
from ..proof import Proof, expectation, layers, rotation
from ..runs import Quadratic, draw_orthogonal, flat, product
from ..statement import Statement
from ..trial import Hypothesis, Trial
from ..wide import ONE_SCALE, WIDE, Wide, draw_wide

ORDER = 2


@dataclass(frozen=True, kw_only=True)
class Case(Wide):
    """A start, and a point that is critical."""

    point: list[Array]

    def gradient_there(self) -> Array:
        return self.cost.gradient(product(self.point))


def claim_reach(M: Any, d: Any, k: Any) -> Any:
    """Furthest that a product of k matrices of norm M moves, if they move by d together."""
    return (M + d / sp.sqrt(k)) ** k - M**k


def claim_below(rho: Any, depth: Any) -> Any:
    """Distance by which a wide start must move at least: its layers have norms up to 2 rho."""
    k = sp.Integer(depth - 1)
    return sp.sqrt(k) * ((1 + 2**k) ** (1 / k) - 2) * rho


def claim_above(rho: Any, m: Any, n: Any) -> Any:
    """Squared distance of a wide start of m inputs and n outputs from the saddle without first and last layer."""
    return rho**2 * (m + n)


def identities() -> Iterator[tuple[str, Any]]:
    M, e, c, rho, y = sp.symbols("M e c rho y", positive=True)
    U, V, s = rotation("phi"), rotation("psi"), np.array(sp.symbols("s_:2"))
    for widths in [(2, 2, 2), (2, 3, 2, 2), (2, 2, 2, 2, 2)]:
        weights, depth = layers(widths), len(widths) - 1
        first, *_ = network.layer_gradients(weights, U * s @ V.T)
        kept = U[:, 0] @ network.end_to_end(weights[1:])
        yield f"what the first layer feels of u v^T at L = {depth}", first @ V[:, 0] - s[0] * kept
        k = sp.Integer(depth - 1)
        turns = [rotation(f"chi_{l}") for l in range(k)]
        moved, Q = network.end_to_end([(M + e) * O for O in turns]), network.end_to_end(turns)
        step = sp.sqrt(k) * e
        yield f"attained at L = {depth}", moved - M**k * Q - claim_reach(M, step, k) * Q
        yield (
            f"all scales alike at L = {depth}",
            claim_reach(c * M, c * step, k) - c**k * claim_reach(M, step, k),
        )
        least = sp.expand(claim_reach(2 * rho, claim_below(rho, depth), k))
        yield f"wide starts at L = {depth}", least - rho**k
        means = [expectation(sp.expand(np.sum(W**2)), {}) for W in (weights[0], weights[-1])]
        size = rho**2 * (means[0] / sp.Integer(widths[1]) + means[1] / sp.Integer(widths[-2]))
        yield f"the ends at L = {depth}", size - claim_above(rho, widths[0], widths[-1])
    slope = 1 / (2 * y * (M + y))  # of log(M + y) in y^2, which is concave: equal moves reach furthest
    yield "concave", sp.diff(slope, y) / (2 * y) + (M + 2 * y) / (4 * y**3 * (M + y) ** 2)


def residual(case: Case) -> float:
    """The start, its critical point, the saddle without first and last layer, and products of orthogonal matrices."""
    first, *others = case.weights
    k, rho, (n, m) = len(others), case.rho, case.cost.target.shape
    u = np.linalg.svd(case.gradient_there())[0][:, 0]
    kept, there = (np.linalg.svd(product(layers[1:]))[1][-1] for layers in (case.weights, case.point))
    M = max(np.linalg.norm(W, 2) for W in others)
    moved = np.linalg.norm(flat(case.point[1:]) - flat(others))
    reach = float(claim_reach(M, moved, k)) / kept
    empty = replace(case, weights=[0 * first, *others[:-1], 0 * others[-1]])
    square, above = np.sum((flat(empty.weights) - flat(case.weights)) ** 2), claim_above(rho, m, n)
    below = brentq(lambda d: float(claim_reach(2 * rho, d, k)) - rho**k, 0, 3 * rho, xtol=1e-14 * rho)
    gaps = [
        kept / rho**k - 1,
        there / kept,
        np.linalg.norm(u @ product(case.point[1:])) / kept,
        reach - 1 if k == 1 else min(0.0, reach - 1),  # two layers attain it
        square / above - 1,
        np.linalg.norm(flat(empty.velocity())),
        float(claim_below(rho, k + 1)) / below - 1,
        max(0.0, below / np.sqrt(square) - 1),
        *_orthogonal(k),
    ]
    return float(np.max(np.abs(gaps)))


def _orthogonal(k: int) -> Iterator[float]:
    """Change of a product of k orthogonal matrices times M that grow, against those of random steps as long."""
    rng, M, d = np.random.default_rng(0), 1.5, 0.8
    turns = [draw_orthogonal(rng, 3) for _ in range(k)]
    start = [M * Q for Q in turns]
    steps = [turns, *([rng.normal(size=Q.shape) for Q in turns] for _ in range(20))]
    moves = []
    for step in steps:
        share = d / np.sqrt(sum(np.linalg.norm(D, 2) ** 2 for D in step))
        after = product([W + share * D for W, D in zip(start, step, strict=True)])
        moves.append(float(np.linalg.norm(after - product(start), 2)) / float(claim_reach(M, d, k)))
    yield moves[0] - 1
    yield max(moves) - 1


def _draw(rng: Generator, depth: int) -> Case:
    """Large and small starts."""
    n, m = (int(size) for size in rng.integers(1, 4, size=2))
    nothing = Quadratic(np.zeros((n, m)), np.eye(n * m))
    run = draw_wide(rng, depth, nothing, rho=float(10 ** rng.uniform(-2, 1)), order=ORDER)
    return _with_saddle(Case(**vars(run), point=[]), rng)


def _with_saddle(case: Case, rng: Generator) -> Case:
    """No first layer, and of the last one what is not along u, the least kept direction; a cost of gradient u v^T."""
    first, *others = case.weights
    n, m = case.cost.target.shape
    u, v = np.linalg.svd(product(others))[0][:, -1], draw_orthogonal(rng, m)[0]
    S = rng.normal(size=(n * m, n * m))
    H: Array = 0.5 * np.eye(n * m) + S @ S.T / (n * m)
    target = -np.linalg.solve(H, np.ravel(np.outer(u, v))).reshape(n, m)
    last = others[-1] - np.outer(u, u @ others[-1])
    return replace(case, cost=Quadratic(target, H), point=[0 * first, *others[:-1], last])


def _critical(case: Case) -> bool:
    gradients = network.layer_gradients(case.point, case.gradient_there())
    return bool(np.linalg.norm(flat(gradients)) <= 1e-9 * np.linalg.norm(flat(case.point)))


def _solved(case: Case, _: Generator) -> Case:
    """The start itself, which minimises the cost."""
    cost = replace(case.cost, target=product(case.weights))
    return replace(case, cost=cost, point=case.weights)


STATEMENT = Statement(
    title="a saddle is at a distance of order rho from every wide start",
    formula="at a critical point with dC/dA not zero u^T W_L ... W_2 = 0 for a unit u, so its distance d from layers "
    "of norms up to M has (M + d/sqrt(L-1))^(L-1) - M^(L-1) >= s_min(W_L ... W_2), attained at L = 2; for entries "
    "N(0, rho^2/w), w to infinity: sqrt(L-1) ((1 + 2^(L-1))^(1/(L-1)) - 2) rho <= d <= rho sqrt(n_0 + n_L) for the "
    "nearest one, for every rho and cost",
    source="A. Jacot et al., arXiv 2106.15933v2, phase transition of the distances; constants derived",
    symbolic=Proof(
        "any cost and layers of widths 2-2-2, 2-3-2-2, 2-2-2-2-2; norms at L = 2, 3, 4", identities
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the point is critical": Hypothesis(
                _critical, lambda case, _: replace(case, point=[W / 2 for W in case.weights])
            ),
            "the cost has a gradient there": Hypothesis(
                lambda case: bool(np.linalg.norm(case.gradient_there()) > 1e-9), _solved
            ),
            "the network is wide": Hypothesis(
                WIDE.holds, lambda case, rng: _with_saddle(WIDE.broken(case, rng), rng)
            ),
            "all layers have one variance": Hypothesis(
                ONE_SCALE.holds, lambda case, rng: _with_saddle(ONE_SCALE.broken(case, rng), rng)
            ),
        },
        residual=residual,
        tolerance=1e-6,
        depths=(2, 3, 4),
    ),
)
