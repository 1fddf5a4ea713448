r"""Velocity of the end-to-end matrix: :math:`\dot A = -\sum_l B_l B_l^T G F_{l-1}^T F_{l-1}`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ... import network
from ..proof import Proof, derivative_along, layers, matrix
from ..runs import NO_DECAY, UNIT_RATES, Run, complex_step, draw_run, gap, product
from ..statement import Statement
from ..trial import Trial


def claim(weights: Sequence[Any], G: Any) -> Any:
    """Velocity of A, by the products ``B_L .. B_1`` and ``F_0 .. F_{L-1}``."""
    inner, outer = (np.eye(n, dtype=int) for n in (weights[0].shape[1], weights[-1].shape[0]))
    back = accumulate(weights[:0:-1], np.matmul, initial=outer)
    forward = accumulate(weights[:-1], lambda F, W: W @ F, initial=inner)
    return -sum(B @ B.T @ G @ F.T @ F for B, F in zip([*back][::-1], forward, strict=True))


def identities() -> Iterator[tuple[str, Any]]:
    for widths in [(2, 3, 2), (3, 2, 2, 3), (2, 2, 2, 2, 2)]:
        weights, G = layers(widths), matrix("G", widths[-1], widths[0])
        velocity = [-V for V in network.layer_gradients(weights, G)]
        yield (
            f"the velocity of A at L = {len(weights)}",
            derivative_along(weights, velocity) - claim(weights, G),
        )


def residual(run: Run) -> float:
    """Against the complex-step derivative of A along the velocity of the layers."""
    velocity = complex_step(product, run.weights, run.velocity())
    return gap(velocity, claim(run.weights, run.gradient_of_cost()))


STATEMENT = Statement(
    title="the end-to-end matrix moves by the neural tangent kernel",
    formula="A' = -sum_l B_l B_l^T G F_{l-1}^T F_{l-1} under gradient flow, for any cost",
    source="A. Jacot, F. Gabriel, C. Hongler, arXiv 1806.07572, for linear networks",
    symbolic=Proof("any cost; L = 2, 3, 4 with widths 2-3-2, 3-2-2-3, 2-2-2-2-2", identities),
    numeric=Trial(
        draw=draw_run,
        hypotheses={"all layers move at one rate": UNIT_RATES, "there is no weight decay": NO_DECAY},
        residual=residual,
        tolerance=1e-12,
    ),
)
