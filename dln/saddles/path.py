r"""The limit of ever smaller starts: from saddle to saddle along optimal escape paths.

From a critical point A of rank k the flow leaves along the top singular pair of :math:`-G = -dC/dA`: a network with
k + 1 hidden neurons, k of them the balanced factors of A and one with a tiny singular value x on that pair, follows the
heteroclinic orbit up to O(x), and arrives at a critical point of rank k + 1. There Newton's method on the matrices of
that rank takes over, and so on from each saddle to the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import checks
from ..costs import Cost
from ..critical import escape_speed
from ..flow import gradient_flow
from ..problem import Until
from ..schatten.fixed_rank import Penalised, Point, newton
from ..trajectory import Trajectory
from ..typing import Array
from .curve import nearest, samples

__all__ = ["PathSaddle", "SaddlePath", "limit_origin", "orbit", "saddle_to_saddle", "visited"]

SETTLED = 1e-9  # gradient relative to that at zero, from which a segment has arrived
NEW = 1e-7  # singular value of the new mode over the one it is heading for: by so little the orbit is missed
FITTED = 1e-12  # share of the cost at which a segment ends in any case: the fit is perfect, or its infimum not attained
MOST_STEPS = 20_000  # of a segment
TOGETHER = 1e-6  # relative difference of singular values of the gradient that escape together
ZERO = 1e-7  # singular values below this share of the largest are none


@dataclass(frozen=True, eq=False)
class PathSaddle:
    """A critical point that the limit path visits.

    Attributes
    ----------
    rank : int
    cost : float
        C(A).
    end_to_end : ndarray, shape (n_L, n_0)
    escape_speed : float
        s in c' = s c^(L-1) along the optimal direction; 0 at a minimum.
    kind : str
        "saddle", "minimum", or "unbounded" where the cost falls on for ever and A is the last point reached.
    directions : int
        Number of singular values of dC/dA that are equal to the largest: with more than one the path is one of a
        family, of which the first singular pair of the decomposition is followed.
    """

    rank: int
    cost: float
    end_to_end: Array
    escape_speed: float
    kind: str
    directions: int

    def __repr__(self) -> str:
        return (
            f"PathSaddle({self.kind}, rank {self.rank}, cost {self.cost:.6g}, speed {self.escape_speed:.4g})"
        )


@dataclass(frozen=True, eq=False)
class SaddlePath:
    """A sequence of critical points and of the paths between them.

    Attributes
    ----------
    saddles : tuple of PathSaddle
        From A = 0 to the last one, whose kind says whether it is a minimum.
    segments : tuple of Trajectory
        ``segments[k]`` leads from ``saddles[k]`` to ``saddles[k + 1]``, each in its own time; infinite time lies
        between any two of them.
    """

    saddles: tuple[PathSaddle, ...]
    segments: tuple[Trajectory, ...]

    def distance(self, trajectory: Trajectory) -> float:
        """Largest Frobenius distance of A(t), over the saved times, to the path as a curve.

        Parameters
        ----------
        trajectory : Trajectory
            A run with the same cost, such as one from a small start.

        Returns
        -------
        float
            sup over t of min over the path; the path between its samples is a cubic Hermite curve.

        Examples
        --------
        >>> import dln
        >>> cost = dln.costs.FullyObserved(np.diag([2.0, 1.0]))
        >>> run = dln.gradient_flow(cost, dln.inits.aligned(cost.target, 3, scale=1e-9), (0.0, 2000.0))
        >>> saddle_to_saddle(cost, 3).distance(run) < 1e-2
        True
        """
        return float(self.distances(trajectory)[0].max())

    def distances(self, trajectory: Trajectory) -> tuple[Array, Array]:
        """Distance of A(t) to the path at every saved time, and where on it the nearest point is.

        The position k + x is that of the point which is nearest on segment k; x in [0, 1) grows with the samples.
        """
        points = trajectory.end_to_end.reshape(len(trajectory.t), -1)
        if not self.segments:
            return np.linalg.norm(points - self.saddles[0].end_to_end.ravel(), axis=1), np.zeros(len(points))
        found = [nearest(points, *samples(segment)) for segment in self.segments]
        gaps, places = (np.array(part) for part in zip(*found, strict=True))
        best = np.argmin(gaps, axis=0)
        every = np.arange(gaps.shape[1])
        return gaps[best, every], best + places[best, every]


def saddle_to_saddle(
    cost: Cost,
    depth: int,
    *,
    shape: tuple[int, int] | None = None,
    max_rank: int | None = None,
    rtol: float = 1e-9,
) -> SaddlePath:
    r"""The path of the gradient flow in the limit of small starts, alpha -> 0: its saddles and the orbits between them.

    The saddle-to-saddle conjecture says that the flow from a start :math:`\alpha \theta_0` follows this path as
    :math:`\alpha \to 0`; for the first orbit it is a theorem.

    Parameters
    ----------
    cost : Cost
        The cost C, convex.
    depth : int
        Number of layers L >= 2.
    shape : pair of int, optional
        (n_L, n_0), where the cost does not know it.
    max_rank : int, optional
        Rank at which to stop; min(n_0, n_L) by default.
    rtol : float
        Tolerance of the integrator.

    Returns
    -------
    SaddlePath

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.

    References
    ----------
    arXiv 2106.15933v2: optimal escape paths, the saddle-to-saddle conjecture.

    Examples
    --------
    >>> import dln
    >>> for saddle in saddle_to_saddle(dln.costs.FullyObserved(np.diag([3.0, 2.0])), 3).saddles:
    ...     print(saddle)
    PathSaddle(saddle, rank 0, cost 6.5, speed 1.732)
    PathSaddle(saddle, rank 1, cost 2, speed 1.155)
    PathSaddle(minimum, rank 2, cost 0, speed 0)
    """
    point, most, scale = limit_origin(cost, depth, shape, max_rank)
    rtol = checks.positive(rtol, "rtol")
    saddles, segments = [visited(point, scale)], []
    while saddles[-1].kind == "saddle" and point.rank < most:
        segment = orbit(point, scale, rtol)
        after, settled = _arrival(point, segment)
        segments.append(segment)
        saddles.append(visited(after, scale, bounded=settled))
        if not settled or not after.objective < point.objective:
            break
        point = after
    return SaddlePath(tuple(saddles), tuple(segments))


def limit_origin(
    cost: Cost, depth: int, shape: tuple[int, int] | None, max_rank: int | None
) -> tuple[Point, int, float]:
    """A = 0, the largest rank, and the size of the gradient there."""
    if not isinstance(cost, Cost):
        raise TypeError(f"`cost` must be a cost, got {type(cost).__name__}. Take one of `dln.costs`.")
    depth = checks.integer(depth, "depth", least=2, most=checks.MOST)
    given = cost.shape if shape is None else tuple(checks.integer(n, "shape", least=1) for n in shape)
    if given is None or (cost.shape is not None and cost.shape != given):
        raise ValueError(
            f"`shape` must be (n_L, n_0) and that of the cost, got {given}. "
            "Give it for costs that do not know theirs, and only for them."
        )
    most = min(given)
    if max_rank is not None:
        most = checks.integer(max_rank, "max_rank", least=0, most=most)
    zero = Point(Penalised(cost, 0.0, depth), np.empty((given[0], 0)), np.empty(0), np.empty((given[1], 0)))
    scale = float(np.linalg.norm(zero.G, 2))
    return zero, most, scale


def visited(point: Point, scale: float, bounded: bool = True) -> PathSaddle:
    """What the path meets at a point, by the gradient that is left there."""
    s = np.linalg.svd(point.normal_gradient, compute_uv=False)
    kind = "unbounded" if not bounded else "saddle" if s[0] > 100 * SETTLED * scale else "minimum"
    speed = escape_speed(np.diag(s[:1]), point.problem.depth) if kind == "saddle" else 0.0
    equal = int(np.sum(s > (1 - TOGETHER) * s[0])) if kind == "saddle" else 0
    return PathSaddle(point.rank, point.objective, point.A, speed, kind, equal)


def orbit(point: Point, scale: float, rtol: float) -> Trajectory:
    """The heteroclinic orbit along the top singular pair of the gradient, by the most accurate of the methods."""
    cost, depth = point.problem.cost, point.problem.depth
    U, s, Vt = np.linalg.svd(point.normal_gradient)
    pair = np.outer(U[:, 0], Vt[0])
    bend = float(np.sum(pair * cost.raw_hessian_vector(point.A, pair)))
    heading = s[0] / bend if bend > 0 else 1.0
    sizes = np.append(point.s, heading * NEW) ** (1 / depth)
    left, right = np.column_stack([point.U, -U[:, 0]]), np.column_stack([point.V, Vt[0]])
    middle = [np.diag(sizes)] * (depth - 2)
    start = [sizes[:, None] * right.T, *middle, left * sizes]
    small = SETTLED * scale * heading ** ((depth - 1) / depth)
    until = Until(gradient_norm=small, cost=FITTED * point.objective)
    return gradient_flow(
        cost,
        start,
        (0.0, math.inf),
        method="radau13",
        rtol=rtol,
        until=until,
        max_steps=MOST_STEPS,
        keep_weights=True,
    )


def _arrival(point: Point, segment: Trajectory) -> tuple[Point, bool]:
    """The critical point at the end of a segment, and whether there is one."""
    U, s, Vt = np.linalg.svd(segment.end_to_end[-1], full_matrices=False)
    r = int(np.sum(s > ZERO * s[0]))
    last = Point(point.problem, U[:, :r], s[:r], Vt[:r].T)
    if not segment.success:
        return last, False
    after = newton(last)
    near = np.linalg.norm(after.A - last.A) <= 1e-3 * np.linalg.norm(last.A)
    return (after, True) if near else (last, False)
