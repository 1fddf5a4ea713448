r"""How the flow leaves a saddle: the asymptotic expansion of the heteroclinic orbit in the size x of what is new.

At a critical point :math:`A_k` of rank k let :math:`-G = -dC/dA` have the largest singular value s, with the singular
vectors P on the left and Q on the right (one column each, unless more modes leave together). On the orbit

.. math::
    A(x) = A_k + x \Delta + x\,(P + x P_1)(Q + x Q_1)^T + O(x^2), \qquad
    \dot x = L s\,x^{2 - 2/L}\,(1 + O(x)) .

*The modes that are there* give way. Let H be the Hessian of C on the matrices of rank k, and K the kernel of the
balanced flow there, :math:`K_{ij} = \sum_l a_i^{2(L-l)/L} a_j^{2(l-1)/L}`. The displacement :math:`y = x \Delta` obeys
:math:`\dot y = -K \circ (H y + x\,C''[P Q^T])` while x grows at the rate :math:`\rho = L s\,x^{1 - 2/L}`, so that

.. math::
    \Delta = -K^{1/2}\,\phi(K^{1/2} H K^{1/2})\,K^{1/2}\,C''[P Q^T], \qquad
    \phi(\mu) = \int_0^\infty e^{-\mu \tau}\,\frac{x(t - \tau)}{x(t)}\,d\tau ,

which is :math:`1/(\mu + \rho)` for L = 2, and close to :math:`1/\mu` for L >= 3 where x is small, but for flat modes.

*The new mode* turns in the time :math:`d\tau = x^{1 - 2/L} dt` by :math:`P' = -G Q - s P,\; Q' = -G^T P - s Q`. With
:math:`Z = C''[P Q^T + \Delta]` the gradient is G + x Z, and x grows like :math:`e^{L s \tau}`, so that

.. math:: (L + 1) s P_1 + G Q_1 = - Z Q, \qquad (L + 1) s Q_1 + G^T P_1 = - Z^T P .

What is left out is of order x^2 (x^(1 + 2/L) in directions that are flat), and an orbit starts where that is rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..schatten.fixed_rank import Point
from ..typing import Array

__all__ = ["Departure", "departure", "equal", "index_within", "new_modes", "within"]

EPS = float(np.finfo(float).eps)
TOGETHER = 1e-6  # relative difference of singular values of the gradient that leave together
LEVEL = 1e-5  # negative curvature, relative to that of the cost, from which a point is a saddle among those of its rank
HALVINGS = 1000
KRYLOV, EXHAUSTED = 300, 1e-14  # most dimensions of a Krylov space, and what ends it, relative


@dataclass(frozen=True)
class Departure:
    """A point on the orbit that leaves a saddle.

    Singular vectors and values of A; how strongly the gradient pulls, and how far a new mode is heading.
    """

    U: Array
    s: Array
    V: Array
    pull: float
    heading: float

    def layers(self, depth: int) -> list[Array]:
        """Balanced layers, with one hidden neuron for each mode."""
        u = self.s ** (1 / depth)
        return [u[:, None] * self.V.T, *[np.diag(u)] * (depth - 2), self.U * u]


def departure(point: Point, remainder: float = EPS, size: float | None = None) -> Departure:
    """The fastest way from a saddle, where the expansion has a given remainder, or a new mode a given size."""
    depth, (U, s, Vt) = point.problem.depth, np.linalg.svd(point.normal_gradient)
    if (tangent := _stays(point, s)) is not None:
        return _along(point, tangent, float(s[0]))
    a = family(s, depth)
    P, Q = -U[:, : len(a)] @ a, Vt[: len(a)].T @ a
    goal = heading(point, P @ Q.T)
    x = size or goal * math.sqrt(remainder)
    terms = _terms(point, P, Q, (U, s, Vt), x)
    if size is None:
        x /= 1 + goal * _relative(point, terms)
        terms = _terms(point, P, Q, (U, s, Vt), x)
    tangent, P_1, Q_1 = terms
    there = point.moved(x * tangent) if point.rank else point
    left, R = np.linalg.qr(_beside(there.U, P + x * P_1))
    right, S = np.linalg.qr(_beside(there.V, Q + x * Q_1))
    turn, new, back = np.linalg.svd(R @ S.T)
    U, V = np.hstack([there.U, left @ turn]), np.hstack([there.V, right @ back.T])
    return Departure(U, np.append(there.s, x * new), V, float(s[0]), goal)


def new_modes(point: Point) -> int:
    """Number of modes that leave a saddle together; 0 where it is left among the matrices of its own rank."""
    s = np.asarray(np.linalg.svd(point.normal_gradient, compute_uv=False), dtype=np.float64)
    return 0 if _stays(point, s) is not None else family(s, point.problem.depth).shape[1]


def _stays(point: Point, s: Array) -> Array | None:
    """Tangent vector of an escape among the matrices of the same rank, where it is faster than that of a new mode."""
    inside = within(point)
    if inside is not None and (point.problem.depth > 2 or inside[0] > (1 + TOGETHER) * s[0]):
        return inside[1]  # exponential, which an escape of order L > 2 is not
    return None


def _along(point: Point, tangent: Array, pull: float) -> Departure:
    """A matrix of the same rank on the way from a saddle among those, by its linear part."""
    x = math.sqrt(EPS) * point.s[-1] / float(np.linalg.norm(tangent))
    there = point.moved(x * tangent)
    return Departure(there.U, there.s, there.V, pull, float(point.s[-1]))


def _relative(point: Point, terms: tuple[Array, ...]) -> float:
    """Size of the terms of the expansion per x, relative to what they change."""
    tangent, P_1, Q_1 = (float(np.linalg.norm(term)) for term in terms)
    return P_1 + Q_1 + (tangent / float(point.s[-1]) if point.rank else 0.0)


def _beside(basis: Array, W: Array) -> Array:
    """The part of the columns that is orthogonal to a basis."""
    return np.asarray(W - basis @ (basis.T @ W))


def equal(s: Array) -> int:
    """Number of singular values that are as large as the first."""
    return int(np.sum(s > (1 - TOGETHER) * s[0]))


def family(s: Array, depth: int) -> Array:
    """Coefficients of the new modes in the top singular pairs, (equal ones, modes): one generic member of the family.

    Where several are equal, two layers let them grow together, as the Gram matrix of what the start has of each, and
    more layers the one combination that is ahead.
    """
    d = equal(s)
    if d == 1:
        return np.ones((1, 1))
    a = np.random.default_rng(0).normal(size=(d, d if depth == 2 else 1))
    return np.asarray(a / np.linalg.norm(a, 2))


def heading(point: Point, pair: Array) -> float:
    """How far along a new mode the slope of the cost is about gone: where that mode is heading for, to a factor 2."""
    cost = point.problem.cost

    def slope(x: float) -> float:
        return float(np.sum(pair * cost.raw_gradient(point.A + x * pair)))

    start = slope(0.0)
    bend = float(np.sum(pair * cost.raw_hessian_vector(point.A, pair)))
    x = -start / bend if bend > 0 else 1.0
    for _ in range(HALVINGS):
        if not slope(x) > start / 4:
            break
        x /= 2
    for _ in range(HALVINGS):
        if not slope(2 * x) < start / 4:
            break
        x *= 2
    return 2 * x


def _terms(
    point: Point, P: Array, Q: Array, gradient: tuple[Array, Array, Array], x: float
) -> tuple[Array, Array, Array]:
    """The tangent vector Delta, and the turns P_1 and Q_1 of the new mode."""
    depth, (U, s, Vt), pair = point.problem.depth, gradient, P @ Q.T
    tangent = _gives_way(point, pair, depth * s[0] * x ** (1 - 2 / depth))
    Z = point.problem.cost.raw_hessian_vector(point.A, pair + point.matrix(tangent))
    left, right = -U.T @ Z @ Q, -Vt @ Z.T @ P
    G, rate = np.zeros(Z.shape), (depth + 1) * s[0]
    np.fill_diagonal(G, s)
    P_1 = U @ ((rate * left - G @ right) / (rate**2 - np.sum(G**2, axis=1))[:, None])
    Q_1 = Vt.T @ ((rate * right - G.T @ left) / (rate**2 - np.sum(G**2, axis=0))[:, None])
    return tangent, P_1, Q_1


def _gives_way(point: Point, pair: Array, rate: float) -> Array:
    """How the modes that are there respond to a new one, by the spectrum of their motion."""
    root = np.sqrt(point.kernel)
    force = root * point.coordinates(point.problem.cost.raw_hessian_vector(point.A, pair))
    size = float(np.linalg.norm(force))
    if size == 0.0:
        return force
    basis, T = _lanczos(lambda z: root * point.hessian(root * z), force / size)
    values, vectors = np.linalg.eigh(T)
    return np.asarray(
        -root * (size * (vectors * response(values, rate, point.problem.depth)) @ vectors[0] @ basis)
    )


def response(values: Array, rate: float, depth: int) -> Array:
    r"""What a mode of decay rate mu has gathered of a force that has grown to 1 at a rate, which itself grows (L > 2).

    The integral over the past, :math:`\int_0^\infty e^{-\mu \tau} (1 + (1 - 2/L) \rho \tau)^{-L/(L-2)} d\tau`.
    """
    if depth == 2:
        return np.asarray(1 / (values + rate))
    growth, power = (1 - 2 / depth) * rate, depth / (depth - 2)
    z = np.maximum(values, 0.0)[:, None] / growth
    t = np.arange(-5.0, 6.0, 1 / 32)  # double exponential quadrature
    x = np.exp(np.pi / 2 * np.sinh(t))
    weights = x * np.cosh(t) * np.pi / 64
    past = np.exp(-x * z / (1 + z)) * (1 + x / (1 + z)) ** -power
    return np.asarray(past @ weights / (1 + z[:, 0]) / growth)


def _lanczos(product: Callable[[Array], Array], first: Array) -> tuple[Array, Array]:
    """Orthonormal basis of a Krylov space, as rows, and the symmetric operator in it, a tridiagonal matrix."""
    basis, diagonal, beside = [first], list[float](), list[float]()
    while True:
        image = product(basis[-1])
        diagonal.append(float(basis[-1] @ image))
        for _ in range(2):
            image = image - (np.array(basis) @ image) @ np.array(basis)
        size = float(np.linalg.norm(image))
        if size <= EXHAUSTED * max(map(abs, diagonal)) or len(basis) == min(KRYLOV, len(first)):
            return np.array(basis), np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        beside.append(size)
        basis.append(image / size)


def within(point: Point) -> tuple[float, Array] | None:
    """Rate and tangent vector of the fastest escape among the matrices of the same rank; None at a minimum of those."""
    if point.rank == 0 or point.least_curvature[0] >= -LEVEL * point.curvature:
        return None
    root = np.sqrt(point.kernel)
    values, vectors = np.linalg.eigh(root[:, None] * point.dense_hessian * root)
    return float(-values[0]), point.tangent(root * vectors[:, 0])


def index_within(point: Point) -> int:
    """Number of directions of negative curvature among the matrices of the same rank."""
    if within(point) is None:
        return 0
    return int(np.sum(np.linalg.eigvalsh(point.dense_hessian) < -LEVEL * point.curvature))
