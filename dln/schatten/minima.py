r"""Minima of :math:`C(A) + \lambda \tfrac L2 \sum_i \sigma_i(A)^{2/L}`, rank by rank, each with its certificate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .. import checks
from ..costs import Cost, FullyObserved
from ..typing import RNG, Array
from .alternating import approximation
from .fixed_rank import Penalised, Point, newton
from .matrix import prox
from .scalar import branches

__all__ = ["Certificate", "Minimum", "solve"]

SAME = 1e-6  # relative distance up to which two minima are one
PROVED = 1e-9  # gap, relative to the objective at 0, up to which a minimum is global
FLAT = 1e-8  # least eigenvalue of the Hessian, relative to the curvature of the cost, that counts as zero


@dataclass(frozen=True)
class Certificate:
    """What is known of a minimum of C(A) + lambda (L/2) sum s^(2/L).

    Attributes
    ----------
    gradient : float
        Norm of the gradient along the matrices of the same rank, relative to that of the penalty alone.
    curvature : float
        Least eigenvalue of the Hessian along the matrices of the same rank. For L >= 3 the penalty rises infinitely
        fast in every other direction, so a positive one proves a strict local minimum. NaN for L <= 2 where the gap
        proves more.
    excess : float
        For L = 2, spectral norm of the rest of dC/dA over lambda, less 1: new modes pay if it is positive.
        Minus infinity for other depths, where none does.
    gap : float
        The objective less a lower bound of its values: by duality for L = 2 (where C >= 0), by strong convexity for
        L = 1, by the closed form for a fully observed target; infinite where no bound is known.
    """

    gradient: float
    curvature: float
    excess: float
    gap: float


@dataclass(frozen=True, eq=False)
class Minimum:
    """A minimum of C(A) + lambda (L/2) sum s^(2/L).

    Attributes
    ----------
    end_to_end : ndarray, shape (n_L, n_0)
    rank : int
    objective : float
    kind : str
        "global minimum" where the certificate's gap proves it, "local minimum", or "degenerate" where the Hessian along
        the matrices of the same rank has an eigenvalue zero.
    certificate : Certificate
    """

    end_to_end: Array
    rank: int
    objective: float
    kind: str
    certificate: Certificate

    def __repr__(self) -> str:
        return f"Minimum({self.kind}, rank {self.rank}, objective {self.objective:.6g})"


def solve(
    cost: Cost,
    weight_decay: float,
    depth: int,
    *,
    width: int | None = None,
    shape: tuple[int, int] | None = None,
    breadth: int = 1,
    restarts: int = 0,
    rng: RNG = None,
) -> tuple[Minimum, ...]:
    r"""Minima of :math:`C(A) + \lambda \tfrac L2 \sum_i \sigma_i(A)^{2/L}`, the lowest first.

    They are the products W_L ... W_1 at the minima of :math:`C(W_L \cdots W_1) + \tfrac\lambda2 \sum_l \|W_l\|_F^2`.
    For L <= 2 and convex C there is one minimum, certified by duality. For L >= 3 there may be one or more at every
    rank, A = 0 among them: alternating reweighted regressions lead to a low one; from every minimum found the search
    goes up in rank along the top singular pairs of the gradient, and down by the least singular value. Each run ends
    with Newton's method on the matrices of one rank. All minima of a fully observed target are found; for other costs
    there may be more, which a larger `breadth` and `restarts` look for.

    Parameters
    ----------
    cost : Cost
        The cost C, convex.
    weight_decay : float
        lambda > 0.
    depth : int
        Number of layers L >= 1.
    width : int, optional
        Greatest rank that is admitted, as by hidden layers of this width; min(n_0, n_L) by default.
    shape : pair of int, optional
        (n_L, n_0), where the cost does not know it.
    breadth : int
        For L >= 3, singular pairs along which modes are added, and minima of one rank from which the search goes on:
        0 is one run, to one low minimum, 1 adds the greedy path through all ranks, 2 finds most of the others.
    restarts : int
        For L >= 3, random starts around the lowest minimum of every rank.
    rng : None, int, SeedSequence or Generator
        Randomness of the restarts.

    Returns
    -------
    minima : tuple of Minimum
        In order of their objective.

    Raises
    ------
    ValueError, TypeError
        If `weight_decay` is not positive, `depth` is not a positive integer, `width` exceeds min(n_0, n_L), or the
        shape is missing.

    References
    ----------
    arXiv 2106.15933v1 for the correspondence; A. S. Lewis, H. S. Sendov, SIAM J. Matrix Anal. Appl. 23 (2001) 368 for
    second derivatives of functions of singular values.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved(np.diag([3.0, 1.0]))
    >>> for minimum in solve(cost, 0.3, 3):
    ...     print(minimum)
    Minimum(global minimum, rank 2, objective 1.31278)
    Minimum(local minimum, rank 1, objective 1.41387)
    Minimum(local minimum, rank 0, objective 5)
    """
    problem, n, most = _checked(cost, weight_decay, depth, width, shape)
    breadth = checks.integer(breadth, "breadth", least=0, most=checks.MOST)
    restarts = checks.integer(restarts, "restarts", least=0)
    random = checks.generator(rng)
    zero = Point(problem, np.empty((n[0], 0)), np.empty(0), np.empty((n[1], 0)))
    if depth <= 2:
        points = [_ridge(zero) if depth == 1 else _convex(approximation(zero, most), most)]
    else:
        points = _by_rank(zero, most, breadth, restarts, random)
    minima = [_minimum(point, zero, most) for point in points]
    return tuple(sorted(minima, key=lambda minimum: minimum.objective))


def _checked(
    cost: Cost, weight_decay: float, depth: int, width: int | None, shape: tuple[int, int] | None
) -> tuple[Penalised, tuple[int, int], int]:
    if not isinstance(cost, Cost):
        raise TypeError(f"`cost` must be a cost, got {type(cost).__name__}. Take one of `dln.costs`.")
    decay = checks.positive(weight_decay, "weight_decay")
    depth = checks.integer(depth, "depth", least=1, most=checks.MOST)
    given = shape if shape is not None else cost.shape
    if given is None:
        raise ValueError("`shape` must be given for this cost, got None. Give (n_L, n_0).")
    n_L, n_0 = (checks.integer(k, "shape", least=1, most=checks.MOST) for k in given)
    if cost.shape not in (None, (n_L, n_0)):
        raise ValueError(f"`shape` must be that of the cost, {cost.shape}, got {(n_L, n_0)}. Leave it out.")
    most = min(n_L, n_0)
    if width is not None:
        most = checks.integer(width, "width", least=1, most=most)
    return Penalised(cost, decay, depth), (n_L, n_0), most


def _ridge(point: Point) -> Point:
    """Depth 1: Newton's method in the space of all matrices."""
    from scipy.sparse.linalg import LinearOperator, cg

    problem, A = point.problem, point.A
    cost, decay = problem.cost, problem.decay

    def objective(A: Array) -> float:
        return float(cost.raw_value(A)) + decay / 2 * float(np.sum(A**2))

    for _ in range(100):
        at = A
        G = cost.raw_gradient(at) + decay * at

        def product(z: Array, at: Array = at) -> Array:
            D = z.reshape(at.shape)
            return np.ravel(cost.raw_hessian_vector(at, D) + decay * D)

        hessian = LinearOperator((A.size, A.size), matvec=product, dtype=np.float64)
        step = -cg(hessian, G.ravel(), rtol=1e-10)[0].reshape(A.shape)
        length, before, slope = 1.0, objective(A), float(np.sum(G * step))
        while objective(A + length * step) > before + 0.1 * length * slope and length > 1e-12:
            length *= 0.5
        A = A + length * step
        if np.linalg.norm(step) <= 1e-14 * np.linalg.norm(A) or not -slope > 1e-15 * abs(before):
            break
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    r = int(np.sum(s > max(A.shape) * np.finfo(float).eps * s[0]))
    return Point(problem, U[:, :r], s[:r], Vt[:r].T)


def _convex(point: Point, most: int) -> Point:
    """Depth 2: modes are added, at most as many as there are, until none pays."""
    point = newton(point) if point.rank > 0 else point
    while point.rank < most:
        U, s, Vt = np.linalg.svd(point.normal_gradient)
        pays = int(np.sum(s > point.problem.decay * (1 + 1e-12)))
        count = min(pays, max(1, point.rank), most - point.rank)
        if count == 0:
            break
        after = newton(_with_modes(point, -U[:, :count], s[:count], Vt[:count].T))
        if not after.objective < point.objective:
            break
        point = after
    return point


def _with_modes(point: Point, U: Array, s: Array, V: Array) -> Point:
    """The point with new modes along singular pairs of minus the gradient, each as large as it would be alone."""
    problem, sizes = point.problem, []
    for u, g, v in zip(U.T, s, V.T, strict=True):
        D = np.outer(u, v)
        h = max(float(np.sum(D * problem.cost.raw_hessian_vector(point.A, D))), 1e-12 * g)
        x = float(branches(g / h, problem.decay / h, problem.depth)[0])
        sizes.append(g / h if math.isnan(x) else x)
    order = np.argsort([*-point.s, *(-x for x in sizes)])
    return Point(
        problem,
        np.hstack([point.U, U])[:, order],
        np.concatenate([point.s, sizes])[order],
        np.hstack([point.V, V])[:, order],
    )


def _by_rank(zero: Point, most: int, breadth: int, restarts: int, random: np.random.Generator) -> list[Point]:
    """Depths 3 and more: distinct local minima, each expanded once into starts of higher and of lower rank."""
    found = [zero]
    _keep(found, approximation(zero, most))
    for k, point in enumerate(found):  # which grows meanwhile
        if breadth > 0 and sum(other.rank == point.rank for other in found[:k]) < breadth:
            for start in _beside(point, most, breadth):
                _keep(found, start)
    for rank in sorted({point.rank for point in found} - {0}):
        best = min((point for point in found if point.rank == rank), key=lambda point: point.objective)
        for _ in range(restarts):
            z = best.tangent(random.normal(size=len(best.gradient)))
            _keep(found, best.moved(z * (np.linalg.norm(best.s) / np.linalg.norm(z))))
    return found


def _beside(point: Point, most: int, breadth: int) -> Iterator[Point]:
    """One mode more, along each of the top singular pairs of the gradient; for a broad search two more, or one less."""
    U, s, Vt = np.linalg.svd(point.normal_gradient)
    room, count = most - point.rank, min(breadth, int(np.sum(s > 1e-10 * s[0])))
    pairs = [[k] for k in range(count)] if room > 0 else []
    if room > 1 and count > 1:
        pairs.append([0, 1])
    for pair in pairs:
        yield _with_modes(point, -U[:, pair], s[pair], Vt[pair].T)
    if point.rank > 1 and breadth > 1:
        yield point.without_last()


def _keep(found: list[Point], start: Point) -> None:
    """Add the local minimum below a start, unless it is known."""
    point = _descended(start)
    for other in found:
        if other.rank == point.rank and np.linalg.norm(other.A - point.A) <= SAME * np.linalg.norm(point.A):
            return
    if point.rank > 0:
        found.append(point)


def _descended(start: Point) -> Point:
    """A local minimum on the manifold: Newton's method, again from below where it ends on a saddle."""
    point = newton(start)
    for _ in range(10):
        if point.rank == 0:
            return point
        value, z = point.least_curvature
        if value >= -FLAT * point.curvature:
            return point
        size = 0.1 * np.linalg.norm(point.s)
        point = min((newton(point.moved(sign * size * z)) for sign in (1, -1)), key=lambda p: p.objective)
    return point


def _minimum(point: Point, zero: Point, most: int) -> Minimum:
    problem, curvature, excess = point.problem, math.inf, -math.inf
    if problem.depth == 2:
        excess = float(np.linalg.norm(point.normal_gradient, 2)) / problem.decay - 1
    gradient = float(np.linalg.norm(point.gradient)) / point.size if point.rank > 0 else 0.0
    gap = max(0.0, point.objective - _bound(point, most))
    proved = gap <= PROVED * max(abs(zero.objective), abs(point.objective))
    if point.rank > 0:
        curvature = math.nan if proved and problem.depth <= 2 else point.least_curvature[0]
    if proved:
        kind = "global minimum"
    else:
        kind = "degenerate" if point.rank > 0 and curvature <= FLAT * point.curvature else "local minimum"
    return Minimum(point.A, point.rank, point.objective, kind, Certificate(gradient, curvature, excess, gap))


def _bound(point: Point, most: int) -> float:
    """A lower bound of the objective over matrices of rank `most`, minus infinity where none is known."""
    problem = point.problem
    cost, decay = problem.cost, problem.decay
    if isinstance(cost, FullyObserved):
        A = prox(cost.target, decay / cost.scale, problem.depth)
        U, s, Vt = np.linalg.svd(A, full_matrices=False)
        r = min(most, int(np.count_nonzero(s > 1e-12 * s[0])))
        return Point(problem, U[:, :r], s[:r], Vt[:r].T).objective
    if problem.depth == 1:
        return point.objective - float(np.sum((point.G + decay * point.A) ** 2)) / (2 * decay)
    if problem.depth == 2:
        # C(B) >= C(A) + <G, B - A>, and |B|_* <= objective / lambda wherever the objective is lower
        value = float(cost.raw_value(point.A)) - float(np.sum(point.G * point.A))
        excess = max(0.0, float(np.linalg.norm(point.G, 2)) - decay)
        return value - excess * point.objective / decay
    return -math.inf
