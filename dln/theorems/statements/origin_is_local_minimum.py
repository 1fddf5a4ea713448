r"""The Hessian at the origin: :math:`\lambda I` for L > 2, with eigenvalues :math:`\lambda \pm s_i` for L = 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..points import hessian, steepest
from ..proof import Proof, derivative, layers, rotation
from ..runs import EQUAL_DECAYS, Run, draw_layers, draw_orthogonal, draw_run, flat
from ..statement import Statement
from ..trial import Hypothesis, Trial


def claim(weight_decay: Any, s: Any, depth: Any) -> list[Any]:
    """Both eigenvalues that belong to a singular value s of the gradient at the origin."""
    coupling = s if depth == 2 else 0 * s
    return [weight_decay + coupling, weight_decay - coupling]


def claim_radius(weight_decay: Any, s: Any, r: Any, depth: Any) -> Any:
    """``|theta|^(L-2)`` below which the objective exceeds that of 0, L > 2, by ``r = 1/sqrt(L)``."""
    return weight_decay / (2 * s * r**depth)


def identities() -> Iterator[tuple[str, Any]]:
    decay, s, s_2 = sp.symbols("lambda s s_2")
    U, V, H = rotation("phi"), rotation("psi"), rotation("chi")
    u, v, h = U[:, 0], V[:, 0], H[:, 0]
    G = U @ np.diag([s, s_2]) @ V.T

    def gradient(weights: list[Any]) -> Any:
        return flat(network.layer_gradients(weights, G)) + decay * flat(weights)

    for depth in (2, 3, 4):
        origin = [0 * W for W in layers([2] * (depth + 1))]
        ends = [np.outer(h, v), np.outer(u, h)]
        for sign, eigenvalue in zip((1, -1), claim(decay, s, depth), strict=True):
            step = [ends[0], *origin[1:-1], sign * ends[1]]
            yield (
                f"an eigenvalue at L = {depth}",
                derivative(gradient, origin, step) - eigenvalue * flat(step),
            )
        if depth > 2:
            step = layers([2] * (depth + 1))
            both = claim(decay, s, depth)
            yield f"all at L = {depth}", [derivative(gradient, origin, step) - x * flat(step) for x in both]
            r = sp.Symbol(f"r{depth}")
            ray = [-np.outer(h, v) * r, *[np.outer(h, h) * r] * (depth - 2), np.outer(u, h) * r]
            cost = np.sum(G * network.end_to_end(ray))
            yield f"the radius at L = {depth}", cost * claim_radius(decay, s, r, depth) + decay / 2


def residual(run: Run) -> float:
    """The dense Hessian, and the steepest descent of <G, A> on the sphere."""
    depth, decay, G = len(run.weights), run.decays[0], run.cost.gradient(np.zeros_like(run.cost.target))
    pairs = [x for s in np.linalg.svd(G, compute_uv=False) for x in claim(decay, s, depth)]
    found = np.linalg.eigvalsh(hessian(run))
    width = min(W.shape[0] for W in run.weights[:-1])
    expected = np.sort([*pairs * width, *[decay] * (len(found) - len(pairs) * width)])
    gaps = [np.max(np.abs(found - expected)) / decay]
    if depth > 2:
        radius = claim_radius(decay, np.linalg.norm(G, 2), depth**-0.5, depth)
        gaps.append(abs(1 - 2 * radius * steepest(_probe(run), G) / decay))
    return float(np.max(gaps))


def _probe(run: Run) -> list[Array]:
    """Layers close to the direction of the largest singular value."""
    G = run.cost.gradient(np.zeros_like(run.cost.target))
    U, _, Vt = np.linalg.svd(G)
    frames = [-Vt[0], *(np.eye(W.shape[0])[0] for W in run.weights[:-1]), U[:, 0]]
    return [np.outer(y, x) + 0.1 for x, y in zip(frames, frames[1:], strict=False)]


def _draw(rng: Generator, depth: int) -> Run:
    """A cost whose gradient at the origin has one singular value well above the others."""
    run = draw_run(rng, depth, weight_decay=rng.uniform(0.5, 1.5))
    n, m = run.cost.target.shape
    k = min(n, m)
    s = rng.uniform(1.0, 2.0) * 0.5 ** np.arange(k)
    G = draw_orthogonal(rng, n)[:, :k] * s @ draw_orthogonal(rng, m)[:, :k].T
    cost = replace(run.cost, target=np.zeros((n, m)), slope=G)
    return replace(run.at(0 * flat(run.weights)), cost=cost)


def _elsewhere(run: Run, rng: Generator) -> Run:
    widths = [run.weights[0].shape[1], *(W.shape[0] for W in run.weights)]
    return run.at(flat(draw_layers(rng, widths)))


STATEMENT = Statement(
    title="with weight decay, the origin is a strict local minimum of deep networks",
    formula="the Hessian of C + weight_decay/2 |theta|^2 at 0 is weight_decay I for L > 2, and has the eigenvalues "
    "weight_decay +- s_i(G) for L = 2; for L > 2 and convex C the objective exceeds C(0) where "
    "|theta|^(L-2) < weight_decay L^(L/2) / (2 s_1(G)), G = dC/dA at 0, and no farther for a linear cost",
    source="A. Jacot et al., arXiv 2106.15933v1; the radius derived",
    symbolic=Proof(
        "any cost, A of shape (2, 2) in any singular bases, L = 2, 3, 4",
        identities,
        rules={sp.Symbol(f"r{depth}") ** 2: sp.Rational(1, depth) for depth in (3, 4)},
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the point is the origin": Hypothesis(lambda run: not np.any(flat(run.weights)), _elsewhere),
            "all layers decay alike": EQUAL_DECAYS,
        },
        residual=residual,
        tolerance=1e-10,
        repeats=1,
    ),
)
