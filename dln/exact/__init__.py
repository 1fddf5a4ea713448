"""Closed forms: the flow without an integrator.

Laws of matrices, ``law(cost, weights, t, weight_decay=0.0)``, return a `Trajectory`:

* `linear`: one layer, any quadratic cost.
* `two_layer`: two layers from a kappa-balanced start, a matrix Riccati equation.
* `modes`: any depth from a start that is aligned with the target, balanced or not.
* `gram`: two layers, any start and any cost, at a size that does not depend on the width (integrated).
* `origin`: ``origin(gradient, weights, t)``, the homogeneous flow near the origin.

Laws of scalars return arrays: `mode_time` and `mode` of a balanced mode of any depth, `incremental_threshold` of two,
`scalar`, `scalar_time` and `blow_up_time` of networks of single weights.
"""

from __future__ import annotations

from collections.abc import Callable

from ..costs import Cost
from ..typing import Array
from .gram import gram as gram
from .incremental import incremental_threshold as incremental_threshold
from .linear import linear as linear
from .mode import mode as mode
from .mode import mode_time as mode_time
from .modes import modes as modes
from .origin import again as _origin
from .origin import origin as origin
from .scalar import blow_up_time as blow_up_time
from .scalar import scalar as scalar
from .scalar import scalar_time as scalar_time
from .two_layer import two_layer as two_layer

# Method of a trajectory -> the law that gave it.
LAWS = {"linear": linear, "riccati": two_layer, "modes": modes, "origin": _origin}


def continuation(
    method: str, cost: Cost, start: tuple[Array, ...], weight_decay: float, t_start: float
) -> Callable[[tuple[Array, ...], float, Array], list[Array]]:
    """How a trajectory of a closed form that was loaded is continued: from its start."""

    def layers_at(_: tuple[Array, ...], __: float, t: Array) -> list[Array]:
        return list(LAWS[method](cost, start, t - t_start, weight_decay=weight_decay).weights or ())

    return layers_at
