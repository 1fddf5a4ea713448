r"""Gradient of the cost by layer: :math:`\partial C/\partial W_l = B_l^T G F_{l-1}^T`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ..proof import Proof, layers, matrix
from ..runs import NO_DECAY, Run, complex_step, draw_run, gap, product
from ..statement import Statement
from ..trial import Hypothesis, Trial


def claim(weights: Sequence[Any], G: Any) -> list[Any]:
    """Gradients ``W_{l+1}^T ... W_L^T G W_1^T ... W_{l-1}^T``."""
    transposed = [W.T for W in weights]
    return [reduce(np.matmul, [*transposed[l:], G, *transposed[: l - 1]]) for l in range(1, len(weights) + 1)]


def identities() -> Iterator[tuple[str, Any]]:
    for widths in [(2, 3, 2), (3, 2, 2, 3), (2, 2, 2, 2, 2)]:
        weights, G = layers(widths), matrix("G", widths[-1], widths[0])
        cost = np.sum(G * product(weights))
        library = network.layer_gradients(weights, G)
        for l, (W, V, U) in enumerate(zip(weights, claim(weights, G), library, strict=True), start=1):
            derivative = np.vectorize(lambda w, cost=cost: sp.diff(cost, w), otypes=[object])(W)
            yield f"the formula for layer {l} of {len(weights)}", V - derivative
            yield f"dln.network.layer_gradients for layer {l} of {len(weights)}", U - derivative


def residual(run: Run) -> float:
    """Against the complex-step gradient of the objective."""

    def derivative(l: int, entry: tuple[int, ...]) -> Any:
        step = [np.zeros_like(W) for W in run.weights]
        step[l][entry] = 1.0
        return complex_step(lambda weights: replace(run, weights=weights).objective(), run.weights, step)

    exact = [
        np.array([derivative(l, entry) for entry in np.ndindex(W.shape)]) for l, W in enumerate(run.weights)
    ]
    G = run.gradient_of_cost()
    library = network.layer_gradients(run.weights, G)
    return float(np.max([gap(claim(run.weights, G), exact), gap(library, exact)]))


def _symmetric(run: Run) -> bool:
    return bool(np.allclose(run.cost.H, run.cost.H.T))


def _skew(run: Run, rng: Generator) -> Run:
    """The same cost, but G with a skew part, which the cost does not see."""
    S = rng.normal(size=run.cost.H.shape)
    return replace(run, cost=replace(run.cost, H=run.cost.H + S - S.T))


STATEMENT = Statement(
    title="gradient of the cost by layer",
    formula="dC/dW_l = B_l^T G F_{l-1}^T with B_l = W_L ... W_{l+1}, F_{l-1} = W_{l-1} ... W_1, G = dC/dA",
    source="chain rule",
    symbolic=Proof("any cost; L = 2, 3, 4 with widths 2-3-2, 3-2-2-3, 2-2-2-2-2", identities),
    numeric=Trial(
        draw=draw_run,
        hypotheses={
            "the loss depends on the layers through A alone": NO_DECAY,
            "G is the gradient of the cost": Hypothesis(_symmetric, _skew),
        },
        residual=residual,
        tolerance=1e-12,
    ),
)
