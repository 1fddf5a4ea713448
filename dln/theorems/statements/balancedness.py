r"""Conservation of balance: :math:`D_l(t) = e^{-2 \lambda t} D_l(0)` under weight decay lambda."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ..proof import Proof, layers, matrix
from ..runs import EQUAL_DECAYS, UNIT_RATES, Run, draw_run, gap
from ..statement import Statement
from ..trial import Trial

TIME = 0.3


def claim(weight_decay: Any, time: Any) -> Any:
    """Factor by which the balance matrices shrink."""
    return sp.exp(-2 * weight_decay * time)


def claim_balances(weights: Sequence[Any]) -> list[Any]:
    """Balance matrices ``W_{l+1}^T W_{l+1} - W_l W_l^T``."""
    return [V.T @ V - W @ W.T for W, V in pairwise(weights)]


def identities() -> Iterator[tuple[str, Any]]:
    decay, t = sp.symbols("lambda t")
    factor, rate = claim(decay, t), sp.diff(claim(decay, t), t).subs(t, 0)
    yield "the factor is one at the start", claim(decay, 0) - 1
    yield "the decay is exponential", sp.simplify(sp.diff(factor, t) - rate * factor)
    for widths in [(2, 3, 2), (3, 2, 2, 3), (2, 2, 2, 2, 2)]:
        weights, G = layers(widths), matrix("G", widths[-1], widths[0])
        gradients = network.layer_gradients(weights, G)
        velocity = [-V - decay * W for V, W in zip(gradients, weights, strict=True)]
        ahead = claim_balances([W + V for W, V in zip(weights, velocity, strict=True)])
        behind = claim_balances([W - V for W, V in zip(weights, velocity, strict=True)])
        for l, (D, X, Y) in enumerate(zip(network.balances(weights), ahead, behind, strict=True), start=1):
            # D is quadratic in the layers, so the symmetric difference is its derivative.
            yield f"D_{l}' = {rate} D_{l} at L = {len(weights)}", (X - Y) / 2 - rate * D


def residual(run: Run) -> float:
    """Along the flow, integrated to 12 digits."""
    start, end = network.balances(run.weights), network.balances(run.flow(TIME))
    factor = float(claim(run.decays[0], TIME))
    return float(np.max([gap(start, claim_balances(run.weights)), gap(end, [factor * D for D in start])]))


def _draw(rng: Generator, depth: int) -> Run:
    return draw_run(rng, depth, weight_decay=rng.uniform(0.0, 1.0))


STATEMENT = Statement(
    title="balancedness is conserved, and decays with weight decay",
    formula="D_l = W_{l+1}^T W_{l+1} - W_l W_l^T obeys D_l(t) = exp(-2 weight_decay t) D_l(0), for any cost",
    source="S. Arora, N. Cohen, E. Hazan, arXiv 1802.06509; S. Du, W. Hu, J. Lee, arXiv 1806.00900",
    symbolic=Proof("any cost; L = 2, 3, 4 with widths 2-3-2, 3-2-2-3, 2-2-2-2-2", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "all layers move at one rate": UNIT_RATES,
            "all layers decay alike": EQUAL_DECAYS,
        },
        residual=residual,
        tolerance=1e-10,
    ),
)
