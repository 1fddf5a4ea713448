r"""An erratum: with the printed budget :math:`\log(2/\epsilon)/x` the rank bound is false for :math:`x > \log 2`.

What is verified is the refutation, and where exactly it is possible: :math:`2 e^{-x} < \epsilon < 1`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.optimize import brentq

from ..proof import Proof
from ..sgd import cyclic, tail
from ..statement import Statement
from ..trial import Hypothesis, Trial


@dataclass(frozen=True)
class Case:
    """Batches of one sample used once each, forgetting x in a step, and a level."""

    x: float
    epsilon: float
    size: int


def claim_budget(x: Any, epsilon: Any) -> Any:
    """The rank that is printed."""
    return sp.log(2 / epsilon) / x


def claim_edge(x: Any) -> Any:
    """The level from which on it is below one."""
    return 2 * sp.exp(-x)


def claim_least() -> Any:
    """The x from which on there is such a level below one."""
    return sp.log(2)


def identities() -> Iterator[tuple[str, Any]]:
    x = sp.Symbol("x", positive=True)
    yield "one at the edge", sp.simplify(sp.expand_log(claim_budget(x, claim_edge(x)) - 1))
    yield "the edge is a level below one from there", sp.simplify(claim_edge(claim_least()) - 1)
    # at most e/2 < 2: up to log 2, where it is at least one, the printed budget does
    kept = (1 - x) * sp.exp(2 * x)
    peak = sp.Rational(1, 2)
    yield "the largest value", [sp.diff(kept, x).subs(x, peak), sp.simplify(kept.subs(x, peak) - sp.E / 2)]


def residual(case: Case) -> float:
    """The solvable SGD: 1 if the bound is true of it, else how far the edges by search are from those claimed."""
    W = cyclic(case.size, 1, 1.0, case.x).states()[0][-1]
    allowed = int(float(claim_budget(case.x, case.epsilon)))
    if tail(W, allowed, 2) <= case.epsilon * np.linalg.norm(W, 2):
        return 1.0
    edge = brentq(lambda level: float(claim_budget(case.x, level)) - 1, 1e-3, 1.999, xtol=1e-15, rtol=1e-14)
    least = brentq(lambda x: float(claim_edge(x)) - 1, 0.1, 2.0, xtol=1e-15, rtol=1e-14)
    return float(max(abs(edge / float(claim_edge(case.x)) - 1), abs(least / float(claim_least()) - 1)))


def _draw(rng: Generator, size: int) -> Case:
    x = rng.uniform(0.75, 0.95)
    return Case(x, rng.uniform(2 * np.exp(-x) + 0.01, 0.999), size)


def _gentle(case: Case, rng: Generator) -> Case:
    """A smaller x, for which the level is still above the edge only if it is above one."""
    return replace(case, x=rng.uniform(0.3, 0.6))


STATEMENT = Statement(
    title="the rank bound of SGD as printed is false for x > log 2",
    formula="the cyclic SGD with m B = 1 has distance 1 > epsilon to rank 0, which is all that log(2/epsilon)/x < 1 "
    "allows, exactly for x > log 2 and 2 exp(-x) < epsilon < 1; the ceiling of the proof mends it",
    source="T. Galanti, Z. Siegel, A. Gupte, T. Poggio, arXiv 2206.05794, Theorem 3.3; refutation derived",
    symbolic=Proof("any x in (0, 1)", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the level is above the edge, and below one": Hypothesis(
                lambda case: 2 * np.exp(-case.x) < case.epsilon < 1, _gentle
            ),
        },
        residual=residual,
        tolerance=1e-12,
        depths=(3, 4, 6),
    ),
)
