"""The flow in the weights themselves: always there, always exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..problem import Problem
from ..typing import Array

__all__ = ["Weights"]


class Weights:
    """State: the layers W_1 .. W_L one after the other, row by row."""

    name = "weights"
    purpose = "every layer as it is: any start, any cost, any depth"
    exact = True

    def enter(self, problem: Problem) -> Array:
        """State at the start."""
        return np.concatenate([W.ravel() for W in problem.weights])

    def blocks(self, problem: Problem) -> Array:
        """Ends of the parts of the state whose errors are controlled separately: the layers."""
        return np.cumsum([0, *(W.size for W in problem.weights)])

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
