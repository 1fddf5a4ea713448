r"""Factors of A are at least :math:`(L \sum_i (s_i^{1/L} - M)_+^2)^{1/2}` away from layers of norms up to M.

So for starts that vanish the distance tends to that from zero, :math:`(L \sum_i s_i^{2/L})^{1/2}`.
By A. Horn's inequality the singular values of A are dominated by the products of those of its factors, of which each
exceeds M by at most that of the step of its layer; and :math:`(e^t - M)_+^2` is convex and increases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ..proof import Proof, rotation
from ..runs import Run, draw_orthogonal, flat, full_observation, gap, product
from ..statement import Statement
from ..trial import Hypothesis, Trial
from ..wide import ALONE, nearest, turned
from . import representation_cost


@dataclass(frozen=True, kw_only=True)
class Case(Run):
    """Layers of norms up to M."""

    M: float


def claim(roots: Any, M: Any, depth: Any) -> Any:
    """Least squared distance, by the roots s^(1/L) of the singular values that are greater than M."""
    return depth * np.sum((roots - M) ** 2)


def claim_multipliers(U: Any, roots: Any, M: Any, V: Any, depth: Any) -> Any:
    """Matrix of which the gradients by layer are the shortest steps."""
    return U * ((roots - M) * roots ** (1 - depth)) @ V.T


def identities() -> Iterator[tuple[str, Any]]:
    M, r = sp.Symbol("M", positive=True), np.array(sp.symbols("r_:2", positive=True))
    U, V = rotation("phi"), rotation("psi")
    for depth in map(sp.Integer, (2, 3, 4)):
        start, end = (representation_cost.claim_factors(U, x, V, depth) for x in (0 * r + M, r))
        steps = [Y - X for X, Y in zip(start, end, strict=True)]
        yield f"factors at L = {depth}", network.end_to_end(end) - U * r**depth @ V.T
        yield f"attained at L = {depth}", sum(np.sum(D * D) for D in steps) - claim(r, M, depth)
        pulls = network.layer_gradients(end, claim_multipliers(U, r, M, V, depth))
        for l, (D, pull) in enumerate(zip(steps, pulls, strict=True), start=1):
            yield f"stationary in layer {l} at L = {depth}", D - pull
        bend = claim(r[:1], M, depth)
        for _ in range(2):
            bend = r[0] * sp.diff(bend, r[0])  # by t = log r
        yield f"convex at L = {depth}", bend - 2 * depth * r[0] * (r[0] + (r[0] - M))


def residual(case: Case) -> float:
    """The nearest factors of the target, found from others; none are nearer to layers that are not aligned."""
    depth = len(case.weights)
    U, s, Vt = np.linalg.svd(case.cost.target, full_matrices=False)
    roots, rng = s ** (1 / depth), np.random.default_rng(0)
    near = turned(case.weights, U, roots, Vt.T)
    end = nearest(case, [W + 0.1 * rng.normal(size=W.shape) for W in near])
    least = claim(roots[roots > case.M], case.M, depth)
    steps = [Y - X for X, Y in zip(case.weights, end, strict=True)]
    pulls = network.layer_gradients(end, claim_multipliers(U, roots, case.M, Vt.T, depth))
    other = _reversed(case)
    found = nearest(other, turned(other.weights, U, roots, Vt.T))
    away = np.sum((flat(found) - flat(other.weights)) ** 2)
    gaps = [
        abs(np.sum(flat(steps) ** 2) / least - 1),
        np.linalg.norm(flat(steps) - flat(pulls)) / np.sqrt(least),
        max(0.0, least / away - 1),
    ]
    return float(np.max(gaps))


def _draw(rng: Generator, depth: int) -> Case:
    """Layers M times an isometry between the modes of the target, and anything of norm up to M beside them."""
    n = int(rng.integers(2, 4))
    m = int(rng.integers(1, n + 1))
    widths = [m, *(int(w) for w in rng.integers(n + 1, n + 3, size=depth - 1)), n]
    M, roots = rng.uniform(0.2, 0.5), rng.uniform(0.8, 1.4, size=m)
    frames = [draw_orthogonal(rng, w) for w in widths]
    weights = []
    for P, Q in pairwise(frames):
        rest = rng.normal(size=(len(Q) - m, len(P) - m))
        beside = rest / np.sqrt(1 + np.sum(rest**2))
        weights.append(M * (Q[:, :m] @ P[:, :m].T + Q[:, m:] @ beside @ P[:, m:].T))
    ones, target = np.ones(depth), frames[-1][:, :m] * roots**depth @ frames[0].T
    return Case(weights, full_observation(target), ones, 0 * ones, M=M)


def _aligned(case: Case) -> bool:
    """The product is that of the singular vectors of the target, up to a factor."""
    U, _, Vt = np.linalg.svd(case.cost.target, full_matrices=False)
    return gap(product(case.weights), np.linalg.norm(case.weights[0], 2) ** len(case.weights) * U @ Vt) < 1e-9


def _reversed(case: Case) -> Case:
    """All inputs reversed."""
    first, *rest = case.weights
    return replace(case, weights=[-first, *rest])


STATEMENT = Statement(
    title="factors of A are no nearer than those aligned with the layers",
    formula="the squared distance of layers of norms up to M from layers with the product A is at least "
    "L sum_i (s_i(A)^(1/L) - M)_+^2, attained where all layers are M times an isometry between the modes of A; so it "
    "tends to L sum_i s_i^(2/L) for any starts that vanish",
    source="derived, with A. Horn, Proc. Natl. Acad. Sci. USA 36, 1950; limit: A. Jacot et al., arXiv 2106.15933v2",
    symbolic=Proof(
        "A of shape (2, 2) in any singular bases, L = 2, 3, 4: attained, and convexity", identities
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the layers are aligned with A": Hypothesis(_aligned, lambda case, _: _reversed(case)),
            "no layer is larger than M": Hypothesis(
                lambda case: bool(max(np.linalg.norm(W, 2) for W in case.weights) < case.M * (1 + 1e-9)),
                lambda case, _: replace(case, M=0.8 * case.M),
            ),
            "A alone minimises the cost": ALONE,
        },
        residual=residual,
        tolerance=1e-4,
    ),
)
