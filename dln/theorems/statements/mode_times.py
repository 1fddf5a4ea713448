r"""Aligned balanced modes: the time at which a mode has a given size, :math:`t = F(a) - F(a_0)`.

.. math:: \dot a = L a^{2-2/L} (s - a), \qquad F = \sum_{n \ge 0} \frac{u^{2-L+nL}}{(2-L+nL)\, s^{n+1}}, \; u = a^{1/L}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.integrate import quad
from scipy.special import hyp2f1

from ... import network
from ...typing import Array
from ..points import Aligned, aligned
from ..proof import Proof, collected
from ..runs import BALANCED, FULL_OBSERVATION, NO_DECAY, UNIT_RATES, Run
from ..statement import Statement
from ..trial import Hypothesis, Trial

TIME = 0.4  # in units of 1/L


def claim_two(a: Any, s: Any) -> Any:
    """F at L = 2."""
    return sp.log(a / (s - a)) / (2 * s)


def claim_logistic(a: Any, s: Any, growth: Any) -> Any:
    """The mode itself at L = 2, from a, by ``growth = exp(2 s t)``."""
    return s / (1 + (s / a - 1) / growth)


def claim_three(u: Any, c: Any) -> Any:
    """F at L = 3, by ``u = a^(1/3)`` and ``c = s^(1/3)``."""
    logarithm = sp.log((c**2 + c * u + u**2) / (c - u) ** 2) / (6 * c)
    angle = sp.atan((2 * u + c) / (sp.sqrt(3) * c)) / (sp.sqrt(3) * c)
    return (logarithm - angle - 1 / u) / c**3


def claim_four(u: Any, r: Any) -> Any:
    """F at L = 4, by ``u = a^(1/4)`` and ``r = s^(1/2)``."""
    return (sp.log((r + u**2) / (r - u**2)) / (4 * r) - 1 / (2 * u**2)) / r**2


def claim_infinite(a: Any, s: Any) -> Any:
    """F in the limit of depth, with time in units of 1/L."""
    return sp.log(a / (s - a)) / s**2 - 1 / (s * a)


def claim_term(n: Any, u: Any, s: Any, depth: Any) -> Any:
    """Term n of the series of F at any L > 2."""
    power = 2 - depth + n * depth
    return u**power / (power * s ** (n + 1))


def claim_parameters(depth: Any) -> list[Any]:
    """Parameters of the series as a hypergeometric function of ``u^L / s``."""
    return [1, (2 - depth) / depth, 2 / depth]


def identities() -> Iterator[tuple[str, Any]]:
    a, s, u, c, r, E = sp.symbols("a s u c r E")
    yield "L = 2", sp.diff(claim_two(a, s), a) * 2 * a * (s - a) - 1
    mode = claim_logistic(a, s, E)
    yield "the mode at L = 2", [2 * s * E * sp.diff(mode, E) - 2 * mode * (s - mode), mode.subs(E, 1) - a]
    yield "L = 3", sp.diff(claim_three(u, c), u) * u**2 * (c**3 - u**3) - 1
    yield "L = 4", sp.diff(claim_four(u, r), u) * u**3 * (r**2 - u**4) - 1
    yield "infinite depth", sp.diff(claim_infinite(a, s), a) * a**2 * (s - a) - 1
    n, L, u, s = sp.symbols("n L u s", positive=True)
    # The derivatives of the terms are a geometric series, whose sum is 1 / (u^(L-1) (s - u^L)).
    ratio = sp.diff(claim_term(n, u, s, L), u) * u ** (L - 1 - n * L) * s ** (n + 1)
    yield "the derivative of every term", collected(ratio) - 1
    p, q, b = claim_parameters(L)
    factor = claim_term(n + 1, u, s, L) / claim_term(n, u, s, L) * s / u**L
    yield "the hypergeometric series", collected(factor) - (p + n) * (q + n) / ((b + n) * (1 + n))


def _times(a: float, s: float, depth: int) -> list[float]:
    """F by every formula for this depth."""
    if depth == 2:
        return [float(claim_two(a, s))]
    u = a ** (1 / depth)
    p, q, b = claim_parameters(depth)
    times = [
        float(np.sum(claim_term(np.arange(400.0), u, s, depth))),
        claim_term(0, u, s, depth) * hyp2f1(p, q, b, a / s),
    ]
    if depth == 3:
        times.append(float(claim_three(u, s ** (1 / 3))))
    if depth == 4:
        times.append(float(claim_four(u, s ** (1 / 2))))
    return times


def residual(run: Run) -> float:
    """Times of all modes along the flow, and the quadrature in the limit of depth."""
    depth, gaps = len(run.weights), []
    U, s, Vt = np.linalg.svd(run.cost.target, full_matrices=False)
    start, end = (_modes(U, weights, Vt) for weights in (run.weights, run.flow(TIME / depth)))
    for x, y, target in zip(start, end, s, strict=True):
        for F, F_0 in zip(_times(y, target, depth), _times(x, target, depth), strict=True):
            gaps.append(abs(depth * (F - F_0) / TIME - 1))
        if depth == 2:
            gaps.append(abs(claim_logistic(x, target, np.exp(target * TIME)) - y) / y)
        exact = quad(lambda a, s=target: 1 / (a**2 * (s - a)), x, y, epsabs=0, epsrel=1e-13)[0]
        gaps.append(abs(float(claim_infinite(y, target) - claim_infinite(x, target)) / exact - 1))
    return float(np.max(gaps))


def _modes(U: Array, weights: list[Array], Vt: Array) -> Array:
    return np.diag(U.T @ network.end_to_end(weights) @ Vt.T)


def _draw(rng: Generator, depth: int) -> Aligned:
    n, m = rng.integers(2, 5, size=2)
    s = 0.8 + 0.4 * np.arange(min(n, m)) + rng.uniform(0.0, 0.2, size=min(n, m))
    u = (s * rng.uniform(0.1, 0.4, size=len(s))) ** (1 / depth)
    return aligned(rng, s, u, 0.0, [m, *[len(s)] * (depth - 1), n])


def _aligned(run: Run) -> bool:
    A, target = network.end_to_end(run.weights), run.cost.target
    return np.allclose(A @ target.T, target @ A.T) and np.allclose(A.T @ target, target.T @ A)


def _turned(run: Run, _: Generator) -> Run:
    """The last layer turned in the plane of the first two modes."""
    P, n = np.linalg.svd(run.cost.target)[0][:, :2], len(run.cost.target)
    turn = np.eye(n) + P @ (np.array([[0.8, -0.6], [0.6, 0.8]]) - np.eye(2)) @ P.T
    return replace(run, weights=[*run.weights[:-1], turn @ run.weights[-1]])


STATEMENT = Statement(
    title="the times at which aligned balanced modes are learned",
    formula="a' = L a^(2-2/L) (s - a), so t = F(a) - F(a_0): F = ln(a/(s-a))/(2s) at L = 2, with arctangents and "
    "logarithms at L = 3, 4, u^(2-L)/((2-L) s) 2F1(1, (2-L)/L; 2/L; u^L/s), u = a^(1/L), at any L > 2",
    source="A. Saxe, J. McClelland, S. Ganguli, arXiv 1312.6120; D. Gissin et al., arXiv 1909.12051; L > 3 derived",
    symbolic=Proof("a single mode; L = 2, 3, 4, infinity in closed form, any L > 2 term by term", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the layers are balanced": BALANCED,
            "A has the singular vectors of the target": Hypothesis(_aligned, _turned),
            "the cost is full observation": FULL_OBSERVATION,
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-10,
    ),
)
