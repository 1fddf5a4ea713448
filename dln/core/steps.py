"""What a step is: the arrays and the record that every integrator is given, and the size of the error it made.

A method is two compiled functions of one signature, `step` and `complete`, and a few tables. `step` carries the state y
over a time h to `new`: it leaves what it added in `move`, the velocity at `new` in the closing row of K, A of `new` at
the head of `work`, and returns the ratio of its error to the tolerance (0 for fixed steps, inf where it failed).
`complete` fills the rows of K that only the dense output needs,

    y(t + theta h) = y + h sum_i (sum_j dense[i, j] theta^(j+1)) K_i .

The loop that calls them knows no method, and they know neither form nor cost.
"""

from __future__ import annotations

import numpy as np
from numba import float64, types

from .compile import SYSTEM, helper, integers, kernel_at, matrix, record, summing, vector
from .views import vector_at

__all__ = [
    *("ARGUMENTS", "CLOSING", "CONTROL", "EXPONENT", "STAGES", "STEP"),
    *("advance", "complete_of", "copy", "error_ratio", "norm", "step_of"),
]

# What the loop carries from one call to the next.
CONTROL = np.dtype(
    [
        ("t", "f8"),
        ("h", "f8"),  # size of the next step
        ("end", "f8"),
        ("rtol", "f8"),
        ("atol", "f8"),
        ("stability", "f8"),  # length of the method's interval of stability on the negative real axis
        ("radius", "f8"),  # estimate of the spectral radius of the Jacobian, minus the Hessian of the objective
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
        ("rejected_last", "i8"),
        ("nfev", "i8"),  # velocities
        ("products", "i8"),  # Hessian products
        ("factorisations", "i8"),
        ("stiff_from", "f8"),  # return once the wished-for steps are this many times the bound of stability; 0: never
        ("calm_below", "f8"),  # return once step times radius stays below this; 0: never
        ("in_a_row", "i8"),  # steps of which that holds
    ]
)

STAGES, CLOSING, EXPONENT = range(3)  # what the integers of a method begin with; a fixed step has the exponent 0

# What a step is given besides the problem: table, error weights, integers and memory of the method; ends of the layers,
# y, carry, K, new, move, scratch; the record, h.
ARGUMENTS = (
    *(matrix, matrix, integers, vector),
    *(integers, vector, vector, matrix, vector, vector, vector),
    *(record(CONTROL), float64),
)
STEP = float64(*SYSTEM, *ARGUMENTS)
METHOD = types.UniTuple(types.uintp, 2)  # addresses of `step` and `complete`
step_of, complete_of = (kernel_at(position, STEP) for position in range(2))

# Share of the tolerance that one step may use up. An escape amplifies the errors before it, some hundredfold on
# plateaus of moderate length; with this share the error of a whole run stays within a factor 200 of the tolerance.
SHARE = 0.08
# A growing mode is resolved relative to itself down to this share of its layer.
LEAST_SHARE = 1e-4
TINY = 1e-100  # below it, squares lose digits


@summing
def dot(x, y, start, stop):  # type: ignore[no-untyped-def]
    """Sum of x_i y_i."""
    a, b = vector_at(x, start, stop - start), vector_at(y, start, stop - start)
    total = 0.0
    for i in range(stop - start):
        total += a[i] * b[i]
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
def error_ratio(blocks, y, new, v, v_new, first, second, damping, h, rtol, atol):  # type: ignore[no-untyped-def]
    """Largest ratio over the layers of the estimated local error to the tolerance; both are Frobenius norms.

    The estimate is |first|^2 / sqrt(|first|^2 + damping |second|^2). The tolerance is relative to the norm of the layer
    or, while the layer accelerates, to the size of what grows in it. A mode u that escapes as u' = lambda u moves at
    v = lambda u and v' = lambda v, so |v|^2 / <v, v'> = u, however large the modes are that the layer holds already.
    Errors relative to those would mistime the escape more.
    """
    worst = 0.0
    for b in range(blocks.size - 1):
        start, stop = blocks[b], blocks[b + 1]
        yy, nn, vv, vw, ee, ff = _sums(y, new, v, v_new, first, second, start, stop - start)
        size, estimate, other = np.sqrt(max(yy, nn)), np.sqrt(ee), np.sqrt(ff)
        if size < TINY or estimate < TINY:
            size = max(norm(y, start, stop), norm(new, start, stop))
            estimate, other = norm(first, start, stop), norm(second, start, stop)
        if damping > 0.0 and estimate > 0.0:
            estimate /= np.sqrt(1.0 + damping * (other / estimate) ** 2)
        if vw > vv:
            size = min(size, max(h * vv / (vw - vv), LEAST_SHARE * size))
        if estimate != 0.0:
            ratio = estimate / (SHARE * (atol + rtol * size))
            if not ratio <= worst:  # NaN wins
                worst = ratio
                if np.isnan(worst):
                    return worst
    return worst
