r"""The Hessian of :math:`\tfrac12 \|A - A^*\|_F^2 + \tfrac\lambda2 |\theta|^2` at its critical points, block by block.

In the singular bases the entries (i, j) and (j, i) of all layers form a block; the singular values of A are
``x_i = u_i^L``, those of its residue ``e_i = s_i - x_i``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import sympy as sp

from ..points import CRITICAL, UNIT_CURVATURE, Aligned, draw_critical, hessian
from ..proof import Proof
from ..proof import hessian as exact_hessian
from ..statement import Statement
from ..trial import Trial
from . import origin_is_local_minimum as origin


def claim_diagonal(u: Any, weight_decay: Any, depth: Any) -> list[Any]:
    """Eigenvalues of the block (i, i) of an active mode: the first L - 1 times, the second once along (1, .., 1)."""
    return [2 * weight_decay, depth * u ** (2 * depth - 2) - (depth - 2) * weight_decay]


def claim_mixed(u: Any, s: Any, weight_decay: Any, depth: Any) -> list[Any]:
    """Eigenvalues of an active mode with an inactive one of the target, besides 0 and the last, L - 1 times each."""
    centre, spread = weight_decay + u ** (2 * depth - 2), s * u ** (depth - 2)
    return [centre + spread, centre - spread, 2 * weight_decay]


def claim_pair(u: Any, v: Any, e: Any, f: Any, weight_decay: Any, depth: int) -> Any:
    """Block of two active modes with roots u, v and residues e, f: entries (i, j) of W_1 .. W_L, then (j, i)."""
    H = np.diag([weight_decay] * (2 * depth))
    for l, m in np.ndindex(depth, depth):
        H[l, m] += u ** (2 * depth - l - m - 2) * v ** (l + m)
        H[depth + l, depth + m] += v ** (2 * depth - l - m - 2) * u ** (l + m)
        if l < m:
            d = m - l
            H[depth + l, m] = H[m, depth + l] = -e * u ** (depth - 1 - d) * v ** (d - 1)
            H[l, depth + m] = H[depth + m, l] = -f * v ** (depth - 1 - d) * u ** (d - 1)
    return H


def _block(H: Any, i: int, j: int, depth: int) -> Any:
    """Rows and columns of the entries (i, j), and (j, i) if they differ, of 2 x 2 layers."""
    places = [4 * l + 2 * i + j for l in range(depth)]
    places += [4 * l + 2 * j + i for l in range(depth) if i != j]
    return H[np.ix_(places, places)]


def identities() -> Iterator[tuple[str, Any]]:
    decay, s, z = sp.symbols("lambda s z")
    u, v = sp.symbols("u v")
    for depth in (2, 3, 4, 5, 6):
        scalar = exact_hessian(
            [np.array([[u]])] * depth, np.array([[u**depth + decay * u ** (2 - depth)]]), decay
        )
        first, last = claim_diagonal(u, decay, depth)
        ones = np.ones((depth, depth), dtype=int)
        yield (
            f"one mode at L = {depth}",
            scalar - first * np.eye(depth, dtype=int) - (last - first) / depth * ones,
        )
    for depth in (2, 3, 4):
        e, f = decay * u ** (2 - depth), decay * v ** (2 - depth)
        H = exact_hessian([np.diag([u, v])] * depth, np.diag([u**depth + e, v**depth + f]), decay)
        yield f"two modes at L = {depth}", _block(H, 0, 1, depth) - claim_pair(u, v, e, f, decay, depth)
        H = exact_hessian([np.diag([u, 0 * u])] * depth, np.diag([u**depth + e, s]), decay)
        plus, minus, double = claim_mixed(u, s, decay, depth)
        found = sp.Matrix(_block(H, 0, 1, depth)).charpoly(z).as_expr()
        claimed = (z - plus) * (z - minus) * (z * (z - double)) ** (depth - 1)
        yield f"an inactive mode at L = {depth}", found - claimed


def residual(point: Aligned) -> float:
    """All blocks together, against the eigenvalues of the dense Hessian."""
    found = np.linalg.eigvalsh(hessian(point))
    values = _spectrum(point, len(found))
    return float(np.max(np.abs(np.sort(values) - found)) / point.decays[0])


def _spectrum(point: Aligned, size: int) -> list[float]:
    """Eigenvalues of all blocks; those of inactive modes with each other as at the origin."""
    depth, decay, width = len(point.weights), point.decays[0], point.weights[0].shape[0]
    modes = list(zip(point.s, point.u, strict=True))
    active, inactive = [(s, u) for s, u in modes if u > 0], [s for s, u in modes if u == 0]
    values: list[float] = []
    for i, (s, u) in enumerate(active):
        first, last = claim_diagonal(u, decay, depth)
        values += [*[first] * (depth - 1), last]
        for t, v in active[i + 1 :]:
            values += [*np.linalg.eigvalsh(claim_pair(u, v, s - u**depth, t - v**depth, decay, depth))]
        for t in inactive:
            plus, minus, double = claim_mixed(u, t, decay, depth)
            values += [plus, minus, *[0.0, double] * (depth - 1)]
        values += [0.0, 2 * decay] * (depth - 1) * (width - len(modes))  # hidden neurons without a mode
    for s in inactive:
        values += origin.claim(decay, s, depth) * (width - len(active))
    return [*values, *[decay] * (size - len(values))]


STATEMENT = Statement(
    title="the Hessian at critical points of the regularised network, block by block",
    formula="at critical points under full observation the Hessian has, for active modes x = u^L, the eigenvalues "
    "2 weight_decay (L-1 times) and L u^(2L-2) - (L-2) weight_decay; with inactive modes of the target 0 and "
    "2 weight_decay (L-1 times) and weight_decay + u^(2L-2) +- s_j u^(L-2); for pairs of active modes a matrix of "
    "order 2L; and weight_decay (L > 2) or weight_decay +- s_j (L = 2) otherwise",
    source="derived; the scalar spectrum as announced in arXiv 2603.27072",
    symbolic=Proof(
        "one mode at L = 2 to 6, two active modes or an active and an inactive one at L = 2, 3, 4", identities
    ),
    numeric=Trial(
        draw=partial(draw_critical, most=3),
        hypotheses={
            "the point is critical": CRITICAL,
            "the cost is full observation": UNIT_CURVATURE,
        },
        residual=residual,
        tolerance=1e-9,
        repeats=4,
    ),
)
