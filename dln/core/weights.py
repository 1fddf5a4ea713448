"""Velocity and curvature in the weights themselves: the layers one after the other, row by row, in one flat state."""

from __future__ import annotations

from typing import Any

import numpy as np

from .compile import helper, inlined, summing
from .vectors import multiply, multiply_tn, transpose
from .views import vector_at

__all__ = ["measure", "minus_gradient", "product", "read", "velocity", "work_size"]


def work_size(widths: Any) -> int:
    """Length of the scratch array: A, its gradient, then the products of one of the two sides, or of the Hessian."""
    n_0, n_L, widest = widths[0], widths[-1], max(widths)
    right = n_0 * (3 * widest + sum(widths[2:-1]))
    left = n_L * (3 * widest + sum(widths[1:-2]))
    both = 3 * widest * max(n_0, n_L) + n_0 * sum(widths[2:-1])
    pairs = 2 * n_0 * n_L + n_0 * (7 * widest + 2 * sum(widths[1:]))
    return int(2 * n_0 * n_L + max(right, left, both, pairs))


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
    minus_gradient(gradient, n_L, n_0, data, batch, work)
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
    minus_gradient(gradient, n_L, n_0, data, batch, work)
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


@inlined
def _from_both_sides(state, index, gradient, data, batch, work, out):  # type: ignore[no-untyped-def]
    """The same with G multiplied first wherever that is possible, by R_l and Q_l. Needs three layers.

    On a plateau G is orthogonal to the fitted modes and R_l, Q_l are as small as the waiting ones, so they keep their
    digits. W_2 W_1 would drown those of size u^2 in the rounding of the fitted ones, and v_3 = G (W_2 W_1)^T with them.
    """
    depth, n_0, n_L = index.size - 1, index[0], index[index.size - 1]
    widest, ends = _widest(index), n_L * n_0
    side = widest * max(n_0, n_L)
    # work: A, -G, two places for R_l and then for Q_l, one for F_l^T and G^T and Q_l^T, then F_2 .. F_{L-1}
    turned, products = 2 * ends + 2 * side, 2 * ends + 3 * side
    _forward(state, index, work, products)
    minus_gradient(gradient, n_L, n_0, data, batch, work)
    product = products  # where F_{L-1} ends
    for l in range(2, depth):
        product += index[l] * n_0
    stop, R = state.size, ends
    for l in range(depth, 1, -1):
        rows, columns = index[l], index[l - 1]
        start = stop - rows * columns
        product -= columns * n_0
        if l < depth - 1 or l == 2:
            if l == 2:
                transpose(state, 0, work, turned, columns, n_0)
            else:
                transpose(work, product, work, turned, columns, n_0)
            multiply(work, R, work, turned, out, start, rows, n_0, columns)
        here = 2 * ends + (l % 2) * side
        if l == 2:
            multiply_tn(state, start, work, R, out, 0, columns, rows, n_0)
        else:
            multiply_tn(state, start, work, R, work, here, columns, rows, n_0)
        R, stop = here, start
    transpose(work, ends, work, turned, n_L, n_0)
    start, Q = 0, turned
    for l in range(1, depth):
        rows, columns = index[l], index[l - 1]
        after = 2 * ends + (l % 2) * side
        if l == depth - 1 and l > 2:  # W_L^T Q_{L-2}^T
            transpose(work, Q, work, turned, columns, n_L)
            multiply_tn(state, start + rows * columns, work, turned, out, start, rows, n_L, columns)
        multiply(state, start, work, Q, work, after, rows, columns, n_L)
        Q = after
        start += rows * columns
    transpose(work, Q, out, start, index[depth - 1], n_L)


@helper
def minus_gradient(gradient, n_L, n_0, data, batch, work):  # type: ignore[no-untyped-def]
    """-G behind A in work."""
    ends = n_L * n_0
    gradient(vector_at(work, 0, ends), n_L, n_0, data, batch, vector_at(work, ends, ends))
    for i in range(ends, 2 * ends):
        work[i] = -work[i]


def velocity(state, index, weight_decay, gradient, data, batch, work, out):  # type: ignore[no-untyped-def]
    r"""Minus the gradient of the objective: dW_l/dt = -B_l^T G F_{l-1}^T - weight_decay W_l."""
    n_0, n_L = index[0], index[index.size - 1]
    if index.size > 3 and max(n_0, n_L) <= 2 * min(n_0, n_L):
        _from_both_sides(state, index, gradient, data, batch, work, out)
    elif index.size > 2 and n_L < n_0:
        _from_the_left(state, index, gradient, data, batch, work, out)
    else:
        _from_the_right(state, index, gradient, data, batch, work, out)
    if weight_decay != 0.0:
        for i in range(state.size):
            out[i] -= weight_decay * state[i]


@helper
def _split(pairs, start, rows, columns, right, out, to):  # type: ignore[no-untyped-def]
    """The left or the right half of a matrix [X | Y] with two times `columns` columns."""
    for i in range(rows):
        for j in range(columns):
            out[to + i * columns + j] = pairs[start + (2 * i + right) * columns + j]


@helper
def _join(X, x, rows, columns, right, pairs, start, added):  # type: ignore[no-untyped-def]
    """X into one half of [X | Y], or (added = 1) added to what is there."""
    for i in range(rows):
        for j in range(columns):
            to = start + (2 * i + right) * columns + j
            pairs[to] = X[x + i * columns + j] + (pairs[to] if added == 1 else 0.0)


def product(state, direction, index, weight_decay, gradient, hessian, data, work, out):  # type: ignore[no-untyped-def]
    r"""Hessian of the objective times a direction: the derivative of dC/dW_l = R_l F_{l-1}^T + weight_decay W_l.

    F_l = W_l F_{l-1} and R_{l-1} = W_l^T R_l, R_L = G, travel beside their derivatives, as the pairs [dF | F] and
    [R | dR], so that dR F^T + R dF^T is one product. A is left at the head of work.
    """
    depth, n_0, n_L = index.size - 1, index[0], index[index.size - 1]
    ends, widest = n_L * n_0, _widest(index)
    # work: A, G, dA, C''(A)[dA]; two places for [R | dR], one for [dF | F]^T, one for half a pair; then [dF | F]_1 ..
    pair = 2 * n_0 * widest
    place, turned, half, forward = (
        4 * ends,
        4 * ends + 2 * pair,
        4 * ends + 3 * pair,
        4 * ends + 7 * n_0 * widest,
    )
    rows, start, here = index[1], 0, forward
    _join(direction, 0, rows, n_0, 0, work, here, 0)
    _join(state, 0, rows, n_0, 1, work, here, 0)
    for l in range(2, depth + 1):
        start += rows * index[l - 2]
        columns, rows = rows, index[l]
        before, here = here, here + 2 * n_0 * columns
        multiply(state, start, work, before, work, here, rows, columns, 2 * n_0)
        _split(work, before, columns, n_0, 1, work, half)
        multiply(direction, start, work, half, work, place, rows, columns, n_0)
        _join(work, place, rows, n_0, 0, work, here, 1)
    _split(work, here, n_L, n_0, 1, work, 0)
    _split(work, here, n_L, n_0, 0, work, 2 * ends)
    A, G = vector_at(work, 0, ends), vector_at(work, ends, ends)
    dA, dG = vector_at(work, 2 * ends, ends), vector_at(work, 3 * ends, ends)
    gradient(A, n_L, n_0, data, np.empty(0, np.int64), G)
    hessian(A, dA, n_L, n_0, data, dG)
    _join(work, ends, n_L, n_0, 0, work, place, 0)
    _join(work, 3 * ends, n_L, n_0, 1, work, place, 0)
    for l in range(depth, 1, -1):
        rows, columns = index[l], index[l - 1]
        here -= 2 * n_0 * columns
        transpose(work, here, work, turned, columns, 2 * n_0)
        multiply(work, place, work, turned, out, start, rows, 2 * n_0, columns)
        after = 8 * ends + pair - place  # the other of the two places
        multiply_tn(state, start, work, place, work, after, columns, rows, 2 * n_0)
        _split(work, place, rows, n_0, 0, work, half)
        multiply_tn(direction, start, work, half, work, turned, columns, rows, n_0)
        _join(work, turned, columns, n_0, 1, work, after, 1)
        place = after
        start -= columns * index[l - 2]
    _split(work, place, index[1], n_0, 1, out, 0)
    if weight_decay != 0.0:
        for i in range(state.size):
            out[i] += weight_decay * direction[i]


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
