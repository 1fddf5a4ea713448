"""What is asked: a cost, a start, weight decay; when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from . import checks
from .costs import Cost
from .typing import Array, Layers

__all__ = ["Problem", "Until"]


@dataclass(frozen=True)
class Problem:
    """A checked problem: minimise C(W_L ... W_1) + (weight_decay / 2) |theta|^2 from a start."""

    cost: Cost
    weights: tuple[Array, ...]
    weight_decay: float

    @staticmethod
    def checked(cost: Any, weights: Layers, weight_decay: Any) -> Problem:
        """The problem, or an error that names what does not fit."""
        if not isinstance(cost, Cost):
            raise TypeError(
                f"`cost` must be a cost from dln.costs, got {type(cost).__name__}. Wrap it in dln.costs.Custom."
            )
        layers = checks.layers(weights)
        shape = (layers[-1].shape[0], layers[0].shape[1])
        if cost.shape is not None and cost.shape != shape:
            raise ValueError(
                f"`weights` must have a product of shape {cost.shape}, that of the cost, got {shape}. "
                "Change the first or the last layer."
            )
        return Problem(cost, tuple(layers), checks.nonnegative(weight_decay, "weight_decay"))

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """(n_0, .., n_L)."""
        return (self.weights[0].shape[1], *(W.shape[0] for W in self.weights))

    @property
    def depth(self) -> int:
        """Number of layers L."""
        return len(self.weights)

    @cached_property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(W.size for W in self.weights)


@dataclass(frozen=True)
class Until:
    r"""When a run ends before its time span does; the first condition that holds ends it.

    Parameters
    ----------
    cost : float, optional
        The cost C(A) is at most this.
    gradient_norm : float, optional
        The gradient of the objective with respect to the weights has at most this Frobenius norm *and* the point is no
        saddle: near a saddle the flow is slow too, but a mode outside the network's present range can still grow, at
        the rate that the largest singular value of dC/dA gives. At a minimum that value falls with the gradient.
    rank : int, optional
        So many modes are active (`dln.find_saddles` says what that means).
    saddle : int, optional
        So many saddles have been visited, the start near zero counting as the first; the trajectory then ends at the
        slowest point of the last of them.

    Raises
    ------
    ValueError, TypeError
        If no condition is given or one is out of its range.

    Examples
    --------
    >>> Until(cost=1e-8)
    Until(cost=1e-08)
    """

    cost: float | None = None
    gradient_norm: float | None = None
    rank: int | None = None
    saddle: int | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, field.name) is None for field in fields(self)):
            raise ValueError(
                "`until` must have at least one condition, got none. Give cost, gradient_norm, rank or saddle."
            )
        if self.cost is not None:
            checks.number(self.cost, "until.cost")
        if self.gradient_norm is not None:
            checks.positive(self.gradient_norm, "until.gradient_norm")
        for name in ("rank", "saddle"):
            if getattr(self, name) is not None:
                checks.integer(getattr(self, name), f"until.{name}", least=1)

    def __repr__(self) -> str:
        given = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return f"Until({', '.join(f'{name}={value!r}' for name, value in given if value is not None)})"

    @property
    def cost_goal(self) -> float:
        """Cost to reach, -inf where none is asked."""
        return -math.inf if self.cost is None else float(self.cost)

    @property
    def dissipation_goal(self) -> float:
        """Squared gradient norm to reach, -1 where none is asked."""
        return -1.0 if self.gradient_norm is None else float(self.gradient_norm) ** 2


def as_state(weights: Any) -> Array:
    """Layers one after the other, row by row, as one flat array."""
    return np.concatenate([np.ravel(W) for W in weights])
