"""When the modes of a target are half learned, from the saved times of a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..trajectory import Trajectory
from ..typing import Array

__all__ = ["half_times"]

NEAR = 4  # saved times on either side of a crossing that are interpolated


def half_times(run: Trajectory, s: Array) -> Array:
    """Times at which the j-th singular value of A first reaches s_j / 2, by a polynomial through the times nearby."""
    return np.array(
        [_crossing(run.t, values, level / 2) for values, level in zip(run.singular_values.T, s, strict=True)]
    )


def _crossing(t: Array, values: Array, level: float) -> float:
    from scipy.interpolate import BarycentricInterpolator
    from scipy.optimize import brentq

    above = np.flatnonzero(values >= level)
    if not len(above) or above[0] == 0:
        return math.nan
    i = int(above[0])
    near = slice(max(0, i - NEAR), i + NEAR)
    polynomial = BarycentricInterpolator(t[near] - t[i], values[near])

    def excess(x: float) -> Any:
        return float(polynomial(x)) - level

    return float(t[i] + brentq(excess, t[i - 1] - t[i], 0.0, xtol=1e-14 * max(t[i], 1e-300)))
