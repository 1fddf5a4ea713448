"""Velocity of the flow in the weights themselves: the layers one after the other, row by row, in one flat state."""

from __future__ import annotations

from typing import Any

from .compile import helper, summing
from .vectors import multiply, multiply_tn, transpose
from .views import matrix_at

__all__ = ["measure", "read", "velocity", "work_size"]


def work_size(widths: Any) -> int:
    """Length of the scratch array: A, its gradient, two back-propagated gradients, one transpose, F_2 .. F_{L-1}."""
    n_0, widest = widths[0], max(widths)
    return int(n_0 * (2 * widths[-1] + 3 * widest + sum(widths[2:-1])))


@helper
def _forward(state, index, work, products):  # type: ignore[no-untyped-def]
    """End-to-end matrix into the head of work; F_2 .. F_{L-1} one after the other from `products` on."""
    depth = index.size - 1
    n_0, n_L = index[0], index[depth]
    A = matrix_at(work, 0, n_L, n_0)
    F = matrix_at(state, 0, index[1], n_0)
    if depth == 1:
        for i in range(n_L * n_0):
            work[i] = state[i]
    start = index[1] * n_0
    for l in range(2, depth + 1):
        rows, columns = index[l], index[l - 1]
        W = matrix_at(state, start, rows, columns)
        start += rows * columns
        product = matrix_at(work, 0 if l == depth else products, rows, n_0)
        multiply(W, F, product)
        products += rows * n_0
        F = product
    return A


def velocity(state, index, weight_decay, gradient, data, batch, work, out):  # type: ignore[no-untyped-def]
    r"""Minus the gradient of the objective: dW_l/dt = -B_l^T G F_{l-1}^T - weight_decay W_l."""
    depth = index.size - 1
    n_0, n_L = index[0], index[depth]
    widest = 0
    for n in index:
        widest = max(widest, n)
    ends = n_L * n_0
    side = widest * n_0
    first_product = 2 * ends + 3 * side
    A = _forward(state, index, work, first_product)
    R = matrix_at(work, ends, n_L, n_0)  # -B_l^T G
    gradient(A, data, batch, R)
    for i in range(n_L):
        for j in range(n_0):
            R[i, j] = -R[i, j]

    product = first_product  # end of F_{L-1}
    for l in range(2, depth):
        product += index[l] * n_0
    stop = state.size
    for l in range(depth, 1, -1):
        rows, columns = index[l], index[l - 1]
        start = stop - rows * columns
        product -= columns * n_0
        F = matrix_at(state, 0, columns, n_0) if l == 2 else matrix_at(work, product, columns, n_0)
        F_T = matrix_at(work, 2 * ends + 2 * side, n_0, columns)
        transpose(F, F_T)
        multiply(R, F_T, matrix_at(out, start, rows, columns))
        here = 2 * ends + (l % 2) * side
        back = matrix_at(out, 0, columns, n_0) if l == 2 else matrix_at(work, here, columns, n_0)
        multiply_tn(matrix_at(state, start, rows, columns), R, back)
        R = back
        stop = start
    if depth == 1:
        for i in range(ends):
            out[i] = work[ends + i]
    if weight_decay != 0.0:
        for i in range(state.size):
            out[i] -= weight_decay * state[i]


@summing
def _square(x):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(x.size):
        total += x[i] * x[i]
    return total


def measure(state, velocity, index, weight_decay, value, data, work, out):  # type: ignore[no-untyped-def]
    """Cost, objective, and dissipation |d theta/dt|^2 = -d objective/dt, from the A that the velocity left in work."""
    n_0, n_L = index[0], index[index.size - 1]
    out[0] = value(matrix_at(work, 0, n_L, n_0), data)
    out[1] = out[0]
    if weight_decay != 0.0:
        out[1] += 0.5 * weight_decay * _square(state)
    out[2] = _square(velocity)


def read(state, index, work, out):  # type: ignore[no-untyped-def]
    """End-to-end matrix of a state, row by row."""
    n_0, n_L = index[0], index[index.size - 1]
    widest = 0
    for n in index:
        widest = max(widest, n)
    _forward(state, index, work, n_0 * (2 * n_L + 3 * widest))
    for i in range(n_L * n_0):
        out[i] = work[i]
