"""The table of the quintic dense output that methods without one of their own share; see `dln.core.hermite`."""

from __future__ import annotations

from .base import frozen

__all__ = ["DENSE", "DENSE_ORDER"]

# Rows: velocity at the start and at the end, mean velocity, h times the second derivative at the start and at the end.
# Columns: theta^1 .. theta^5. At theta = 0 and 1 value, slope and curvature are those of the solution.
DENSE = frozen(
    [
        [1.0, 0.0, -6.0, 8.0, -3.0],
        [0.0, 0.0, -4.0, 7.0, -3.0],
        [0.0, 0.0, 10.0, -15.0, 6.0],
        [0.0, 0.5, -1.5, 1.5, -0.5],
        [0.0, 0.0, 0.5, -1.0, 0.5],
    ]
)
DENSE_ORDER = 5
