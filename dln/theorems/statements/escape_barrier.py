r"""With weight decay a new mode of a deep network must be kicked over a barrier, the lower root :math:`u_-` of

.. math:: \dot u = u^{L-1} (s - u^L) - \lambda u, \qquad u_-^{L-2} = \frac{\lambda}{s} (1 + o(1)).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ..points import Aligned, aligned, roots
from ..proof import Proof, rotation
from ..runs import EQUAL_DECAYS, FULL_OBSERVATION, UNIT_RATES, complex_step, product
from ..statement import Statement
from ..trial import Trial


def claim(u: Any, s: Any, weight_decay: Any, depth: Any) -> Any:
    """Velocity of a mode of size u in every layer."""
    return u ** (depth - 1) * (s - u**depth) - weight_decay * u


def claim_barrier(s: Any, weight_decay: Any) -> Any:
    """``u_-^(L-2)`` for small weight decay."""
    return weight_decay / s


def identities() -> Iterator[tuple[str, Any]]:
    decay = sp.Symbol("lambda")
    u, s = np.array(sp.symbols("u_:2")), np.array(sp.symbols("s_:2"))
    U, V = rotation("phi"), rotation("psi")
    for depth in (3, 4, 5):
        weights = [u[:, None] * V.T, *[np.diag(u)] * (depth - 2), U * u]
        velocity = claim(u, s, decay, depth)
        moved = [velocity[:, None] * V.T, *[np.diag(velocity)] * (depth - 2), U * velocity]
        gradients = network.layer_gradients(weights, U * (u**depth - s) @ V.T)
        for g, W, M in zip(gradients, weights, moved, strict=True):
            yield f"the velocity at L = {depth}", g + decay * W + M
        x, y = u[0], s[0]
        small = x ** (depth - 2) / claim_barrier(y, 1)  # the decay of which x is the barrier
        yield f"what is left there at L = {depth}", claim(x, y, small, depth) + x ** (2 * depth - 1)


def residual(case: Aligned) -> float:
    """Velocities of the modes of A, on which side of the barrier they grow, and the barrier itself."""
    depth, decay = len(case.weights), case.decays[0]
    U, _, Vt = np.linalg.svd(case.cost.target)
    k = len(case.s)
    velocity = np.diag(U.T @ complex_step(product, case.weights, case.velocity()) @ Vt.T)[:k]
    claimed = depth * case.u ** (depth - 1) * claim(case.u, case.s, decay, depth)
    end = np.diag(U.T @ network.end_to_end(case.flow(3.0)) @ Vt.T)[:k]
    barriers = np.array([roots(s, decay, depth)[-1] for s in case.s])
    small = np.array([roots(s, 1e-6, depth)[-1] ** (depth - 2) for s in case.s])
    gaps = np.abs(velocity - claimed) / (decay * case.u**depth)
    wrong = (end > case.u**depth) != (case.u > barriers)
    return float(np.max([*gaps, *wrong, *np.abs(small / claim_barrier(case.s, 1e-6) - 1)]))


def _draw(rng: Generator, depth: int) -> Aligned:
    """A mode below its barrier, and one above."""
    decay, s = rng.uniform(0.05, 0.15), rng.uniform([1.5, 0.8], [2.0, 1.2])
    barriers = np.array([roots(x, decay, depth)[-1] for x in s])
    u = barriers * [rng.uniform(0.8, 0.95), rng.uniform(1.05, 1.2)]
    m, n = (int(k) for k in rng.integers(2, 5, size=2))
    return aligned(rng, s, u, decay, [m, *[3] * (depth - 1), n])


STATEMENT = Statement(
    title="with weight decay, a new mode of a deep network must be kicked over a barrier",
    formula="an aligned mode of size u in all layers obeys u' = u^(L-1) (s - u^L) - weight_decay u, L > 2: it dies out "
    "below the lower root u_- and grows above it, u_-^(L-2) = weight_decay/s (1 + o(1)) for small weight_decay",
    source="derived",
    symbolic=Proof("A of shape (2, 2) in any singular bases, L = 3, 4, 5", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the cost is full observation": FULL_OBSERVATION,
            "all layers decay alike": EQUAL_DECAYS,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-8,
        depths=(3, 4, 5),
    ),
)
