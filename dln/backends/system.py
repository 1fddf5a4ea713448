"""A problem in one form, as the arrays and function pointers that the compiled loops take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.compile import plain_records
from ..problem import Problem
from ..typing import Array

__all__ = ["System", "record"]


@dataclass(frozen=True)
class System:
    """The leading arguments of every compiled loop, and the state to start from."""

    problem: Problem
    form: Any
    state: Array
    arguments: tuple[Any, ...]  # velocity, measure, read, gradient, value, index, weight_decay, data, work

    @staticmethod
    def of(problem: Problem, form: Any) -> System:
        """Enter the form and compile what is not compiled."""
        value, gradient = problem.cost.kernels()
        index = np.array(problem.widths, dtype=np.int64)
        work = np.zeros(form.work_size(problem.widths))
        data = problem.cost.data
        arguments = (*form.kernels(), gradient, value, index, problem.weight_decay, data, work)
        return System(problem, form, form.enter(problem), arguments)

    def velocity(self, state: Array) -> tuple[Array, Array, Array]:
        """Velocity, end-to-end matrix (flat), and (cost, objective, dissipation) at a state."""
        velocity, measure, _, gradient, value, index, weight_decay, data, work = self.arguments
        out, result = np.empty_like(state), np.empty(3)
        velocity(state, index, weight_decay, gradient, data, np.empty(0, np.int64), work, out)
        measure(state, out, index, weight_decay, value, data, work, result)
        return out, work[: index[0] * index[-1]].copy(), result

    def raise_failure(self) -> None:
        """Raise what the cost's own Python code raised, if it did."""
        if (failure := self.problem.cost.failure()) is not None:
            raise failure


def record(dtype: Any) -> Any:
    """One record with named fields."""
    made = np.zeros(1, dtype)
    return made.view(np.recarray) if plain_records() else made
