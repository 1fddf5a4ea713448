r"""A first approximation of a minimum by alternating ridge regressions, turned onto the singular vectors.

With A = U V^T the penalty is at most :math:`\tfrac L2 \sum_i (\tfrac12 |u_i|^2 + \tfrac12 |v_i|^2)^{2/L}`, which is
concave in the squares and lies below its tangent: a ridge penalty with the weight :math:`\lambda \sigma_i^{2/L-1}` on
each column. Each sweep solves for U and for V in turn, and then turns the columns onto the singular vectors, where the
bound is sharp. Columns that die take the rank down to that of a minimum. (For L = 2 this is softImpute-ALS of
T. Hastie, R. Mazumder, J. Lee, R. Zadeh, JMLR 16 (2015) 3367; the bound for other L is that of P. Giampouras, R. Vidal,
A. Rontogiannis, B. Haeffele, NeurIPS 2020.)
"""

from __future__ import annotations

import numpy as np

from ..typing import Array
from .fixed_rank import Penalised, Point

__all__ = ["approximation"]

SWEEPS = 100
INNER = 8  # steps of conjugate gradients in a regression
RESIDUAL = 0.1  # relative, at which a regression ends
DEAD = 1e-3  # share of the largest singular value below which a column is dropped
SETTLED, NEAR = (
    3,
    3e-3,
)  # the end: so many sweeps of one rank, and so small a relative change of the singular values
GONE = 1e-9  # share of the first singular value at which nothing is left


def approximation(zero: Point, most: int) -> Point:
    """A matrix near a low minimum, from the data scaled by the mean curvature of the cost."""
    problem, size = zero.problem, float(np.linalg.norm(zero.G))
    if size == 0.0:
        return zero
    D = zero.G / size
    curvature = float(np.sum(D * problem.cost.raw_hessian_vector(zero.A, D))) or 1.0
    U, s, Vt = np.linalg.svd(-zero.G / curvature, full_matrices=False)
    U, s, V = U[:, :most], s[:most], Vt[:most].T
    first, same, alive = s[0], 0, s > 0
    for _ in range(SWEEPS):
        U, s, V = U[:, alive], s[alive], V[:, alive]
        U, after, V = _swept(problem, U, s, V, curvature)
        if not after[0] > GONE * first:
            return zero
        alive = after > DEAD * after[0]
        same = same + 1 if alive.all() else 0
        change, s = float(np.linalg.norm(after - s)), after
        if same >= SETTLED and change <= NEAR * float(np.linalg.norm(s)):
            break
    return Point(problem, U[:, alive], s[alive], V[:, alive])


def _swept(problem: Penalised, U: Array, s: Array, V: Array, curvature: float) -> tuple[Array, Array, Array]:
    """Singular vectors and values after a regression for each factor."""
    weights = problem.slope(s)
    left, right = U * np.sqrt(s), V * np.sqrt(s)
    left = _regression(problem, left, right, weights, curvature, transposed=False)
    right = _regression(problem, right, left, weights, curvature, transposed=True)
    (P, R), (Q, T) = np.linalg.qr(left), np.linalg.qr(right)
    turn, s, back = np.linalg.svd(R @ T.T)
    return P @ turn, s, Q @ back.T


def _regression(
    problem: Penalised, moving: Array, fixed: Array, weights: Array, curvature: float, *, transposed: bool
) -> Array:
    """One factor after a Newton step for C(A) + sum weights |column|^2 / 2, by conjugate gradients."""
    cost = problem.cost

    def product(X: Array) -> Array:
        return fixed @ X.T if transposed else X @ fixed.T

    def pulled(Z: Array) -> Array:
        return (Z.T if transposed else Z) @ fixed

    def objective(X: Array) -> float:
        return float(cost.raw_value(product(X))) + 0.5 * float(np.sum(weights * np.sum(X * X, axis=0)))

    A = product(moving)
    r = -(pulled(cost.raw_gradient(A)) + moving * weights)
    step, scale = np.zeros_like(r), curvature * np.sum(fixed * fixed, axis=0) + weights
    p = y = r / scale
    rho, enough = float(np.sum(r * y)), RESIDUAL**2 * float(np.sum(r * r))
    for _ in range(INNER):
        q = pulled(cost.raw_hessian_vector(A, product(p))) + p * weights
        length = rho / max(float(np.sum(p * q)), 1e-300)
        step, r = step + length * p, r - length * q
        if float(np.sum(r * r)) <= enough:
            break
        y = r / scale
        rho, before = float(np.sum(r * y)), rho
        p = y + rho / before * p
    start = objective(moving)
    for _ in range(30):  # a whole step unless the cost is far from quadratic
        if objective(moving + step) <= start * (1 + 1e-12) + 1e-300:
            return moving + step
        step = 0.5 * step
    return moving
