r"""Critical points of :math:`\tfrac12 \|A - A^*\|_F^2 + \tfrac\lambda2 |\theta|^2`: a scalar equation for each mode,

.. math:: x + \lambda x^{2/L-1} = s, \qquad s_{sn} = x_{sn} \frac{2L-2}{L-2}, \quad x_{sn}^{2-2/L} = \lambda (1 - 2/L).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ..points import CRITICAL, settled, settling
from ..proof import Proof, collected, rotation
from ..runs import EQUAL_DECAYS, FULL_OBSERVATION, Run, draw_run, full_observation
from ..statement import Statement
from ..trial import Trial


def claim(x: Any, weight_decay: Any, depth: Any) -> Any:
    """Singular value of the target whose mode may have the size x."""
    return x + weight_decay * x ** (2 / depth - 1)


def claim_threshold(weight_decay: Any, depth: Any) -> list[Any]:
    """``x^(2-2/L)`` and ``s/x`` where both branches are born, L > 2."""
    return [weight_decay * (1 - 2 / depth), (2 * depth - 2) / (depth - 2)]


def claim_branches(above: Any, depth: Any) -> Any:
    """Number of x > 0, for s above (1) or below (0) the threshold."""
    return above * (1 + (depth > 2))


def claim_number(modes: Any, depth: Any) -> Any:
    """Number of critical end-to-end matrices, by the number of modes with s above the threshold."""
    return (2 + (depth > 2)) ** modes


def _polynomial(s: Any, weight_decay: Any, depth: int) -> list[Any]:
    """Coefficients of ``u^(2L-2) - s u^(L-2) + weight_decay``, whose roots are ``x^(1/L)``."""
    coefficients = [weight_decay, *[0 * s] * (2 * depth - 3), 1 + 0 * s]
    coefficients[depth - 2] -= s
    return coefficients[::-1]


def identities() -> Iterator[tuple[str, Any]]:
    decay = sp.Symbol("lambda")
    u = np.array(sp.symbols("u_:2", positive=True))
    U, V = rotation("phi"), rotation("psi")
    for depth in map(sp.Integer, (2, 3, 4)):
        weights = [u[:, None] * V.T, *[np.diag(u)] * (int(depth) - 2), U * u]
        residue = U * (u**depth - claim(u**depth, decay, depth)) @ V.T
        for W, gradient in zip(weights, network.layer_gradients(weights, residue), strict=True):
            yield f"the layers are critical at L = {depth}", gradient + decay * W
    x, L = sp.symbols("x L", positive=True)
    power, ratio = claim_threshold(decay, L)  # of x^(2-2/L)
    slope = collected((sp.diff(claim(x, decay, L), x) - 1) * x ** (2 - 2 / L))
    yield "s is least at the threshold, any L", 1 + slope / power
    growth = collected(sp.expand(claim(x, decay, L) - x) * x ** (1 - 2 / L))
    yield "s at the threshold, any L", 1 + growth / power - ratio
    for depth in (2, 3, 4, 5, 6):
        # Weight decay for which x = 1 is the threshold (for L = 2: at which x leaves 0).
        decay = sp.Rational(depth, max(depth - 2, 1))
        least = claim_threshold(decay, sp.Integer(depth))[1] if depth > 2 else decay
        for above, s in enumerate([least * sp.Rational(99, 100), least * sp.Rational(101, 100)]):
            roots = sp.Poly(_polynomial(s, decay, depth), sp.Symbol("u")).count_roots(0, None)
            yield f"the number of branches at L = {depth}", roots - claim_branches(above, depth)
            # Every mode is absent or on one of its branches.
            yield (
                f"the critical points of three modes at L = {depth}",
                (1 + roots) ** 3 - claim_number(3 * above, depth),
            )


def residual(run: Run) -> float:
    """At a local minimum found from random layers; branches counted as roots of a companion matrix."""
    depth, decay, A = len(run.weights), run.decays[0], network.end_to_end(run.weights)
    U, s, Vt = np.linalg.svd(run.cost.target, full_matrices=False)
    x = np.diag(U.T @ A @ Vt.T)
    active = x > 1e-6
    defects = np.abs(claim(x[active], decay, depth) / s[active] - 1)
    threshold = _threshold(decay, depth)
    branches = [
        _count(x, decay, depth) - claim_branches(x > threshold, depth)
        for x in (0.9999 * threshold, 1.0001 * threshold)
    ]
    number = np.prod([1 + _count(x, decay, depth) for x in s])
    number = number - claim_number(np.sum(s > threshold), depth)
    return float(np.max(np.abs([np.linalg.norm(U * x @ Vt - A) / s[0], *defects, *branches, number])))


def _threshold(decay: float, depth: int) -> float:
    if depth == 2:
        return decay
    power, ratio = claim_threshold(decay, depth)
    return float(ratio * power ** (1 / (2 - 2 / depth)))


def _count(s: float, decay: float, depth: int) -> int:
    roots = np.roots(_polynomial(s, decay, depth))
    return int(np.sum((np.abs(roots.imag) < 1e-9) & (roots.real > 0)))


def _draw(rng: Generator, depth: int) -> Run:
    run = draw_run(rng, depth, weight_decay=rng.uniform(0.2, 0.4))
    return settled(replace(run, cost=full_observation(3 * run.cost.target)))


STATEMENT = Statement(
    title="critical points of the regularised network, mode by mode",
    formula="critical points of 1/2 ||A - A*||_F^2 + weight_decay/2 |theta|^2 have A = sum_i x_i u_i v_i^T in singular "
    "pairs of A* with x + weight_decay x^(2/L-1) = s or x = 0; for L > 2 two x > 0 iff s > s_sn, "
    "x_sn = (weight_decay (1-2/L))^(L/(2L-2)), s_sn = x_sn (2L-2)/(L-2); for L = 2 one iff s > weight_decay; so there "
    "are 3^K such A (2^K for L = 2)",
    source="A. Jacot et al., arXiv 2106.15933v1, for L = 2; derived",
    symbolic=Proof(
        "A of shape (2, 2) in any singular bases, L = 2, 3, 4; the threshold at any L > 2; "
        "the branches at rational points, L = 2 to 6",
        identities,
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the point is critical": CRITICAL,
            "the cost is full observation": settling(FULL_OBSERVATION),
            "all layers decay alike": settling(EQUAL_DECAYS),
        },
        residual=residual,
        tolerance=1e-8,
        repeats=1,
    ),
)
