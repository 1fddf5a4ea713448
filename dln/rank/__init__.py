r"""The rank that SGD with weight decay gives to weight matrices: how it is measured, bounded and certified.

Each step forgets a share of the weights and adds a gradient of low rank, so that the weights are close to what the last
few batches can span (arXiv 2206.05794).
"""

from __future__ import annotations

from .bounds import (
    Certified,
    bound,
    certificate,
    gradient_bound,
    least_step,
    patches,
    propagator,
    rate,
    window,
)
from .measures import (
    Forgetting,
    corrected,
    effective,
    flattened,
    forgetting,
    numerical,
    operator,
    operator_singular_values,
    stable,
    tail,
)

__all__ = [
    "Certified",
    "Forgetting",
    "bound",
    "certificate",
    "corrected",
    "effective",
    "flattened",
    "forgetting",
    "gradient_bound",
    "least_step",
    "numerical",
    "operator",
    "operator_singular_values",
    "patches",
    "propagator",
    "rate",
    "stable",
    "tail",
    "window",
]
