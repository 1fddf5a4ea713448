"""One step of a collocation method, its stages solved in the eigenbasis of the Hessian.

The Jacobian of the velocity is minus a symmetric matrix H. With H = V diag(lambda) V^T on its stiff part, kept as long
as it serves, and T^-1 A T block diagonal, one correction Z <- Z + (I + h A (x) V diag(lambda) V^T)^-1 (h A F(Z) - Z)
costs s velocities and two thin products. The direction in which the velocity grows is corrected likewise; what is left,
neither stiff nor fast, by plain iteration.

A waiting mode u' = u^(L-1) grows as (D - t)^(-1/(L-2)): polynomials in t follow it over a third of the time D that is
left. In theta with 1 - t/D = exp(-kappa theta) it is an exponential. So the stages are those of the same method for
dy/dtheta = dt/dtheta f(y), with kappa from a list for each of which the method has a table.
"""

from __future__ import annotations

import numpy as np

from ..typing import Array
from .compile import gradient_of, helper, hessian_of, product_of, velocity_of
from .steps import CLOSING, EXPONENT, STAGES, advance, copy, dot, error_ratio, norm, rounding
from .vectors import combine, multiply, transpose, weighted
from .views import matrix_at, vector_at

__all__ = ["complete", "eigenpairs", "memory_size", "states_in", "step"]

ROOM, TO_ROUNDING, STRETCHES = 3, 4, 5  # places in `numbers`
# Places in `memory`: eigenpairs in use, time at which they were computed; start, size, table of the last attempt;
# whether a slope of the velocity is known, and the time of it.
PAIRS, BASIS_T, LAST_T, LAST_H, LAST_TABLE, SLOPED, SLOPE_T, STALE, COUNT, HEAD = range(10)
# Rows of the table before those of the stretches: Legendre transform, c, b, slope at the end, and the step of kappa.
BEFORE = 4

FIRST_BLOCK, GUARD = 24, 4  # vectors of the first block, and those added to the known ones
# Of the tolerance. An error of what waits for a time D is multiplied by what it grows by in its escape.
PLATEAU, WAITING = 0.02, 1.0
UPWARDS = 0.75  # kappa is rounded up from a quarter on: beyond the escape the stretched time ends
FASTEST = 0.25  # fall of the last coefficients in terms of that of all
NEAREST = 0.02  # of the time left to an escape, where its rate is cut off
FILTERED = 0.25  # rounding in what is not stiff, in units of that of the others
STIFF_SHARE = 1e-3  # of the largest eigenvalue: what is below is left to plain iteration
KEPT = 1e-6  # of it: what the block holds above this is used, since fitted modes may be far apart

MOST, PATIENCE = 20, 100  # corrections where the step can be shortened, and where it cannot
SLOW = 0.35  # reduction of the residual per correction from which on new eigenpairs are due
DIVERGES = 0.9
# Corrections that fall no faster than STAGNANT, below VELOCITY |H| |y| roundings in velocity, are rounding themselves.
STAGNANT, VELOCITY = 0.3, 0.1
SOLVED = 0.02  # of the tolerance: how well the stages are solved
FARTHEST = 2.5  # lengths of the last step, in stretched time, over which its polynomial is extrapolated
EPS = np.finfo(np.float64).eps


def memory_size(n: int, stages: int, room: int) -> int:
    """Length of `memory`: head, eigenvalues, V and V^T, three arrays of stages, one of stages in the eigenbasis; six
    states, two matrices of the size of A."""
    return HEAD + room + 2 * n * room + 3 * stages * n + (stages + 1) * room + 6 * n + 2 * stages * stages


def states_in(memory: Array, n: int, stages: int, room: int) -> list[Array]:
    """Views of V, and, one state in a row, of V^T, the stages, and the six states."""
    pairs, at_Z = int(memory[PAIRS]), HEAD + room + 2 * n * room
    at_slow = at_Z + 3 * stages * n + (stages + 1) * room
    parts = (
        (HEAD + room, n, pairs),
        (HEAD + room + n * room, pairs, n),
        (at_Z, stages, n),
        (at_slow, 6, n),
    )
    return [memory[at : at + rows * columns].reshape(rows, columns) for at, rows, columns in parts]


@helper
def _table_of(stretch, s):  # type: ignore[no-untyped-def]
    """Where the table of a stretch begins: A diag(g), T, T^-1, then alpha, beta, times, g."""
    return (s + BEFORE + stretch * (3 * s + 4)) * s


@helper
def _orthonormalise(memory, at, rows, n):  # type: ignore[no-untyped-def]
    """Rows of n entries by Gram and Schmidt, each twice."""
    for i in range(rows):
        x = vector_at(memory, at + i * n, n)
        for _ in range(2):
            size = norm(x, 0, n)
            if size == 0.0:  # the image of a vector of the null space
                break
            for m in range(n):
                x[m] /= size
            for j in range(i):
                other = vector_at(memory, at + j * n, n)
                share = dot(x, other, 0, n)
                for m in range(n):
                    x[m] -= share * other[m]
        size = norm(x, 0, n)
        if size > 0.0:
            for m in range(n):
                x[m] /= size


@helper
def eigenpairs(system, index, weight_decay, data, work, memory, room, y, image, c):  # type: ignore[no-untyped-def]
    """Eigenpairs of the Hessian at y that can be stiff, by subspace iteration from the last ones and some new vectors.

    On a plateau they are separated from the others by many orders of magnitude, so one or two iterations find them.
    The block of vectors grows until the smallest eigenvalue found is below STIFF_SHARE of the largest.
    """
    product, gradient, hessian = product_of(system), gradient_of(system), hessian_of(system)
    n, known = y.size, int(memory[PAIRS])
    at_V, at_Vt = HEAD + room, HEAD + room + n * room
    block, rounds = min(room, known + GUARD if known > 0 else FIRST_BLOCK), 1 if known > 0 else 2
    while True:
        for i in range(known, block):
            for j in range(n):
                memory[at_Vt + i * n + j] = np.cos((i + 1.0) * (j + 1.0 + memory[COUNT]) ** 2)
        memory[COUNT] += 1.0
        for _ in range(rounds):
            for i in range(block):
                row = vector_at(memory, at_Vt + i * n, n)
                product(y, row, index, weight_decay, gradient, hessian, data, work, image)
                copy(image, 0, row, 0, n)
            _orthonormalise(memory, at_Vt, block, n)
        small = np.empty((block, block))
        for i in range(block):
            d = vector_at(memory, at_Vt + i * n, n)
            product(y, d, index, weight_decay, gradient, hessian, data, work, image)
            for j in range(i + 1):
                small[i, j] = dot(image, vector_at(memory, at_Vt + j * n, n), 0, n)
                small[j, i] = small[i, j]
        c.products += block * (rounds + 1)
        found, rotation = np.linalg.eigh(small)
        largest = max(found[block - 1], 1e-300)
        if block == room or found[0] < STIFF_SHARE * largest:
            break
        known, block = block, min(room, 2 * block)
    vectors = np.empty((block, n))
    multiply(rotation.T.copy().reshape(-1), 0, memory, at_Vt, vectors.reshape(-1), 0, block, block, n)
    pairs = 0
    for k in range(block - 1, -1, -1):  # the largest first
        if found[k] > KEPT * largest or block == n:
            memory[HEAD + pairs] = found[k]
            copy(vector_at(vectors, k * n, n), 0, memory, at_Vt + pairs * n, n)
            pairs += 1
    transpose(memory, at_Vt, memory, at_V, pairs, n)
    memory[PAIRS], memory[STALE], memory[BASIS_T] = pairs, 0.0, c.t
    c.radius = largest
    c.factorisations += 1


@helper
def _correct(table, at, memory, room, s, n, h):  # type: ignore[no-untyped-def]
    """(I + h A (x) H)^-1 applied to the residuals, in place, on the span of the eigenpairs."""
    pairs = int(memory[PAIRS])
    if pairs == 0:
        return
    at_V, at_Vt = HEAD + room, HEAD + room + n * room
    at_R = HEAD + room + 2 * n * room + s * n
    at_S, at_hat = at_R + s * n, at_R + 2 * s * n
    flat = vector_at(table, 0, table.size)
    alpha, beta = vector_at(table, at + 3 * s * s, s), vector_at(table, at + 3 * s * s + s, s)
    # in the eigenbasis of A ...
    multiply(flat, at + 2 * s * s, memory, at_R, memory, at_S, s, s, n)
    # ... and of H
    multiply(memory, at_S, memory, at_V, memory, at_hat, s, n, pairs)
    i = 0
    while i < s:
        p, q = (
            vector_at(memory, at_hat + i * pairs, pairs),
            vector_at(memory, at_hat + (i + 1) * pairs, pairs),
        )
        if beta[i] == 0.0:
            for k in range(pairs):
                p[k] *= 1.0 / (1.0 + h * memory[HEAD + k] * alpha[i]) - 1.0
            i += 1
        else:
            for k in range(pairs):
                a, b = 1.0 + h * memory[HEAD + k] * alpha[i], h * memory[HEAD + k] * beta[i]
                size, x = a * a + b * b, p[k]
                p[k] = (a * x - b * q[k]) / size - x
                q[k] = (a * q[k] + b * x) / size - q[k]
            i += 2
    multiply(memory, at_hat, memory, at_Vt, memory, at_S, s, pairs, n)
    # back from the eigenbasis of A, added to what plain iteration does
    for i in range(s):
        R = vector_at(memory, at_R + i * n, n)
        combine(R, matrix_at(memory, at_S, s, n), vector_at(table, at + s * s + i * s, s), s, 1.0, R)


@helper
def _filter(memory, room, s, n, at, rows, h):  # type: ignore[no-untyped-def]
    """(I + h H)^-1 applied to rows of n entries, in place: what is left is not stiff."""
    at_V, at_Vt = HEAD + room, HEAD + room + n * room
    at_S = HEAD + room + 2 * n * room + 2 * s * n
    at_hat = at_S + s * n
    pairs = int(memory[PAIRS])
    if pairs == 0:
        return
    multiply(memory, at, memory, at_V, memory, at_hat, rows, n, pairs)
    for i in range(rows):
        hat = vector_at(memory, at_hat + i * pairs, pairs)
        for k in range(pairs):
            x = max(0.0, h * memory[HEAD + k])
            hat[k] *= -x / (1.0 + x)
    multiply(memory, at_hat, memory, at_Vt, memory, at_S, rows, pairs, n)
    for m in range(rows * n):
        memory[at + m] += memory[at_S + m]


@helper
def _stretched(t, kappa):  # type: ignore[no-untyped-def]
    """theta at a part t of a step."""
    return np.log1p(t * np.expm1(-kappa)) / -kappa if kappa > 0.0 else t


@helper
def _predict(table, at, kappa, memory, at_Z, at_S, s, n, t, h):  # type: ignore[no-untyped-def]
    """Stages from those of the last attempt, interpolated in the stretched time of this one, or 0."""
    last_t, last_h = memory[LAST_T], memory[LAST_H]
    for m in range(s * n):
        memory[at_S + m] = 0.0
    if last_h > 0.0 and t >= last_t:
        times = vector_at(table, at + 3 * s * s + 2 * s, s)
        last_times = vector_at(table, int(memory[LAST_TABLE]) + 3 * s * s + 2 * s, s)
        known, weights = np.empty(s + 1), np.empty(s + 1)
        for j in range(s + 1):
            known[j] = _stretched(((last_times[j - 1] if j > 0 else 0.0) * last_h + last_t - t) / h, kappa)
        for j in range(1, s + 1):
            product = 1.0
            for k in range(s + 1):
                if k != j:
                    product *= known[j] - known[k]
            weights[j] = 1.0 / product
        if 1.0 - known[0] <= FARTHEST * (known[s] - known[0]):
            for i in range(s):
                theta = _stretched(times[i], kappa)
                S = vector_at(memory, at_S + i * n, n)
                for j in range(1, s + 1):
                    there, here = 1.0, 1.0
                    for k in range(s + 1):
                        if k != j:
                            there *= theta - known[k]
                            here *= -known[k]
                    Z, share = vector_at(memory, at_Z + (j - 1) * n, n), weights[j] * (there - here)
                    for m in range(n):
                        S[m] += share * Z[m]
    for m in range(s * n):
        memory[at_Z + m] = memory[at_S + m]


@helper
def _invert(memory, at, at_inverse, s):  # type: ignore[no-untyped-def]
    """Inverse of a small matrix, which is lost, by Gauss and Jordan."""
    M, inverse = matrix_at(memory, at, s, s), matrix_at(memory, at_inverse, s, s)
    for i in range(s):
        for j in range(s):
            inverse[i, j] = 1.0 if i == j else 0.0
    for k in range(s):
        p = k
        for i in range(k + 1, s):
            if abs(M[i, k]) > abs(M[p, k]):
                p = i
        for j in range(s):
            M[k, j], M[p, j] = M[p, j], M[k, j]
            inverse[k, j], inverse[p, j] = inverse[p, j], inverse[k, j]
        pivot = 1.0 / M[k, k]
        for j in range(s):
            M[k, j] *= pivot
            inverse[k, j] *= pivot
        for i in range(s):
            if i != k:
                factor = M[i, k]
                for j in range(s):
                    M[i, j] -= factor * M[k, j]
                    inverse[i, j] -= factor * inverse[k, j]


@helper
def _prepare_growth(table, at, memory, at_M, s, h, rate, left):  # type: ignore[no-untyped-def]
    """(I - h A diag(g_j rate_j))^-1 for the direction that grows, its rate at the stages by the law of growth."""
    M, times = matrix_at(memory, at_M, s, s), vector_at(table, at + 3 * s * s + 2 * s, s)
    for j in range(s):
        there = h * rate / max(NEAREST, 1.0 - h * times[j] / left)
        for i in range(s):
            M[i, j] = (1.0 if i == j else 0.0) - there * table[at // s + i, j]
    _invert(memory, at_M, at_M + s * s, s)


@helper
def _correct_growth(memory, at_R, at_M, direction, s, n):  # type: ignore[no-untyped-def]
    """The residuals along the direction that grows, in place."""
    inverse, along = matrix_at(memory, at_M + s * s, s, s), np.empty(s)
    for i in range(s):
        along[i] = dot(vector_at(memory, at_R + i * n, n), direction, 0, n)
    for i in range(s):
        R, x = vector_at(memory, at_R + i * n, n), -along[i]
        for j in range(s):
            x += inverse[i, j] * along[j]
        for m in range(n):
            R[m] += x * direction[m]


@helper
def _time_left(v, slope, depth, n):  # type: ignore[no-untyped-def]
    """Time to the escape of what grows as u' = u^(depth - 1), from the velocity and its slope; inf if nothing does."""
    growth = dot(v, slope, 0, n)
    if depth > 2 and growth > 0.0:
        return (depth - 1.0) / (depth - 2.0) * dot(v, v, 0, n) / growth
    return np.inf


def step(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """Stages Z_i = h sum_j a_ij g_j f(y + Z_j), corrected until their error is a small part of the tolerance."""
    velocity, gradient, product = velocity_of(system), gradient_of(system), product_of(system)
    c, no_batch, n, depth = control[0], np.empty(0, np.int64), y.size, blocks.size - 1
    s, closing, room, to_rounding = (
        numbers[STAGES],
        numbers[CLOSING],
        numbers[ROOM],
        numbers[TO_ROUNDING] == 1,
    )
    at_Z = HEAD + room + 2 * n * room
    at_R = at_Z + s * n
    # six states: velocity at both ends, tail, mean, without what is stiff; slope of the velocity; where it grows
    at_slow = at_R + 2 * s * n + (s + 1) * room
    slow, slow_new = vector_at(memory, at_slow, n), vector_at(memory, at_slow + n, n)
    slope, direction = vector_at(memory, at_slow + 4 * n, n), vector_at(memory, at_slow + 5 * n, n)
    at_M = at_slow + 6 * n
    F = matrix_at(K, n, s, n)  # velocities of the stages
    b = vector_at(table, (s + 1) * s, s)
    enters = memory[SLOPED] == 0.0 or memory[SLOPE_T] != c.t
    fresh = memory[PAIRS] > 0.0 and memory[BASIS_T] == c.t
    stiff = h * c.radius > 1.0 and (memory[PAIRS] == 0.0 or (enters and memory[LAST_T] != c.t))
    if not fresh and (stiff or memory[STALE] > 0.0):
        eigenpairs(system, index, weight_decay, data, work, memory, room, y, scratch, c)
        fresh = True
    copy(vector_at(K, 0, n), 0, memory, at_slow, n)
    _filter(memory, room, s, n, at_slow, 1, h)
    c.left, c.left_new, tolerance, stretch, rate = np.inf, np.inf, PLATEAU, 0, 0.0
    noise, hard = FILTERED * rounding(c), h
    stretches = numbers[STRETCHES] if numbers[EXPONENT] > 0 else 1
    if stretches > 1:
        if enters:
            hessian = hessian_of(system)
            product(y, slow, index, weight_decay, gradient, hessian, data, work, slope)
            for m in range(n):
                slope[m] = -slope[m]
            c.products += 1
            memory[SLOPED], memory[SLOPE_T] = 1.0, c.t
        speed = norm(memory, at_slow, at_slow + n)
        if speed > 0.0:
            for m in range(n):
                direction[m] = slow[m] / speed
            rate = dot(direction, slope, 0, n) / speed
            c.left = _time_left(slow, slope, depth, n)
        if c.left < np.inf:
            stretch = int(-np.log1p(-min(h / c.left, 1.0 - NEAREST)) / table[s + 3, 0] + UPWARDS)
            stretch = min(stretch, stretches - 1)
            if c.objective > 0.0:
                tolerance = min(
                    PLATEAU, WAITING * (c.left * c.dissipation / c.objective) ** (1.0 - 2.0 / depth)
                )
            if c.apart == 1:
                noise *= min(1.0, 10.0 * speed / rate / norm(y, 0, n))
                hard = 1e100
    tolerance *= c.rtol
    at, kappa = _table_of(stretch, s), stretch * table[s + 3, 0]
    g = vector_at(table, at + 3 * s * s + 3 * s, s)
    _predict(table, at, kappa, memory, at_Z, at_R + s * n, s, n, c.t, h)
    if rate > 0.0:
        _prepare_growth(table, at, memory, at_M, s, h, rate, c.left)
    renewable = h < 0.5 * c.left  # else the slowness is that of what grows
    solved, before = False, np.inf
    patient = to_rounding or numbers[EXPONENT] == 0
    for correction in range(PATIENCE if patient else MOST):
        for i in range(s):
            Z = vector_at(memory, at_Z + i * n, n)
            for m in range(n):
                scratch[m] = y[m] + (carry[m] + Z[m])
            velocity(
                scratch, index, weight_decay, gradient, data, no_batch, work, vector_at(K, (1 + i) * n, n)
            )
        c.nfev += s
        for i in range(s):
            R, Z = vector_at(memory, at_R + i * n, n), vector_at(memory, at_Z + i * n, n)
            weighted(F, vector_at(table, at + i * s, s), s, h, R)
            for m in range(n):
                R[m] -= Z[m]
        _correct(table, at, memory, room, s, n, h)
        if rate > 0.0:
            _correct_growth(memory, at_R, at_M, direction, s, n)
        for m in range(s * n):
            memory[at_Z + m] += memory[at_R + m]
        size, change = norm(memory, at_Z, at_Z + s * n), norm(memory, at_R, at_R + s * n)
        if not np.isfinite(change):
            break
        fall = change / before
        least = 4.0 * EPS * size + EPS * (4.0 + VELOCITY * h * c.radius) * norm(y, 0, n)
        if to_rounding:
            solved = change <= EPS * size or (fall > 0.3 and change <= 256 * EPS * (size + norm(y, 0, n)))
        else:
            last = vector_at(memory, at_R + (s - 1) * n, n)
            for m in range(n):
                scratch[m] = y[m] + memory[at_Z + (s - 1) * n + m]
                slow_new[m] = F[s - 1, m]
            _filter(memory, room, s, n, at_slow + n, 1, h)
            ratio = error_ratio(
                blocks, y, scratch, slow, slow_new, last, last, 0.0, h, tolerance, c.atol, noise
            )
            left = ratio * min(fall, 0.5) / (1.0 - min(fall, 0.5)) if before < np.inf else ratio
            solved = left <= SOLVED or (change <= least and fall > STAGNANT and before < np.inf)
        if solved:
            break
        before = change
        if renewable and fall > SLOW and fall < np.inf and not fresh:
            eigenpairs(system, index, weight_decay, data, work, memory, room, y, scratch, c)
            copy(vector_at(K, 0, n), 0, memory, at_slow, n)
            _filter(memory, room, s, n, at_slow, 1, h)
            fresh = True
            before = np.inf
        elif fall > DIVERGES and correction > 2 and not patient:
            break
    if not solved:
        memory[LAST_H], memory[STALE] = 0.0, 0.0 if fresh or not renewable else 1.0
        return 3.0 ** (2 * s - 1)  # a step three times shorter
    memory[LAST_T], memory[LAST_H], memory[LAST_TABLE] = c.t, h, at
    c.stretch = kappa
    if closing == s:
        # Radau: the last stage. As a sum of velocities, what stiff modes lack would come in times h lambda.
        copy(memory, at_Z + (s - 1) * n, move, 0, n)
    else:
        weighted(F, b, s, h, move)
    advance(y, carry, move, new)
    v_new = vector_at(K, closing * n, n)
    if numbers[EXPONENT] == 0:
        velocity(new, index, weight_decay, gradient, data, no_batch, work, v_new)
        c.nfev += 1
        return 0.0
    weighted(F, vector_at(table, (s + 2) * s, s), s, 1.0 / (h * g[s - 1]), slope)
    memory[SLOPED], memory[SLOPE_T] = 1.0, c.t + h
    # Legendre coefficients c_k of the velocity: c_k / c_0 falls like rho^k and the error like rho^(2s), so h c_(s-1)
    # rho^s is an upper estimate. In stiff directions c_k is rounding times lambda, which the filter damps.
    second, tail, mean = (
        vector_at(memory, at_R, n),
        vector_at(memory, at_slow + 2 * n, n),
        vector_at(memory, at_slow + 3 * n, n),
    )
    for i in range(s):
        for m in range(n):
            F[i, m] *= g[i]
    weighted(F, vector_at(table, 0, s), s, h, mean)
    weighted(F, vector_at(table, (s - 1) * s, s), s, h, tail)
    weighted(F, vector_at(table, (s - 2) * s, s), s, h, second)
    velocity(new, index, weight_decay, gradient, data, no_batch, work, v_new)
    c.nfev += 1
    copy(v_new, 0, memory, at_slow + n, n)
    _filter(memory, room, s, n, at_R, 1, h)
    _filter(memory, room, s, n, at_slow + n, 1, h)
    _filter(memory, room, s, n, at_slow + 2 * n, 1, hard)
    _filter(memory, room, s, n, at_slow + 3 * n, 2, h)
    if stretches > 1:
        c.left_new = _time_left(slow_new, slope, depth, n)
    between = second  # the error of the polynomial between the ends: of the next coefficient, integrated
    for layer in range(blocks.size - 1):
        start, stop = blocks[layer], blocks[layer + 1]
        # |c_(s-2)| = rho^(s-2) |c_0|; two stages have but one ratio
        size, known, reached = (
            max(norm(mean, start, stop), 1e-300),
            norm(second if s > 2 else tail, start, stop),
            norm(tail, start, stop),
        )
        rho = min(1.0, known / size) ** (1.0 / max(s - 2, 1))
        next_rho = min(max(reached / max(known, 1e-300), FASTEST * rho), rho)
        next_size = next_rho * max(reached, next_rho * known)
        for m in range(start, stop):
            between[m] = tail[m] * rho / (2 * s)
            tail[m] *= next_rho * min(1.0, next_size / size)
    at_end = error_ratio(blocks, y, new, slow, slow_new, tail, tail, 0.0, h, tolerance, c.atol, noise)
    # relative to the layers: it is not passed on, so what grows from it does not matter
    inside = error_ratio(
        blocks, y, new, slow, slow, between, between, 0.0, h, c.rtol, c.atol, FILTERED * rounding(c)
    )
    return max(at_end, inside ** (2.0 * s / (s + 1.0)))


def complete(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """The stages over h, in the rows behind the closing one."""
    n, s, at_Z = y.size, numbers[STAGES], HEAD + numbers[ROOM] + 2 * y.size * numbers[ROOM]
    for i in range(s):
        row = vector_at(K, (numbers[CLOSING] + 1 + i) * n, n)
        for m in range(n):
            row[m] = memory[at_Z + i * n + m] / h
    return 0.0
