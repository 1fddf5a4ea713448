"""Regimes of a start: distances to minima and saddles, the linearised flow, the change of the tangent kernel."""

from .distances import Distance, distance_to_minimum, distance_to_saddle
from .infinite import distance_at_infinite_width
from .lazy import linearised, ntk_change

__all__ = [
    "Distance",
    "distance_at_infinite_width",
    "distance_to_minimum",
    "distance_to_saddle",
    "linearised",
    "ntk_change",
]
