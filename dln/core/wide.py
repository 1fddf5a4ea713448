"""Explicit Runge-Kutta steps of nets with wide hidden layers, whose velocities stay factored.

Minus the gradient of a layer has a rank r of n_0 or n_L: dW_l/dt = P_l Q_l^T with P_l = B_l^T (-G), Q_l = F_{l-1}, or
with P_l = B_l^T, Q_l = F_{l-1} (-G)^T, where F_l = W_l .. W_1 and B_l = W_L .. W_{l+1}. A row of K holds P_l^T and
Q_l^T of layer after layer. The state whose velocity is asked for is a stage that is never formed,

    W_l + sum_j c_j P_l^j Q_l^jT ,    with a thin X:  W_l X + P (c Q^T X),  P = [P^0 P^1 ..],  Q = [Q^0 Q^1 ..],

so a stage reads the weights two or three times, once for every product, and writes none. c and the stacked factors
stand in `work`. Differences of velocities (the estimated error) are summed entry by entry, a block of rows at a time:
they cancel as the full ones would, and as accurately.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compile import gradient_of, helper, measure_of, value_of, velocity_of
from .steps import AT_REST, EXPONENT, STAGES, copy, dot, layer_ratio, layer_sums, norm, rounding
from .vectors import multiply, multiply_tn, transpose
from .views import vector_at
from .weights import minus_gradient

__all__ = ["CAPACITY", "between", "complete", "measure", "radius", "ranks", "step", "velocity", "work_size"]

CAPACITY = 16  # velocities stacked side by side: the rows of the largest table
BLOCK = 128  # rows of a layer that are formed at once
WINDOW = 3  # first and last of the stacked velocities that the stage adds, and how many lie below that of y
STRIP = 32  # rows of a layer whose transpose is multiplied at once: they stay in the cache
POWER_STEP = 1e-6


def ranks(widths: Any) -> list[int]:
    """Columns of P_l and Q_l, of every layer."""
    depth, n_0, n_L = len(widths) - 1, widths[0], widths[-1]
    if depth > 2 and max(n_0, n_L) <= 2 * min(n_0, n_L):
        right = max(2, depth - 2)
    else:
        right = 0 if n_L < n_0 else depth
    return [n_0] * right + [n_L] * (depth - right)


def work_size(widths: Any) -> int:
    """Length of the scratch array, of which `_sizes` names the parts."""
    n_0, n_L, widest = widths[0], widths[-1], max(widths)
    thick = max(n_0, n_L)
    length = sum(r * (a + b) for r, a, b in zip(ranks(widths), widths, widths[1:], strict=False))
    small = 2 * n_0 * n_L + WINDOW + 3 * CAPACITY + CAPACITY * thick**2
    return int(small + 4 * widest * thick + 4 * BLOCK * widest + BLOCK * CAPACITY * thick + CAPACITY * length)


@helper
def _right_layers(index):  # type: ignore[no-untyped-def]
    """Number of layers with P = B^T (-G), Q = F, of rank n_0; those above have P = B^T, Q = F (-G)^T, of rank n_L.

    For ends of similar size G is multiplied first wherever that is possible, as in `weights._from_both_sides`.
    """
    depth, n_0, n_L = index.size - 1, index[0], index[index.size - 1]
    if depth > 2 and max(n_0, n_L) <= 2 * min(n_0, n_L):
        return max(2, depth - 2)
    return 0 if n_L < n_0 else depth


@helper
def _rank(index, l):  # type: ignore[no-untyped-def]
    """Columns of P_l and Q_l."""
    return index[0] if l <= _right_layers(index) else index[index.size - 1]


@helper
def _sizes(index):  # type: ignore[no-untyped-def]
    """Length of a row of factors, and where in `work` the parts begin, with the size of some.

    A, -G | window and order of the stack, c, those of two errors | four thin matrices | c Q^T X | four
    blocks | the scaled P of a block | stacks.
    """
    n_0, n_L = index[0], index[index.size - 1]
    thick, widest, length = max(n_0, n_L), 0, 0
    for n in index:
        widest = max(widest, n)
    for l in range(1, index.size):
        length += _rank(index, l) * (index[l] + index[l - 1])
    header = 2 * n_0 * n_L
    thin = header + WINDOW + 3 * CAPACITY
    inner = thin + 4 * widest * thick
    blocks = inner + CAPACITY * thick * thick
    scaled = blocks + 4 * BLOCK * widest
    stacks = scaled + BLOCK * CAPACITY * thick
    return length, header, thin, widest * thick, inner, blocks, BLOCK * widest, scaled, stacks


@helper
def _place(index, l):  # type: ignore[no-untyped-def]
    """Where layer l begins in a state and in a row of factors."""
    start, place = 0, 0
    for k in range(1, l):
        start += index[k] * index[k - 1]
        place += _rank(index, k) * (index[k] + index[k - 1])
    return start, place


@helper
def _stack(rows, i, index, work, to):  # type: ignore[no-untyped-def]
    """Row i of factors to its place among the stacked ones."""
    length, _, _, _, _, _, _, _, stacks = _sizes(index)
    source = i * length
    for l in range(1, index.size):
        r = _rank(index, l)
        for side in range(2):
            size = r * index[l - side]
            copy(vector_at(rows, source, size), 0, work, stacks + to * size, size)
            source += size
            stacks += CAPACITY * size


@helper
def _position(i, unused):  # type: ignore[no-untyped-def]
    """Where stage i is stacked: those after the first that the step itself does not use come before, from the last on.

    So the stages before any one, and those that the step uses, stand side by side.
    """
    return unused - i if i <= unused else i


@helper
def _weigh(row, count, h, work, header, to):  # type: ignore[no-untyped-def]
    """c = h row, in the order of the stack, to an index of work; returns the window in which c is not zero."""
    unused, first, end = int(work[header + 2]), CAPACITY, 0
    for i in range(count):
        at = _position(i, unused)
        work[to + at] = h * row[i]
        if row[i] != 0.0:
            first, end = min(first, at), max(end, at + 1)
    return min(first, end), end


@helper
def _aim(row, count, h, work, header):  # type: ignore[no-untyped-def]
    """The stage y + h sum_i row_i K_i is what velocities belong to from here on."""
    first, end = _weigh(row, count, h, work, header, header + WINDOW)
    work[header], work[header + 1] = first, end


@helper
def _add_turned(A, a, rows, columns, work, x, thin, to, spare):  # type: ignore[no-untyped-def]
    """X^T A, with thin X, added to the thin matrix at `to`: some rows of A at a time, read in the order of memory."""
    for first in range(0, rows, STRIP):
        height = min(STRIP, rows - first)
        multiply_tn(work, x + first * thin, A, a + first * columns, work, spare, thin, height, columns)
        for i in range(thin * columns):
            work[to + i] += work[spare + i]


@helper
def _times(state, index, work, l, turned, x, columns, to):  # type: ignore[no-untyped-def]
    """Layer l of the stage, or its transpose (turned = 1), times the thin matrix at x."""
    _, header, thin, side, inner, _, _, _, stacks = _sizes(index)
    (start, place), r, rows, inputs = _place(index, l), _rank(index, l), index[l], index[l - 1]
    total, spare = thin + 2 * side, thin + 3 * side
    skip = int(work[header])
    count, c = int(work[header + 1]) - skip, header + WINDOW + skip
    P = stacks + CAPACITY * place
    Q = P + CAPACITY * r * rows + skip * r * inputs
    P += skip * r * rows
    if turned == 1:
        P, Q, rows, inputs = Q, P, inputs, rows
    for i in range(total, total + rows * columns):
        work[i] = 0.0
    if turned == 1:
        _add_turned(state, start, inputs, rows, work, x, columns, total, spare)
    else:
        multiply(state, start, work, x, work, to, rows, inputs, columns)
    if count > 0:
        multiply(work, Q, work, x, work, inner, count * r, inputs, columns)
        for j in range(count):
            for i in range(inner + j * r * columns, inner + (j + 1) * r * columns):
                work[i] *= work[c + j]
        _add_turned(work, P, count * r, rows, work, inner, columns, total, spare)
    if turned == 1:
        transpose(work, total, work, to, columns, rows)
    elif count > 0:
        transpose(work, total, work, spare, columns, rows)
        for i in range(rows * columns):
            work[to + i] += work[spare + i]


@helper
def _chain(state, index, work, turned, x, columns, products, out, low, high):  # type: ignore[no-untyped-def]
    """X, W_1 X, W_2 W_1 X .., or (turned = 1) X, W_L^T X .., as many products; returns where the last stands.

    Those before layers low .. high go to `out`, as factors.
    """
    _, _, thin, side, _, _, _, _, _ = _sizes(index)
    depth = index.size - 1
    for i in range(depth):
        l = depth - i if turned == 1 else i + 1
        if low <= l <= high:
            place = _place(index, l)[1]
            if turned == 1:
                transpose(work, x, out, place, index[l], columns)
            else:
                transpose(work, x, out, place + columns * index[l], index[l - 1], columns)
        if i == products:
            break
        to = thin + side if x == thin else thin
        _times(state, index, work, l, turned, x, columns, to)
        x = to
    return x


@helper
def _unit(work, at, n):  # type: ignore[no-untyped-def]
    for i in range(n * n):
        work[at + i] = 1.0 if i % (n + 1) == 0 else 0.0


def velocity(state, index, weight_decay, gradient, data, batch, work, out):  # type: ignore[no-untyped-def]
    """Factors of the velocity of the stage that `work` adds to the state; there is no weight decay."""
    _, _, thin, _, _, _, _, _, _ = _sizes(index)
    depth, n_0, n_L, right = index.size - 1, index[0], index[index.size - 1], _right_layers(index)
    if right > 0:
        _unit(work, thin, n_0)
        x = _chain(state, index, work, 0, thin, n_0, depth, out, 1, right)  # F_l
        copy(work, x, work, 0, n_L * n_0)
    else:
        _unit(work, thin, n_L)
        x = _chain(state, index, work, 1, thin, n_L, depth, out, 1, depth)  # B_l^T
        transpose(work, x, work, 0, n_0, n_L)
    minus_gradient(gradient, n_L, n_0, data, batch, work)
    if right > 0:
        _chain(state, index, work, 1, n_L * n_0, n_0, depth - 1, out, 1, right)  # B_l^T (-G)
    if right < depth:
        transpose(work, n_L * n_0, work, thin, n_L, n_0)
        _chain(state, index, work, 0, thin, n_L, depth - 1, out, right + 1, depth)  # F_l (-G)^T
    if 0 < right < depth:
        _unit(work, thin, n_L)
        _chain(state, index, work, 1, thin, n_L, depth - 1 - right, out, right + 1, depth)


@helper
def _block(factors, P, Q, c, count, r, first, height, index, l, work, to):  # type: ignore[no-untyped-def]
    """`height` rows, from `first` on, of sum_j c_j P_j Q_j^T, c at an index of work."""
    _, _, _, _, _, _, _, scaled, _ = _sizes(index)
    for a in range(count * r):
        for i in range(height):
            work[scaled + a * height + i] = work[c + a // r] * factors[P + a * index[l] + first + i]
    multiply_tn(work, scaled, factors, Q, work, to, height, count * r, index[l - 1])


@helper
def _square(factors, origin, capacity, count, index, work):  # type: ignore[no-untyped-def]
    """|sum_j P_j Q_j^T|^2 over all layers, of at most two."""
    _, header, _, _, _, blocks, _, _, _ = _sizes(index)
    ones, total = header + WINDOW + CAPACITY, 0.0
    work[ones], work[ones + 1] = 1.0, 1.0
    for l in range(1, index.size):
        P, r = origin + capacity * _place(index, l)[1], _rank(index, l)
        Q = P + capacity * r * index[l]
        for first in range(0, index[l], BLOCK):
            height = min(BLOCK, index[l] - first)
            _block(factors, P, Q, ones, count, r, first, height, index, l, work, blocks)
            total += dot(work, work, blocks, blocks + height * index[l - 1])
    return total


@helper
def _form(base, index, work, out):  # type: ignore[no-untyped-def]
    """The stage itself."""
    _, header, _, _, _, blocks, _, _, stacks = _sizes(index)
    skip = int(work[header])
    count, c = int(work[header + 1]) - skip, header + WINDOW + skip
    for l in range(1, index.size):
        (start, place), r, columns = _place(index, l), _rank(index, l), index[l - 1]
        P = stacks + CAPACITY * place
        Q = P + CAPACITY * r * index[l] + skip * r * columns
        P += skip * r * index[l]
        for first in range(0, index[l], BLOCK):
            height, at = min(BLOCK, index[l] - first), start + first * columns
            _block(work, P, Q, c, count, r, first, height, index, l, work, blocks)
            for i in range(height * columns):
                out[at + i] = base[at + i] + work[blocks + i]


def measure(state, velocity, index, weight_decay, value, data, work, out):  # type: ignore[no-untyped-def]
    """Cost, objective and dissipation, from the A and the factors that the velocity left."""
    n_0, n_L = index[0], index[index.size - 1]
    out[0] = value(vector_at(work, 0, n_L * n_0), n_L, n_0, data)
    out[1] = out[0]
    out[2] = _square(velocity, 0, 1, 1, index, work)


def step(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """As `explicit.step`, without compensated summation."""
    velocity, gradient = velocity_of(system), gradient_of(system)
    c, no_batch = control[0], np.empty(0, np.int64)
    stages, rows, m, header = numbers[STAGES], table.shape[0], K.shape[1], _sizes(index)[1]
    unused = 0
    while unused + 1 < stages and table[stages, unused + 1] == 0.0:
        unused += 1
    work[header + 2] = unused
    _stack(K, 0, index, work, unused)
    for i in range(1, stages + 1):
        _aim(vector_at(table, i * rows, rows), i, h, work, header)
        state = y
        if i == stages:
            _form(y, index, work, new)
            state = new
            _aim(vector_at(table, 0, 0), 0, h, work, header)
        velocity(state, index, weight_decay, gradient, data, no_batch, work, vector_at(K, i * m, m))
        _stack(K, i, index, work, _position(i, unused))
    c.nfev += stages
    if numbers[EXPONENT] == 0:
        return 0.0
    noise = rounding(c) * (1.0 + 6.0 * h * c.radius)
    at_rest = np.sqrt(c.dissipation) < AT_REST * c.radius * norm(y, 0, y.size)
    return _error_ratio(index, work, error, stages, y, new, at_rest, h, c.rtol, c.atol, noise)


@helper
def _error_ratio(index, work, error, stages, y, new, at_rest, h, rtol, atol, noise):  # type: ignore[no-untyped-def]
    """As `steps.error_ratio`, of the stacked velocities."""
    _, header, _, _, _, blocks, block, _, stacks = _sizes(index)
    one, rows, unused = header + WINDOW + CAPACITY, error.shape[0], int(work[header + 2])
    ones = header + WINDOW
    damping = 0.01 if rows == 2 else 0.0
    worst = 0.0
    for l in range(1, index.size):
        (start, place), r, columns = _place(index, l), _rank(index, l), index[l - 1]
        P = stacks + CAPACITY * place
        Q = P + CAPACITY * r * index[l]
        size_P, size_Q = r * index[l], r * columns
        yy, nn, vv, vw, ee, ff = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for first in range(0, index[l], BLOCK):
            height = min(BLOCK, index[l] - first)
            size, at = height * columns, start + first * columns
            for row in range(rows):  # the errors, then the velocities at both ends
                c = one + row * CAPACITY
                terms = vector_at(error, row * (stages + 1), stages + 1)
                skip, end = _weigh(terms, stages + 1, h, work, header, c)
                a, b, count = P + skip * size_P, Q + skip * size_Q, end - skip
                _block(work, a, b, c + skip, count, r, first, height, index, l, work, blocks + row * block)
            for end in range(2):
                i, to = (stages if end == 1 else unused), blocks + (2 + end) * block
                work[ones] = 1.0
                _block(work, P + i * size_P, Q + i * size_Q, ones, 1, r, first, height, index, l, work, to)
            sums = layer_sums(
                vector_at(y, at, size), vector_at(new, at, size),
                vector_at(work, blocks + 2 * block, size), vector_at(work, blocks + 3 * block, size),
                vector_at(work, blocks, size), vector_at(work, blocks + block, size), 0, size,
            )  # fmt: skip
            yy, nn, vv, vw = yy + sums[0], nn + sums[1], vv + sums[2], vw + sums[3]
            ee, ff = ee + sums[4], ff + sums[5]
        if at_rest:
            vw = vv
        size, estimate, other = np.sqrt(max(yy, nn)), np.sqrt(ee), np.sqrt(ff)
        ratio = layer_ratio(size, estimate, other, vv, vw, damping, h, rtol, atol, noise)
        if not ratio <= worst:  # NaN wins
            worst = ratio
            if np.isnan(worst):
                return worst
    return worst


def complete(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """The stages after the closing one, which the step left stacked."""
    velocity, gradient = velocity_of(system), gradient_of(system)
    c, no_batch = control[0], np.empty(0, np.int64)
    rows, m, header = table.shape[0], K.shape[1], _sizes(index)[1]
    for i in range(numbers[STAGES] + 1, rows):
        _aim(vector_at(table, i * rows, rows), i, h, work, header)
        velocity(y, index, weight_decay, gradient, data, no_batch, work, vector_at(K, i * m, m))
        _stack(K, i, index, work, i)
        c.nfev += 1
    _aim(vector_at(table, 0, 0), 0, h, work, header)
    return 0.0


def between(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    base, K, weights, count, h, saved, keep_states, result,
):  # fmt: skip
    """State or A of base + h sum_i weights_i K_i to `saved`, in the second case its measures to `result`.

    The velocities are those that step and `complete` left stacked.
    """
    velocity, m, header = velocity_of(system), K.shape[1], _sizes(index)[1]
    _aim(weights, count, h, work, header)
    if keep_states == 1:
        if count == 0:
            copy(base, 0, saved, 0, base.size)
        else:
            _form(base, index, work, saved)
        _aim(weights, 0, h, work, header)
        return 0
    spare = vector_at(K, (K.shape[0] - 1) * m, m)
    velocity(base, index, weight_decay, gradient_of(system), data, np.empty(0, np.int64), work, spare)
    _aim(weights, 0, h, work, header)
    measure = measure_of(system)
    measure(base, spare, index, weight_decay, value_of(system), data, work, result)
    copy(work, 0, saved, 0, saved.size)
    return 1


def radius(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    y, K, direction, scratch,
):  # fmt: skip
    """One step of the power method for the Jacobian at y, from the unit `direction` of the last one.

    It is a difference of velocities, as two rows of factors,

    P' Q'^T - P Q^T = (P' - P) Q'^T + P (Q' - Q)^T ,

    which have lost no more digits than the factors themselves.
    """
    velocity, m = velocity_of(system), K.shape[1]
    _, header, _, _, _, _, _, _, stacks = _sizes(index)
    step = POWER_STEP * norm(y, 0, y.size)
    for row in range(2):
        _stack(direction, row, index, work, row)
        work[header + WINDOW + row] = step
    now, then = vector_at(K, 0, m), vector_at(K, (K.shape[0] - 1) * m, m)
    work[header], work[header + 1] = 0.0, 2.0
    velocity(y, index, weight_decay, gradient_of(system), data, np.empty(0, np.int64), work, then)
    work[header + 1] = 0.0
    change, rest = vector_at(scratch, 0, m), vector_at(scratch, m, m)
    at = 0
    for l in range(1, index.size):
        size = _rank(index, l) * index[l]
        for i in range(at, at + size):
            change[i], rest[i] = then[i] - now[i], now[i]
        at += size
        size = _rank(index, l) * index[l - 1]
        for i in range(at, at + size):
            change[i], rest[i] = then[i], then[i] - now[i]
        at += size
    _stack(scratch, 0, index, work, 0)
    _stack(scratch, 1, index, work, 1)
    size = np.sqrt(_square(work, stacks, CAPACITY, 2, index, work))
    if not (size > 0.0 and np.isfinite(size)):
        return 0.0
    at = 0
    for l in range(1, index.size):
        r = _rank(index, l)
        for i in range(at, at + r * index[l]):
            change[i] /= size
            rest[i] /= size
        at += r * (index[l] + index[l - 1])
    copy(scratch, 0, direction, 0, 2 * m)
    return size / step
