"""What an integration method is: names, tables, and two compiled functions."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..typing import Array

__all__ = ["Method", "frozen"]


class Method(ABC):
    """One integration method, as the compiled loop takes it; see `dln.core.steps` for what a step does.

    Attributes
    ----------
    name, title, purpose : str
        Key in `ALL`, the authors' name for the method, and one line on what it is for.
    order : int
        Order of the propagated solution.
    stages : int
        Number of stages.
    error : ndarray
        Weights of the error estimate, as the step reads them.
    error_exponent : int
        The estimate of one step behaves as ``h**error_exponent``; 0 for a fixed step.
    dense : ndarray, shape (rows, d)
        ``y(t + theta h) = y + h sum_i (sum_j dense[i, j] theta**(j+1)) K_i`` for theta in [0, 1].
    dense_order : int
        Order of this continuous extension: its error within one step is ``O(h**(dense_order + 1))``.
    """

    name: str
    title: str
    purpose: str
    order: int
    stages: int
    error: Array
    error_exponent: int
    dense: Array
    dense_order: int
    curvature = False  # whether it needs products with the Hessian

    @property
    def adaptive(self) -> bool:
        """Whether the method estimates its error and may choose its steps."""
        return self.error_exponent > 0

    @property
    @abstractmethod
    def table(self) -> Array:
        """Coefficients, as the step reads them."""

    @property
    def closing(self) -> int:
        """Row of K that takes the velocity at the end of the step."""
        return self.stages

    @property
    def stability(self) -> float:
        """Length of the interval of stability on the negative real axis."""
        return math.inf

    @property
    def rows(self) -> int:
        """Rows of K: those of the dense output, and a spare one."""
        return len(self.dense) + 1

    def numbers(self, widths: Sequence[int]) -> Array:
        """Integers that the step reads: stages, closing, error_exponent, and what the method adds."""
        return np.array([self.stages, self.closing, self.error_exponent], dtype=np.int64)

    def memory(self, widths: Sequence[int]) -> Array:
        """What the step keeps from one call to the next, and its room to work in."""
        return np.zeros(1)

    def turn(self, memory: Array, widths: Sequence[int], turned: Callable[[Array], Array]) -> None:  # noqa: B027
        """Take what the memory knows of states to other bases; `turned` does that for states one in a row.

        Most methods remember nothing.
        """

    def fixed(self) -> Method:
        """The same method with steps of a fixed size."""
        method = copy.copy(self)
        object.__setattr__(method, "error_exponent", 0)
        return method

    @staticmethod
    @abstractmethod
    def kernels() -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Compiled `step` and `complete`."""


def frozen(table: Any) -> Array:
    """A C-contiguous float64 copy that cannot be written to."""
    result = np.array(table, dtype=np.float64, order="C")
    result.setflags(write=False)
    return result
