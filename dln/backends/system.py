"""A problem in one form, as the arrays and function pointers that the compiled loops take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.compile import plain_records, pointers
from ..core.evaluate import compiled_evaluate
from ..problem import Problem
from ..typing import Array

__all__ = ["System", "record"]


@dataclass(frozen=True)
class System:
    """The leading arguments of every compiled loop, and the state to start from."""

    problem: Problem
    form: Any
    state: Array
    kernels: tuple[Any, ...]  # kept alive: the loops know their addresses only
    arguments: tuple[Any, ...]  # pointers, index, weight_decay, data, work

    @staticmethod
    def of(problem: Problem, form: Any) -> System:
        """Enter the form and compile what is not compiled."""
        value, gradient = problem.cost.kernels()
        kernels = (*form.kernels(), gradient, value, None, None)
        index = form.index(problem)
        work = np.zeros(form.work_size(problem.widths))
        arguments = (pointers(kernels), index, problem.weight_decay, problem.cost.data, work)
        return System(problem, form, form.enter(problem), kernels, arguments)

    def with_curvature(self) -> System:
        """The same with products with the Hessian, which most runs do without."""
        if self.kernels[-1] is not None:
            return self
        kernels = (*self.kernels[:-2], self.form.product_kernel(), self.problem.cost.hessian_kernel())
        return replace(self, kernels=kernels, arguments=(pointers(kernels), *self.arguments[1:]))

    def with_data(self, data: Array) -> System:
        """The same with other data of the cost."""
        return replace(self, arguments=(*self.arguments[:-2], data, self.arguments[-1]))

    def evaluate(self, state: Array) -> tuple[Array, Array, Array, str]:
        """Velocity, end-to-end matrix (flat), (cost, objective, dissipation) at a state, and "" or what went wrong."""
        out, result = np.full(self.form.velocity_size(self.problem), np.nan), np.full(3, np.nan)
        status = self.call(compiled_evaluate(), state, out, result)
        widths = self.problem.widths
        return out, self.arguments[-1][: widths[0] * widths[-1]].copy(), result, str(status or "")

    def call(self, loop: Callable[..., Any], *more: Any) -> Any:
        """What a compiled loop returns, or "interrupted", or "failed: ..." where the cost's own code raised."""
        try:
            code = loop(*self.arguments, *more)
            failure = self.problem.cost.failure()
        except KeyboardInterrupt:
            return "interrupted"
        except Exception as error:  # of a compiled cost; nothing else in the kernels raises
            failure = error
        if failure is None:
            return code
        return (
            "interrupted"
            if isinstance(failure, KeyboardInterrupt)
            else f"failed: {type(failure).__name__}: {failure}"
        )


def record(dtype: Any) -> Any:
    """One record with named fields."""
    made = np.zeros(1, dtype)
    return made.view(np.recarray) if plain_records() else made
