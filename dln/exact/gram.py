"""Two layers: the closed Gram equation, for any start and any cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..costs import Cost
from ..flow import COLLOCATE_UP_TO, gradient_flow
from ..problem import Problem
from ..trajectory import Trajectory
from ..typing import Array, ArrayLike, Layers
from .path import measure, narrowed, room, times

__all__ = ["followed", "gram"]

RTOL = 1e-13
# Collocation where its eigenvectors cost little; else explicit steps, unless it takes too many to get to a late time.
STIFF, FAST, SMALL = ("radau13", None), ("auto", 20_000), 20_000


def gram(cost: Cost, weights: Layers, t: ArrayLike, *, weight_decay: float = 0.0) -> Trajectory:
    r"""Trajectory of two layers by their Gram matrix, whatever their width.

    With :math:`Q = [W_1^T; W_2]` and G the gradient of the cost at A, the matrix :math:`M = Q Q^T` moves by itself,

    .. math:: \dot M = K M + M K - 2 \lambda M, \qquad K = \begin{pmatrix} 0 & -G^T \\ -G & 0 \end{pmatrix},

    and A is its lower left block. The layers follow by :math:`\dot Q = (K - \lambda) Q`.

    Parameters
    ----------
    cost : Cost
        Any cost.
    weights : sequence of two array_like
        [W_1, W_2] at t = 0.
    t : array_like
        Increasing times >= 0.
    weight_decay : float
        lambda >= 0.

    Raises
    ------
    ValueError, TypeError
        If there are not two layers or an argument is wrong.
    RuntimeError
        If the flow cannot be followed to the end; the message says where and why.

    Notes
    -----
    M is carried by a factor, M = Z Z^T with at most n_0 + n_L columns, and Q = Z B^T with a fixed B: the square would
    lose modes below the square root of the rounding unit. The equation is integrated, with a relative error of 1e-13 a
    step; that its size does not depend on the width is exact.

    References
    ----------
    S. Arora, N. Cohen, E. Hazan, arXiv 1802.06509; S. Tarmoun, G. Franca, B. Haeffele, R. Vidal, ICML 2021.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.MatrixCompletion([[1.0, 2.0], [2.0, 0.0]], [[1, 1], [1, 0]])
    >>> run = gram(cost, dln.inits.gaussian((2, 500, 2), std=1e-3, rng=0), [0.0, 50.0])
    >>> run.state_size, bool(run.cost[-1] < 1e-12)
    (16, True)
    """
    problem, t = Problem.checked(cost, weights, weight_decay), times(t)
    if problem.depth != 2:
        raise ValueError(f"`weights` must be two layers, got {problem.depth}. Take dln.gradient_flow.")
    B, small = narrowed(problem.weights)
    run = followed(problem, small, t)
    assert run.weights is not None
    assert run.continue_from is not None
    onward = run.continue_from

    def continued(layers: tuple[Array, ...], since: float, later: Array) -> list[Array]:
        W_1, W_2 = onward((B.T @ layers[0], layers[1] @ B), since, later)
        return [B @ W_1, W_2 @ B.T]

    keep = len(t) <= room(problem)
    return replace(
        run,
        weights=(B @ run.weights[0], run.weights[1] @ B.T) if keep else None,
        measured=None if keep else measure(problem, run.weights)[1],
        start=problem.weights,
        form="gram",
        continue_from=continued,
    )


def followed(problem: Problem, layers: Sequence[Array], t: Array) -> Trajectory:
    """The flow of a problem from other layers, integrated as closely as float64 allows."""
    span = (0.0, float(t[-1]) if t[-1] > 0 else 1.0)
    entries = sum(W.size for W in layers) * problem.widths[0] * problem.widths[-1]
    tries = (
        (STIFF,) if entries <= SMALL else (FAST, STIFF) if entries <= COLLOCATE_UP_TO else (("auto", None),)
    )
    for method, steps in tries:
        run = gradient_flow(
            problem.cost,
            layers,
            span,
            weight_decay=problem.weight_decay,
            method=method,
            rtol=RTOL,
            t_eval=t,
            max_steps=steps,
            keep_weights=True,
        )
        if run.success:
            return run
    raise RuntimeError(f"the flow could not be followed to t = {t[-1]:g}: {run.message}")
