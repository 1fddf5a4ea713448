r"""Scalar networks of any depth from any start: one quadrature,

.. math:: t = \int \frac{dx}{(s - x b)\, b}, \qquad b(x)^2 = \prod_{l>1} (x^2 + d_l), \quad d_l = w_l^2 - w_1^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.integrate import quad

from ... import network
from ..proof import Proof
from ..runs import NO_DECAY, UNIT_RATES, Run, full_observation, gap
from ..statement import Statement
from ..trial import Hypothesis, Trial

TIME = 0.3
x = sp.Symbol("x")
w, d = sp.symbols("w_2:6"), sp.symbols("d_2:6")


def claim_square(x: Any, d: Any) -> Any:
    """Square of another layer, by the first layer x and the invariant d."""
    return x**2 + d


def claim_velocity(x: Any, b: Any, s: Any) -> Any:
    """Velocity of the first layer, by the product b of the others."""
    return (s - x * b) * b


def identities() -> Iterator[tuple[str, Any]]:
    s = sp.Symbol("s")
    for depth in (2, 3, 4, 5):
        layers = [x, *w[: depth - 1]]
        A = sp.prod(layers)
        weights = [np.array([[entry]]) for entry in layers]
        velocity = [-V[0, 0] for V in network.layer_gradients(weights, np.array([[A - s]]))]
        yield f"the first layer at L = {depth}", velocity[0] - claim_velocity(x, sp.prod(layers[1:]), s)
        for y, z, v in zip(layers[1:], d, velocity[1:], strict=False):
            yield f"a layer at L = {depth}", y**2 - claim_square(x, z)
            square = claim_square(x, z)
            yield f"its velocity at L = {depth}", 2 * y * v - sp.diff(square, x) * velocity[0]


def residual(run: Run) -> float:
    """The quadrature between the ends of the flow, and the other layers at its end."""
    start, end = (np.ravel([W[0, 0] for W in weights]) for weights in (run.weights, run.flow(TIME)))
    d, s = start[1:] ** 2 - start[0] ** 2, run.cost.target[0, 0]

    def slowness(x: float) -> Any:
        return 1 / claim_velocity(x, np.sqrt(np.prod(claim_square(x, d))), s)

    time = quad(slowness, start[0], end[0], epsabs=0, epsrel=1e-12)[0]
    return float(max(abs(time - TIME) / TIME, gap(np.sqrt(claim_square(end[0], d)), end[1:])))


def _draw(rng: Generator, depth: int) -> Run:
    """The first layer is the smallest, of either sign, and A below the target."""
    first = rng.uniform(-0.5, 0.5)
    others = rng.uniform(0.6, 1.1, size=depth - 1)
    weights = [np.array([[entry]]) for entry in (first, *others)]
    return Run(weights, full_observation(rng.uniform(1.5, 2.5, size=(1, 1))), np.ones(depth), np.zeros(depth))


def _positive(run: Run) -> bool:
    return all(W[0, 0] > 0 for W in run.weights[1:])


def _flipped(run: Run, _: Generator) -> Run:
    first, second, *rest = run.weights
    return replace(run, weights=[first, -second, *rest])


STATEMENT = Statement(
    title="scalar networks of any depth and balance, by one quadrature",
    formula="w_l^2 = x^2 + d_l with x = w_1 the smallest layer, and x' = (s - x b) b with b = prod_{l>1} w_l, "
    "so t = int dx / ((s - x b) b), for w_l > 0, l > 1",
    source="A. Saxe, J. McClelland, S. Ganguli, arXiv 1312.6120, for unequal layers; derived",
    symbolic=Proof(
        "L = 2, 3, 4, 5",
        identities,
        rules={y**2: x**2 + z for y, z in zip(w, d, strict=True)},
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the other layers are positive": Hypothesis(_positive, _flipped),
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-10,
    ),
)
