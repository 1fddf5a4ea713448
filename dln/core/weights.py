"""Velocity of the flow in the weights themselves: the layers one after the other, row by row, in one flat state."""

from __future__ import annotations

from typing import Any

from .compile import helper, inlined, summing
from .vectors import multiply, multiply_tn, transpose
from .views import vector_at

__all__ = ["measure", "read", "velocity", "work_size"]


def work_size(widths: Any) -> int:
    """Length of the scratch array: A, its gradient, then the products of one of the two sides."""
    n_0, n_L, widest = widths[0], widths[-1], max(widths)
    right = n_0 * (3 * widest + sum(widths[2:-1]))
    left = n_L * (3 * widest + sum(widths[1:-2]))
    return int(2 * n_0 * n_L + max(right, left))


@helper
def _widest(index):  # type: ignore[no-untyped-def]
    widest = 0
    for n in index:
        widest = max(widest, n)
    return widest


@inlined
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


@inlined
def _from_the_right(state, index, gradient, data, batch, work, out):  # type: ignore[no-untyped-def]
    """Minus the layer gradients -B_l^T G F_{l-1}^T by F_l = W_l F_{l-1} and R_{l-1} = W_l^T R_l, R_L = -G."""
    depth, n_0, n_L = index.size - 1, index[0], index[index.size - 1]
    side, ends = _widest(index) * n_0, n_L * n_0
    # work: A, R_L, two places for R_l, one for F_l^T, then F_2 .. F_{L-1}
    turned, products = 2 * ends + 2 * side, 2 * ends + 3 * side
    _forward(state, index, work, products)
    _minus_gradient(gradient, n_L, n_0, data, batch, work)
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


@inlined
def _from_the_left(state, index, gradient, data, batch, work, out):  # type: ignore[no-untyped-def]
    """The same by B_{l-1} = B_l W_l and Q_l = W_l Q_{l-1}, Q_0 = -G^T: cheaper where n_L < n_0. Needs two layers."""
    depth, n_0, n_L = index.size - 1, index[0], index[index.size - 1]
    side, ends = _widest(index) * n_L, n_L * n_0
    # work: A, P_0 = -G, two places for Q_l, one for P_l = Q_l^T, then B_{L-2} .. B_1
    turned, products = 2 * ends + 2 * side, 2 * ends + 3 * side
    last = state.size - n_L * index[depth - 1]  # W_L = B_{L-1}
    stop, product = last, products
    for l in range(depth - 1, 0, -1):
        rows, columns = index[l], index[l - 1]
        start = stop - rows * columns
        to = 0 if l == 1 else product
        if l == depth - 1:
            multiply(state, last, state, start, work, to, n_L, rows, columns)
        else:
            multiply(work, product - n_L * rows, state, start, work, to, n_L, rows, columns)
        product += n_L * columns
        stop = start
    _minus_gradient(gradient, n_L, n_0, data, batch, work)
    Q = 2 * ends
    transpose(work, ends, work, Q, n_L, n_0)
    product -= n_L * n_0  # where B_1 ends
    start, P = 0, ends
    for l in range(1, depth):
        rows, columns = index[l], index[l - 1]
        product -= n_L * rows
        if l == depth - 1:
            multiply_tn(state, last, work, P, out, start, rows, n_L, columns)
        else:
            multiply_tn(work, product, work, P, out, start, rows, n_L, columns)
        after = 2 * ends + (l % 2) * side
        multiply(state, start, work, Q, work, after, rows, columns, n_L)
        Q, P = after, turned
        start += rows * columns
        if l == depth - 1:
            transpose(work, Q, out, last, rows, n_L)
        else:
            transpose(work, Q, work, P, rows, n_L)


@helper
def _minus_gradient(gradient, n_L, n_0, data, batch, work):  # type: ignore[no-untyped-def]
    """-G behind A in work."""
    ends = n_L * n_0
    gradient(vector_at(work, 0, ends), n_L, n_0, data, batch, vector_at(work, ends, ends))
    for i in range(ends, 2 * ends):
        work[i] = -work[i]


def velocity(state, index, weight_decay, gradient, data, batch, work, out):  # type: ignore[no-untyped-def]
    r"""Minus the gradient of the objective: dW_l/dt = -B_l^T G F_{l-1}^T - weight_decay W_l."""
    if index.size > 2 and index[index.size - 1] < index[0]:
        _from_the_left(state, index, gradient, data, batch, work, out)
    else:
        _from_the_right(state, index, gradient, data, batch, work, out)
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
