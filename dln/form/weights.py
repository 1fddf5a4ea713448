"""The flow in the weights themselves: always there, always exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..method import Method
from ..problem import Problem
from ..typing import Array

__all__ = ["Weights"]


class Weights:
    """State: the layers W_1 .. W_L one after the other, row by row."""

    name = "weights"
    purpose = "every layer as it is: any start, any cost, any depth"
    exact = True
    compensated = True  # whether the steps are summed with their rounding errors carried along

    def takes(self, method: Method) -> bool:
        """Whether a method can integrate it."""
        return True

    def refusal(self, problem: Problem, rtol: float) -> str:
        """What of a problem rules this form out, and what to do; "" where nothing does."""
        return ""

    def index(self, problem: Problem) -> Array:
        """Integers that the kernels are told: the widths."""
        return np.array(problem.widths, dtype=np.int64)

    def enter(self, problem: Problem) -> Array:
        """State at the start."""
        return np.concatenate([W.ravel() for W in problem.weights])

    def blocks(self, problem: Problem) -> Array:
        """Ends of the parts of the state whose errors are controlled separately: the layers."""
        return np.cumsum([0, *(W.size for W in problem.weights)])

    def velocity_size(self, problem: Problem) -> int:
        """Length of a velocity, in whatever numbers stand for it."""
        return problem.parameters

    def sizes(self, state: Array, velocity: Array, problem: Problem) -> list[tuple[float, float]]:
        """Size of each layer and of its velocity, in one norm."""
        parts = [slice(a, b) for a, b in pairwise(self.blocks(problem))]
        return [(float(np.abs(state[part]).max()), float(np.abs(velocity[part]).max())) for part in parts]

    def direction(self, problem: Problem) -> Array:
        """Where the power iteration for the spectral radius begins."""
        direction = np.cos(np.arange(problem.parameters) ** 2 * 1.0)  # no mode is orthogonal to this
        return direction / np.linalg.norm(direction)

    def layers(self, states: Array, widths: Sequence[int]) -> tuple[Array, ...]:
        """Layers of a stack of states, each (..., n_l, n_{l-1})."""
        shapes = list(zip(widths[1:], widths[:-1], strict=True))
        ends = np.cumsum([rows * columns for rows, columns in shapes])[:-1]
        parts = np.split(states, ends, axis=-1)
        return tuple(
            part.reshape(*states.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)
        )

    def work_size(self, widths: Sequence[int]) -> int:
        """Length of the scratch array of the kernels."""
        from ..core import weights

        return weights.work_size(widths)

    def product_kernel(self) -> Callable[..., Any]:
        """Compiled product with the Hessian."""
        from ..core import weights
        from ..core.compile import compiled

        return compiled(weights.product, "product")

    def kernels(self) -> tuple[Callable[..., Any], ...]:
        """Compiled velocity, measure and read."""
        from ..core import weights
        from ..core.compile import compiled

        return tuple(compiled(getattr(weights, name), name) for name in ("velocity", "measure", "read"))

    def loop_kernels(self, family: type[Method]) -> tuple[Callable[..., Any] | None, ...]:
        """Compiled `step` and `complete`; `between` and `radius` where velocities are factors."""
        return (*family.kernels(), None, None)
