"""One step of a Rosenbrock method with the Hessian H of the objective: a method is a table.

The stages solve, one after the other and with one matrix (Hairer, Wanner II, (7.4) and (7.25), with Jacobian -H),

    (I + h gamma H) u_i = h gamma f(y + sum_{j<i} a_ij u_j) + gamma sum_{j<i} c_ij u_j ,

by the Cholesky factor of the matrix for small nets and by conjugate gradients for large ones. Near a saddle H has
negative eigenvalues -mu; the matrix is positive definite, and the method meaningful, as long as h gamma mu < 1, which
is what accuracy asks for anyway: a step that finds it otherwise has failed.

memory: the step number for which H stands, a unit vector that follows the largest eigenvalue, the u_i, and then H and
the factor, or two vectors of the conjugate gradients.
"""

from __future__ import annotations

import numpy as np

from .compile import gradient_of, helper, hessian_of, product_of, velocity_of
from .steps import CLOSING, EXPONENT, SHARE, advance, dot, error_ratio, norm, rounding
from .vectors import combine, multiply, weighted
from .views import matrix_at, vector_at

__all__ = ["DENSE", "HEAD", "complete", "room", "step"]

HEAD = 1  # numbers before the vectors in memory
DENSE = 3  # place in `numbers`: whether H is formed
POWERS = 2  # steps of the power method for every new H; they go on from step to step
PANEL = 4  # rows that the factorisation subtracts at once
# Residual of the conjugate gradients in units of the tolerance of a mode that doubles within the step: the solution
# weighs the u_i by up to 12, and errors of the first ones enter the last through c_ij up to 112.
RESIDUAL = 1e-3
TIGHT = 1e-14  # in place of the tolerance where steps are fixed
MOST = 1000  # iterations
# Steps become no longer than this many times 1 / radius: beyond, rounding decides. At rest they would grow for ever.
LONGEST = 1e8
SHORTER = 32.0  # error ratio of a step whose equations were not solved: it is shortened to a half or so


def room(n: int, stages: int, dense: bool) -> int:
    """Length of the memory."""
    return HEAD + n + stages * n + 2 * n * (n if dense else 1)


@helper
def _form(system, index, weight_decay, data, work, y, H, unit):  # type: ignore[no-untyped-def]
    """The rows of the Hessian."""
    product, gradient, hessian = product_of(system), gradient_of(system), hessian_of(system)
    n = y.size
    for i in range(n):
        unit[i] = 0.0
    for i in range(n):
        unit[i] = 1.0
        product(y, unit, index, weight_decay, gradient, hessian, data, work, vector_at(H, i * n, n))
        unit[i] = 0.0


@helper
def _factorise(F, n):  # type: ignore[no-untyped-def]
    """U with U^T U = F in place of the upper triangle of F; False where F is not positive definite."""
    for first in range(0, n, PANEL):
        last = min(first + PANEL, n)
        for k in range(first, last):
            row = vector_at(F, k * n, n)
            for i in range(first, k):
                above = vector_at(F, i * n, n)
                factor = above[k]
                for j in range(k, n):
                    row[j] -= factor * above[j]
            if not row[k] > 0.0:
                return False
            scale = 1.0 / np.sqrt(row[k])
            for j in range(k, n):
                row[j] *= scale
        if last < n:  # then the panel is full
            a, b = vector_at(F, first * n, n), vector_at(F, (first + 1) * n, n)
            c, d = vector_at(F, (first + 2) * n, n), vector_at(F, (first + 3) * n, n)
            for i in range(last, n):
                row = vector_at(F, i * n, n)
                s, t, u, v = a[i], b[i], c[i], d[i]
                for j in range(i, n):
                    row[j] -= (s * a[j] + t * b[j]) + (u * c[j] + v * d[j])
    return True


@helper
def _substitute(U, n, x):  # type: ignore[no-untyped-def]
    """x <- (U^T U)^-1 x, along the rows of U both times."""
    for k in range(n):
        row = vector_at(U, k * n, n)
        x[k] /= row[k]
        known = x[k]
        for j in range(k + 1, n):
            x[j] -= known * row[j]
    for k in range(n - 1, -1, -1):
        row = vector_at(U, k * n, n)
        x[k] = (x[k] - dot(row, x, k + 1, n)) / row[k]


@helper
def _conjugate_gradients(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work, y, shift, x, r, p, q, goal
):  # fmt: skip
    """x <- (I + shift H)^-1 r until the residual is below `goal`; the number of products, negative where it failed."""
    product, gradient, hessian = product_of(system), gradient_of(system), hessian_of(system)
    n = y.size
    for i in range(n):
        x[i] = 0.0
        p[i] = r[i]
    square = dot(r, r, 0, n)
    for count in range(MOST):
        if square <= goal * goal:
            return count
        product(y, p, index, weight_decay, gradient, hessian, data, work, q)
        for i in range(n):
            q[i] = p[i] + shift * q[i]
        curvature = dot(p, q, 0, n)
        if not curvature > 0.0:  # not positive definite, or NaN
            return -1 - count
        length = square / curvature
        for i in range(n):
            x[i] += length * p[i]
            r[i] -= length * q[i]
        before, square = square, dot(r, r, 0, n)
        ratio = square / before
        for i in range(n):
            p[i] = r[i] + ratio * p[i]
    return -1 - MOST


def step(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """Rows of the table: a_ij, the weights m_i of the solution, c_ij, gamma alone, those of `complete`."""
    velocity, gradient, no_batch = velocity_of(system), gradient_of(system), np.empty(0, np.int64)
    product, hessian = product_of(system), hessian_of(system)
    c, n, s = control[0], y.size, table.shape[1]
    dense = numbers[DENSE] == 1
    v, v_new = vector_at(K, 0, n), vector_at(K, numbers[CLOSING] * n, n)
    direction, stages = vector_at(memory, HEAD, n), HEAD + n
    U, rest = matrix_at(memory, stages, s, n), stages + s * n
    gamma = table[2 * s + 1, 0]
    shift = h * gamma
    H = vector_at(memory, rest, n * n if dense else 0)
    F = vector_at(memory, rest + n * n if dense else rest, n * n if dense else 0)
    p, q = vector_at(memory, rest, n), vector_at(memory, rest + n, n)
    if memory[0] != c.steps:  # a new y; a step that is tried again has its H already
        memory[0] = c.steps
        if dense:
            _form(system, index, weight_decay, data, work, y, H, scratch)
            c.products += n
        for _ in range(POWERS if dense else 1):
            if dense:
                multiply(H, 0, direction, 0, scratch, 0, n, n, 1)
            else:
                product(y, direction, index, weight_decay, gradient, hessian, data, work, scratch)
                c.products += 1
            radius = norm(scratch, 0, n)
            if not (radius > 0.0 and np.isfinite(radius)):
                break
            c.radius = radius
            for i in range(n):
                direction[i] = scratch[i] / radius
    if dense:
        for i in range(n):
            for j in range(i * n + i, i * n + n):
                F[j] = shift * H[j]
            F[i * n + i] += 1.0
        c.factorisations += 1
        if not _factorise(F, n):
            return np.inf
    rtol = TIGHT if numbers[EXPONENT] == 0 else RESIDUAL * SHARE * c.rtol
    goal = rtol * h * norm(v, 0, n)
    for i in range(s):
        u = vector_at(memory, stages + i * n, n)
        weighted(U, vector_at(table, (s + 1 + i) * s, s), i, gamma, scratch)
        if i == 0:
            for j in range(n):
                scratch[j] += shift * v[j]
        else:
            combine(y, U, vector_at(table, i * s, s), i, 1.0, new)
            velocity(new, index, weight_decay, gradient, data, no_batch, work, v_new)
            for j in range(n):
                scratch[j] += shift * v_new[j]
        if dense:
            _substitute(F, n, scratch)
            for j in range(n):
                u[j] = scratch[j]
        else:
            count = _conjugate_gradients(
                system, index, weight_decay, data, work, y, shift, u, scratch, p, q, goal
            )
            c.products += abs(count)
            if count < 0:
                c.nfev += i
                return np.inf if count >= -MOST else SHORTER
    weighted(U, vector_at(table, s * s, s), s, 1.0, move)
    advance(y, carry, move, new)
    velocity(new, index, weight_decay, gradient, data, no_batch, work, v_new)
    c.nfev += s
    if numbers[EXPONENT] == 0:
        return 0.0
    weighted(U, vector_at(error, 0, s), s, 1.0, scratch)
    ratio = error_ratio(blocks, y, new, v, v_new, scratch, scratch, 0.0, h, c.rtol, c.atol, rounding(c))
    too_long = (h * c.radius / LONGEST) ** numbers[EXPONENT]
    return too_long if too_long > ratio else ratio


def complete(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """Rows of K behind the velocities: mean velocity, and the sums of u_i that the last rows of the table weigh."""
    n, s = y.size, table.shape[1]
    U, mean = matrix_at(memory, HEAD + n, s, n), vector_at(K, 2 * n, n)
    for i in range(n):
        mean[i] = (new[i] - y[i]) / h
    for i in range(table.shape[0] - 2 * s - 2):
        row = vector_at(table, (2 * s + 2 + i) * s, s)
        weighted(U, row, s, 1.0 / h, vector_at(K, (3 + i) * n, n))
    return 0.0
