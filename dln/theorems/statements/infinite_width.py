r"""Gaussian networks of infinite width: each mode of the target moves alone, on one curve for all singular values.

.. math:: a(t; \rho, s) = s\, a(s^{2 - 2/L} t;\, \rho s^{-1/L}, 1), \qquad
          \dot a = 2 (s - a) \sqrt{\rho^4 + a^2} \quad (L = 2)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.integrate import quad

from ... import network
from ...inits import reduced_gaussian
from ...typing import Array
from ..proof import Proof, derivative, layers
from ..runs import FULL_OBSERVATION, NO_DECAY, Run, draw_orthogonal, full_observation, gap, product
from ..statement import Statement
from ..trial import Hypothesis, Trial

ORDER, WIDTH = 1, 30
TIME = 1.0


@dataclass(frozen=True, kw_only=True)
class Case(Run):
    """A start of infinite width, cut at an order, for a target of singular values s."""

    rho: float
    s: Array
    U: Array
    V: Array
    width: float


def claim_size(rho: Any, s: Any, depth: Any) -> Any:
    """The start in units of a mode s."""
    return rho * s ** (-1 / depth)


def claim_pace(s: Any, depth: Any) -> Any:
    """The time in units of a mode s, by which times are multiplied."""
    return s ** (2 - 2 / depth)


def claim_velocity(a: Any, s: Any, root: Any) -> Any:
    """Velocity of a mode of two layers."""
    return 2 * (s - a) * root


def claim_square(a: Any, rho: Any) -> Any:
    """Square of the root in it."""
    return rho**4 + a**2


def identities() -> Iterator[tuple[str, Any]]:
    q, rho = sp.symbols("q rho", positive=True)
    for depth in (2, 3, 4):
        L, s = sp.Integer(depth), q**depth
        unit = layers((1, *[2] * (depth - 1), 1))
        mode = [claim_size(1, 1 / s, L) * W for W in unit]  # s^(1/L) times
        moved, alone = (
            network.layer_gradients(net, network.end_to_end(net) - np.array([[target]], dtype=object))
            for net, target in ((mode, s), (unit, 1))
        )
        for l, (V, U) in enumerate(zip(moved, alone, strict=True), start=1):
            scaled = claim_size(1, 1 / s, L) * claim_pace(s, L) * U
            yield f"layer {l} of a mode by that of s = 1 at L = {depth}", V - scaled
    for depth in (3, 4):
        pair = [[_renamed(W, name) for W in layers((1, *[2] * (depth - 1), 1))] for name in "pq"]
        G = np.diag(sp.symbols("g_:2"))
        apart = [network.layer_gradients(net, G[i : i + 1, i : i + 1]) for i, net in enumerate(pair)]
        A = network.end_to_end(_side_by_side(pair))
        yield f"A of two modes at L = {depth}", [A[0, 1], A[1, 0]]
        together = network.layer_gradients(_side_by_side(pair), G)
        for l, (V, U) in enumerate(zip(together, _side_by_side(apart), strict=True), start=1):
            yield f"layer {l} of two modes at L = {depth}", V - U
    W, s = layers((1, 2, 1)), sp.Symbol("s")
    a, P = network.end_to_end(W)[0, 0], (np.sum(W[0] ** 2) + np.sum(W[1] ** 2)) / 2
    velocity = [-V for V in network.layer_gradients(W, network.end_to_end(W) - np.array([[s]], dtype=object))]
    yield "two layers", derivative(network.end_to_end, W, velocity) - claim_velocity(a, s, P)
    yield "their invariant", derivative(_invariant, W, velocity)
    start = [rho * M for M in (np.array([[1], [0]]), np.array([[0, 1]]))]
    yield "the invariant at the start", _invariant(start) + claim_square(0, 0) - claim_square(0, rho)


def _invariant(W: Sequence[Any]) -> Any:
    a, P = network.end_to_end(W), (np.sum(W[0] ** 2) + np.sum(W[1] ** 2)) / 2
    return P**2 - claim_square(a, 0)


def _renamed(W: Any, name: str) -> Any:
    return np.array([sp.Symbol(f"{name}{x}") for x in W.ravel()], dtype=object).reshape(W.shape)


def _side_by_side(nets: Sequence[Sequence[Any]]) -> list[Any]:
    """Block diagonal layers."""
    wide = []
    for blocks in zip(*nets, strict=True):
        rows, columns = (sum(W.shape[axis] for W in blocks) for axis in (0, 1))
        M, i, j = np.zeros((rows, columns), dtype=object), 0, 0
        for W in blocks:
            M[i : i + W.shape[0], j : j + W.shape[1]] = W
            i, j = i + W.shape[0], j + W.shape[1]
        wide.append(M)
    return wide


def residual(case: Case) -> float:
    """All modes at once, against each in the units of its own, and at L = 2 by quadrature of the time."""
    L = len(case.weights)
    A = product(case.flow(TIME))
    a = np.array([s * _alone(claim_size(case.rho, s, L), claim_pace(s, L) * TIME, L) for s in case.s])
    found = gap(A, (case.U * a) @ case.V.T)
    if L > 2:
        return found
    return max(found, *(abs(_time(x, s, case.rho) / TIME - 1) for x, s in zip(a, case.s, strict=True)))


def _alone(rho: float, time: float, depth: int) -> float:
    """A mode s = 1 at a time."""
    weights = reduced_gaussian((1, *[math.inf] * (depth - 1), 1), order=ORDER, rho=rho)
    run = Run(weights, full_observation(np.eye(1)), np.ones(depth), np.zeros(depth))
    return float(product(run.flow(time))[0, 0])


def _time(a: float, s: float, rho: float) -> float:
    """Time from 0 to a for two layers."""
    return float(
        quad(lambda x: 1 / claim_velocity(x, s, np.sqrt(claim_square(x, rho))), 0, a, epsrel=1e-12)[0]
    )


def _draw(rng: Generator, depth: int) -> Case:
    s, rho = rng.uniform([1.5, 0.6], [2.0, 1.2]), float(rng.uniform(0.4, 0.7))
    U, V = draw_orthogonal(rng, 2), draw_orthogonal(rng, 2)
    case = Case(
        [],
        full_observation((U * s) @ V.T),
        np.ones(depth),
        np.zeros(depth),
        rho=rho,
        s=s,
        U=U,
        V=V,
        width=0.0,
    )
    return _started(case, math.inf, None)


def _started(case: Case, width: float, rng: Generator | None) -> Case:
    """The case from a start of this width, in the bases of the target."""
    widths = (2, *[width] * (len(case.rates) - 1), 2)
    first, *hidden, last = reduced_gaussian(widths, order=ORDER, rho=case.rho, rng=rng)
    return replace(case, weights=[first @ case.V.T, *hidden, case.U @ last], width=width)


STATEMENT = Statement(
    title="infinite width: modes move alone, on one curve up to scales",
    formula="for layers of entries rho/sqrt(w) N(0, 1), w to infinity, in their Krylov form of any order: A(t) = "
    "U diag(a_i) V^T, a_i(t) = s_i a(s_i^(2 - 2/L) t; rho s_i^(-1/L)) with one function a for each depth, that of a "
    "network with one input and one output; a' = 2 (s - a) sqrt(rho^4 + a^2) from 0 at L = 2",
    source="derived: in the law of the Krylov form chi/sqrt(w) tends to 1, and what is normal to 0",
    symbolic=Proof("scales at L = 2, 3, 4; two modes at L = 3, 4; L = 2 with two neurons", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the width is infinite": Hypothesis(
                lambda case: case.width == math.inf, lambda case, rng: _started(case, WIDTH, rng)
            ),
            "the cost is full observation": FULL_OBSERVATION,
            "there is no weight decay": NO_DECAY,
        },
        residual=residual,
        tolerance=1e-10,
        depths=(2, 3, 4),
        repeats=2,
    ),
)
