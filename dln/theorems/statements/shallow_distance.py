r"""Distance of two wide layers from the minima, through all regimes: a curve in units of :math:`\rho^2`.

.. math:: \frac{s}{\rho^2} = \frac{2 \mu}{(1 - \mu^2)^2}, \qquad
          \frac{d^2}{\rho^2} = \frac{2 \mu^2 (1 + \mu^2)}{(1 - \mu^2)^2}, \qquad 0 < \mu < 1

for each singular value s of the minimiser; :math:`s^2 / (2 \rho^2)` for large rho, :math:`2 s - 2 \sqrt 2 \rho \sqrt s`
for small. In the bases of the modes a neuron vector a before and b behind, orthogonal and of length rho, move by
:math:`\mu` times the other's end; with :math:`\mu < 1` the Lagrangian is convex, so nothing is nearer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.optimize import brentq

from ... import network
from ...typing import Array
from ..proof import Proof, layers, rotation
from ..runs import draw_orthogonal, flat, full_observation, gap
from ..statement import Statement
from ..trial import Trial
from ..wide import ALONE, ONE_SCALE, WIDE, Wide, draw_wide, nearest, turned


def claim_size(mu: Any) -> Any:
    """Singular value of the minimiser, over rho^2."""
    return 2 * mu / (1 - mu**2) ** 2


def claim(mu: Any) -> Any:
    """Its share of the squared distance, over rho^2."""
    return 2 * mu**2 * (1 + mu**2) / (1 - mu**2) ** 2


def claim_steps(weights: Sequence[Any], U: Any, mu: Any, V: Any) -> list[Any]:
    """Shortest way to the minima, from layers and the singular vectors of the target."""
    (first, second), share = weights, mu / (1 - mu**2)
    a, b = first @ V, second.T @ U
    return [(share * (mu * a + b)) @ V.T, U @ (share * (mu * b + a)).T]


def identities() -> Iterator[tuple[str, Any]]:
    """Two modes; four neurons, orthogonal as those of wide layers are."""
    rho, p = sp.symbols("rho p", positive=True)
    mu, eye, one = np.array(sp.symbols("mu_:2")), np.eye(4, dtype=int), np.eye(2, dtype=int)
    for U, V in ((rotation("phi"), rotation("psi")), (one, one)):
        start = [rho * eye[:, :2] @ V.T, rho * U @ eye[2:]]
        steps = claim_steps(start, U, mu, V)
        end = [W + D for W, D in zip(start, steps, strict=True)]
        square, target = sum(np.sum(D * D) for D in steps), U * (rho**2 * claim_size(mu)) @ V.T
        yield "a minimiser", network.end_to_end(end) - target
        yield "its distance", square - rho**2 * np.sum(claim(mu))
        multipliers = U * mu @ V.T
        for l, (D, pull) in enumerate(
            zip(steps, network.layer_gradients(end, multipliers), strict=True), start=1
        ):
            yield f"the step of layer {l}", D - pull
    other = layers([2, 4, 2])  # added to the last one, in the bases of the modes
    there = sum(np.sum((D + X) ** 2) for D, X in zip(steps, other, strict=True))
    excess = network.end_to_end([W + X for W, X in zip(end, other, strict=True)]) - target
    a, b = other[0], other[1].T
    further = np.sum((1 - mu) * (a**2 + b**2)) + np.sum(mu * (a - b) ** 2)
    yield "nothing is nearer", there - 2 * np.sum(multipliers * excess) - square - further
    yield "large starts", sp.limit(claim(p) / claim_size(p) ** 2, p, 0) - sp.Rational(1, 2)
    yield "small starts", sp.limit((2 * claim_size(p) - claim(p)) ** 2 / claim_size(p), p, 1) - 8


def residual(run: Wide) -> float:
    """The nearest minimiser, found from balanced factors turned to the start."""
    U, s, Vt = np.linalg.svd(run.cost.target, full_matrices=False)
    unit = run.rho**2
    mu = np.array([brentq(lambda x, y=y: claim_size(x) - y, 0.0, 1 - 1e-9, xtol=1e-15) for y in s / unit])
    end = nearest(run, turned(run.weights, U, np.sqrt(s), Vt.T))
    steps = [Y - X for X, Y in zip(run.weights, end, strict=True)]
    square = np.sum(flat(steps) ** 2) / unit
    law = claim_steps(run.weights, U, mu, Vt.T)
    return max(abs(float(square / np.sum(claim(mu)) - 1)), gap(steps, law))


def _draw(rng: Generator, depth: int) -> Wide:
    """Starts of all sizes."""
    n = int(rng.integers(2, 4))
    m = int(rng.integers(1, n + 1))
    target: Array = draw_orthogonal(rng, n)[:, :m] * rng.uniform(0.5, 2.0, size=m) @ draw_orthogonal(rng, m)
    return draw_wide(rng, depth, full_observation(target), rho=float(10 ** rng.uniform(-1, 1)), order=0)


STATEMENT = Statement(
    title="two wide layers: the distance from the minima at every scale of the start",
    formula="for entries N(0, rho^2/w), w to infinity, L = 2: the squared distance to the factors of A is the sum over "
    "its singular values s of 2 rho^2 mu^2 (1 + mu^2)/(1 - mu^2)^2, where 2 mu/(1 - mu^2)^2 = s/rho^2: s^2/(2 rho^2) "
    "for large rho, 2 s - 2 sqrt(2 s) rho for small, of order one between",
    source="derived; orders: A. Jacot et al., arXiv 2106.15933v2, phase transition of the distances",
    symbolic=Proof("two modes and four neurons: attained, stationary, and nearest; both limits", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the network is wide": WIDE,
            "both layers have one variance": ONE_SCALE,
            "A alone minimises the cost": ALONE,
        },
        residual=residual,
        tolerance=2e-5,
        depths=(2,),
        repeats=6,
    ),
)
