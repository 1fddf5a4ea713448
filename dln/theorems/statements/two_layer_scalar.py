r"""Two scalar layers: :math:`|\dot a| = \sqrt{\kappa^2 + 4 a^2} |s - a|`, and both layers in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ..proof import Proof
from ..runs import NO_DECAY, UNIT_RATES, Run, complex_step, full_observation, gap, product
from ..statement import Statement
from ..trial import Hypothesis, Trial

TIME = 0.9
k, s, u, v = sp.symbols("k s u v")


def claim_speed(kappa: Any, a: Any) -> Any:
    """Square of the speed ``a' / (s - a)``."""
    return kappa**2 + 4 * a**2


def claim_rate(s: Any, kappa: Any) -> Any:
    """Square of the rate k at which the layers grow."""
    return s**2 + kappa**2 / 4


def claim_generator(s: Any, kappa: Any) -> Any:
    """The matrix F whose exponential moves the layers, but for their common scale."""
    return np.array([[-kappa / 2, s], [s, kappa / 2]])


def claim_layers(q: Any, F: Any, k: Any, c: Any, z: Any) -> Any:
    """Layers but for their scale, from q, by ``c = cosh(kt)`` and ``z = sinh(kt)``."""
    return c * q + z / k * F @ q


def claim_scale(q: Any, F: Any, k: Any, c: Any, z: Any) -> Any:
    """Square of the scale that divides the layers, by ``c = cosh(2kt)`` and ``z = sinh(2kt)``."""
    return 1 + z / (2 * k) * (q @ q) + (c - 1) / (2 * k**2) * (q @ F @ q)


def identities() -> Iterator[tuple[str, Any]]:
    q, kappa, E = np.array([u, v]), v**2 - u**2, sp.Symbol("E")  # E = e^{kt}
    first, second = network.layer_gradients([q[:1, None], q[1:, None]], np.array([[u * v - s]]))
    speed = u * second[0, 0] + v * first[0, 0]
    yield "the speed of a", speed**2 - claim_speed(kappa, u * v) * (s - u * v) ** 2
    F = claim_generator(s, kappa)
    yield "the rate", F @ F - claim_rate(s, kappa) * np.eye(2, dtype=int)
    p = claim_layers(q, F, k, (E + 1 / E) / 2, (E - 1 / E) / 2)
    N = claim_scale(q, F, k, (E**2 + 1 / E**2) / 2, (E**2 - 1 / E**2) / 2)
    yield "the start", [*(x.subs(E, 1) - y for x, y in zip(p, q, strict=True)), N.subs(E, 1) - 1]
    for x, y in (p, p[::-1]):  # (x / sqrt N)' = (y / sqrt N) (s - x y / N)
        yield "the flow", k * E * (sp.diff(x, E) * N - x * sp.diff(N, E) / 2) - y * (s * N - x * y)


def residual(run: Run) -> float:
    """The layers along the flow, and the velocity of A at the start."""
    q = np.array([W[0, 0] for W in run.weights])
    s, kappa, a = run.cost.target[0, 0], q[1] ** 2 - q[0] ** 2, q[0] * q[1]
    F, k = claim_generator(s, kappa), np.sqrt(claim_rate(s, kappa))
    p = claim_layers(q, F, k, np.cosh(k * TIME), np.sinh(k * TIME))
    N = claim_scale(q, F, k, np.cosh(2 * k * TIME), np.sinh(2 * k * TIME))
    velocity = complex_step(product, run.weights, run.velocity())[0, 0]
    speed = np.sqrt(claim_speed(kappa, a)) * abs(s - a)
    flow = np.array([W[0, 0] for W in run.flow(TIME)])
    return float(np.max([gap(flow, p / np.sqrt(N)), abs(abs(velocity) - speed) / speed]))


def _draw(rng: Generator, depth: int) -> Run:
    weights = [rng.normal(size=(1, 1)) for _ in range(depth)]
    cost = full_observation(rng.choice([-1, 1]) * rng.uniform(0.5, 2.0, size=(1, 1)))
    return Run(weights, cost, np.ones(depth), np.zeros(depth))


def _wider(run: Run, rng: Generator) -> Run:
    """A second hidden neuron of another balance."""
    row, column = rng.uniform(0.3, 0.6, size=(1, 1)), rng.uniform(1.0, 2.0, size=(1, 1))
    first, second = run.weights
    return replace(run, weights=[np.vstack([first, row]), np.hstack([second, column])])


STATEMENT = Statement(
    title="two scalar layers in closed form, from any start",
    formula="a = u v, kappa = v^2 - u^2: |a'| = sqrt(kappa^2 + 4 a^2) |s - a|, (u, v)(t) = e^{Ft} q / sqrt(N(t)), "
    "F = [[-kappa/2, s], [s, kappa/2]], k = sqrt(s^2 + kappa^2/4), "
    "N = 1 + sinh(2kt)/(2k) |q|^2 + (cosh(2kt) - 1)/(2k^2) q^T F q",
    source="A. Saxe, J. McClelland, S. Ganguli, arXiv 1312.6120; S. Tarmoun et al., ICML 2021",
    symbolic=Proof(
        "any start and target, L = 2 with widths 1-1-1",
        identities,
        rules={k**2: s**2 + (v**2 - u**2) ** 2 / 4},
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the layers are scalar": Hypothesis(lambda run: run.weights[0].size == 1, _wider),
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-10,
        depths=(2,),
        repeats=6,
    ),
)
