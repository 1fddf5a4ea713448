"""The one loop of every Runge-Kutta method: steps, error control by layer, dense output, extrema of the rate.

The loop knows no particular method, form or cost: a method is a table of numbers, a form three functions, a cost two.
It runs a bounded number of steps and returns a status, so that its caller can show progress, look at the state and be
interrupted; all that it knows stands in arrays and in one record.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numba import int64

from .compile import (
    SYSTEM,
    compiled,
    gradient_of,
    helper,
    integers,
    matrix,
    measure_of,
    read_of,
    record,
    summing,
    value_of,
    vector,
    velocity_of,
)
from .vectors import combine, weighted
from .views import vector_at

__all__ = ["CONTROL", "RUNNING", "FINISHED", "UNDERFLOW", "NOT_FINITE", "COST", "GRADIENT", "WATCH", "solve"]

RUNNING, FINISHED, UNDERFLOW, NOT_FINITE, COST, GRADIENT, WATCH = range(7)

SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0
# PI control (Gustafsson): h <- h * SAFETY * error^(-PROPORTIONAL/q) * last_error^(INTEGRAL/q)
PROPORTIONAL, INTEGRAL = 0.7, 0.4
# A turn of log(rate) counts once the rate has moved by the factor e^TURN away from its extreme ...
TURN = 0.5
# ... and, for a minimum, once the objective has fallen by this fraction of itself since (else it was rounding).
FALL = 1e-6
# Arc length of outputs: ||dA||_F / max ||A||_F + RATE_ARC |d log rate|. The second part resolves plateaus.
RATE_ARC = 0.05
MOST_A_STEP = 50  # outputs
# Share of the tolerance that one step may use up. An escape amplifies the errors before it, some hundredfold on
# plateaus of moderate length; with this share the error of a whole run stays within a factor 200 of the tolerance.
SHARE = 0.08
# Once a mode is fitted an explicit step is bounded by stability. It is kept at this share of the bound: beyond it the
# fitted mode is amplified from rounding up to the tolerance, and the polynomial of the dense output amplifies that.
STABLE = 0.97
WATCHED, LOOK_OFTEN, LOOK_SELDOM = 0.3, 4, 10  # the spectral radius is followed where it matters, in steps
POWER_STEP = 1e-6
# A growing mode is resolved relative to itself down to this share of its layer.
LEAST_SHARE = 1e-4
TINY = 1e-100  # below it, squares lose digits

# What the loop carries from one call to the next.
CONTROL = np.dtype(
    [
        ("t", "f8"),
        ("h", "f8"),  # size of the next step
        ("end", "f8"),
        ("rtol", "f8"),
        ("atol", "f8"),
        ("stability", "f8"),  # length of the method's interval of stability on the negative real axis
        (
            "radius",
            "f8",
        ),  # estimate of the spectral radius of the Jacobian, minus the Hessian of the objective
        ("last_error", "f8"),  # error ratio of the last accepted step
        ("arc", "f8"),  # arc length since the last output
        ("spacing", "f8"),  # arc length between outputs; 0: outputs at given times
        ("scale", "f8"),  # largest ||A||_F so far, the unit of arc length
        ("watched", "f8"),  # arc length since the caller last looked
        ("watch_arc", "f8"),  # the caller wants to look after this arc length
        ("cost_goal", "f8"),
        ("dissipation_goal", "f8"),
        ("cost", "f8"),
        ("objective", "f8"),
        ("dissipation", "f8"),
        ("log_rate", "f8"),  # log(dissipation / objective)
        ("extreme", "f8"),  # extreme of log_rate since the last recorded extremum,
        ("extreme_t", "f8"),  # its time
        ("extreme_objective", "f8"),  # and objective
        ("falling", "i8"),  # 1 while a minimum of log_rate is looked for
        ("extrema", "i8"),  # number of recorded extrema
        ("saved", "i8"),  # number of outputs
        ("steps", "i8"),
        ("rejected", "i8"),
        ("nfev", "i8"),
        ("rejected_last", "i8"),
    ]
)

SIGNATURE = int64(
    *SYSTEM,
    *(matrix, matrix, matrix, int64, int64),  # table, error rows, dense, stages, error exponent
    *(integers, vector, matrix, vector, vector, vector, vector),  # blocks, y, K, new, scratch, direction, A
    *(vector, vector, matrix, vector, matrix, int64),  # times, out_t, out, measured, extrema, keep_states
    *(record(CONTROL), int64),  # control, budget
)


@summing
def _dot(x, y, start, stop):  # type: ignore[no-untyped-def]
    a, b = vector_at(x, start, stop - start), vector_at(y, start, stop - start)
    total = 0.0
    for i in range(stop - start):
        total += a[i] * b[i]
    return total


@helper
def _copy(source, start, target, to, size):  # type: ignore[no-untyped-def]
    for i in range(size):
        target[to + i] = source[start + i]


@helper
def _norm(x, start, stop):  # type: ignore[no-untyped-def]
    square = _dot(x, x, start, stop)
    if square > 1e-200:
        return np.sqrt(square)
    largest = 0.0  # squares of numbers below 1e-154 underflow
    for i in range(start, stop):
        largest = max(largest, abs(x[i]))
    if largest == 0.0:
        return square  # 0, or NaN
    square = 0.0
    for i in range(start, stop):
        square += (x[i] / largest) ** 2
    return largest * np.sqrt(square)


@summing
def _sums(y, new, v, v_new, first, second, start, size):  # type: ignore[no-untyped-def]
    """|y|^2, |new|^2, |v|^2, <v, v_new>, |first|^2, |second|^2 over one layer, in one pass."""
    a, b = vector_at(y, start, size), vector_at(new, start, size)
    c, d = vector_at(v, start, size), vector_at(v_new, start, size)
    e, f = vector_at(first, start, size), vector_at(second, start, size)
    yy, nn, vv, vw, ee, ff = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(size):
        yy += a[i] * a[i]
        nn += b[i] * b[i]
        vv += c[i] * c[i]
        vw += c[i] * d[i]
        ee += e[i] * e[i]
        ff += f[i] * f[i]
    return yy, nn, vv, vw, ee, ff


@helper
def _error_ratio(error, stages, blocks, y, K, new, scratch, h, rtol, atol):  # type: ignore[no-untyped-def]
    """Largest ratio over the layers of the estimated local error to the tolerance; both are Frobenius norms.

    The tolerance is relative to the norm of the layer or, while the layer accelerates, to the size of what grows in
    it. A mode u that escapes as u' = lambda u moves at v = lambda u and v' = lambda v, so |v|^2 / <v, v'> = u, however
    large the modes are that the layer holds already. Errors relative to those would mistime the escape more.
    """
    n = y.size
    v, v_new, second = vector_at(K, 0, n), vector_at(K, stages * n, n), vector_at(K, (K.shape[0] - 1) * n, n)
    weighted(K, vector_at(error, 0, stages + 1), stages + 1, h, scratch)
    if error.shape[0] == 2:
        weighted(K, vector_at(error, stages + 1, stages + 1), stages + 1, h, second)
    worst = 0.0
    for b in range(blocks.size - 1):
        start, stop = blocks[b], blocks[b + 1]
        yy, nn, vv, vw, ee, ff = _sums(y, new, v, v_new, scratch, second, start, stop - start)
        size, estimate, third = np.sqrt(max(yy, nn)), np.sqrt(ee), np.sqrt(ff)
        if size < TINY or estimate < TINY:
            size = max(_norm(y, start, stop), _norm(new, start, stop))
            estimate, third = _norm(scratch, start, stop), _norm(second, start, stop)
        if error.shape[0] == 2 and estimate > 0.0:  # err5^2 / sqrt(err5^2 + 0.01 err3^2)
            estimate /= np.sqrt(1.0 + 0.01 * (third / estimate) ** 2)
        if vw > vv:
            size = min(size, max(h * vv / (vw - vv), LEAST_SHARE * size))
        if estimate != 0.0:
            ratio = estimate / (SHARE * (atol + rtol * size))
            if not ratio <= worst:  # NaN wins
                worst = ratio
                if np.isnan(worst):
                    return worst
    return worst


@helper
def _spectral_radius(  # type: ignore[no-untyped-def]
    velocity, gradient, index, weight_decay, data, no_batch, work, y, v, direction, scratch, product
):  # fmt: skip
    """One step of the power method for the Jacobian at y, from the unit `direction` of the last one; needs |y| > 0."""
    n = y.size
    step = POWER_STEP * _norm(y, 0, n)
    for i in range(n):
        scratch[i] = y[i] + step * direction[i]
    velocity(scratch, index, weight_decay, gradient, data, no_batch, work, product)
    for i in range(n):
        product[i] = (product[i] - v[i]) / step
    radius = _norm(product, 0, n)
    if radius > 0.0 and np.isfinite(radius):
        for i in range(n):
            direction[i] = product[i] / radius
        return radius
    return 0.0


@helper
def _record_extrema(c, extrema, t):  # type: ignore[no-untyped-def]
    """Follow log_rate through its turns."""
    sign = 1.0 if c.falling == 1 else -1.0
    x = sign * c.log_rate
    if x < sign * c.extreme:
        c.extreme, c.extreme_t, c.extreme_objective = c.log_rate, t, c.objective
        return
    if not x > sign * c.extreme + TURN:
        return
    if c.falling == 0 and c.extrema > 0:
        last = c.extrema - 1
        t_before, x_before, E_before = extrema[last, 0], extrema[last, 1], extrema[last, 2]
        if E_before - c.extreme_objective < FALL * E_before:
            # The rise since the last minimum brought no fall of the objective: both turns are noise.
            c.extrema -= 1
            c.falling = 1
            if x_before < c.log_rate:
                c.extreme, c.extreme_t, c.extreme_objective = x_before, t_before, E_before
            else:
                c.extreme, c.extreme_t, c.extreme_objective = c.log_rate, t, c.objective
            return
    if c.extrema < extrema.shape[0]:
        extrema[c.extrema, 0] = c.extreme_t
        extrema[c.extrema, 1] = c.extreme
        extrema[c.extrema, 2] = c.extreme_objective
        c.extrema += 1
    c.falling = 1 - c.falling
    c.extreme, c.extreme_t, c.extreme_objective = c.log_rate, t, c.objective


@helper
def _rate(c, result):  # type: ignore[no-untyped-def]
    c.cost, c.objective, c.dissipation = result[0], result[1], result[2]
    if result[1] > 0.0 and result[2] > 0.0:
        c.log_rate = np.log(result[2] / result[1])


@helper
def _write_outputs(  # type: ignore[no-untyped-def]
    velocity, measure, read, gradient, value, index, weight_decay, data, work,
    table, dense, stages, y, K, new, scratch, h, t_new, arc,
    times, out_t, out, measured, keep_states, c, weights, result,
):  # fmt: skip
    """Outputs of the step from c.t to t_new: at the given times within it, or as many as its arc length asks for."""
    by_arc = c.spacing > 0.0
    count = 0
    if by_arc:
        total = c.arc + arc
        count = min(int(total / c.spacing), MOST_A_STEP)
        c.arc = min(total - count * c.spacing, c.spacing)
    else:
        while c.saved + count < times.size and times[c.saved + count] <= t_new:
            count += 1
    if count == 0:
        return
    rows, n, size = table.shape[0], y.size, out.shape[1]
    no_batch = np.empty(0, np.int64)
    if not by_arc or count > 1:
        for i in range(stages + 1, rows):
            combine(y, K, vector_at(table, i * rows, rows), i, h, scratch)
            k = vector_at(K, i * n, n)
            velocity(scratch, index, weight_decay, gradient, data, no_batch, work, k)
            c.nfev += 1
    for j in range(count):
        if by_arc and c.saved == out.shape[0]:
            _drop_every_second(out_t, out, measured, c)
        row = c.saved
        theta = (j + 1.0) / count if by_arc else (times[row] - c.t) / h
        if theta >= 1.0:
            out_t[row] = t_new
            _copy(new, 0, scratch, 0, n)
        else:
            out_t[row] = c.t + theta * h if by_arc else times[row]
            for i in range(rows):
                weights[i] = 0.0
                for d in range(dense.shape[1] - 1, -1, -1):
                    weights[i] = (weights[i] + dense[i, d]) * theta
            combine(y, K, weights, rows, h, scratch)
        saved = vector_at(out, row * size, size)
        if keep_states == 1:
            _copy(scratch, 0, saved, 0, n)
        else:
            spare = vector_at(K, rows * n, n)
            velocity(scratch, index, weight_decay, gradient, data, no_batch, work, spare)
            c.nfev += 1
            measure(scratch, spare, index, weight_decay, value, data, work, result)
            _copy(result, 0, measured, 3 * row, 3)
            read(scratch, index, work, saved)
        c.saved += 1


@helper
def _drop_every_second(out_t, out, measured, c):  # type: ignore[no-untyped-def]
    half, size = (c.saved + 1) // 2, out.shape[1]
    for i in range(1, half):
        _copy(vector_at(out, 2 * i * size, size), 0, vector_at(out, i * size, size), 0, size)
        out_t[i] = out_t[2 * i]
        if measured.size > 1:
            _copy(measured, 6 * i, measured, 3 * i, 3)
    c.saved = half
    c.spacing *= 2.0


def solve(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    table, error, dense, stages, exponent,
    blocks, y, K, new, scratch, direction, A,
    times, out_t, out, measured, extrema, keep_states,
    control, budget,
):  # fmt: skip
    """Up to `budget` steps; returns why it stopped.

    Before the first call ``K[0]`` is the velocity at ``y`` and ``A`` the end-to-end matrix there, and the record is
    filled. Afterwards ``y``, ``K[0]``, ``A`` belong to ``control.t``. Outputs go to ``out_t`` and ``out``, at the
    given `times`, or, where ``control.spacing > 0``, equally spaced in arc length; when the room is used up every
    second one is dropped and the spacing doubles. A row of ``out`` holds the state or (keep_states = 0) A, in which
    case ``measured`` takes cost, objective and dissipation.
    """
    velocity, measure, read = velocity_of(system), measure_of(system), read_of(system)
    gradient, value = gradient_of(system), value_of(system)
    c = control[0]
    no_batch = np.empty(0, np.int64)
    weights = np.empty(table.shape[0])
    result = np.empty(3)
    rows, n, size = table.shape[0], y.size, A.size
    opening, closing = vector_at(K, 0, n), vector_at(K, stages * n, n)
    for _ in range(budget):
        if c.t >= c.end:
            return FINISHED
        h = min(c.h, c.end - c.t)
        if (1.1 if error.shape[0] > 0 else 1.001) * h > c.end - c.t:
            h = c.end - c.t  # no sliver of a last step
        if c.t + h == c.t:
            return UNDERFLOW

        for i in range(1, stages + 1):
            combine(y, K, vector_at(table, i * rows, rows), i, h, new)
            velocity(new, index, weight_decay, gradient, data, no_batch, work, vector_at(K, i * n, n))
        c.nfev += stages
        if error.shape[0] > 0:
            ratio = _error_ratio(error, stages, blocks, y, K, new, scratch, h, c.rtol, c.atol)
            if not ratio <= 1.0:
                c.rejected += 1
                c.rejected_last = 1
                if ratio < np.inf:
                    c.h = h * max(SHRINK, SAFETY * ratio ** (-1.0 / exponent))
                else:
                    c.h = 0.1 * h  # overflow or NaN
                continue
            ratio = max(ratio, 1e-10)
            factor = SAFETY * ratio ** (-PROPORTIONAL / exponent) * c.last_error ** (INTEGRAL / exponent)
            c.h = h * min(max(factor, SHRINK), 1.0 if c.rejected_last == 1 else GROW)
            c.last_error = ratio
            c.rejected_last = 0
        measure(new, closing, index, weight_decay, value, data, work, result)
        if not np.isfinite(result[2] + result[0]):
            if error.shape[0] == 0:
                return NOT_FINITE
            c.h = 0.1 * h
            c.rejected += 1
            continue

        t_new = c.end if h == c.end - c.t else c.t + h
        before = c.log_rate
        _rate(c, result)
        c.steps += 1
        c.scale = max(c.scale, _norm(work, 0, size))
        for i in range(size):
            A[i] -= work[i]
        arc = RATE_ARC * abs(c.log_rate - before)
        if c.scale > 0.0:
            arc += _norm(A, 0, size) / c.scale
        _copy(work, 0, A, 0, size)
        c.watched += arc

        _write_outputs(
            velocity, measure, read, gradient, value, index, weight_decay, data, work,
            table, dense, stages, y, K, new, scratch, h, t_new, arc,
            times, out_t, out, measured, keep_states, c, weights, result,
        )  # fmt: skip
        _copy(new, 0, y, 0, n)
        _copy(closing, 0, opening, 0, n)
        c.t = t_new
        if error.shape[0] > 0:
            near = c.h * c.radius > WATCHED * c.stability
            if c.steps % (LOOK_OFTEN if near else LOOK_SELDOM) == 0:
                c.radius = _spectral_radius(
                    velocity,
                    gradient,
                    index,
                    weight_decay,
                    data,
                    no_batch,
                    work,
                    y,
                    opening,
                    direction,
                    scratch,
                    new,
                )
                c.nfev += 1
            if c.h * c.radius > STABLE * c.stability:
                c.h = STABLE * c.stability / c.radius
        _record_extrema(c, extrema, t_new)
        if c.cost <= c.cost_goal:
            return COST
        if c.dissipation <= c.dissipation_goal:
            return GRADIENT
        if c.watched >= c.watch_arc:
            c.watched = 0.0
            return WATCH
    return RUNNING


@functools.cache
def compiled_solve() -> Callable[..., int]:
    """The loop as machine code."""
    return compiled(solve, SIGNATURE)
