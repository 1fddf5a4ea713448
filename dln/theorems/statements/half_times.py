r"""When an aligned balanced mode is half learned, from a small start :math:`u_0` per layer at depth L > 2.

.. math:: t = \frac{u_0^{2-L}}{(L-2) s} + \frac{c_L}{s^{2-2/L}} - \frac{u_0^2}{2 s^2} - \frac{u_0^{2+L}}{(2+L) s^3} .
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.special import hyp2f1

from ... import network
from ..points import Aligned, aligned
from ..proof import Proof, collected
from ..runs import BALANCED, FULL_OBSERVATION, NO_DECAY, UNIT_RATES
from ..statement import Statement
from ..trial import Trial
from . import mode_times


def claim_wait(u: Any, s: Any, depth: Any) -> Any:
    """What a start u per layer adds to the time."""
    return u ** (2 - depth) / ((depth - 2) * s) - u**2 / (2 * s**2) - u ** (2 + depth) / ((2 + depth) * s**3)


def claim_scaling(s: Any, depth: Any) -> Any:
    """How the rest of the time scales with s."""
    return s ** (2 / depth - 2)


def claim_constant(series: Any, depth: Any) -> Any:
    """The constant c_L, by the hypergeometric series at 1/2, term by term or its sum."""
    return 2 ** ((depth - 2) / depth) / (2 - depth) * series


def identities() -> Iterator[tuple[str, Any]]:
    """By the series F of `mode_times`: the time is F(s/2) - F(a_0)."""
    n, L, u, s, y, z = sp.symbols("n L u s y z", positive=True)
    start = claim_wait(u, s, L) + sum(mode_times.claim_term(k, u, s, L) for k in (0, 1, 2))
    yield "the first terms at the start", start.subs({u ** (2 - L): y, u ** (2 + L): z})
    term = mode_times.claim_term(n, s ** (1 / L), s, L)
    yield "every term scales alike", collected(term / claim_scaling(s, L)) - 1 / (2 - L + n * L)
    b = mode_times.claim_parameters(L)[1]
    term = mode_times.claim_term(n, 2 ** (-1 / L), 1, L)
    yield "the terms of the constant", collected(claim_constant(b / (b + n) / 2**n, L) / term) - 1


def residual(case: Aligned) -> float:
    """The first mode along the flow, at the time at which half of it is claimed to be learned."""
    depth, s, u = len(case.weights), case.s[0], case.u[0]
    p, q, r = mode_times.claim_parameters(depth)
    constant = claim_constant(hyp2f1(p, q, r, 0.5), depth)
    time = claim_wait(u, s, depth) + constant * claim_scaling(s, depth)
    U, _, Vt = np.linalg.svd(case.cost.target)
    a = U[:, 0] @ network.end_to_end(case.flow(time)) @ Vt[0]
    return float(abs(2 * a / s - 1))


def _draw(rng: Generator, depth: int) -> Aligned:
    """A wait of about 20 for the first mode."""
    s = rng.uniform([1.5, 0.5], [2.0, 1.0])
    u = (rng.uniform(18.0, 22.0) * (depth - 2) * s[0]) ** (-1 / (depth - 2)) * np.ones(2)
    return aligned(rng, s, u, 0.0, [3, *[2] * (depth - 1), 2])


STATEMENT = Statement(
    title="when a mode is half learned from a small start",
    formula="t = u_0^(2-L)/((L-2) s) + c_L s^(-(2L-2)/L) - u_0^2/(2 s^2) - u_0^(2+L)/((2+L) s^3) + O(u_0^(2+2L)) "
    "from a = u_0^L to a = s/2, c_L = 2^((L-2)/L)/(2-L) 2F1(1, (2-L)/L; 2/L; 1/2), for aligned balanced modes, L > 2",
    source="derived; D. Gissin, S. Shalev-Shwartz, A. Daniely, arXiv 1909.12051, for the leading order",
    symbolic=Proof("any L > 2, term by term of the series of mode_times", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the layers are balanced": BALANCED,
            "the cost is full observation": FULL_OBSERVATION,
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=3e-9,
        depths=(3, 4, 5),
        repeats=1,
    ),
)
