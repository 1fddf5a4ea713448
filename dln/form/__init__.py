"""Forms: the same flow written in other numbers.

`ALL` are those that the loops know, in the order of preference: each a class. `REDUCED` are smaller networks, which a
loop takes for what they are. `MODES` needs no loop: its motion is known in closed form (`dln.exact.modes`).
"""

from __future__ import annotations

from .end_to_end import EndToEnd
from .reduction import REDUCED, Lift, Reduced, run_reduced
from .subspaces import krylov
from .weights import Weights
from .wide import Wide

__all__ = [
    "ALL",
    "END_TO_END",
    "MODES",
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

WEIGHTS, WIDE, END_TO_END = Weights(), Wide(), EndToEnd()
ALL: dict[str, Weights] = {form.name: form for form in (WEIGHTS, WIDE, END_TO_END)}
MODES = "modes"
NAMES = (*ALL, *REDUCED, MODES)
