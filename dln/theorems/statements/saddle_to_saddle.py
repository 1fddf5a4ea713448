r"""The saddle-to-saddle conjecture, under full observation: small random starts visit one saddle after the other.

What is proved: the saddles, and the orbits between them. What is not, and tried here: that the flow from a small start
without any structure follows them. `dln run conjecture` tries it for masked and sensed matrices, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import costs, flow, network
from ...problem import Until
from ...saddles import find_saddles
from ...trajectory import Trajectory
from ...typing import Array
from ..proof import Proof, rotation
from ..runs import draw_orthogonal
from ..statement import Statement
from ..trial import Hypothesis, Trial
from . import representation_cost

SMALL = {2: 1e-7, 3: 1e-4, 4: 3e-3}  # sizes of the starts


@dataclass(frozen=True)
class Case:
    """A Gaussian start times alpha, and a cost."""

    weights: list[Array]
    alpha: float
    cost: Any
    s: Array


def claim_saddle(U: Any, s: Any, V: Any, k: int) -> Any:
    """The k-th saddle, from the singular values and vectors of the target."""
    return U[:, :k] * s[:k] @ V[:, :k].T


def claim_cost(s: Any, k: int) -> Any:
    """The cost on the k-th plateau."""
    return np.sum(s[k:] ** 2) / 2


def claim_speed(u: Any, s: Any, depth: Any) -> Any:
    """Velocity, on the orbit, of what each layer has of the new mode: its singular value in A is u^L."""
    return u ** (depth - 1) * (s - u**depth)


def identities() -> Iterator[tuple[str, Any]]:
    U, V, u = rotation("phi"), rotation("psi"), sp.Symbol("u", positive=True)
    roots = np.array(sp.symbols("r_:2", positive=True))
    for depth in (2, 3, 4):
        s, none = roots**depth, 0 * u
        one, two = (claim_saddle(U, s, V, k) for k in (1, 2))
        yield f"the cost at L = {depth}", np.sum((one - two) ** 2) / 2 - claim_cost(s, 1)
        yield f"the cost at zero at L = {depth}", np.sum(two**2) / 2 - claim_cost(s, 0)
        at_rest = representation_cost.claim_factors(U, np.array([roots[0], none]), V, depth)
        yield f"the saddle at L = {depth}", network.end_to_end(at_rest) - one
        for gradient in network.layer_gradients(at_rest, one - two):
            yield f"no gradient at L = {depth}", gradient
        orbit = representation_cost.claim_factors(U, np.array([roots[0], u]), V, depth)
        speed = np.array([none, claim_speed(u, s[1], depth)])
        G = network.end_to_end(orbit) - two
        velocity = representation_cost.claim_factors(U, speed, V, depth)
        for gradient, motion in zip(network.layer_gradients(orbit, G), velocity, strict=True):
            yield f"the orbit at L = {depth}", gradient + motion


def residual(case: Case) -> float:
    """Rank, cost and matrix at the slowest points, and the speed half-way between them."""
    start = [case.alpha * W for W in case.weights]
    until = Until(cost=1e-3 * claim_cost(case.s, len(case.s) - 1))
    run = flow.gradient_flow(case.cost, start, (0.0, np.inf), until=until, rtol=1e-10, keep_weights=True)
    visited = {
        saddle.rank: saddle for saddle in find_saddles(run, resolution=1e-6) if saddle.kind == "saddle"
    }
    if not run.success or sorted(visited) != list(range(len(case.s))):
        return np.inf
    parts = [abs(visited[k].cost / claim_cost(case.s, k) - 1) for k in visited]
    for U, V in _singular_vectors(case):
        for k in range(1, len(case.s)):
            S = claim_saddle(U, case.s, V, k)
            parts.append(abs(np.sum(visited[k].end_to_end * S) / np.sum(S * S) - 1))
    return float(np.max([*parts, _error_of_speed(run, case.s[0])]))


def _singular_vectors(case: Case) -> Iterator[tuple[Array, Array]]:
    """Those of the target; where the first two values are equal, another choice too."""
    U, _, Vt = np.linalg.svd(case.cost.target, full_matrices=False)
    yield U, Vt.T
    if case.s[0] == case.s[1]:
        turn = np.eye(len(Vt))
        turn[:2, :2] = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
        yield U @ turn, Vt.T @ turn


def _error_of_speed(run: Trajectory, s: float) -> float:
    """Of the first mode, at the saved time when it is nearest to half its final size."""
    i, depth = int(np.argmin(np.abs(run.singular_values[:, 0] - s / 2))), run.depth
    assert run.weights is not None
    weights = [W[i] for W in run.weights]
    A = network.end_to_end(weights)
    U, a, Vt = np.linalg.svd(A)
    velocity = network.end_to_end_velocity(weights, run.cost_function.gradient(A))
    u = a[0] ** (1 / depth)
    measured = float(U[:, 0] @ velocity @ Vt[0]) / (depth * u ** (depth - 1))
    return float(abs(measured / claim_speed(u, s, depth) - 1))


def _draw(rng: Generator, depth: int) -> Case:
    s = rng.uniform(2.0, 3.0) * np.array([1.0, 0.3, 0.09])
    n, m = (int(x) for x in rng.integers(3, 5, size=2))
    target = draw_orthogonal(rng, n)[:, :3] * s @ draw_orthogonal(rng, m)[:, :3].T
    widths = [m, *[5] * (depth - 1), n]
    weights = [rng.normal(size=(b, a)) / np.sqrt(5) for a, b in zip(widths, widths[1:], strict=False)]
    return Case(weights, SMALL[depth], costs.FullyObserved(target), s)


def _equal(case: Case, _: Generator) -> Case:
    """The first two singular values are one and the same."""
    U, Vt = np.linalg.svd(case.cost.target, full_matrices=False)[::2]
    s = case.s[[0, 0, 2]]
    return replace(case, s=s, cost=costs.FullyObserved(U[:, :3] * s @ Vt[:3]))


def _half_observed(case: Case, _: Generator) -> Case:
    target = case.cost.target
    return replace(case, cost=costs.MatrixCompletion(target, np.indices(target.shape).sum(axis=0) % 2))


STATEMENT = Statement(
    title="small starts go from saddle to saddle, one singular value at a time (conjecture)",
    formula="for alpha -> 0 the flow from alpha theta_0 stays ever longer near A_k = sum_(i <= k) s_i u_i v_i^T, "
    "k = 0, 1, .., of cost 1/2 sum_(i > k) s_i^2, and goes from A_k to A_(k+1) along the orbit on which each layer has "
    "u of the new mode, u' = u^(L-1) (s_(k+1) - u^L); proved for the first orbit only",
    source="A. Jacot et al., arXiv 2106.15933v2, saddle-to-saddle conjecture",
    symbolic=Proof("the saddles and the orbits between them; A of shape (2, 2), L = 2, 3, 4", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the start is small": Hypothesis(
                lambda case: case.alpha < 0.01, lambda case, _: replace(case, alpha=1.0)
            ),
            "the singular values differ": Hypothesis(lambda case: bool(np.all(np.diff(case.s) < 0)), _equal),
            "every entry is observed": Hypothesis(
                lambda case: isinstance(case.cost, costs.FullyObserved), _half_observed
            ),
        },
        residual=residual,
        tolerance=3e-4,
        depths=(2, 3, 4),
        repeats=1,
    ),
    conjecture=True,
)
