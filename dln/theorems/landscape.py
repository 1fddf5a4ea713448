"""Critical points of regularised objectives, and their Hessians."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.optimize import minimize

from .. import network
from ..typing import Array
from .runs import R, Run, complex_step, flat
from .trial import Hypothesis

__all__ = ["CRITICAL", "hessian", "settled", "settling", "steepest"]


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


CRITICAL: Hypothesis[Any] = Hypothesis(
    lambda run: bool(np.linalg.norm(flat(run.velocity())) < 1e-8), _stirred
)
