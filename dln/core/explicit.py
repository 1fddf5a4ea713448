"""One step of an explicit Runge-Kutta method: a method is a table."""

from __future__ import annotations

import numpy as np

from .compile import gradient_of, velocity_of
from .steps import AT_REST, CLOSING, EXPONENT, advance, error_ratio, norm, rounding
from .vectors import combine, weighted
from .views import vector_at

__all__ = ["complete", "step"]


def step(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """Stages k_i = f(y + h sum_j a_ij k_j); row `closing` of the table is the solution itself."""
    velocity, gradient = velocity_of(system), gradient_of(system)
    c, no_batch = control[0], np.empty(0, np.int64)
    closing, rows, n = numbers[CLOSING], table.shape[0], y.size
    for i in range(1, closing):
        combine(y, K, vector_at(table, i * rows, rows), i, h, new)
        velocity(new, index, weight_decay, gradient, data, no_batch, work, vector_at(K, i * n, n))
    weighted(K, vector_at(table, closing * rows, rows), closing, h, move)
    advance(y, carry, move, new)
    velocity(new, index, weight_decay, gradient, data, no_batch, work, vector_at(K, closing * n, n))
    c.nfev += closing
    if numbers[EXPONENT] == 0:
        return 0.0
    v, v_new, second = vector_at(K, 0, n), vector_at(K, closing * n, n), vector_at(K, (K.shape[0] - 1) * n, n)
    weighted(K, vector_at(error, 0, closing + 1), closing + 1, h, scratch)
    damping = 0.0
    if error.shape[0] == 2:
        weighted(K, vector_at(error, closing + 1, closing + 1), closing + 1, h, second)
        damping = 0.01  # err5^2 / sqrt(err5^2 + 0.01 err3^2)
    noise = rounding(c) * (1.0 + 6.0 * h * c.radius)  # the stages see it times h lambda
    if norm(v, 0, n) < AT_REST * c.radius * norm(y, 0, n):
        v_new = v  # what seems to grow is rounding
    return error_ratio(blocks, y, new, v, v_new, scratch, second, damping, h, c.rtol, c.atol, noise)


def complete(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """The stages after the closing one."""
    velocity, gradient = velocity_of(system), gradient_of(system)
    c, no_batch, rows, n = control[0], np.empty(0, np.int64), table.shape[0], y.size
    for i in range(numbers[CLOSING] + 1, rows):
        combine(y, K, vector_at(table, i * rows, rows), i, h, scratch)
        velocity(scratch, index, weight_decay, gradient, data, no_batch, work, vector_at(K, i * n, n))
        c.nfev += 1
    return 0.0
