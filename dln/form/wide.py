"""The flow in the weights, with velocities of low rank: for layers too large to keep a copy of for every stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..method import Method
from ..method.explicit import Tableau
from ..problem import Problem
from ..typing import Array
from .weights import Weights

__all__ = ["Wide"]

# A layer of so many entries, so many times as wide as the ends, makes factors the faster way (measured: below it the
# full stages stay in the cache).
LARGE, THIN = 200_000, 20


class Wide(Weights):
    """State: the weights. A velocity is a row of factors: P_l^T, Q_l^T with dW_l/dt = P_l Q_l^T, layer after layer."""

    name = "wide"
    purpose = "explicit steps of nets with wide hidden layers, in the memory of two copies of the weights"
    compensated = False

    def takes(self, method: Method) -> bool:
        """Whether a method can integrate it."""
        return isinstance(method, Tableau)

    def refusal(self, problem: Problem, rtol: float) -> str:
        """What of a problem rules this form out, and what to do; "" where nothing does."""
        decay = problem.weight_decay
        return f"weight_decay = {decay:g}, under which no velocity has a low rank" if decay > 0.0 else ""

    def pays(self, problem: Problem) -> bool:
        """Whether that is faster too."""
        ends = max(problem.widths[0], problem.widths[-1])
        return any(W.size >= LARGE and min(W.shape) >= THIN * ends for W in problem.weights)

    def velocity_size(self, problem: Problem) -> int:
        """Length of a row of factors."""
        from ..core import wide

        return sum(r * sum(W.shape) for r, W in zip(wide.ranks(problem.widths), problem.weights, strict=True))

    def work_size(self, widths: Sequence[int]) -> int:
        """Length of the scratch array of the kernels."""
        from ..core import wide

        return wide.work_size(widths)

    def factors(self, velocity: Array, problem: Problem) -> list[tuple[Array, Array]]:
        """P_l^T and Q_l^T of every layer, views of a row."""
        from ..core import wide

        factors, at = [], 0
        for r, W in zip(wide.ranks(problem.widths), problem.weights, strict=True):
            P, Q = np.split(velocity[at : at + r * sum(W.shape)], [r * W.shape[0]])
            factors.append((P.reshape(r, -1), Q.reshape(r, -1)))
            at += r * sum(W.shape)
        return factors

    def sizes(self, state: Array, velocity: Array, problem: Problem) -> list[tuple[float, float]]:
        """Size of each layer and of its velocity, in one norm."""
        layers = self.layers(state, problem.widths)
        speeds = [
            math.sqrt(max(0.0, np.sum((P @ P.T) * (Q @ Q.T)))) for P, Q in self.factors(velocity, problem)
        ]
        return [(float(np.linalg.norm(W)), speed) for W, speed in zip(layers, speeds, strict=True)]

    def direction(self, problem: Problem) -> Array:
        """Where the power iteration begins: two rows of factors, together of Frobenius norm 1."""
        row = np.cos(np.arange(self.velocity_size(problem)) ** 2 * 1.0)
        square = 0.0
        for P, Q in self.factors(row, problem):
            square += np.sum((P @ P.T) * (Q @ Q.T))
        for P, _ in self.factors(row, problem):
            P /= math.sqrt(square)
        return np.concatenate([row, np.zeros_like(row)])

    def kernels(self) -> tuple[Callable[..., Any], ...]:
        """Compiled velocity, measure and read."""
        from ..core import weights, wide
        from ..core.compile import compiled

        return (
            compiled(wide.velocity, "velocity"),
            compiled(wide.measure, "measure"),
            compiled(weights.read, "read"),
        )

    def loop_kernels(self, family: type[Method]) -> tuple[Callable[..., Any] | None, ...]:
        """Compiled `step`, `complete`, `between`, `radius`."""
        from ..core import wide
        from ..core.compile import compiled
        from ..core.steps import BETWEEN, RADIUS, STEP

        return (
            compiled(wide.step, STEP),
            compiled(wide.complete, STEP),
            compiled(wide.between, BETWEEN),
            compiled(wide.radius, RADIUS),
        )
