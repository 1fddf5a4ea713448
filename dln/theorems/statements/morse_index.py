r"""Morse index and kernel at every critical point of :math:`\tfrac12 \|A - A^*\|_F^2 + \tfrac\lambda2 |\theta|^2`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
from numpy.random import Generator

from ..points import CRITICAL, Aligned, aligned, draw_critical, hessian, roots
from ..proof import Proof, inertia
from ..proof import hessian as exact_hessian
from ..statement import Statement
from ..trial import Hypothesis, Trial


def claim_index(x: Sequence[Any], lower: Sequence[Any], idle: int, free: int, depth: int) -> int:
    """Number of negative eigenvalues, for sizes x in the order of falling s.

    `lower` marks modes on the lower branch, `idle` counts those of size 0 with s > weight_decay, and `free` the
    hidden neurons without a mode.
    """
    inversions = sum(y < z for y, z in combinations(x, 2))
    if depth == 2:
        return inversions + free * idle
    return inversions + sum(lower)


def claim_kernel(rank: int, width: int, depth: int) -> Any:
    """Number of zero eigenvalues: the rotations of the hidden layers, and no others."""
    return (depth - 1) * (rank * width - Fraction(rank * (rank + 1), 2))


ACTIVE = [Fraction(3, 2), Fraction(5, 4), Fraction(1, 2), Fraction(1, 3)]  # roots u
INACTIVE = [Fraction(7, 2), Fraction(2, 3)]  # singular values s


def identities() -> Iterator[tuple[str, Any]]:
    """Two modes of rational roots u, active or not, under a weight decay of one; inertia over the rationals."""
    for depth, width in [(2, 2), (2, 3), (3, 2), (3, 3), (4, 2)]:
        modes = [(u, u**depth + u ** (2 - depth)) for u in ACTIVE] + [(Fraction(0), s) for s in INACTIVE]
        for pair in combinations(modes, 2):
            u, s = zip(*sorted(pair, key=lambda mode: -mode[1]), strict=True)
            weights = [_layer(u, width, 2), *[_layer(u, width, width)] * (depth - 2), _layer(u, 2, width)]
            negative, zero = inertia(exact_hessian(weights, _layer(s, 2, 2), 1))
            rank = sum(x > 0 for x in u)
            lower = [x > 0 and x ** (2 * depth - 2) * depth < depth - 2 for x in u]
            idle = sum(x == 0 and y > 1 for x, y in zip(u, s, strict=True))
            index = claim_index([x**depth for x in u], lower, idle, width - rank, depth)
            yield f"the index of roots {u} at L = {depth}, width {width}", negative - index
            yield (
                f"the kernel of roots {u} at L = {depth}, width {width}",
                zero - claim_kernel(rank, width, depth),
            )


def _layer(u: Sequence[Any], n: int, m: int) -> Any:
    W = np.full((n, m), Fraction(0))
    W[range(2), range(2)] = u
    return W


def residual(case: Aligned) -> float:
    """Against the counts of a dense Hessian."""
    depth, width, decay = len(case.weights), case.weights[0].shape[0], case.decays[0]
    found = np.linalg.eigvalsh(hessian(case)) / decay
    rank = int(np.sum(case.u > 0))
    lower = [0 < u < roots(s, decay, depth)[0] - 1e-9 for s, u in zip(case.s, case.u, strict=True)]
    idle = int(np.sum((case.u == 0) & (case.s > decay)))
    index = claim_index(list(case.u), lower, idle, width - rank, depth)
    defects = [np.sum(found < -1e-9) - index, np.sum(np.abs(found) < 1e-9) - claim_kernel(rank, width, depth)]
    return float(np.max(np.abs(defects)))


def _distinct(case: Aligned) -> bool:
    return len(np.unique(case.s)) == len(case.s)


def _equal(case: Aligned, rng: Generator) -> Aligned:
    """Two equal singular values, of which one is active."""
    depth, decay = len(case.weights), case.decays[0]
    s = np.array([2.0, 2.0, 0.5])
    u = np.array([roots(2.0, decay, depth)[0], 0.0, 0.0])
    widths = [case.weights[0].shape[1], *(W.shape[0] for W in case.weights)]
    return aligned(rng, s, u, decay, widths)


STATEMENT = Statement(
    title="the Morse index of every critical point of the regularised network",
    formula="for s_1 > s_2 > .., hidden widths w >= min(n_0, n_L): index = #{i on x_-} + #{i < j : x_i < x_j} for "
    "L > 2, and (w - r) #{i : x_i = 0, s_i > weight_decay} + #{i < j : x_i < x_j} for L = 2; the kernel has dimension "
    "(L-1)(r w - r(r+1)/2), that of the rotations: each critical point is a local minimum or a strict saddle",
    source="derived; in agreement with the abstracts of arXiv 2506.20344 and 2603.27072",
    symbolic=Proof(
        "two modes at all pairs of six rational points; width 2 at L = 2, 3, 4, width 3 at L = 2, 3",
        identities,
    ),
    numeric=Trial(
        draw=draw_critical,
        hypotheses={
            "the point is critical": CRITICAL,
            "the singular values are distinct": Hypothesis(_distinct, _equal),
        },
        residual=residual,
        tolerance=0.0,
        repeats=6,
    ),
)
