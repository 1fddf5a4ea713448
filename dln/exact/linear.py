"""One layer: the flow of a quadratic cost is linear."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..costs import Cost, FullyObserved, MatrixCompletion, MatrixSensing, SquareLoss
from ..problem import Problem
from ..trajectory import Trajectory
from ..typing import Array, ArrayLike, Layers
from .path import path, times

__all__ = ["linear"]


def linear(cost: Cost, weights: Layers, t: ArrayLike, *, weight_decay: float = 0.0) -> Trajectory:
    r"""Trajectory of one layer under a quadratic cost, :math:`\dot A = -\nabla C(A) - \lambda A`.

    In the eigenbasis of the Hessian every coordinate relaxes by itself,

    .. math:: a(t) = a_0 e^{-kt} + b\,\frac{1 - e^{-kt}}{k}, \qquad k = h + \lambda,

    with h the eigenvalue and -b the gradient at A = 0.

    Parameters
    ----------
    cost : Cost
        FullyObserved, MatrixCompletion, MatrixSensing or SquareLoss.
    weights : sequence of one array_like
        [A(0)].
    t : array_like
        Increasing times >= 0.
    weight_decay : float
        lambda >= 0.

    Raises
    ------
    ValueError, TypeError
        If there is more than one layer, the cost is not quadratic, or an argument is wrong.

    References
    ----------
    Classical; the lazy limit of every deep linear network, arXiv 2106.15933.

    Examples
    --------
    >>> import dln
    >>> run = linear(dln.costs.FullyObserved([[2.0, 1.0]]), [[[0.0, 0.0]]], [0.0, np.log(2.0)])
    >>> run.end_to_end[-1]
    array([[1. , 0.5]])
    """
    problem, t = Problem.checked(cost, weights, weight_decay), times(t)
    if problem.depth != 1:
        raise ValueError(
            f"`weights` must be one layer, got {problem.depth}. Take dln.exact.two_layer, gram or modes."
        )
    if type(cost) not in EIGENBASES:
        raise ValueError(
            f"`cost` must be quadratic, one of {[kind.__name__ for kind in EIGENBASES]}, got {cost!r}. "
            "Take dln.gradient_flow."
        )
    basis = EIGENBASES[type(cost)](cost)
    start, k = basis.into(problem.weights[0]), cost.scale * basis.eigenvalues + problem.weight_decay

    def law(t: Array) -> tuple[Array, ...]:
        gone = k * t.reshape(-1, *[1] * k.ndim)
        with np.errstate(invalid="ignore"):
            gained = np.where(k > 0, -np.expm1(-gone) / np.where(k > 0, k, 1.0), t.reshape(-1, *[1] * k.ndim))
        return (basis.back(start * np.exp(-gone) + cost.scale * basis.pull * gained),)

    return path(problem, t, law, method="linear", state_size=problem.parameters)


class Eigenbasis(NamedTuple):
    """Eigenvalues of the Hessian, minus the gradient at 0, and the way into its eigenbasis and back."""

    eigenvalues: Array
    pull: Array
    into: Callable[[Array], Array]
    back: Callable[[Array], Array]


def _same(A: Array) -> Array:
    return A


def _fully_observed(cost: FullyObserved) -> Eigenbasis:
    return Eigenbasis(np.ones_like(cost.target), cost.target, _same, _same)


def _completion(cost: MatrixCompletion) -> Eigenbasis:
    return Eigenbasis(cost.mask, cost.mask * cost.target, _same, _same)


def _square_loss(cost: SquareLoss) -> Eigenbasis:
    U, s, Zt = np.linalg.svd(cost.X, full_matrices=True)
    s = np.pad(s, (0, len(U) - len(s)))
    Z = np.pad(Zt.T, ((0, 0), (0, max(0, len(U) - len(Zt)))))[:, : len(U)]
    eigenvalues = np.broadcast_to(s**2 / cost.samples, cost.shape or ())
    return Eigenbasis(eigenvalues, (cost.Y @ Z) * s / cost.samples, lambda A: A @ U, lambda a: a @ U.T)


def _sensing(cost: MatrixSensing) -> Eigenbasis:
    shape = cost.measurements.shape[1:]
    U, s, Vt = np.linalg.svd(cost.measurements.reshape(cost.samples, -1), full_matrices=True)
    pull = np.zeros(len(Vt))
    pull[: len(s)] = s * (U.T @ cost.values)[: len(s)]
    eigenvalues = np.pad(s, (0, len(Vt) - len(s))) ** 2
    return Eigenbasis(
        eigenvalues,
        pull,
        lambda A: A.reshape(*A.shape[:-2], -1) @ Vt.T,
        lambda a: (a @ Vt).reshape(*a.shape[:-1], *shape),
    )


EIGENBASES: dict[type[Cost], Callable[..., Eigenbasis]] = {
    FullyObserved: _fully_observed,
    MatrixCompletion: _completion,
    MatrixSensing: _sensing,
    SquareLoss: _square_loss,
}
