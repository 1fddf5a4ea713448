r"""A minimum is near a wide and large start: at the distance :math:`\min \|A - A(0)\|_F / (\sqrt L \rho^{L-1})`.

The shortest way to a change E of A is :math:`\delta W_l = B_l^T E F_{l-1}^T / (L \rho^{2L-2})`, since the tangent
kernel is :math:`L \rho^{2L-2} I`; what is not linear in it is smaller than E by :math:`\rho^{-L}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ..proof import Proof, derivative_along, entrywise, layers, matrix, rotation
from ..runs import flat, gap
from ..statement import Statement
from ..trial import Trial
from ..wide import LARGE, ONE_SCALE, WIDE, WIDEST, Wide, draw_wide, nearest, observed


def claim(square: Any, rho: Any, depth: Any) -> Any:
    """Squared distance, by that of A from the matrices that minimise the cost."""
    return square / (depth * rho ** (2 * depth - 2))


def claim_step(pull: Any, rho: Any, depth: Any) -> Any:
    """Step of a layer, by its gradient for dC/dA = E."""
    return pull / (depth * rho ** (2 * depth - 2))


def identities() -> Iterator[tuple[str, Any]]:
    """Any orthogonal layers of size rho, whose kernel is what that of wide layers tends to."""
    x, E = sp.Symbol("x", positive=True), matrix("E", 2, 2)
    rho = 1 / x
    for depth in (2, 3, 4):
        start = [rho * rotation(f"phi_{l}") for l in range(depth)]
        steps = [claim_step(pull, rho, depth) for pull in network.layer_gradients(start, E)]
        least = claim(np.sum(E * E), rho, depth)
        yield f"the steps change A by E at L = {depth}", derivative_along(start, steps) - E
        yield f"their length at L = {depth}", sum(np.sum(D * D) for D in steps) - least
        other = layers([2] * (depth + 1))
        overlap = sum(np.sum(D * T) for D, T in zip(steps, other, strict=True))
        change = np.sum(E * derivative_along(start, other))
        yield f"none is shorter at L = {depth}", overlap - claim(change, rho, depth)
    for depth in (2, 3):
        start = [rho * rotation(f"phi_{l}") for l in range(depth)]
        pulls = network.layer_gradients(start, E)
        moved = [W + claim_step(pull, rho, depth) for W, pull in zip(start, pulls, strict=True)]
        rest = network.end_to_end(moved) - network.end_to_end(start) - E
        yield (
            f"what is not linear vanishes at L = {depth}",
            entrywise(lambda e: sp.expand(e).subs(x, 0), rest),
        )


def residual(run: Wide) -> float:
    """The nearest minimiser, found from the start."""
    depth, E = len(run.weights), -run.gradient_of_cost()
    steps = [V - W for V, W in zip(nearest(run, run.weights), run.weights, strict=True)]
    square, law = np.sum(flat(steps) ** 2), claim(np.sum(E * E), run.rho, depth)
    pulls = network.layer_gradients(run.weights, E)
    return max(float(abs(square / law - 1)), gap(steps, [claim_step(g, run.rho, depth) for g in pulls]))


def _draw(rng: Generator, depth: int) -> Wide:
    """Costs that see some numbers of A or all; for the largest of these starts A(0) is of order one."""
    n, m = (int(size) for size in rng.integers(2, 4, size=2))
    cost = observed(rng, n, m, int(rng.integers(1, n * m + 1)))
    return draw_wide(rng, depth, cost, rho=WIDEST ** (rng.uniform(0.7, 1.0) / (2 * depth)), order=1)


STATEMENT = Statement(
    title="from wide and large starts a minimum is at the distance min ||A - A(0)|| / (sqrt(L) rho^(L-1))",
    formula="for entries N(0, w^-gamma), gamma < 1, w to infinity, rho = w^((1-gamma)/2): the squared distance to the "
    "minima of the loss is min ||A - A(0)||^2 / (L rho^(2L-2)) over the minimisers A of the cost, up to a factor "
    "1 + O(rho^(-2L) + w^(-1/2)), by the steps B_l^T E F_{l-1}^T / (L rho^(2L-2)), E = A - A(0)",
    source="A. Jacot et al., arXiv 2106.15933v2, phase transition of the distances; constants derived",
    symbolic=Proof(
        "orthogonal layers of size rho, any E of shape (2, 2), L = 2, 3, 4 (rest: 2, 3)", identities
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the network is wide": WIDE,
            "the start is large": LARGE,
            "all layers have one variance": ONE_SCALE,
        },
        residual=residual,
        tolerance=1e-4,
        repeats=2,
    ),
)
