r"""The first path at L = 2: when a small start follows it, and how far its other modes are from it there.

With :math:`p_i = W_1 v_i + W_2^T u_i` at the start and :math:`q = |p_1|^2/(4 s_1)`, the leading mode is
:math:`a = s_1/(1 + e^{-2 s_1 t}/q)`, and :math:`u_j^T A v_1 = a\,\frac{\langle p_j, p_1 \rangle}{|p_1|^2}
e^{-(s_1 - s_j) t}`: of order :math:`\alpha^{1 - s_j/s_1}` at the time of half height.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ..proof import Proof, derivative_along, rotation
from ..runs import (
    FULL_OBSERVATION,
    NO_DECAY,
    UNIT_RATES,
    Run,
    draw_layers,
    draw_orthogonal,
    full_observation,
    product,
)
from ..statement import Statement
from ..trial import Hypothesis, Trial

ALPHA = 1e-6


def claim_path(size: Any, s: Any, decay: Any) -> Any:
    """The leading mode, by ``size = |p_1|^2`` at the start, s = s_1 and ``decay = e^(-2 s_1 t)``."""
    return s / (1 + 4 * s * decay / size)


def claim_error(a: Any, overlap: Any, decay: Any) -> Any:
    """An entry beside the leading mode a, by ``overlap = <p_j, p_1>/|p_1|^2`` and ``decay = e^(-(s_1 - s_j) t)``."""
    return a * overlap * decay


def identities() -> Iterator[tuple[str, Any]]:
    """On the balanced network of width 1 that the fastest direction of the hidden layer is, in any singular bases."""
    U, V = rotation("phi"), rotation("psi")
    x, y, s_1, s_2, p, E, o = sp.symbols("x y s_1 s_2 p E o", positive=True)
    weights = [x * V[None, :, 0] + y * V[None, :, 1], x * U[:, :1] + y * U[:, 1:]]
    G = network.end_to_end(weights) - (U * np.array([s_1, s_2])) @ V.T
    moved = derivative_along(weights, [-g for g in network.layer_gradients(weights, G)])
    a, b = x * x, x * y
    rate_a, rate_b = U[:, 0] @ moved @ V[:, 0], U[:, 1] @ moved @ V[:, 0]
    # The ratio of both entries is the overlap times the decay, which falls at the rate s_1 - s_2.
    claimed = claim_error(a, o, E)
    slope = sp.diff(claimed, E) * -(s_1 - s_2) * E + claim_error(rate_a, o, E)
    yield "the entry beside", rate_b - slope.subs(o, b / (a * E))
    yield "its size at the start", claim_error(a, o, 1) - a * o
    path, start = claim_path(p, s_1, E), 4 * s_1 * E * a / (s_1 - a)  # from which the mode is now at a
    yield "the leading mode", path.subs(p, start) - a
    yield "its growth", (sp.diff(path, E) * -2 * s_1 * E).subs(p, start) - rate_a.subs(y, 0)
    yield "the growth of the start", sp.cancel(path / p).subs(p, 0) - 1 / (4 * E)


def residual(case: Run) -> float:
    """The flow at the time of half height, and a little before and after it."""
    U, s, Vt = np.linalg.svd(case.cost.target)
    W_1, W_2 = case.weights
    p = Vt @ W_1.T + U.T @ W_2
    size = p[0] @ p[0]
    half, worst = np.log(4 * s[0] / size) / (2 * s[0]), 0.0
    for time in (half - 0.5 / s[0], half, half + 0.5 / s[0]):
        A = U.T @ product(case.flow(time)) @ Vt.T
        a = claim_path(size, s[0], np.exp(-2 * s[0] * time))
        beside = claim_error(a, p[1:] @ p[0] / size, np.exp(-(s[0] - s[1:]) * time))
        worst = max(worst, abs(A[0, 0] / a - 1), float(np.max(np.abs(A[1:, 0] / beside - 1))))
    return worst


def _draw(rng: Generator, depth: int) -> Run:
    """Overlaps that are not small, for they are measured relative to themselves."""
    U, V = draw_orthogonal(rng, 3), draw_orthogonal(rng, 3)
    s = rng.uniform(1.0, 2.0) * np.array(
        [1.0, 0.5, 0.45]
    )  # corrections: alpha^(2 - 2 s_2/s_1), alpha^(2 s_j/s_1)
    while True:
        weights = [ALPHA * W for W in draw_layers(rng, (3, int(rng.integers(2, 5)), 3))]
        p = V.T @ weights[0].T + U.T @ weights[1]
        cosines = p[1:] @ p[0] / np.linalg.norm(p[1:], axis=1) / np.linalg.norm(p[0])
        if np.min(np.abs(cosines)) > 0.3:
            return Run(weights, full_observation((U * s) @ V.T), np.ones(depth), np.zeros(depth))


def _small(case: Run) -> bool:
    return float(max(np.linalg.norm(W) for W in case.weights)) < 100 * ALPHA


def _larger(case: Run, _: Generator) -> Run:
    return replace(case, weights=[0.3 / ALPHA * W for W in case.weights])


STATEMENT = Statement(
    title="small starts of two layers follow the first path",
    formula="from a start alpha (W_1, W_2) under full observation, with p_i = alpha (W_1 v_i + W_2^T u_i), to leading "
    "order u_1^T A v_1 = a(t) = s_1/(1 + (4 s_1/|p_1|^2) e^(-2 s_1 t)), half of s_1 at "
    "t_1 = ln(4 s_1/|p_1|^2)/(2 s_1), and u_j^T A v_1 = a <p_j, p_1>/|p_1|^2 e^(-(s_1 - s_j) t), which is of order "
    "alpha^(1 - s_j/s_1) at t_1",
    source="A. Jacot et al., arXiv 2106.15933, theorem on the first path, L = 2; the rate of convergence derived",
    symbolic=Proof("A of shape (2, 2) in any singular bases, the balanced network of width 1", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the start is small": Hypothesis(_small, _larger),
            "the cost is full observation": FULL_OBSERVATION,
            "there is no weight decay": NO_DECAY,
            "both layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-4,
        depths=(2,),
        repeats=6,
    ),
)
