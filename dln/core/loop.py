"""The one loop of every integrator: step sizes, dense output, extrema of the rate, reasons to stop.

The loop knows no particular method, form or cost: a method is two functions and its tables (`steps`), a form three
functions (and two more where its velocities are factors), a cost two. It runs a bounded number of steps and returns a
status, so that its caller can show progress, look at the state, change the method and be interrupted; all that it
knows stands in arrays and in one record.
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
    matrix,
    measure_of,
    read_of,
    value_of,
    vector,
    velocity_of,
)
from .steps import (
    ARGUMENTS,
    AT_REST,
    CLOSING,
    EXPONENT,
    METHOD,
    between_of,
    complete_of,
    copy,
    difference,
    norm,
    radius_of,
    step_of,
)
from .vectors import combine
from .views import vector_at

__all__ = [
    "RUNNING",
    "FINISHED",
    "UNDERFLOW",
    "NOT_FINITE",
    "COST",
    "GRADIENT",
    "WATCH",
    "STIFF",
    "CALM",
    "GROWN",
    "RETRACED",
    "solve",
]

RUNNING, FINISHED, UNDERFLOW, NOT_FINITE, COST, GRADIENT, WATCH, STIFF, CALM, GROWN, RETRACED = range(11)

SAFETY, SHRINK, GROW = 0.8, 0.2, 5.0
# A turn of log(rate) counts once the rate has moved by the factor e^TURN away from its extreme ...
TURN = 0.5
# ... and, for a minimum, once the objective has fallen by this fraction of itself since (else it was rounding).
FALL = 1e-6
# Arc length of outputs: ||dA||_F / max ||A||_F + RATE_ARC |d log rate|. The second part resolves plateaus.
RATE_ARC = 0.05
# Steps towards an escape: at most so many e-folds of the time left, and no attempt is nearer than this share of it.
# Explicit methods are not as good before the objective changes by this share of itself in that time.
MOST_FOLDS, NEAREST, WAITS = 1.0, 0.03, 0.02
MOST_A_STEP = 50  # outputs
# Once a mode is fitted an explicit step is bounded by stability. It is kept at this share of the bound: beyond it the
# fitted mode is amplified from rounding up to the tolerance, and the polynomial of the dense output amplifies that.
STABLE, NEAR = 0.97, 0.4
WATCHED, LOOK_OFTEN, LOOK_SELDOM = 0.3, 4, 10  # the spectral radius is followed where it matters, in steps
POWER_STEP = 1e-6
LONGEST = 1e12  # step times spectral radius
LENIENT = 4.0  # error over tolerance of a retraced step that is taken whole

SIGNATURE = int64(
    *SYSTEM,
    *(METHOD, matrix),  # pointers of the method, dense
    *ARGUMENTS[:-2],
    *(vector, vector),  # direction of the power iteration, A
    *(vector, vector, matrix, vector, matrix, int64),  # times, out_t, out, measured, extrema, keep_states
    *(vector, ARGUMENTS[-2], int64),  # ends, control, budget
)


@helper
def _spectral_radius(  # type: ignore[no-untyped-def]
    velocity, gradient, index, weight_decay, data, no_batch, work, y, v, direction, scratch, product
):  # fmt: skip
    """One step of the power method for the Jacobian at y, from the unit `direction` of the last one; needs |y| > 0."""
    n = y.size
    step = POWER_STEP * norm(y, 0, n)
    for i in range(n):
        scratch[i] = y[i] + step * direction[i]
    velocity(scratch, index, weight_decay, gradient, data, no_batch, work, product)
    for i in range(n):
        product[i] = (product[i] - v[i]) / step
    radius = norm(product, 0, n)
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
def _scaled(h, factor, left, start):  # type: ignore[no-untyped-def]
    """The size of a step with `factor` times as many e-folds of the time to the next escape as one of size h, which
    left the time `left`; `start` is left where the new step starts."""
    if start == np.inf:
        return h * factor
    return -start * np.expm1(max(-factor * np.log1p(h / left), -MOST_FOLDS))


@helper
def _rate(c, result):  # type: ignore[no-untyped-def]
    c.cost, c.objective, c.dissipation = result[0], result[1], result[2]
    if result[1] > 0.0 and result[2] > 0.0:
        c.log_rate = np.log(result[2] / result[1])


@helper
def _write_outputs(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work, method, dense,
    table, error, numbers, memory, blocks, y, carry, K, new, move, scratch, control, h,
    t_new, arc, times, out_t, out, measured, keep_states, weights, result,
):  # fmt: skip
    """Outputs of the step from c.t to t_new: at the given times within it, or as many as its arc length asks for."""
    c = control[0]
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
    velocity, measure, read = velocity_of(system), measure_of(system), read_of(system)
    gradient, value = gradient_of(system), value_of(system)
    complete = complete_of(method)
    between = between_of(method)
    rows, n, size, no_batch = dense.shape[0], y.size, out.shape[1], np.empty(0, np.int64)
    factored = carry.size == 0
    if not by_arc or count > 1:
        complete(
            system, index, weight_decay, data, work, table, error, numbers, memory,
            blocks, y, carry, K, new, move, scratch, control, h,
        )  # fmt: skip
    for j in range(count):
        if by_arc and c.saved == out.shape[0]:
            _drop_every_second(out_t, out, measured, c)
        row = c.saved
        theta = (j + 1.0) / count if by_arc else (times[row] - c.t) / h
        if theta >= 1.0:
            out_t[row] = t_new
            if not factored:
                copy(new, 0, scratch, 0, n)
        else:
            out_t[row] = c.t + theta * h if by_arc else times[row]
            if c.stretch > 0.0:
                theta = np.log1p(theta * np.expm1(-c.stretch)) / -c.stretch
            for i in range(rows):
                weights[i] = 0.0
                for d in range(dense.shape[1] - 1, -1, -1):
                    weights[i] = (weights[i] + dense[i, d]) * theta
            if not factored:
                combine(y, K, weights, rows, h, scratch)
        saved = vector_at(out, row * size, size)
        if factored:
            c.nfev += between(
                system, index, weight_decay, data, work, new if theta >= 1.0 else y, K,
                weights, 0 if theta >= 1.0 else rows, h, saved, keep_states, result,
            )  # fmt: skip
            if keep_states == 0:
                copy(result, 0, measured, 3 * row, 3)
        elif keep_states == 1:
            copy(scratch, 0, saved, 0, n)
        else:
            spare = vector_at(K, (K.shape[0] - 1) * n, n)
            velocity(scratch, index, weight_decay, gradient, data, no_batch, work, spare)
            c.nfev += 1
            measure(scratch, spare, index, weight_decay, value, data, work, result)
            copy(result, 0, measured, 3 * row, 3)
            read(scratch, index, work, saved)
        c.saved += 1


@helper
def _drop_every_second(out_t, out, measured, c):  # type: ignore[no-untyped-def]
    half, size = (c.saved + 1) // 2, out.shape[1]
    for i in range(1, half):
        copy(vector_at(out, 2 * i * size, size), 0, vector_at(out, i * size, size), 0, size)
        out_t[i] = out_t[2 * i]
        if measured.size > 1:
            copy(measured, 6 * i, measured, 3 * i, 3)
    c.saved = half
    c.spacing *= 2.0


def solve(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    method, dense,
    table, error, numbers, memory, blocks, y, carry, K, new, move, scratch,
    direction, A,
    times, out_t, out, measured, extrema, keep_states,
    ends, control, budget,
):  # fmt: skip
    """Up to `budget` steps; returns why it stopped.

    Before the first call ``K[0]`` is the velocity at ``y`` and ``A`` the end-to-end matrix there, and the record is
    filled. Afterwards ``y``, ``K[0]``, ``A`` belong to ``control.t``; the state itself is ``y + carry``, what y cannot
    hold being carried along (compensated summation), unless ``carry`` is empty: then velocities are factors. Outputs go
    to ``out_t`` and ``out``, at the given `times`, or, where ``control.spacing > 0``, equally spaced in arc length;
    when the room is used up every second one is dropped and the spacing doubles. A row of ``out`` holds the state or
    (keep_states = 0) A, in which case ``measured`` takes cost, objective and dissipation. The ends of the steps go to
    ``ends``, or come from there (``control.retraces``): then a step that is too long by itself is cut on the way.
    """
    velocity, measure = velocity_of(system), measure_of(system)
    gradient, value = gradient_of(system), value_of(system)
    step = step_of(method)
    radius = radius_of(method)
    c = control[0]
    no_batch = np.empty(0, np.int64)
    weights = np.empty(dense.shape[0])
    result = np.empty(3)
    n, m, size, closing, exponent = y.size, K.shape[1], A.size, numbers[CLOSING], numbers[EXPONENT]
    first, last, factored = vector_at(K, 0, m), vector_at(K, closing * m, m), carry.size == 0
    for _ in range(budget):
        if c.t >= c.end:
            return FINISHED
        if c.retraces == 1 and c.mark == ends.size:
            return RETRACED
        stop = ends[c.mark] if c.retraces == 1 else c.end
        h = min(c.h, stop - c.t)
        if (1.1 if exponent > 0 else 1.001) * h > stop - c.t:
            h = stop - c.t  # no sliver of a last step
        if c.t + h == c.t:
            return UNDERFLOW

        ratio = step(
            system, index, weight_decay, data, work, table, error, numbers, memory,
            blocks, y, carry, K, new, move, scratch, control, h,
        )  # fmt: skip
        if not ratio <= (LENIENT if c.retraces == 1 else 1.0):
            if exponent == 0:
                return NOT_FINITE
            c.rejected += 1
            c.rejected_last += 1
            # an error, or overflow and NaN
            factor = max(SHRINK, SAFETY * ratio ** (-1.0 / exponent)) if ratio < np.inf else 0.1
            c.h = _scaled(h, factor, max(c.left - h, NEAREST * c.left), c.left)
            continue
        measure(new, last, index, weight_decay, value, data, work, result)
        if not np.isfinite(result[2] + result[0]):
            if exponent == 0:
                return NOT_FINITE
            c.h = 0.1 * h
            c.rejected += 1
            continue
        factor = 1.0
        if exponent > 0:
            ratio = max(ratio, 1e-10)
            factor = SAFETY * ratio ** (-1.0 / exponent)
            if c.last_h > 0.0 and c.left_new == np.inf:
                # Gustafsson: the error grows on as it grew in the last step
                grown = (c.last_error / ratio) ** (1.0 / exponent) * h / c.last_h
                factor = min(factor, SAFETY * ratio ** (-1.0 / exponent) * grown)
            factor = min(max(factor, SHRINK), 1.0 if c.rejected_last > 0 else GROW)
            c.h = _scaled(h, factor, c.left_new, c.left_new)
            c.last_error, c.last_h = ratio, h
            c.rejected_last = 0

        t_new = stop if h == stop - c.t else c.t + h
        before = c.log_rate
        _rate(c, result)
        c.steps += 1
        c.scale = max(c.scale, norm(work, 0, size))
        for i in range(size):
            A[i] -= work[i]
        arc = RATE_ARC * abs(c.log_rate - before)
        if c.scale > 0.0:
            arc += norm(A, 0, size) / c.scale
        copy(work, 0, A, 0, size)
        c.watched += arc

        _write_outputs(
            system, index, weight_decay, data, work, method, dense,
            table, error, numbers, memory, blocks, y, carry, K, new, move, scratch, control, h,
            t_new, arc, times, out_t, out, measured, keep_states, weights, result,
        )  # fmt: skip
        turns_slowly, grown = False, False
        if c.stiff_below > 0.0:
            least = max(c.stiff_below * np.sqrt(c.dissipation), 10.0 * AT_REST * c.radius * norm(y, 0, n))
            turns_slowly = difference(first, last) < least * least
        if factored:
            copy(new, 0, y, 0, n)
            copy(last, 0, first, 0, m)
        else:
            for i in range(n):
                carry[i] = move[i] - (new[i] - y[i])
                y[i] = new[i]
                first[i] = last[i]
        c.t = t_new
        if exponent > 0:
            stiff = False
            if c.stability < np.inf:
                bound = STABLE * c.stability
                often = LOOK_OFTEN if c.h * c.radius > WATCHED * c.stability else LOOK_SELDOM
                if c.radius == 0.0 or c.steps % often == 0:
                    if factored:
                        c.radius = radius(system, index, weight_decay, data, work, y, K, direction, scratch)
                    else:
                        c.radius = _spectral_radius(
                            velocity, gradient, index, weight_decay, data, no_batch, work,
                            y, first, direction, scratch, new,
                        )  # fmt: skip
                    c.nfev += 1
                # near the bound the error estimate may be rounding, so that steps end a little below it
                stiff = turns_slowly and h * c.radius > NEAR * bound
                if c.h * c.radius > bound:
                    c.h = bound / c.radius
            else:
                c.h = min(
                    c.h, LONGEST / max(c.radius, 1e-300)
                )  # a run at rest would reach the end of all time
            calm = c.calm_below > 0.0 and c.h <= h and c.h * c.radius < c.calm_below  # and grows no more
            before, c.happens = c.happens, c.left_new * c.dissipation / max(c.objective, 1e-300)
            calm = calm and c.happens > WAITS
            grown = before < c.grown <= c.happens < np.inf
            c.in_a_row = c.in_a_row + 1 if stiff or calm else 0
        if c.retraces == 0:
            ends[c.mark] = t_new
            c.mark += 1
        elif t_new == stop:
            c.mark += 1
            if c.mark < ends.size:
                c.h = ends[c.mark] - t_new
        _record_extrema(c, extrema, t_new)
        if c.cost <= c.cost_goal:
            return COST
        if c.dissipation <= c.dissipation_goal:
            return GRADIENT
        if c.watched >= c.watch_arc:
            c.watched = 0.0
            return WATCH
        if c.in_a_row >= c.patience:
            c.in_a_row = 0
            return STIFF if c.stiff_below > 0.0 else CALM
        if grown:
            return GROWN
    return RUNNING


@functools.cache
def compiled_solve() -> Callable[..., int]:
    """The loop as machine code."""
    return compiled(solve, SIGNATURE)
