"""The loop of every descent method: gradient descent, heavy ball, mini-batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import int64

from .compile import SYSTEM, compiled, integers, matrix, record, vector

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
    velocity, measure, read, gradient, value, index, weight_decay, data, work,
    y, buffer, scratch, drawn, out, measured, keep_states, control, steps,
):  # fmt: skip
    """`steps` steps of v <- momentum v + velocity, y <- y + learning_rate v, as `torch.optim.SGD` takes them.

    The velocity is minus the gradient of the objective, of the whole cost or of the next `batch_size` samples of
    `drawn`. Every k-th iterate goes to `out` as a state or (keep_states = 0) as A with its measures.
    """
    c = control[0]
    no_batch = np.empty(0, np.int64)
    result = np.empty(3)
    n = y.size
    for step in range(steps):
        if c.batch_size > 0:
            batch = drawn[step * c.batch_size : (step + 1) * c.batch_size]
        else:
            batch = no_batch
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
            if keep_states == 1:
                out[c.saved, :] = y
            else:
                velocity(y, index, weight_decay, gradient, data, no_batch, work, scratch)
                c.nfev += 1
                measure(y, scratch, index, weight_decay, value, data, work, result)
                measured[3 * c.saved : 3 * c.saved + 3] = result
                read(y, index, work, out[c.saved])
            c.saved += 1
    return RUNNING


def compiled_descend() -> Callable[..., int]:
    """The loop as machine code."""
    return compiled(descend, SIGNATURE)
