r"""The lazy regime: the flow linearised at its start, and how far the tangent kernel leaves its first value."""

from __future__ import annotations

import numpy as np

from .. import checks
from ..costs import Cost
from ..network import end_to_end, ntk
from ..problem import Problem
from ..trajectory import Trajectory
from ..typing import Array, ArrayLike, Layers
from .minimisers import eigenbasis

__all__ = ["linearised", "ntk_change"]


def linearised(cost: Cost, weights: Layers, t: ArrayLike) -> Array:
    r"""End-to-end matrix of the flow linearised at the start, :math:`\dot A = -\Theta(0)\,\nabla C(A)`.

    For a fully observed target :math:`\mathrm{vec}(A(t) - A^*) = e^{-\Theta(0) t}\,\mathrm{vec}(A(0) - A^*)`. A wide
    network follows it for gamma < 1: the error falls like :math:`\rho^{-2L} = w^{-L(1-\gamma)}`.

    Parameters
    ----------
    cost : Cost
        FullyObserved, MatrixCompletion, MatrixSensing or SquareLoss.
    weights : sequence of array_like
        Layers [W_1, .., W_L] at time 0.
    t : array_like
        Times >= 0.

    Returns
    -------
    ndarray, shape (..., n_L, n_0)
        A at the times, as `Trajectory.at` gives it; the product of no layers.

    Raises
    ------
    ValueError, TypeError
        If the cost is not quadratic, the layers do not fit it, or a time is negative.

    References
    ----------
    A. Jacot, F. Gabriel, C. Hongler, arXiv 1806.07572; lazy regime in arXiv 2106.15933v1.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved([[4.0]])
    >>> linearised(cost, [[[1.0]], [[1.0]]], [0.0, np.log(2.0)])  # the kernel is 2
    array([[[1.  ]],
    <BLANKLINE>
           [[3.25]]])
    """
    problem, basis = Problem.checked(cost, weights, 0.0), eigenbasis(cost)
    times = checks.array(t, "t")
    if not (times >= 0).all():
        raise ValueError(f"`t` must be zero or positive, got {times.min():g}. The start is at time 0.")
    A = end_to_end(problem.weights)
    h, Q = np.linalg.eigh(ntk(problem.weights).reshape(A.size, -1))
    root = (Q * np.sqrt(np.maximum(h, 0.0))) @ Q.T
    units = np.eye(A.size).reshape(A.size, *np.shape(basis.eigenvalues))
    V = basis.back(units).reshape(A.size, -1)  # rows: eigenvectors of the Hessian of the cost
    curvature = cost.scale * (V.T * np.ravel(basis.eigenvalues)) @ V
    # A = A_0 + root z: the flow of z is symmetric, even where the kernel is singular
    k, P = np.linalg.eigh(root @ curvature @ root)
    k = np.maximum(k, 0.0)
    pull = -P.T @ root @ cost.gradient(A).ravel()
    gone = times[..., None] * k
    gained = np.where(k > 0, -np.expm1(-gone) / np.where(k > 0, k, 1.0), times[..., None])
    return np.asarray(A + ((gained * pull) @ (root @ P).T).reshape(*times.shape, *A.shape))


def ntk_change(trajectory: Trajectory) -> Array:
    r"""Relative change of the tangent kernel at the saved times.

    .. math:: \|\Theta(t) - \Theta(0)\|_F / \|\Theta(0)\|_F

    Parameters
    ----------
    trajectory : Trajectory
        With its weights kept.

    Returns
    -------
    ndarray, shape (T,)

    Raises
    ------
    ValueError, TypeError
        If the weights were not kept, or the kernel at the start is zero.

    References
    ----------
    A. Jacot, F. Gabriel, C. Hongler, arXiv 1806.07572.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved([[4.0]])
    >>> run = dln.gradient_flow(cost, [[[1.0]], [[1.0]]], (0.0, 9.0))
    >>> print(f"{ntk_change(run)[-1]:.6f}")  # from 1 + 1 to 4 + 4
    3.000000
    """
    if not isinstance(trajectory, Trajectory):
        raise TypeError(
            f"`trajectory` must be a Trajectory, got {type(trajectory).__name__}. Take the result of a flow."
        )
    if trajectory.weights is None:
        raise ValueError(
            "`trajectory` must hold its weights, got None. Run again with keep_weights=True, or fewer t_eval."
        )
    first = ntk(trajectory.start or [W[0] for W in trajectory.weights])
    size = float(np.linalg.norm(first))
    if size == 0.0:
        raise ValueError("`trajectory` must start where the kernel is not zero, got 0. Perturb the start.")
    kernels = (ntk([W[i] for W in trajectory.weights]) for i in range(len(trajectory.t)))
    return np.array([float(np.linalg.norm(kernel - first)) / size for kernel in kernels])
