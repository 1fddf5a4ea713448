r"""The rank bound of SGD with weight decay as it holds: :math:`B \lceil \log(2/\epsilon)/x \rceil`, and its sharp form.

The paper prints :math:`B \log(2/\epsilon)/x`; where that fails is the statement ``rank_bound_as_printed``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ..proof import Proof
from ..sgd import NO_MOMENTUM, SETTLED, Training, cyclic, tail
from ..statement import Statement
from ..trial import Trial


def claim_sharp(x: Any, epsilon: Any) -> Any:
    """Batches after which epsilon of an old matrix is left: more than so many are asked for."""
    return sp.log(1 / epsilon) / -sp.log(1 - x)


def claim_repaired(x: Any, epsilon: Any) -> Any:
    """Batches that are enough even if the old matrix was twice as large: at least so many."""
    return sp.log(2 / epsilon) / x


def identities() -> Iterator[tuple[str, Any]]:
    x, epsilon = sp.symbols("x epsilon", positive=True)
    left = sp.Symbol("q", positive=True)  # 1 - x
    sharp = claim_sharp(1 - left, epsilon) * sp.log(left)
    yield "epsilon is left", sp.simplify(sp.expand_log(sharp - sp.log(epsilon)))
    repaired = sp.exp(-x * claim_repaired(x, epsilon))
    yield "epsilon of twice as much is left", sp.simplify(repaired - epsilon / 2)
    gap = -sp.log(1 - x) - x  # vanishes at 0 and grows: the steps forget faster than exp(-x)
    yield "1 - x < exp(-x)", [sp.limit(gap, x, 0), sp.simplify(sp.diff(gap, x) - x / (1 - x))]


def residual(run: Training) -> float:
    """The solvable SGD: the least rank within epsilon, the levels at which it jumps, and the budget."""
    W = run.states()[0][-1]
    size, x = np.linalg.norm(W, 2), run.rates[0] * run.decays[0]
    gaps: list[float] = []
    for n in range(1, len(W) // run.rank):
        level = tail(W, n * run.rank, 2) / size  # the level at which n batches just do
        gaps.append(abs(float(claim_sharp(x, level)) / n - 1))
        enough = math.ceil(float(claim_repaired(x, level)))
        gaps.append(max(0.0, float(tail(W, enough * run.rank, 2) / size - level / 2)))
        gaps.append(abs(float(claim_repaired(x, 2 * level)) * x + float(np.log(level))))
    return max(gaps)


def _draw(rng: Generator, batch: int) -> Training:
    return cyclic(5 * batch, batch, 1.0, rng.uniform(0.2, 0.6))


STATEMENT = Statement(
    title="the rank bound of SGD with weight decay, repaired",
    formula="if ||W_{T-1}||/||W_T|| -> 1, W_T is for large T within epsilon ||W_T|| of rank "
    "m B (floor(log(1/epsilon)/(-log(1-x))) + 1), and so of m B ceil(log(2/epsilon)/x); attained by the cyclic SGD",
    source="T. Galanti, Z. Siegel, A. Gupte, T. Poggio, arXiv 2206.05794, Theorem 3.3, with the ceiling of its proof",
    symbolic=Proof("any x in (0, 1) and any epsilon", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "there is no momentum": NO_MOMENTUM,
            "the norm has settled": SETTLED,
        },
        residual=residual,
        tolerance=1e-10,
        depths=(1, 2, 3),
    ),
)
