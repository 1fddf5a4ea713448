r"""Matrices of one rank: there the penalised cost is smooth, and Newton's method finds its minima to rounding.

A tangent vector at :math:`A = U S V^T` is :math:`D = U M V^T + B V^T + U C^T` with :math:`U^T B = V^T C = 0`. To
second order the nearest matrix of the same rank is :math:`A + D + B S^{-1} C^T`, and its singular values are those of
S + M plus :math:`(|b_i|^2 + |c_i|^2)/2s_i`. With :math:`\varphi(s) = \lambda \tfrac L2 s^{2/L}` the Hessian of
:math:`C(A) + \sum_i \varphi(\sigma_i)` on the manifold therefore takes (M, B, C) to

.. math::
    \begin{aligned}
    M &\to U^T Z V + \Theta \circ \mathrm{sym}(M) + \Omega \circ \mathrm{skew}(M), \\
    B &\to P_U^\perp (Z V + G\,C S^{-1}) + B\,\varphi'/s, \quad
    C \to P_V^\perp (Z^T U + G^T B S^{-1}) + C\,\varphi'/s
    \end{aligned}

with :math:`\Theta_{ij} = (\varphi'_i - \varphi'_j)/(s_i - s_j)`,
:math:`\Omega_{ij} = (\varphi'_i + \varphi'_j)/(s_i + s_j)`, :math:`G = C'(A)` and :math:`Z = C''(A)[D]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from ..costs import Cost
from ..typing import Array

__all__ = ["Penalised", "Point", "newton"]

MOST_STEPS = 200
MOST_INNER = 200
DENSE = 320  # entries of (M, B, C) up to which the Hessian is formed
CONVERGED = 1e-15  # gradient, relative to what cancels in it
LANCZOS = 1e-6  # tolerance of the least eigenvalue, relative to a bound of all
ARMIJO = 1e-4
LEVEL = 1e-12  # curvature relative to that of the cost up to which a direction is flat: some costs do not feel all of A
TRUSTED = 1e-6  # the same, up to which Newton's step may owe its length to rounding in a flat direction
EPS = np.finfo(float).eps


@dataclass(frozen=True)
class Penalised:
    """The objective C(A) + lambda (L/2) sum s^(2/L)."""

    cost: Cost
    decay: float
    depth: int

    def penalty(self, s: Array) -> float:
        return float(self.decay * self.depth / 2 * np.sum(s ** (2 / self.depth)))

    def slope(self, s: Array) -> Array:
        return self.decay * s ** (2 / self.depth - 1)

    def bend(self, s: Array) -> Array:
        return self.decay * (2 / self.depth - 1) * s ** (2 / self.depth - 2)


class Point:
    """A matrix U diag(s) V^T of rank r >= 0 with what Newton's method needs of the objective there."""

    def __init__(self, problem: Penalised, U: Array, s: Array, V: Array) -> None:
        self.problem, self.U, self.s, self.V = problem, U, s, V
        self.A = (U * s) @ V.T
        self.objective = float(problem.cost.raw_value(self.A)) + problem.penalty(s)

    @property
    def rank(self) -> int:
        return len(self.s)

    @cached_property
    def G(self) -> Array:
        """Gradient of the cost."""
        return self.problem.cost.raw_gradient(self.A)

    @cached_property
    def gradient(self) -> Array:
        """Gradient of the objective on the manifold, as (M, B, C) one after another."""
        core, left, right = self._project(self.G)
        return self._pack(core + np.diag(self.problem.slope(self.s)), left, right)

    @cached_property
    def size(self) -> float:
        """Size of what cancels in the gradient at a critical point."""
        return float(
            np.linalg.norm(self.problem.slope(self.s))
            + np.linalg.norm(self.G)
            + self.curvature * np.linalg.norm(self.s)
        )

    @cached_property
    def _normal(self) -> tuple[Array, Array]:
        """Second derivatives of the penalty in M: Theta for its symmetric part, Omega for its skew part."""
        s, slope, bend = self.s, self.problem.slope(self.s), self.problem.bend(self.s)
        gap = s[:, None] - s
        near = np.abs(gap) <= 1e-5 * s
        theta = np.where(
            near, (bend[:, None] + bend) / 2, (slope[:, None] - slope) / np.where(near, 1.0, gap)
        )
        return theta, (slope[:, None] + slope) / (s[:, None] + s)

    @cached_property
    def ratio(self) -> Array:
        """Slope of the penalty over s: its second derivatives in B and C."""
        return self.problem.slope(self.s) / self.s

    @cached_property
    def curvature(self) -> float:
        """Mean second derivative of the cost, by which its own is replaced in the preconditioner."""
        D = self.A / np.linalg.norm(self.A)
        return max(float(np.sum(D * self.problem.cost.raw_hessian_vector(self.A, D))), EPS)

    def hessian(self, z: Array) -> Array:
        """Product of the Hessian on the manifold with a tangent vector, or with several, shape (..., size)."""
        M, B, C = self._parts(z)
        core, left, right = self._project(self.problem.cost.raw_hessian_vector(self.A, self.matrix(z)))
        theta, omega = self._normal
        Mt = _transposed(M)
        core += 0.5 * (theta * (M + Mt) + omega * (M - Mt))
        GC, GB = self.G @ (C / self.s), self.G.T @ (B / self.s)
        left += GC - self.U @ (self.U.T @ GC) + B * self.ratio
        right += GB - self.V @ (self.V.T @ GB) + C * self.ratio
        return self._pack(core, left, right)

    @cached_property
    def kernel(self) -> Array:
        """What the balanced flow of this depth multiplies the gradient with, on (M, B, C)."""
        depth, s = self.problem.depth, self.s
        powers = s ** (2 * np.arange(depth)[:, None] / depth)
        sides = np.tile(powers[-1], (sum(self.A.shape), 1))
        return self._pack(powers[::-1].T @ powers, sides[: len(self.U)], sides[len(self.U) :])

    @cached_property
    def dense_hessian(self) -> Array:
        """The Hessian on (M, B, C), and a large multiple of what is no tangent vector."""
        one = np.eye(len(self.gradient))
        tangents = self.tangent(one)
        return np.asarray(self.hessian(tangents) + self.far * (one - tangents))

    @cached_property
    def least_curvature(self) -> tuple[float, Array]:
        """Least eigenvalue of the Hessian on the manifold, and its tangent vector."""
        size = len(self.gradient)
        if size <= DENSE:
            values, vectors = np.linalg.eigh(self.dense_hessian)
            return float(values[0]), vectors[:, 0]
        from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

        def turned(z: Array) -> Array:  # the least eigenvalue becomes the largest, and its tolerance absolute
            flat = self.tangent(np.ravel(z))
            return self.far * flat - self.hessian(flat)

        start = self.tangent(np.random.default_rng(0).normal(size=size))
        operator = LinearOperator((size, size), matvec=turned, dtype=np.float64)
        try:
            values, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=LANCZOS)
        except ArpackNoConvergence:
            values, vectors = np.linalg.eigh(self.far * np.eye(size) - self.dense_hessian)
        return float(self.far - values[-1]), self.tangent(vectors[:, -1])

    @cached_property
    def far(self) -> float:
        """A number beyond all eigenvalues of the Hessian."""
        return 10.0 * (self.curvature + float(np.max(np.abs(self._normal))))

    def preconditioned(self, z: Array) -> Array:
        """Product with the inverse of the Hessian if the second derivative of the cost were a number."""
        M, B, C = self._parts(z)
        theta, omega = (np.maximum(self.curvature + part, 0.1 * self.curvature) for part in self._normal)
        core = 0.5 * ((M + M.T) / theta + (M - M.T) / omega)
        scale = self.curvature + self.ratio
        return self._pack(core, B / scale, C / scale)

    @cached_property
    def normal_gradient(self) -> Array:
        """The part of the cost's gradient between the orthogonal complements of the singular spaces."""
        G = self.G - self.U @ (self.U.T @ self.G)
        return G - (G @ self.V) @ self.V.T

    def matrix(self, z: Array) -> Array:
        """The matrix D = U M V^T + B V^T + U C^T of a tangent vector, or several."""
        M, B, C = self._parts(z)
        return np.asarray((self.U @ M + B) @ self.V.T + self.U @ _transposed(C))

    def coordinates(self, Z: Array) -> Array:
        """The tangent part of a matrix as (M, B, C)."""
        return self._pack(*self._project(Z))

    def tangent(self, z: Array) -> Array:
        """The part of (M, B, C) that is a tangent vector."""
        M, B, C = self._parts(z)
        return self._pack(M, B - self.U @ (self.U.T @ B), C - self.V @ (self.V.T @ C))

    def moved(self, z: Array) -> Point:
        """The nearest matrix of the same rank to A + D."""
        M, B, C = self._parts(z)
        r, one = self.rank, np.eye(self.rank)
        (left, over), (right, under) = (np.linalg.qr(np.hstack(p)) for p in ((self.U, B), (self.V, C)))
        core = np.block([[np.diag(self.s) + M, one], [one, np.zeros_like(M)]])
        U, s, Vt = np.linalg.svd(over @ core @ under.T)
        return Point(self.problem, left @ U[:, :r], s[:r], right @ Vt[:r].T)

    def without_last(self) -> Point:
        """The matrix without its least singular value."""
        return Point(self.problem, self.U[:, :-1], self.s[:-1], self.V[:, :-1])

    def last_vanishes(self) -> bool:
        """Whether the least singular value is heading for zero, by the objective along it."""
        g = self.gradient[: self.rank**2].reshape(self.rank, self.rank)[-1, -1]
        if not g > 0:
            return False
        D = np.outer(self.U[:, -1], self.V[:, -1])
        h = np.sum(D * self.problem.cost.raw_hessian_vector(self.A, D)) + self.problem.bend(self.s[-1:])[0]
        return bool(h <= 0 or g >= h * self.s[-1])

    def _project(self, Z: Array) -> tuple[Array, Array, Array]:
        right, left = _transposed(Z) @ self.U, Z @ self.V
        core = self.U.T @ left
        return core, left - self.U @ core, right - self.V @ _transposed(core)

    def _pack(self, M: Array, B: Array, C: Array) -> Array:
        lead = M.shape[:-2]
        return np.concatenate([X.reshape(*lead, -1) for X in (M, B, C)], axis=-1)

    def _parts(self, z: Array) -> tuple[Array, Array, Array]:
        r, m, lead = self.rank, len(self.U), z.shape[:-1]
        k = r * (r + m)
        parts = z[..., : r * r], z[..., r * r : k], z[..., k:]
        M, B, C = (
            part.reshape(*lead, rows, r) for part, rows in zip(parts, (r, m, len(self.V)), strict=True)
        )
        return M, B, C


def _transposed(X: Array) -> Array:
    return np.swapaxes(X, -1, -2)


def newton(point: Point, *, most_steps: int = MOST_STEPS, farthest: float = math.inf) -> Point:
    """A critical point of the same rank or a lower one, below the start; where it ends the gradient is rounding.

    The first point of a norm from `farthest` on ends it, too.
    """
    best, least = point, np.inf
    for _ in range(most_steps):
        while point.rank > 0 and point.last_vanishes():
            lower = point.without_last()
            if not lower.objective < point.objective:
                break
            point, least = lower, np.inf
        if point.rank == 0 or np.linalg.norm(point.s) >= farthest:
            return point
        norm = float(np.linalg.norm(point.gradient))
        better = norm < 0.5 * least
        if norm < least:
            best, least = point, norm
        if norm <= CONVERGED * point.size:
            break
        direction = _direction(point, min(0.1, math.sqrt(norm / point.size)) * norm)
        slope = float(point.gradient @ direction)
        after = _line_search(point, direction, slope)
        if after is None or (not better and -slope <= 4 * EPS * abs(point.objective)):
            break  # nothing but rounding is left
        point = after
    return best


def _direction(point: Point, tolerance: float) -> Array:
    """A descent direction: Newton's where the Hessian is positive definite."""
    if len(point.gradient) > DENSE:
        return _conjugate_gradients(point, tolerance)
    H, g = point.dense_hessian, point.gradient
    if (z := _solved(H, -g)) is not None and z @ H @ z > TRUSTED * point.curvature * (z @ z):
        return z
    values, vectors = np.linalg.eigh(H)
    felt = np.abs(values) > LEVEL * point.curvature
    along = vectors.T[felt] @ g
    return np.asarray(-(along / np.abs(values[felt])) @ vectors.T[felt])


def _solved(H: Array, b: Array) -> Array | None:
    """Solution of H z = b, None where H is not positive definite."""
    factor, failed = dpotrf(H)
    return None if failed else np.asarray(dpotrs(factor, b)[0])


def _conjugate_gradients(point: Point, tolerance: float) -> Array:
    """Newton's direction to a tolerance, or the last one before the curvature vanished or turned negative."""
    r = -point.gradient
    z, y = np.zeros_like(r), point.preconditioned(r)
    p, rho = y, float(r @ y)
    for k in range(MOST_INNER):
        q = point.hessian(p)
        curvature = float(p @ q)
        if curvature <= LEVEL * point.curvature * float(p @ p):
            return p if k == 0 else z
        step = rho / curvature
        z, r = z + step * p, r - step * q
        if np.linalg.norm(r) <= tolerance:
            return z
        y = point.preconditioned(r)
        rho, before = float(r @ y), rho
        p = y + rho / before * p
    return z


def _line_search(point: Point, direction: Array, slope: float) -> Point | None:
    """Point along the direction where the objective has fallen, by halving; None where there is none."""
    M = direction[: point.rank**2].reshape(point.rank, point.rank)
    shrink = float(np.max(-np.diag(M) / point.s))
    step = min(1.0, 0.9 / shrink) if shrink > 0 else 1.0
    rounding = 8 * EPS * (abs(point.objective) + 1e-300)
    for _ in range(40):
        after = point.moved(step * direction)
        if after.objective <= point.objective + ARMIJO * step * slope + rounding:
            return after
        step *= 0.5
    return None
