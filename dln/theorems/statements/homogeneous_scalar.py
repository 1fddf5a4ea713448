r"""Three scalar layers near the origin: Jacobi functions, and the time of the blow-up at any depth.

.. math::

    w = (\sqrt{d_2}\,\mathrm{sc}\,z, \sqrt{d_2}\,\mathrm{nc}\,z, \sqrt{d_3}\,\mathrm{dc}\,z),

    z = z_0 + \sqrt{d_3}\,s t
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.integrate import quad
from scipy.special import ellipj, ellipk, ellipkinc

from ... import network
from ..proof import Proof
from ..runs import LINEAR_COST, NO_DECAY, UNIT_RATES, Run, gap, linear_cost
from ..statement import Statement
from ..trial import Hypothesis, Trial

k = sp.Symbol("k")  # sqrt(d_2 / d_3)
sn, cn, dn = sp.symbols("sn cn dn")
x = sp.Symbol("x")
w, d = sp.symbols("w_2:6"), sp.symbols("d_2:6")


def claim_parameter(p: Any, q: Any) -> Any:
    """Parameter m of the Jacobi functions, by ``p = sqrt(d_2)`` and ``q = sqrt(d_3)``."""
    return 1 - (p / q) ** 2


def claim_rate(q: Any, s: Any) -> Any:
    """Rate at which the argument z grows."""
    return q * s


def claim(p: Any, q: Any, sn: Any, cn: Any, dn: Any) -> list[Any]:
    """Three layers, by the Jacobi functions of z."""
    return [p * sn / cn, p / cn, q * dn / cn]


def claim_square(x: Any, d: Sequence[Any], s: Any) -> Any:
    """Square of the velocity of the first layer x, at any depth; its inverse root is integrated up to the blow-up."""
    return s**2 * prod(x**2 + y for y in d)


def _velocity(layers: Sequence[Any], s: Any) -> list[Any]:
    gradients = network.layer_gradients([np.array([[y]]) for y in layers], np.array([[-s]]))
    return [-V[0, 0] for V in gradients]


def identities() -> Iterator[tuple[str, Any]]:
    q, s = sp.symbols("q s")
    layers = claim(k * q, q, sn, cn, dn)
    m, rate = claim_parameter(k * q, q), claim_rate(q, s)
    for l, (y, velocity) in enumerate(zip(layers, _velocity(layers, s), strict=True), start=1):
        motion = sp.diff(y, sn) * cn * dn - sp.diff(y, cn) * sn * dn - m * sp.diff(y, dn) * sn * cn
        yield f"layer {l} by Jacobi functions", rate * motion - velocity
    yield (
        "their invariants",
        [layers[1] ** 2 - layers[0] ** 2 - (k * q) ** 2, layers[2] ** 2 - layers[0] ** 2 - q**2],
    )
    for depth in (3, 4, 5):
        first, *_ = _velocity([x, *w[: depth - 1]], s)
        yield f"the velocity at L = {depth}", first**2 - claim_square(x, d[: depth - 1], s)


def residual(run: Run) -> float:
    """Along the flow over 0.15 of the time to the blow-up, which must then be left."""
    start, s = np.array([W[0, 0] for W in run.weights]), -run.cost.slope[0, 0]
    d = start[1:] ** 2 - start[0] ** 2

    def left(x: float) -> float:
        return float(quad(lambda y: claim_square(y, d, s) ** -0.5, x, np.inf, epsabs=0, epsrel=1e-13)[0])

    time = 0.15 * left(start[0])
    end = np.array([W[0, 0] for W in run.flow(time)])
    gaps = [abs((left(start[0]) - left(end[0])) / time - 1), gap(np.sqrt(end[0] ** 2 + d), end[1:])]
    if len(start) == 3:
        p, q = np.sqrt(d)
        m = claim_parameter(p, q)
        z = ellipkinc(np.arctan(start[0] / p), m)
        gaps.append(abs((ellipk(m) - z) / claim_rate(q, s) / left(start[0]) - 1))
        gaps.append(gap(claim(p, q, *ellipj(z + claim_rate(q, s) * time, m)[:3]), end))
    return float(np.max(gaps))


def _draw(rng: Generator, depth: int) -> Run:
    """The first layer is the smallest, of either sign; the others are ordered."""
    first = rng.choice([-1, 1]) * rng.uniform(0.2, 0.4)
    layers = [first, *np.sort(rng.uniform(0.7, 1.2, size=depth - 1))]
    cost = linear_cost(-rng.uniform(0.5, 2.0, size=(1, 1)))
    return Run([np.array([[y]]) for y in layers], cost, np.ones(depth), np.zeros(depth))


def _positive(run: Run) -> bool:
    return all(W[0, 0] > 0 for W in run.weights[1:])


def _flipped(run: Run, _: Generator) -> Run:
    first, second, *rest = run.weights
    return replace(run, weights=[first, -second, *rest])


STATEMENT = Statement(
    title="scalar networks near the origin: Jacobi functions, and when they blow up",
    formula="w = (sqrt(d_2) sc z, sqrt(d_2) nc z, sqrt(d_3) dc z) of parameter m = 1 - d_2/d_3, "
    "z = sqrt(d_3) s t + F(atan(w_1/sqrt(d_2)) | m), d_l = w_l^2 - w_1^2, in the flow of -s w_1 w_2 w_3, which blows "
    "up at z = K(m); at any L > 2 after int_{w_1}^inf dx / (s prod_{l>1} sqrt(x^2 + d_l))",
    source="derived; invariants as in S. Arora, N. Cohen, E. Hazan, arXiv 1802.06509",
    symbolic=Proof(
        "L = 3 in Jacobi functions; the velocity at L = 3, 4, 5",
        identities,
        rules={
            cn**2: 1 - sn**2,
            dn**2: 1 - (1 - k**2) * sn**2,
            **{y**2: x**2 + z for y, z in zip(w, d, strict=True)},
        },
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the other layers are positive": Hypothesis(_positive, _flipped),
            "the cost is linear": LINEAR_COST,
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-10,
        depths=(3, 4, 5),
    ),
)
