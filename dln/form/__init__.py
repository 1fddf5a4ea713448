"""Forms: the same flow written in other numbers.

`ALL` are those that the loops know, in the order of preference: each a class. `REDUCED` are smaller networks, which a
loop takes for what they are.
"""

from __future__ import annotations

from .reduction import REDUCED, Lift, Reduced, run_reduced
from .subspaces import krylov
from .weights import Weights
from .wide import Wide

__all__ = [
    "ALL",
    "REDUCED",
    "WEIGHTS",
    "WIDE",
    "Lift",
    "Reduced",
    "Weights",
    "NAMES",
    "krylov",
    "run_reduced",
]

WEIGHTS, WIDE = Weights(), Wide()
ALL: dict[str, Weights] = {form.name: form for form in (WEIGHTS, WIDE)}
NAMES = (*ALL, *REDUCED)
