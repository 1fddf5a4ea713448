r"""The rank that SGD with weight decay gives to weight matrices: how it is measured, bounded and certified.

Each step forgets a share of the weights and adds a gradient of low rank, so that the weights are close to what the last
few batches can span (arXiv 2206.05794).
"""

from __future__ import annotations

from .adaptive import Certified, certificate
from .bounds import bound, gradient_bound, window
from .certificates import Certificates
from .convolution import flattened, operator, operator_singular_values, patches
from .measures import Forgetting, corrected, effective, forgetting, numerical, stable, tail
from .momentum import propagator, rate
from .noise import least_noise, least_step
from .solvable import CyclicSteadyState, Gradients, cyclic, cyclic_gradients, driven, random_gradients
from .violation import Violation

__all__ = [
    "Certificates",
    "Certified",
    "CyclicSteadyState",
    "Forgetting",
    "Gradients",
    "Violation",
    "bound",
    "certificate",
    "corrected",
    "cyclic",
    "cyclic_gradients",
    "driven",
    "effective",
    "flattened",
    "forgetting",
    "gradient_bound",
    "least_noise",
    "least_step",
    "numerical",
    "operator",
    "operator_singular_values",
    "patches",
    "propagator",
    "random_gradients",
    "rate",
    "stable",
    "tail",
    "window",
]
