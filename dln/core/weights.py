"""Velocity of the flow in the weights themselves: the layers one after the other, row by row, in one flat state."""

from __future__ import annotations

from typing import Any

from .compile import helper, summing
from .vectors import multiply, multiply_tn, transpose
from .views import vector_at

__all__ = ["measure", "read", "velocity", "work_size"]


def work_size(widths: Any) -> int:
    """Length of the scratch array: A, its gradient, two back-propagated gradients, one transpose, F_2 .. F_{L-1}."""
    n_0, widest = widths[0], max(widths)
    return int(n_0 * (2 * widths[-1] + 3 * widest + sum(widths[2:-1])))


@helper
def _widest(index):  # type: ignore[no-untyped-def]
    widest = 0
    for n in index:
        widest = max(widest, n)
    return widest


@helper
def _forward(state, index, work, products):  # type: ignore[no-untyped-def]
    """End-to-end matrix into the head of work; F_2 .. F_{L-1} one after the other from `products` on."""
    depth, n_0 = index.size - 1, index[0]
    start = index[1] * n_0
    if depth == 1:
        for i in range(start):
            work[i] = state[i]
    for l in range(2, depth + 1):
        rows, columns = index[l], index[l - 1]
        to = 0 if l == depth else products
        if l == 2:
            multiply(state, start, state, 0, work, to, rows, columns, n_0)
        else:
            multiply(state, start, work, products - columns * n_0, work, to, rows, columns, n_0)
        start += rows * columns
        products += rows * n_0


def velocity(state, index, weight_decay, gradient, data, batch, work, out):  # type: ignore[no-untyped-def]
    r"""Minus the gradient of the objective: dW_l/dt = -B_l^T G F_{l-1}^T - weight_decay W_l."""
    depth, n_0, n_L = index.size - 1, index[0], index[index.size - 1]
    side, ends = _widest(index) * n_0, n_L * n_0
    # work: A, R_L = -G, two places for R_l = -B_l^T G, one for F_l^T, then F_2 .. F_{L-1}
    turned, products = 2 * ends + 2 * side, 2 * ends + 3 * side
    _forward(state, index, work, products)
    gradient(vector_at(work, 0, ends), n_L, n_0, data, batch, vector_at(work, ends, ends))
    for i in range(ends, 2 * ends):
        work[i] = -work[i]

    product = products  # where F_{L-1} ends
    for l in range(2, depth):
        product += index[l] * n_0
    stop, R = state.size, ends
    for l in range(depth, 1, -1):
        rows, columns = index[l], index[l - 1]
        start = stop - rows * columns
        product -= columns * n_0
        if l > 2:
            here = 2 * ends + (l % 2) * side
            transpose(work, product, work, turned, columns, n_0)
            multiply_tn(state, start, work, R, work, here, columns, rows, n_0)
        else:
            here = 0
            transpose(state, 0, work, turned, columns, n_0)
            multiply_tn(state, start, work, R, out, 0, columns, rows, n_0)
        multiply(work, R, work, turned, out, start, rows, n_0, columns)
        R, stop = here, start
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
    out[0] = value(vector_at(work, 0, n_L * n_0), n_L, n_0, data)
    out[1] = out[0]
    if weight_decay != 0.0:
        out[1] += 0.5 * weight_decay * _square(state)
    out[2] = _square(velocity)


def read(state, index, work, out):  # type: ignore[no-untyped-def]
    """End-to-end matrix of a state, row by row."""
    n_0, n_L = index[0], index[index.size - 1]
    _forward(state, index, work, n_0 * (2 * n_L + 3 * _widest(index)))
    for i in range(n_L * n_0):
        out[i] = work[i]
