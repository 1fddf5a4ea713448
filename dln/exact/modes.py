"""Aligned starts of any depth: every singular mode of the target is a scalar network of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..costs import Cost
from ..problem import Problem
from ..trajectory import Trajectory
from ..typing import Array, ArrayLike, Layers
from .aligned import aligned_modes
from .chain import chain
from .linear import linear
from .mode import covered, mode
from .path import Law, path, squared_distance, times

__all__ = ["aligned_law", "modes"]

EQUAL = 1e-13  # of the sizes of a balanced mode, relative to the largest


def modes(cost: Cost, weights: Layers, t: ArrayLike, *, weight_decay: float = 0.0) -> Trajectory:
    r"""Trajectory of an aligned network: all layers diagonal in bases that begin and end with the target's.

    With :math:`W_l = \sum_i w_{l,i}\, b_{l,i} b_{l-1,i}^T`, b_0 and b_L singular vectors of the target,

    .. math:: \dot w_{l,i} = (s_i - \prod_m w_{m,i}) \prod_{m \ne l} w_{m,i} ,

    a balanced mode (all :math:`|w_{l,i}|` equal) follows `dln.exact.mode`, any other `dln.exact.scalar`.

    Parameters
    ----------
    cost : Cost
        FullyObserved, or SquareLoss with whitened inputs.
    weights : sequence of array_like
        An aligned start, such as `dln.inits.aligned` gives, balanced or not. What belongs to no mode does not move.
    t : array_like
        Increasing times >= 0.
    weight_decay : float
        lambda >= 0; closed for balanced modes of one or two layers only.

    Raises
    ------
    ValueError, TypeError
        If the layers are not aligned with the target, no closed form exists, or an argument is wrong.

    Notes
    -----
    Sizes that agree to 1e-13 count as balanced. A balanced mode whose product has the wrong sign dies; this is exact,
    but a difference of the last digit alone would turn it in the end.

    References
    ----------
    A. Saxe, J. McClelland, S. Ganguli, arXiv 1312.6120; S. Tarmoun et al., ICML 2021 (unbalanced).

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved(np.diag([3.0, 2.0]))
    >>> run = modes(cost, dln.inits.aligned(cost.target, 3, scale=1e-6), [0.0, 33.0, 40.0, 60.0])
    >>> np.round(run.singular_values, 3)
    array([[0.   , 0.   ],
           [0.673, 0.   ],
           [3.   , 0.   ],
           [3.   , 2.   ]])
    """
    problem, t = Problem.checked(cost, weights, weight_decay), times(t)
    if problem.depth == 1:
        return linear(cost, weights, t, weight_decay=weight_decay)
    law, size = aligned_law(problem)
    return path(problem, t, law, method="modes", state_size=size)


def aligned_law(problem: Problem) -> tuple[Law, int]:
    """Layers as a function of time, and how many numbers move."""
    target, factor = squared_distance(problem.cost)
    found = aligned_modes(problem.weights, target)
    sizes = _motion(found.sizes, found.s, problem.weight_decay / factor)

    def law(t: Array) -> tuple[Array, ...]:
        return found.layers(sizes(factor * t), np.exp(-problem.weight_decay * t)[:, None, None])

    return law, found.sizes.size


def _motion(w: Array, s: Array, decay: float) -> Callable[[Array], Array]:
    """Layers of every mode at times, (L, T, k), from those at the start, (L, k)."""
    L, size = len(w), np.abs(w).max(axis=0)
    if L == 1:  # where a mode of size zero moves too
        rest = s / (1 + decay)
        return lambda t: (rest + np.exp(-(1 + decay) * t[:, None]) * (w - rest))[None]
    level = np.abs(np.abs(w) - size).max(axis=0) <= EQUAL * size
    if decay > 0 and (L > 2 or not level.all()):
        raise ValueError(
            f"`weight_decay` must be 0 unless two layers are balanced, got {decay:g} at depth {L}. "
            "Take dln.gradient_flow."
        )
    sign = np.prod(np.sign(w), axis=0)
    pull, force = sign * s - decay, s - sign * decay
    level &= covered(size**L, pull) & (size**L > 0)  # what underflows is left to the general law
    signs, a0, pull = np.sign(w[:, None, level]), size[level] ** L, pull[level]
    chains = [(i, chain(w[:, i], float(force[i]))) for i in np.flatnonzero(~level)]

    def sizes(t: Array) -> Array:
        result = np.repeat(w[:, None, :], len(t), axis=1)
        if level.any():
            result[:, :, level] = signs * mode(t[:, None], a0, pull, L) ** (1 / L)
        for i, moving in chains:
            if moving is not None:
                result[:, :, i] = moving.weights(t).T
        return result

    return sizes
