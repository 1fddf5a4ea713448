"""The loop of every descent method: gradient descent, heavy ball, mini-batches."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numba import int64

from .compile import (
    SYSTEM,
    compiled,
    gradient_of,
    integers,
    matrix,
    measure_of,
    read_of,
    record,
    value_of,
    vector,
    velocity_of,
)
from .views import vector_at

__all__ = ["CONTROL", "NOT_FINITE", "RUNNING", "compiled_descend"]

RUNNING, NOT_FINITE = range(2)

CONTROL = np.dtype(
    [
        ("learning_rate", "f8"),
        ("momentum", "f8"),
        ("every", "i8"),  # steps between outputs
        ("batch_size", "i8"),  # 0: the whole cost
        ("step", "i8"),  # steps done
        ("saved", "i8"),
        ("nfev", "i8"),
    ]
)

SIGNATURE = int64(
    *SYSTEM,
    *(vector, vector, vector),  # y, buffer of the momentum, scratch
    *(integers, matrix, vector, int64),  # drawn samples, out, measured, keep_states
    *(record(CONTROL), int64),  # control, number of steps
)


def descend(  # type: ignore[no-untyped-def]
    system, index, weight_decay, data, work,
    y, buffer, scratch, drawn, out, measured, keep_states, control, steps,
):  # fmt: skip
    """`steps` steps of v <- momentum v + velocity, y <- y + learning_rate v, as `torch.optim.SGD` takes them.

    The velocity is minus the gradient of the objective, of the whole cost or of the next `batch_size` samples of
    `drawn`. Every k-th iterate goes to `out` as a state or (keep_states = 0) as A with its measures.
    """
    velocity, measure, read = velocity_of(system), measure_of(system), read_of(system)
    gradient, value = gradient_of(system), value_of(system)
    c = control[0]
    no_batch = np.empty(0, np.int64)
    result = np.empty(3)
    n = y.size
    for step in range(steps):
        batch = vector_at(drawn, step * c.batch_size, c.batch_size)
        velocity(y, index, weight_decay, gradient, data, batch, work, scratch)
        total = 0.0
        for i in range(n):
            buffer[i] = c.momentum * buffer[i] + scratch[i]
            y[i] += c.learning_rate * buffer[i]
            total += y[i]
        c.step += 1
        c.nfev += 1
        if not np.isfinite(total):
            return NOT_FINITE
        if c.step % c.every == 0:
            saved = vector_at(out, c.saved * out.shape[1], out.shape[1])
            if keep_states == 1:
                for i in range(n):
                    saved[i] = y[i]
            else:
                velocity(y, index, weight_decay, gradient, data, no_batch, work, scratch)
                c.nfev += 1
                measure(y, scratch, index, weight_decay, value, data, work, result)
                if not np.isfinite(result[0] + result[2]):
                    return NOT_FINITE
                for i in range(3):
                    measured[3 * c.saved + i] = result[i]
                read(y, index, work, saved)
            c.saved += 1
    return RUNNING


@functools.cache
def compiled_descend() -> Callable[..., int]:
    """The loop as machine code."""
    return compiled(descend, SIGNATURE)
