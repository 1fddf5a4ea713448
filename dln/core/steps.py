"""What a step is: the arrays and the record that every integrator is given, and the size of the error it made.

A method is two compiled functions of one signature, `step` and `complete`, and a few tables. `step` carries the state y
over a time h to `new`: it leaves what it added in `move`, the velocity at `new` in the closing row of K, A of `new` at
the head of `work`, and returns the ratio of its error to the tolerance (0 for fixed steps, inf where it failed).
`complete` fills the rows of K that only the dense output needs,

    y(t + theta h) = y + h sum_i (sum_j dense[i, j] theta^(j+1)) K_i .

The loop that calls them knows no method, and they know neither form nor cost. For wide nets `wide` has its own two,
for which a row of K is a velocity in factors and `carry`, `move` are empty.
"""

from __future__ import annotations

import numpy as np
from numba import float64, int64, types

from .compile import SYSTEM, helper, integers, kernel_at, matrix, record, summing, vector
from .views import vector_at

__all__ = [
    *("ARGUMENTS", "AT_REST", "BETWEEN", "CLOSING", "CONTROL", "EXPONENT", "RADIUS", "STAGES", "STEP"),
    *("advance", "between_of", "complete_of", "copy", "difference", "dot", "error_ratio", "layer_ratio"),
    *("layer_sums", "norm", "radius_of", "rounding", "step_of"),
]

# What the loop carries from one call to the next.
CONTROL = np.dtype(
    [
        ("t", "f8"),
        ("h", "f8"),  # size of the next step
        ("end", "f8"),
        ("retraces", "i8"),  # whether steps end where those of another run did, rather than where it pays
        ("mark", "i8"),  # number of ends of steps that were written, or reached
        ("rtol", "f8"),
        ("atol", "f8"),
        ("stability", "f8"),  # length of the method's interval of stability on the negative real axis
        (
            "radius",
            "f8",
        ),  # estimate of the spectral radius of the Jacobian, minus the Hessian of the objective
        ("last_error", "f8"),  # error ratio of the last accepted step
        ("last_h", "f8"),  # and its size; 0: none
        # A time within the last step is (1 - exp(-stretch theta)) / (1 - exp(-stretch)) of it, or theta if that is 0.
        ("stretch", "f8"),
        ("apart", "i8"),  # whether what waits stands in rows and columns of its own
        ("left", "f8"),  # time to the next escape from the start of the last step, inf: none is in sight
        ("left_new", "f8"),  # and from its end
        ("happens", "f8"),  # share of the objective that would change in that time at the present rate
        ("grown", "f8"),  # return once it rises above this; 0: never
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
        ("rejected_last", "i8"),  # how often the step at hand was rejected
        ("nfev", "i8"),  # velocities
        ("products", "i8"),  # Hessian products
        ("factorisations", "i8"),
        ("stiff_below", "f8"),  # return once the velocity turns less in the longest stable step; 0: never
        ("calm_below", "f8"),  # return once step times radius stays below this; 0: never
        ("in_a_row", "i8"),  # steps of which that holds
        ("patience", "i8"),  # and how many it takes
    ]
)

STAGES, CLOSING, EXPONENT = range(
    3
)  # what the integers of a method begin with; a fixed step has the exponent 0

# What a step is given besides the problem: table, error weights, integers and memory of the method; ends of the layers,
# y, carry, K, new, move, scratch; the record, h.
ARGUMENTS = (
    *(matrix, matrix, integers, vector),
    *(integers, vector, vector, matrix, vector, vector, vector),
    *(record(CONTROL), float64),
)
STEP = float64(*SYSTEM, *ARGUMENTS)
# What the loop leaves to the form where velocities are factors: an output between two steps (y, K, weights of its rows
# and how many, h; the row of the output, keep_states, its measures), which returns the number of velocities, and one
# step of the power iteration for the spectral radius (y, K, direction, scratch).
BETWEEN = int64(*SYSTEM, *(vector, matrix, vector, int64, float64), *(vector, int64, vector))
RADIUS = float64(*SYSTEM, *(vector, matrix, vector, vector))
METHOD = types.UniTuple(types.uintp, 4)  # addresses of `step` and `complete`; of `between` and `radius`, or 0
step_of, complete_of = (kernel_at(position, STEP) for position in range(2))
between_of, radius_of = kernel_at(2, BETWEEN), kernel_at(3, RADIUS)

# Share of the tolerance that one step may use up. An escape amplifies the errors before it, some hundredfold on
# plateaus of moderate length; with this share the error of a whole run stays within a factor 200 of the tolerance.
SHARE = 0.08
# Estimates of errors below this share of a layer are rounding; explicit methods see it times 1 + h lambda.
NOISE = 4e-15
# An error that does not fall with the step is rounding too: from so many rejections on the share doubles each time.
STUBBORN = 5
AT_REST = 4e-14  # times |H| |y|: velocities below are rounding
TINY = 1e-100  # below it, squares lose digits


@summing
def dot(x, y, start, stop):  # type: ignore[no-untyped-def]
    """Sum of x_i y_i."""
    a, b = vector_at(x, start, stop - start), vector_at(y, start, stop - start)
    total = 0.0
    for i in range(stop - start):
        total += a[i] * b[i]
    return total


@summing
def difference(x, y):  # type: ignore[no-untyped-def]
    """|x - y|^2."""
    total = 0.0
    for i in range(x.size):
        total += (x[i] - y[i]) ** 2
    return total


@helper
def copy(source, start, target, to, size):  # type: ignore[no-untyped-def]
    """Entries of one array into another."""
    for i in range(size):
        target[to + i] = source[start + i]


@helper
def norm(x, start, stop):  # type: ignore[no-untyped-def]
    """Euclidean norm, of the smallest numbers too."""
    square = dot(x, x, start, stop)
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


@helper
def advance(y, carry, move, new):  # type: ignore[no-untyped-def]
    """new = y + move, where `move` takes up what earlier steps could not add to y without rounding."""
    for i in range(y.size):
        move[i] += carry[i]
        new[i] = y[i] + move[i]


@helper
def rounding(c):  # type: ignore[no-untyped-def]
    """Share of a layer below which errors are rounding."""
    return NOISE * 2.0 ** max(0, c.rejected_last - STUBBORN)


@summing
def layer_sums(y, new, v, v_new, first, second, start, size):  # type: ignore[no-untyped-def]
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
def layer_ratio(size, estimate, other, vv, vw, damping, h, rtol, atol, noise):  # type: ignore[no-untyped-def]
    """`error_ratio` of one layer."""
    if estimate == 0.0:
        return 0.0
    if damping > 0.0:
        estimate /= np.sqrt(1.0 + damping * (other / estimate) ** 2)
    grown = min(size, h * vv * np.sqrt(vv) / (vw - vv)) if vw > vv else size
    return estimate / max(SHARE * (atol + rtol * grown), noise * size)


@helper
def error_ratio(blocks, y, new, v, v_new, first, second, damping, h, rtol, atol, noise):  # type: ignore[no-untyped-def]
    """Largest ratio over the layers of the estimated local error to the tolerance; both are Frobenius norms.

    The estimate is |first|^2 / sqrt(|first|^2 + damping |second|^2). The tolerance is relative to the norm of the layer
    or, while the layer accelerates, to the size of what grows in it. A mode u that escapes as u' = lambda u moves at
    v = lambda u and v' = lambda v, so |v|^3 / <v, v'> = u, however large the modes are that the layer holds already.
    Errors relative to those would mistime the escape more. Estimates below `noise` times the layer are rounding.
    """
    worst = 0.0
    for b in range(blocks.size - 1):
        start, stop = blocks[b], blocks[b + 1]
        yy, nn, vv, vw, ee, ff = layer_sums(y, new, v, v_new, first, second, start, stop - start)
        size, estimate, other = np.sqrt(max(yy, nn)), np.sqrt(ee), np.sqrt(ff)
        if size < TINY or estimate < TINY:
            size = max(norm(y, start, stop), norm(new, start, stop))
            estimate, other = norm(first, start, stop), norm(second, start, stop)
        ratio = layer_ratio(size, estimate, other, vv, vw, damping, h, rtol, atol, noise)
        if not ratio <= worst:  # NaN wins
            worst = ratio
            if np.isnan(worst):
                return worst
    return worst
