r"""A large start is lazy: its flow is linear, with the tangent kernel of the start.

With layers :math:`c W_l` and a target at a fixed distance from their product, in the time :math:`c^{2-2L} t`,

.. math:: \mathrm{vec}(A(t) - A^*) = e^{-\Theta t}\,\mathrm{vec}(A(0) - A^*) + O(c^{-L}),

:math:`\Theta` the kernel of the layers :math:`W_l`; every layer moves by a term of order :math:`c^{1-L}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..proof import Proof, entrywise, layers, matrix, rotation
from ..runs import FULL_OBSERVATION, UNIT_RATES, Run, draw_layers, full_observation, gap
from ..statement import Statement
from ..trial import Hypothesis, Trial
from . import ntk

TIME = 0.4
LARGE = 1e6  # c^L


@dataclass(frozen=True, kw_only=True)
class Scaled(Run):
    """Layers that are c times others of norms about 1."""

    c: float


def claim(R: Any, Q: Any, factors: Any) -> Any:
    """vec(A - A*) from its start, by the eigenvectors of the kernel and ``factors = exp(-eigenvalue t)``."""
    return Q @ (factors * (Q.T @ R))


def claim_layers(weights: list[Any], velocity: list[Any], c: Any, depth: Any) -> list[Any]:
    """Layers that have moved."""
    return [c * W + c ** (1 - depth) * V for W, V in zip(weights, velocity, strict=True)]


def identities() -> Iterator[tuple[str, Any]]:
    x = sp.Symbol("x", positive=True)  # 1/c
    for widths in [(2, 2, 2), (2, 2, 2, 2)]:
        weights, R, depth = layers(widths), matrix("R", 2, 2), len(widths) - 1
        velocity = [-V for V in network.layer_gradients(weights, R)]
        product = network.end_to_end(claim_layers(weights, velocity, 1 / x, depth))
        rest = product - x**-depth * network.end_to_end(weights) - ntk.claim(weights, R)
        yield (
            f"what is not linear vanishes at L = {depth}",
            entrywise(lambda e: sp.expand(e).subs(x, 0), rest),
        )
    Q, h, E = rotation("phi"), np.array(sp.symbols("h_:2")), np.array(sp.symbols("E_:2"))
    R = matrix("R", 2, 1)[:, 0]
    path = claim(R, Q, E)
    yield "the start", entrywise(lambda e: e.subs(dict.fromkeys(E, 1)), path) - R
    slopes = np.array([[sp.diff(r, e) for e in E] for r in path])
    yield "the flow", Q * h @ Q.T @ path - slopes @ (h * E)


def residual(run: Scaled) -> float:
    """Product and layers, along the flow integrated to 12 digits."""
    depth, c = len(run.weights), run.c
    weights, R = [W / c for W in run.weights], run.gradient_of_cost()
    h, Q = np.linalg.eigh(network.ntk(weights).reshape(R.size, -1))
    gone = claim(np.ravel(R), Q, np.exp(-h * TIME)).reshape(R.shape)
    summed = (Q @ ((-np.expm1(-h * TIME) / h) * (Q.T @ np.ravel(R)))).reshape(R.shape)
    velocity = [-V for V in network.layer_gradients(weights, summed)]
    end = run.flow(TIME * c ** (2 - 2 * depth))
    moved, expected = (
        [V - W for V, W in zip(there, run.weights, strict=True)]
        for there in (end, claim_layers(weights, velocity, c, depth))
    )
    return max(gap(replace(run, weights=end).gradient_of_cost(), gone), gap(moved, expected))


def _draw(rng: Generator, depth: int) -> Scaled:
    widths = rng.integers(3, 6, size=depth + 1)
    weights, D = draw_layers(rng, widths), rng.normal(size=(widths[-1], widths[0]))
    return _scaled(weights, D, LARGE ** (1 / depth))


def _scaled(weights: list[Array], D: Array, c: float) -> Scaled:
    layers, depth = [c * W for W in weights], len(weights)
    cost = full_observation(network.end_to_end(layers) - D)
    return Scaled(weights=layers, cost=cost, rates=np.ones(depth), decays=np.zeros(depth), c=c)


def _small(run: Scaled, _: Generator) -> Scaled:
    """The same layers, not enlarged."""
    return _scaled([W / run.c for W in run.weights], run.gradient_of_cost(), 1.0)


STATEMENT = Statement(
    title="a large start is lazy",
    formula="from layers c W_l and a target at a fixed distance from their product, at the time c^(2-2L) t: "
    "vec(A - A*) = exp(-K t) vec(A(0) - A*) + O(c^-L), K the tangent kernel of the W_l; layers move by O(c^(1-L))",
    source="A. Jacot et al., arXiv 2106.15933v1 (large starts); L. Chizat, E. Oyallon, F. Bach, arXiv 1812.07956",
    symbolic=Proof(
        "the product of moved layers at L = 2, 3, widths 2; the linear flow of two modes", identities
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the start is large": Hypothesis(lambda run: run.c > 10, _small),
            "the cost is full observation": FULL_OBSERVATION,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=2e-4,
        depths=(2, 3),
        repeats=4,
    ),
)
