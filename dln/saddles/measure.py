"""Escapes of a run as they were: when, how fast, and how well they follow the optimal direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..schatten.fixed_rank import Penalised, Point, newton
from ..trajectory import Trajectory
from ..typing import Array
from .detect import Saddle, find_saddles

__all__ = ["Escape", "measure_escapes"]

NEAR = 0.5  # relative distance from which a critical point is not the one that the run visited
EARLY = 0.1  # of the size of the new mode at the next critical point, where the direction is looked at


@dataclass(frozen=True, eq=False)
class Escape:
    """How a trajectory left a saddle of rank k.

    Attributes
    ----------
    rank : int
        k.
    time : float
        First time, after the saddle, at which the (k+1)-th singular value of A is half of what it has at the next
        critical point. `dln.escape_times` predicts it (from zero on, for small starts).
    speed, predicted_speed : float
        s in c' = s c^(L-1), from the growth of the new mode, and `dln.escape_speed` of the gradient.
    alignment : float
        Frobenius cosine, between the complements of the singular spaces at the saddle, of A(t) and u_1 v_1^T, the top
        singular pair of -dC/dA there, when the new mode has a tenth of its size: 1 along the optimal direction.
    layer_ratios : ndarray, shape (L,)
        s_{k+2}(W_l) / s_{k+1}(W_l) at `time`: 0 where all layers have rank k+1 (NaN where the run knows no layers).
    """

    rank: int
    time: float
    speed: float
    predicted_speed: float
    alignment: float
    layer_ratios: Array

    def __repr__(self) -> str:
        return (
            f"Escape(rank={self.rank}, time={self.time:.6g}, speed={self.speed:.4g}, "
            f"predicted_speed={self.predicted_speed:.4g}, alignment={self.alignment:.6g})"
        )


def measure_escapes(trajectory: Trajectory) -> tuple[Escape, ...]:
    """Escapes of a trajectory, one for every saddle of `dln.find_saddles` from which the rank rises to the next.

    Parameters
    ----------
    trajectory : Trajectory
        A run; flows are looked at between their saved times too.

    Returns
    -------
    tuple of Escape

    Raises
    ------
    ValueError, TypeError
        As `dln.find_saddles`.

    References
    ----------
    arXiv 2106.15933v2, optimal escape directions and the first escape path.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved(np.diag([4.0, 1.0]))
    >>> run = dln.gradient_flow(cost, dln.inits.aligned(cost.target, 2, scale=1e-6), (0.0, 40.0))
    >>> for escape in measure_escapes(run):
    ...     print(escape.rank, round(escape.time, 4), round(escape.speed, 4))
    0 1.9002 4.0
    1 6.9078 1.0
    >>> dln.escape_times(cost, dln.inits.aligned(cost.target, 2, scale=1e-6)).round(4)
    array([1.9002, 6.9078])
    """
    visited = find_saddles(trajectory)
    return tuple(
        _escape(trajectory, here, after) for here, after in pairwise(visited) if after.rank > here.rank
    )


def _escape(run: Trajectory, here: Saddle, after: Saddle) -> Escape:
    saddle = _critical(run, here)
    goal = float(_critical(run, after).s[here.rank])
    time = _reached(run, here, goal / 2)
    U, _, Vt = np.linalg.svd(-saddle.normal_gradient)
    grown = _between(saddle, run.at(_reached(run, here, EARLY * goal)))
    layers = run.weights_at(time)
    ratios = [math.nan] * run.depth if layers is None else [_ratio(W, here.rank) for W in layers]
    return Escape(
        rank=here.rank,
        time=time,
        speed=here.measured_speed,
        predicted_speed=here.escape_speed,
        alignment=float(U[:, 0] @ grown @ Vt[0] / np.linalg.norm(grown)),
        layer_ratios=np.array(ratios),
    )


def _critical(run: Trajectory, near: Saddle) -> Point:
    """The critical point itself, by Newton's method on the matrices of its rank; what is near it, if that fails."""
    U, s, Vt = np.linalg.svd(near.end_to_end, full_matrices=False)
    r = near.rank
    seen = Point(Penalised(run.cost_function, run.weight_decay, run.depth), U[:, :r], s[:r], Vt[:r].T)
    found = newton(seen)
    moved = float(np.linalg.norm(found.A - seen.A))
    return found if found.rank == r and moved <= NEAR * float(np.linalg.norm(seen.A)) else seen


def _between(saddle: Point, A: Array) -> Array:
    """A between the complements of the singular spaces at a saddle."""
    left = A - saddle.U @ (saddle.U.T @ A)
    return left - (left @ saddle.V) @ saddle.V.T


def _ratio(W: Array, rank: int) -> float:
    s = np.append(np.linalg.svd(W, compute_uv=False), 0.0)
    return float(s[rank + 1] / s[rank])


def _reached(run: Trajectory, here: Saddle, size: float) -> float:
    """First time after a saddle at which the singular value of the new mode has a size."""
    from scipy.optimize import brentq

    later = np.flatnonzero(run.t > here.t)
    i = int(later[np.argmax(run.singular_values[later, here.rank] >= size)])

    def above(t: float) -> float:
        return float(np.linalg.svd(run.at(t), compute_uv=False)[here.rank]) - size

    low = max(here.t, float(run.t[i - 1]))
    if i == 0 or above(low) >= 0 or above(float(run.t[i])) < 0:
        return math.nan if above(float(run.t[i])) < 0 else low
    return float(brentq(above, low, float(run.t[i]), xtol=1e-14 * float(run.t[i]), rtol=1e-14))
