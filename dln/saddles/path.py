r"""The limit of ever smaller starts: from saddle to saddle along optimal escape paths.

From a critical point A of rank k the flow leaves along the top singular pair of :math:`-G = -dC/dA`: a network with
k + 1 hidden neurons, k of them the balanced factors of A, follows the heteroclinic orbit, started by its asymptotic
expansion (`dln.saddles.departure`), and arrives at a critical point, mostly of rank k + 1. There Newton's method on the
matrices of its rank takes over, and so on from each saddle to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from .. import checks
from ..costs import Cost
from ..critical import escape_speed
from ..schatten.fixed_rank import Penalised, Point
from ..trajectory import Trajectory
from ..typing import Array
from .curve import nearest, points_of
from .departure import equal, index_within, new_modes
from .orbits import followed

__all__ = ["PathSaddle", "SaddlePath", "limit_origin", "saddle_to_saddle", "visited"]

LEFT = 1e-7  # singular values of the gradient, relative to that at zero, above this share let the path go on


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
        Number d of singular values of dC/dA that are equal to the largest. With d > 1 the path is one of a family, of
        which one generic member is followed: d modes together at depth 2, where they grow alike, and one combination of
        the d pairs at depth L >= 3, where the one that is ahead blows up first.
    index : int
        Number of negative eigenvalues of the Hessian of the loss at this point, balanced, of a network with one hidden
        neuron more than its rank. At depth L >= 3 the escape along the new neuron is of order L and not counted: there
        only what falls among the matrices of the same rank is, and goes first.
    """

    rank: int
    cost: float
    end_to_end: Array
    escape_speed: float
    kind: str
    directions: int
    index: int

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

    @cached_property
    def _curves(self) -> tuple[tuple[Array, Array], ...]:
        """Points and tangents of the segments, from saddle to saddle: an orbit starts and ends near them."""
        A = [saddle.end_to_end.reshape(1, -1) for saddle in self.saddles]
        return tuple(
            (np.vstack([here, points, after]), np.pad(tangents, ((1, 1), (0, 0))))
            for (here, after), (points, tangents) in zip(
                pairwise(A), map(points_of, self.segments), strict=True
            )
        )

    def distance(self, trajectory: Trajectory) -> float:
        """Largest Frobenius distance of A(t), over the saved times, to the path as a curve.

        Parameters
        ----------
        trajectory : Trajectory
            A run with the same cost, such as one from a small start.

        Returns
        -------
        float
            sup over t of min over the path, which is a cubic Hermite curve between points so close that it errs by
            less than the tolerance of `saddle_to_saddle`.

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

        The position k + x is that of the point which is nearest on segment k; x in [0, 1) grows along it.
        """
        points = trajectory.end_to_end.reshape(len(trajectory.t), -1)
        if not self.segments:
            return np.linalg.norm(points - self.saddles[0].end_to_end.ravel(), axis=1), np.zeros(len(points))
        found = [nearest(points, *curve) for curve in self._curves]
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
    method: str = "radau13",
    max_steps: int = 1_500,
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
        Largest rank; min(n_0, n_L) by default. A saddle from which the path would exceed it is the last, also where
        several modes leave it together (`directions` of two layers) and fewer are allowed.
    rtol, method, max_steps
        Tolerance, integrator and most steps of a segment, as for `dln.gradient_flow`. An orbit that goes to infinity
        like a power of t is mostly recognised after an eighth of these steps; one that has not arrived after all of
        them is "unbounded", too. Explicit methods need more of them.

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
    while saddles[-1].kind == "saddle" and point.rank + new_modes(point) <= most:
        segment, after, settled = followed(point, scale, rtol, method, max_steps)
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
    s = np.asarray(np.linalg.svd(point.normal_gradient, compute_uv=False), dtype=np.float64)
    depth = point.problem.depth
    if not bounded:
        return PathSaddle(point.rank, point.objective, point.A, 0.0, "unbounded", 0, 0)
    left = s[s > LEFT * scale]
    index = index_within(point) + (len(left) if depth == 2 else 0)
    if len(left) == 0:
        return PathSaddle(point.rank, point.objective, point.A, 0.0, "minimum", 0, index)
    speed = escape_speed(np.diag(s[:1]), depth)
    return PathSaddle(point.rank, point.objective, point.A, speed, "saddle", equal(s), index)
