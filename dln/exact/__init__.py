"""Closed forms: the flow without an integrator, as a Trajectory (matrices) or as arrays (scalar laws)."""

from .gram import gram as gram
from .linear import linear as linear
from .mode import mode as mode
from .mode import mode_time as mode_time
from .modes import modes as modes
from .scalar import blow_up_time as blow_up_time
from .scalar import scalar as scalar
from .scalar import scalar_time as scalar_time
from .two_layer import two_layer as two_layer
