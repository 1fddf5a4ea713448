r"""Escape along a set S of modes at once, L > 2: in the bases of G every layer is diagonal, with entries c_i.

.. math:: s_S^{-2/(L-2)} = L \sum_{i \in S} s_i^{-2/(L-2)}, \qquad c_i^2 = (s_S / s_i)^{2/(L-2)}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...critical import escape_speed
from ..points import Aligned, aligned
from ..proof import Proof, collected, rotation
from ..runs import LINEAR_COST, NO_DECAY, UNIT_RATES, flat, gap, linear_cost
from ..statement import Statement
from ..trial import Hypothesis, Trial


def claim_speed(s: Any, depth: Any) -> Any:
    """``s_S^(-2/(L-2))`` for the speed s_S, by the singular values of the modes that take part."""
    return depth * sum(x ** (-2 / (depth - 2)) for x in s)


def claim_square(speed: Any, s: Any, depth: Any) -> Any:
    """Square of the entry of a mode in every layer, in the direction of unit length."""
    return (speed / s) ** (2 / (depth - 2))


def identities() -> Iterator[tuple[str, Any]]:
    """From entries c: the singular values for which they move at speed S, and back."""
    c = np.array(sp.symbols("c_:2", positive=True))
    speed, L = sp.symbols("S L", positive=True)
    U, V = rotation("phi"), rotation("psi")
    for depth in (3, 4, 5):
        layers = [-c[:, None] * V.T, *[np.diag(c)] * (depth - 2), U * c]
        G = U * (speed / c ** (depth - 2)) @ V.T
        for g, W in zip(network.layer_gradients(layers, G), layers, strict=True):
            yield f"the ray at L = {depth}", g + speed * W
    for x in c:
        yield "the entries, any L", collected(claim_square(speed, speed / x ** (L - 2), L)) - x**2
        # At speed one, unit length means that L times the sum of the squares is one.
        yield "unit length, any L", collected(claim_speed([x ** (2 - L)], L)) - L * x**2


def residual(case: Aligned) -> float:
    """The start, the layers along the flow, and `dln.critical.escape_speed`."""
    depth, modes = len(case.weights), np.flatnonzero(case.u)
    speed = claim_speed(case.s[modes], depth) ** (1 - depth / 2)
    entries = np.sqrt(claim_square(speed, case.s[modes], depth))
    size = np.linalg.norm(flat(case.weights))
    time = 0.1 * size ** (2 - depth) / ((depth - 2) * speed)
    growth = 0.9 ** (1 / (2 - depth))  # of c^(2-L) a tenth is gone
    gaps = [
        gap(case.u[modes] / size, entries),
        gap(case.flow(time), [growth * W for W in case.weights]),
        abs(escape_speed(case.cost.slope, depth, list(modes)) / speed - 1),
    ]
    return float(np.max(gaps))


def _draw(rng: Generator, depth: int) -> Aligned:
    """Two of three modes, or all of them."""
    s = np.array([2.0, 1.3, 0.8]) * rng.uniform(0.9, 1.1, size=3)
    u = rng.uniform(0.9, 1.1) * s ** (-1 / (depth - 2))
    if rng.random() < 0.7:
        u[rng.integers(3)] = 0.0
    run = aligned(rng, s, u, 0.0, [int(n) for n in rng.integers(3, 5, size=depth + 1)])
    return replace(run, cost=linear_cost(-run.cost.target))


def _on_ray(case: Aligned) -> bool:
    depth, modes = len(case.weights), np.flatnonzero(case.u)
    return bool(np.ptp(case.s[modes] * case.u[modes] ** (depth - 2)) < 1e-12)


def _equal_entries(case: Aligned, rng: Generator) -> Aligned:
    """All modes of one size."""
    widths = [case.weights[0].shape[1], *(W.shape[0] for W in case.weights)]
    run = aligned(rng, case.s, np.sign(case.u), 0.0, widths)
    return replace(run, cost=linear_cost(-run.cost.target))


STATEMENT = Statement(
    title="escape from the origin along several modes at once",
    formula="for L > 2 and any set S of singular modes of G there is an escape direction with every layer diag(c_i), "
    "c_i^2 = (s_S/s_i)^(2/(L-2)), of speed s_S = (L sum_{i in S} s_i^(-2/(L-2)))^(-(L-2)/2): "
    "the layers c e follow c' = s_S c^(L-1) in the flow of <G, A>",
    source="derived; one mode in A. Jacot et al., arXiv 2106.15933",
    symbolic=Proof(
        "two modes of A of shape (2, 2) in any singular bases, L = 3, 4, 5; sizes at any L > 2", identities
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "s_i c_i^(L-2) is the same for all modes": Hypothesis(_on_ray, _equal_entries),
            "the cost is linear": LINEAR_COST,
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-10,
        depths=(3, 4, 5),
    ),
)
