"""Points of the landscape: aligned layers, local minima, and the Hessians there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.optimize import minimize

from .. import network
from ..typing import Array
from .runs import FULL_OBSERVATION, R, Run, complex_step, draw_orthogonal, flat, full_observation
from .trial import Hypothesis

__all__ = [
    "CRITICAL",
    "UNIT_CURVATURE",
    "Aligned",
    "draw_critical",
    "hessian",
    "aligned",
    "roots",
    "settled",
    "settling",
    "steepest",
]


@dataclass(frozen=True, kw_only=True)
class Aligned(Run):
    """Balanced layers under full observation: modes of sizes ``u^L`` in those of a target with singular values s."""

    s: Array
    u: Array


def roots(s: float, weight_decay: float, depth: int) -> Array:
    """Positive roots of ``u^(2L-2) - s u^(L-2) + weight_decay``, the largest first: by a companion matrix."""
    p = np.polynomial.Polynomial([weight_decay, *[0.0] * (2 * depth - 3), 1.0])
    p -= s * np.polynomial.Polynomial.basis(depth - 2)
    z = np.asarray(p.roots(), dtype=complex)
    u = z.real[(np.abs(z.imag) < 1e-9) & (z.real > 0)]
    for _ in range(2):
        u = u - p(u) / p.deriv()(u)
    return np.sort(u)[::-1]


def aligned(rng: Generator, s: Array, u: Array, weight_decay: float, widths: Sequence[int]) -> Aligned:
    """Balanced layers of given modes, in random bases of all spaces."""
    k, depth = len(s), len(widths) - 1
    frames = [draw_orthogonal(rng, n)[:, :k] for n in widths]
    return Aligned(
        weights=[Q * u @ P.T for P, Q in zip(frames, frames[1:], strict=False)],
        cost=full_observation(frames[-1] * s @ frames[0].T),
        rates=np.ones(depth),
        decays=np.full(depth, weight_decay),
        s=s,
        u=u,
    )


def draw_critical(rng: Generator, depth: int, *, most: int = 4) -> Aligned:
    """Random critical point with a mode that is not small; three modes, A of shape (3, 3) to (most, most)."""
    weight_decay, s = rng.uniform(0.1, 0.3), np.array([2.0, 1.2, 0.5]) + rng.uniform(-0.3, 0.3, size=3)
    u = np.zeros(3)
    while u.max() < 0.5:
        u = np.array([rng.choice([*roots(x, weight_decay, depth), 0.0]) for x in s])
    m, n, width = (int(rng.integers(3, k + 1)) for k in (most, most, 4))
    return aligned(rng, s, u, weight_decay, [m, *[width] * (depth - 1), n])


def hessian(run: Run) -> Array:
    """Hessian of the objective in all entries of the layers, row by row: complex steps of the velocity."""
    state = flat(run.weights)

    def gradient(weights: list[Array]) -> Array:
        return -flat(run.at(flat(weights)).velocity())

    return np.array([complex_step(gradient, run.weights, run.at(row).weights) for row in np.eye(len(state))])


def settled(run: R) -> R:
    """The run at a local minimum of its objective: BFGS, and Newton's method across the flat directions."""

    def objective(state: Array) -> float:
        return float(run.at(state).objective())

    def gradient(state: Array) -> Array:
        return -flat(run.at(state).velocity())

    state = minimize(objective, flat(run.weights), jac=gradient, method="BFGS", options={"gtol": 1e-7}).x
    for _ in range(2):
        state = state - np.linalg.pinv(hessian(run.at(state)), rcond=1e-6, hermitian=True) @ gradient(state)
    return run.at(state)


def steepest(weights: Sequence[Array], G: Array) -> float:
    """Largest value of ``-<G, A>`` on the unit sphere of the layers, from given layers by shifted power iteration."""
    weights = _unit(weights)
    for _ in range(100):
        gradients = _unit(network.layer_gradients(weights, G))
        weights = _unit([W - V for W, V in zip(weights, gradients, strict=True)])
    return -float(np.sum(G * network.end_to_end(weights)))


def _unit(weights: Sequence[Array]) -> list[Array]:
    return [W / np.linalg.norm(flat(weights)) for W in weights]


def settling(hypothesis: Hypothesis[Any]) -> Hypothesis[Any]:
    """The hypothesis, broken at a local minimum of the objective that breaks it."""

    def broken(run: Any, rng: Generator) -> Any:
        return settled(hypothesis.broken(run, rng))

    return Hypothesis(hypothesis.holds, broken)


def _stirred(run: R, rng: Generator) -> R:
    state = flat(run.weights)
    return run.at(state * (1 + 0.2 * rng.normal(size=len(state))))


def _recurved(run: R, rng: Generator) -> R:
    """Another curvature of the cost, with the same gradient at the point."""
    other = FULL_OBSERVATION.broken(run, rng)
    distance = np.linalg.solve(other.cost.H, np.ravel(run.gradient_of_cost()))
    target = network.end_to_end(run.weights) - distance.reshape(run.cost.target.shape)
    return replace(other, cost=replace(other.cost, target=target))


UNIT_CURVATURE: Hypothesis[Any] = Hypothesis(FULL_OBSERVATION.holds, _recurved)
CRITICAL: Hypothesis[Any] = Hypothesis(
    lambda run: bool(np.linalg.norm(flat(run.velocity())) < 1e-8), _stirred
)
