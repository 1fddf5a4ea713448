"""One step of a stabilised explicit method: a recurrence, perhaps four stages and another. See `method.stabilised`.

K holds the velocities at both ends in rows 0 and 1, the four stages in rows 2 .. 5. Row 5 serves the recurrence before
them, row 1 the one after. `memory` holds the last increment of the first recurrence, then the state it belongs to.
"""

from __future__ import annotations

import numpy as np

from .compile import gradient_of, helper, velocity_of
from .steps import EXPONENT, SHARE, advance, copy, error_ratio, rounding
from .vectors import combine, weighted
from .views import vector_at

__all__ = ["complete", "step"]

RUNGS, FIRST = (
    3,
    4,
)  # in `numbers`: the number of rungs, and per rung its first row and stages of its three parts
LENGTH, GROWTH = 0, 1  # columns of the first rows of the table
MOVE, LAST = 6, 7  # columns of `error` after the weights of K
# The spectral radius is estimated from below, every few steps. More room is left after a step that failed.
ROOM, MORE_ROOM = 1.1, 1.4
# Roundings of the stages, half a unit of the last place, may grow to this share of the tolerance.
ROUNDING, NOISE = 1.1e-16, 0.5


@helper
def _stage(y, f, f_start, m, g, now, before, h, d, d_older, new):  # type: ignore[no-untyped-def]
    """Next increment, over the one before the last, and the state it leads to, in one pass."""
    mh, gh = m * h, g * h
    if g != 0.0:
        for i in range(y.size):
            d_next = now * d[i] + before * d_older[i] + mh * f[i] + gh * f_start[i]
            d_older[i] = d_next
            new[i] = y[i] + d_next
    else:
        for i in range(y.size):
            d_next = now * d[i] + before * d_older[i] + mh * f[i]
            d_older[i] = d_next
            new[i] = y[i] + d_next


@helper
def _first_stage(y, f, m, h, start, d, new):  # type: ignore[no-untyped-def]
    """Increment and state after the first stage."""
    mh = m * h
    for i in range(y.size):
        d[i] = start[i] + mh * f[i]
        new[i] = y[i] + d[i]


@helper
def _rung(c, table, rungs, h):  # type: ignore[no-untyped-def]
    """The rung whose interval covers h times the spectral radius; bounds the steps to those that rounding allows."""
    top = 0
    while top + 1 < rungs and ROUNDING * table[top + 1, GROWTH] < NOISE * SHARE * c.rtol:
        top += 1
    c.stability = table[top, LENGTH]
    need = h * c.radius * (MORE_ROOM if c.rejected_last > 0 else ROOM)
    rung = 0
    while rung < top and table[rung, LENGTH] < need:
        rung += 1
    return rung


def step(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """Increments d_j = p d_{j-1} + q d_{j-2} + h (m f(y + d_{j-1}) + g f(y)), and the stages between."""
    velocity, gradient = velocity_of(system), gradient_of(system)
    c, no_batch, n, fixed = control[0], np.empty(0, np.int64), y.size, numbers[EXPONENT] == 0
    rung = 0 if fixed else _rung(c, table, numbers[RUNGS], h)
    place, columns = FIRST + 4 * rung, table.shape[1]
    row, before, middle, after = numbers[place], numbers[place + 1], numbers[place + 2], numbers[place + 3]
    v, v_new, f = vector_at(K, 0, n), vector_at(K, n, n), vector_at(K, 5 * n, n)
    last, base = vector_at(memory, 0, n), vector_at(memory, n, n)

    # d alternates between two arrays, so that the last one stands in `last`, then in `move`.
    if before % 2 == 1:
        d, older = last, move
    else:
        d, older = move, last
    for i in range(n):
        older[i] = 0.0
    _first_stage(y, v, table[row, 0], h, older, d, new)
    for t in range(row + 1, row + before):
        velocity(new, index, weight_decay, gradient, data, no_batch, work, f)
        _stage(y, f, v, table[t, 0], table[t, 1], table[t, 2], table[t, 3], h, d, older, new)
        d, older = older, d
    row += before

    if middle > 0:
        copy(new, 0, base, 0, n)
        for i in range(middle):
            velocity(new, index, weight_decay, gradient, data, no_batch, work, vector_at(K, (2 + i) * n, n))
            if i + 1 < middle:
                combine(base, K, vector_at(table, (row + i) * columns, columns), 3 + i, h, new)
        row += middle
        weighted(K, vector_at(table, (row - 1) * columns, columns), 2 + middle, h, move)
        for i in range(n):
            move[i] += last[i]
    else:
        copy(last, 0, move, 0, n)

    if after > 0:
        if after % 2 == 1:
            copy(move, 0, scratch, 0, n)
            d, older = move, scratch
        else:
            d, older = scratch, move
        for i in range(n):
            new[i] = y[i] + older[i]
        velocity(new, index, weight_decay, gradient, data, no_batch, work, v_new)
        _first_stage(y, v_new, table[row, 0], h, older, d, new)
        for t in range(row + 1, row + after):
            velocity(new, index, weight_decay, gradient, data, no_batch, work, v_new)
            _stage(y, v_new, v, table[t, 0], table[t, 1], table[t, 2], table[t, 3], h, d, older, new)
            d, older = older, d

    advance(y, carry, move, new)
    velocity(new, index, weight_decay, gradient, data, no_batch, work, v_new)
    c.nfev += before + middle + after
    if fixed:
        return 0.0
    columns = error.shape[1]
    weighted(K, vector_at(error, rung * columns, columns), 2 + middle, h, scratch)
    of_move, of_last = error[rung, MOVE], error[rung, LAST]
    for i in range(n):
        scratch[i] += of_move * move[i] + of_last * last[i]
    return error_ratio(blocks, y, new, v, v_new, scratch, scratch, 0.0, h, c.rtol, c.atol, rounding(c))


def complete(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, numbers, memory,
    blocks, y, carry, K, new, move, scratch, control, h,
):  # fmt: skip
    """The mean velocity, in row 2 of K."""
    mean = vector_at(K, 2 * y.size, y.size)
    for i in range(y.size):
        mean[i] = move[i] / h
    return 0.0
