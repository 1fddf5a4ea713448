r"""Two layers near the origin, from any start: each pair of singular vectors (s, u, v) of G moves by itself.

.. math:: W_1 v = \cosh(st)\, p - \sinh(st)\, q, \qquad W_2^T u = \cosh(st)\, q - \sinh(st)\, p
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ..proof import Proof, entrywise, layers, rotation
from ..runs import LINEAR_COST, NO_DECAY, UNIT_RATES, Run, draw_layers, gap, linear_cost
from ..statement import Statement
from ..trial import Trial

TIME = 0.7


def claim(p: Any, q: Any, c: Any, z: Any) -> list[Any]:
    """``W_1 v`` and ``W_2^T u``, from p and q, by ``c = cosh(st)`` and ``z = sinh(st)``."""
    return [c * p - z * q, c * q - z * p]


def identities() -> Iterator[tuple[str, Any]]:
    s, E = sp.symbols("s_:2"), sp.Symbol("E")  # E = e^{st}
    U, V = rotation("phi"), rotation("psi")
    for width in (1, 2, 3):
        weights = layers([2, width, 2])
        first, second = network.layer_gradients(weights, U @ np.diag(s) @ V.T)
        p, q = weights[0] @ V[:, 0], weights[1].T @ U[:, 0]
        yield f"the gradients at width {width}", [first @ V[:, 0] - s[0] * q, second.T @ U[:, 0] - s[0] * p]
        path = np.array(claim(p, q, (E + 1 / E) / 2, (E - 1 / E) / 2))
        yield f"the start at width {width}", entrywise(lambda x: x.subs(E, 1), path) - np.array([p, q])
        yield f"the flow at width {width}", entrywise(lambda x: E * sp.diff(x, E), path) + path[::-1]


def residual(run: Run) -> float:
    """All pairs of singular vectors, along the flow."""
    U, s, Vt = np.linalg.svd(run.cost.slope)
    k = len(s)
    start, end = ([W_1 @ Vt.T[:, :k], W_2.T @ U[:, :k]] for W_1, W_2 in (run.weights, run.flow(TIME)))
    return gap(end, claim(start[0], start[1], np.cosh(s * TIME), np.sinh(s * TIME)))


def _draw(rng: Generator, depth: int) -> Run:
    m, width, n = rng.integers(2, 6, size=depth + 1)
    G = rng.normal(size=(n, m))
    return Run(draw_layers(rng, [m, width, n]), linear_cost(G), np.ones(depth), np.zeros(depth))


STATEMENT = Statement(
    title="two layers near the origin grow exponentially, pair by pair of singular vectors",
    formula="(W_1 v, W_2^T u)(t) = (cosh(st) p - sinh(st) q, cosh(st) q - sinh(st) p) from (p, q), for every pair "
    "G v = s u, G^T u = s v, in the flow of <G, A>",
    source="A. Saxe, J. McClelland, S. Ganguli, arXiv 1312.6120; A. Jacot et al., arXiv 2106.15933",
    symbolic=Proof("any start, G of shape (2, 2) in any singular bases; hidden widths 1, 2, 3", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the cost is linear": LINEAR_COST,
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-10,
        depths=(2,),
        repeats=6,
    ),
)
