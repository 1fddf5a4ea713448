"""One evaluation of a system, for the front doors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import void

from .compile import SYSTEM, compiled, gradient_of, measure_of, value_of, vector, velocity_of

__all__ = ["compiled_evaluate"]


def evaluate(system, index, weight_decay, data, work, y, out, result):  # type: ignore[no-untyped-def]
    """Velocity at y into `out`, its measures into `result`; A stays at the head of work."""
    velocity, measure = velocity_of(system), measure_of(system)
    gradient, value = gradient_of(system), value_of(system)
    velocity(y, index, weight_decay, gradient, data, np.empty(0, np.int64), work, out)
    measure(y, out, index, weight_decay, value, data, work, result)


@functools.cache
def compiled_evaluate() -> Callable[..., Any]:
    """The evaluation as machine code."""
    return compiled(evaluate, void(*SYSTEM, vector, vector, vector))
