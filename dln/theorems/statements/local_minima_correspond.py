r"""Local minima with weight decay are the balanced lifts of those of :math:`C + \lambda \tfrac L2 \sum_i s_i^{2/L}`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..points import CRITICAL, settled, settling
from ..proof import Proof, layers, matrix, rotation
from ..runs import EQUAL_DECAYS, Run, draw_layers, draw_run, flat, gap
from ..statement import Statement
from ..trial import Trial
from . import representation_cost


def claim_balances(weights: Sequence[Any], gradients: Sequence[Any], weight_decay: Any) -> list[Any]:
    """Balance matrices anywhere, by the gradients of the objective: all zero where these are."""
    pairs = zip(weights, weights[1:], gradients, gradients[1:], strict=False)
    return [(V.T @ g - f @ W.T) / weight_decay for W, V, f, g in pairs]


def claim_slope(U: Any, u: Any, V: Any, weight_decay: Any, depth: Any) -> Any:
    """Gradient of the penalty on A, by its singular vectors and the roots u of its singular values."""
    return weight_decay * U * u ** (2 - depth) @ V.T


def claim_distance(size: Any, depth: Any) -> Any:
    """Squared distance that a new mode of A puts between balanced lifts."""
    return depth * size ** (2 / depth)


def identities() -> Iterator[tuple[str, Any]]:
    decay = sp.Symbol("lambda")
    for widths in [(2, 3, 2), (2, 2, 2, 3), (2, 2, 2, 2, 2)]:
        weights, G = layers(widths), matrix("G", widths[-1], widths[0])
        gradients = [g + decay * W for g, W in zip(network.layer_gradients(weights, G), weights, strict=True)]
        balances = zip(network.balances(weights), claim_balances(weights, gradients, decay), strict=True)
        yield f"balance at L = {len(weights)}", np.concatenate([np.ravel(D - E) for D, E in balances])
    u, e = np.array(sp.symbols("u_:2", positive=True)), sp.Symbol("e", positive=True)
    U, V, G = rotation("phi"), rotation("psi"), matrix("G", 2, 2)
    for depth in map(sp.Integer, (2, 3, 4)):
        lift = representation_cost.claim_factors(U, u, V, depth)
        penalised = network.layer_gradients(lift, G + claim_slope(U, u, V, decay, depth))
        for g, W, X in zip(network.layer_gradients(lift, G), lift, penalised, strict=True):
            yield f"stationary together at L = {depth}", g + decay * W - X
        one, two = (representation_cost.claim_factors(U, np.array([u[0], x]), V, depth) for x in (0 * e, e))
        distance = sum(np.sum((X - Y) ** 2) for X, Y in zip(one, two, strict=True))
        yield f"the distance of lifts at L = {depth}", distance - claim_distance(e**depth, depth)


def residual(run: Run) -> float:
    """At a local minimum found from random layers, beside it, and between lifts of matrices that differ by a mode."""
    depth, decay, A, G = (
        len(run.weights),
        run.decays[0],
        network.end_to_end(run.weights),
        run.gradient_of_cost(),
    )
    beside = replace(run, weights=[(1 + 0.1 * l) * W for l, W in enumerate(run.weights)])
    balances = claim_balances(beside.weights, [-V for V in beside.velocity()], decay)
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    rank = int(np.sum(s > 1e-6))
    P, Q, u = U[:, :rank], Vt[:rank].T, s[:rank] ** (1 / depth)
    stationary = G + claim_slope(P, u, Q, decay, depth)
    norm = sum(np.sum(W * W) for W in run.weights)
    gaps = [
        gap(balances, network.balances(beside.weights)),
        abs(norm / representation_cost.claim(s[:rank], depth) - 1),
        np.linalg.norm(stationary @ Q) / decay,
        np.linalg.norm(P.T @ stationary) / decay,
        -min(0.0, _least_rise(run, P * s[:rank] @ Q.T)),
        abs(_returned(run).objective() / run.objective() - 1),
        abs(_distance(U, s, Vt, depth) / claim_distance(s[0] / 100, depth) - 1),
    ]
    return float(np.max(gaps))


def _returned(run: Run) -> Run:
    """The local minimum found from random layers nearby."""
    noise = np.random.default_rng(0).normal(size=sum(W.size for W in run.weights))
    return settled(run.at(flat(run.weights) * (1 + 0.01 * noise)))


def _least_rise(run: Run, A: Array) -> float:
    """Least rise of the penalised cost along small random matrices."""

    def penalised(A: Array) -> float:
        s = np.linalg.svd(A, compute_uv=False)
        s = np.where(s > 1e-12, s, 0.0)  # no rounding, whose small power is not small
        return float(run.cost.value(A) + run.decays[0] / 2 * representation_cost.claim(s, len(run.weights)))

    steps = np.random.default_rng(0).normal(size=(20, *A.shape))
    return min(penalised(A + 1e-3 * step) - penalised(A) for step in steps)


def _distance(U: Array, s: Array, Vt: Array, depth: int) -> float:
    """Squared distance of balanced lifts of the first mode, and of two modes, after rotations of the hidden layers."""
    lifts = []
    for sizes in ([s[0], 0.0], [s[0], s[0] / 100]):
        P, _, Qt = np.linalg.svd(U[:, :2] * sizes @ Vt[:2])
        roots = np.array(sizes) ** (1 / depth)
        lifts.append(representation_cost.claim_factors(P[:, :2], roots, Qt[:2].T, depth))
    rotations = []
    for F, E in zip(*(network.forward_products(lift)[:-1] for lift in lifts), strict=True):
        P, _, Qt = np.linalg.svd(F @ E.T)
        rotations.append(P @ Qt)
    one, two = lifts[0], network.rotate(lifts[1], rotations)
    return float(np.sum((flat(one) - flat(two)) ** 2))


def _draw(rng: Generator, depth: int) -> Run:
    """Hidden layers are at least as wide as A."""
    run = draw_run(rng, depth, weight_decay=rng.uniform(0.05, 0.2))
    n, m = run.cost.target.shape
    weights = draw_layers(rng, [m, *rng.integers(min(m, n), 6, size=depth - 1), n])
    return settled(replace(run, weights=weights, cost=replace(run.cost, target=3 * run.cost.target)))


STATEMENT = Statement(
    title="local minima with weight decay are the balanced lifts of those of the penalised cost",
    formula="weight_decay D_l = W_{l+1}^T g_{l+1} - g_l W_l^T with g the gradient of C + weight_decay/2 |theta|^2, so "
    "critical points are balanced, |theta|^2 = L sum_i s_i^(2/L); they are stationary with A for "
    "C + weight_decay (L/2) sum_i s_i^(2/L), and local minima with it: lifts are Hölder continuous of exponent 1/L",
    source="A. Jacot et al., arXiv 2106.15933v1",
    symbolic=Proof(
        "any cost; balance at L = 2, 3, 4 with widths 2-3-2, 2-2-2-3, 2-2-2-2-2; A of shape (2, 2) otherwise",
        identities,
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the point is critical": CRITICAL,
            "all layers decay alike": settling(EQUAL_DECAYS),
        },
        residual=residual,
        tolerance=1e-8,
        repeats=1,
    ),
)
