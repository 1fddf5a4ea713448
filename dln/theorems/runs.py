"""Random networks in motion, and independent ways to differentiate and integrate them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import count, pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.random import Generator
from scipy.integrate import solve_ivp

from .. import network
from ..typing import Array
from .trial import Hypothesis

__all__ = [
    "BALANCED",
    "EQUAL_DECAYS",
    "FULL_OBSERVATION",
    "LINEAR_COST",
    "NO_DECAY",
    "UNIT_RATES",
    "Quadratic",
    "Run",
    "complex_step",
    "draw_layers",
    "draw_run",
    "draw_orthogonal",
    "flat",
    "full_observation",
    "linear_cost",
    "gap",
    "product",
]

R = TypeVar("R", bound="Run")
LONGEST = 100_000  # number of evaluations of the velocity along a flow
STEP = 1e-30  # of the complex step, which has no cancellation


@dataclass(frozen=True)
class Quadratic:
    """Cost ``C(A) = 1/2 <A - target, H (A - target)> + <slope, A>``; `H` acts on the entries row by row."""

    target: Array
    H: Array
    slope: Any = 0.0

    def value(self, A: Any) -> Any:
        residual = np.ravel(A - self.target)
        return residual @ self.H @ residual / 2 + np.sum(self.slope * A)

    def gradient(self, A: Array) -> Array:
        return (self.H @ np.ravel(A - self.target)).reshape(A.shape) + self.slope


@dataclass(frozen=True)
class Run:
    """Layers that move by ``W_l' = -rate_l (update(dC/dW_l) + decay_l W_l)``."""

    weights: list[Array]
    cost: Quadratic
    rates: Array
    decays: Array
    update: Callable[[Array], Array] = np.positive

    def gradient_of_cost(self) -> Array:
        return self.cost.gradient(network.end_to_end(self.weights))

    def at(self: R, state: Array) -> R:
        """The run with all entries of its layers, row by row, replaced."""
        ends = np.cumsum([W.size for W in self.weights])[:-1]
        parts = np.split(state, ends)
        return replace(
            self, weights=[part.reshape(W.shape) for part, W in zip(parts, self.weights, strict=True)]
        )

    def objective(self) -> Any:
        """Cost and weight decay."""
        decay = sum(d * np.sum(W * W) for d, W in zip(self.decays, self.weights, strict=True))
        return self.cost.value(product(self.weights)) + decay / 2

    def velocity(self) -> list[Array]:
        gradients = network.layer_gradients(self.weights, self.gradient_of_cost())
        return [
            -rate * (self.update(gradient) + decay * W)
            for rate, decay, gradient, W in zip(self.rates, self.decays, gradients, self.weights, strict=True)
        ]

    def flow(self, time: float) -> list[Array]:
        """Layers after the given time, integrated to 12 digits; RuntimeError if that takes too long, as near rest."""
        calls = count()

        def velocity(_: float, state: Array) -> Array:
            if next(calls) > LONGEST:
                raise RuntimeError(
                    f"the flow over a time of {time:.3g} takes more than {LONGEST} evaluations"
                )
            return flat(self.at(state).velocity())

        solution = solve_ivp(
            velocity, (0.0, time), flat(self.weights), method="DOP853", rtol=1e-12, atol=1e-14, t_eval=[time]
        )
        return self.at(solution.y[:, -1]).weights

    def descend(self, learning_rate: float, steps: int, momentum: float) -> list[Array]:
        """Layers after some steps of gradient descent with heavy-ball momentum."""
        run, motion = self, [np.zeros_like(W) for W in self.weights]
        for _ in range(steps):
            motion = [momentum * M + V for M, V in zip(motion, run.velocity(), strict=True)]
            run = replace(
                run, weights=[W + learning_rate * M for W, M in zip(run.weights, motion, strict=True)]
            )
        return run.weights


def full_observation(target: Array) -> Quadratic:
    """Cost ``1/2 ||A - target||_F^2``."""
    return Quadratic(target, np.eye(target.size))


def linear_cost(G: Array) -> Quadratic:
    """Cost ``<G, A>``: what any cost is near the origin."""
    return Quadratic(np.zeros_like(G), np.zeros((G.size, G.size)), G)


def draw_layers(rng: Generator, widths: Iterable[int]) -> list[Array]:
    """Random layers of norms about 1.4."""
    return [1.4 * rng.normal(size=(n, m)) / (np.sqrt(n) + np.sqrt(m)) for m, n in pairwise(widths)]


def draw_run(rng: Generator, depth: int, *, weight_decay: float = 0.0, narrowest: int = 2) -> Run:
    """Random layers of widths `narrowest` to 5 and norms about 1.4, in the gradient flow of a random cost."""
    widths = rng.integers(narrowest, 6, size=depth + 1)
    weights = draw_layers(rng, widths)
    shape = (widths[-1], widths[0])
    size = shape[0] * shape[1]
    S = rng.normal(size=(size, size))
    cost = Quadratic(rng.normal(size=shape), 0.5 * np.eye(size) + S @ S.T / size)
    return Run(weights, cost, np.ones(depth), np.full(depth, weight_decay))


def draw_orthogonal(rng: Generator, n: int) -> Array:
    """Random orthogonal matrix of order n."""
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def product(weights: Sequence[Any]) -> Any:
    """End-to-end matrix of layers, independent of `dln.network`."""
    return reduce(np.matmul, reversed(weights))


def complex_step(
    function: Callable[[list[Any]], Any], weights: Sequence[Array], step: Sequence[Array]
) -> Any:
    """Derivative of an analytic function of the layers along a step, exact to rounding."""
    return function([W + STEP * 1j * S for W, S in zip(weights, step, strict=True)]).imag / STEP


def gap(left: Array | Sequence[Array], right: Array | Sequence[Array]) -> float:
    """Relative distance of two matrices, or of two lists of matrices."""
    x, y = flat(left), flat(right)
    return float(np.linalg.norm(x - y) / max(np.linalg.norm(x), np.linalg.norm(y)))


def flat(matrices: Array | Sequence[Array]) -> Array:
    """All entries of a matrix or a list of matrices, row by row."""
    return np.concatenate([np.ravel(M) for M in matrices])


def _uneven_rates(run: R, _: Generator) -> R:
    return replace(run, rates=np.arange(2.0, len(run.weights) + 2))


def _decaying(run: R, rng: Generator) -> R:
    return replace(run, decays=np.full(len(run.weights), rng.uniform(2.0, 3.0)))


def _unbalanced(run: R, rng: Generator) -> R:
    """The same A from a larger first layer and a smaller second one."""
    first, second, *rest = run.weights
    factor = rng.uniform(1.4, 1.6)
    return replace(run, weights=[factor * first, second / factor, *rest])


def _reweighted(run: R, rng: Generator) -> R:
    """Every entry of A is observed with a weight of its own."""
    weights = rng.uniform(1.5, 3.0, size=len(run.cost.H))
    return replace(run, cost=replace(run.cost, H=np.diag(weights)))


FULL_OBSERVATION: Hypothesis[Any] = Hypothesis(
    lambda run: np.array_equal(run.cost.H, np.eye(run.cost.target.size)), _reweighted
)
LINEAR_COST: Hypothesis[Any] = Hypothesis(
    lambda run: not np.any(run.cost.H),
    lambda run, _: replace(run, cost=replace(run.cost, H=10 * np.eye(len(run.cost.H)))),
)
UNIT_RATES: Hypothesis[Any] = Hypothesis(lambda run: bool(np.all(run.rates == 1)), _uneven_rates)
EQUAL_DECAYS: Hypothesis[Any] = Hypothesis(
    lambda run: bool(np.ptp(run.decays) == 0),
    lambda run, _: replace(run, decays=run.decays + np.linspace(0.0, 1.0, len(run.weights))),
)
BALANCED: Hypothesis[Any] = Hypothesis(
    lambda run: all(np.allclose(D, 0, atol=1e-12) for D in network.balances(run.weights)), _unbalanced
)
NO_DECAY: Hypothesis[Any] = Hypothesis(lambda run: not np.any(run.decays), _decaying)
