r"""The regulariser that weight decay on the layers puts on their product: the Schatten-2/L quasi-norm.

.. math:: \min_{W_L \cdots W_1 = A} \tfrac12 \sum_l \|W_l\|_F^2 = \tfrac L2 \sum_i \sigma_i(A)^{2/L}

Its value, subgradient, proximal operator and thresholds are closed forms or roots right to rounding.
"""

from __future__ import annotations

from .matrix import factorize, prox, subgradient, value
from .minima import Certificate, Minimum, solve
from .scalar import branches, jump, prox_power, saddle_node, threshold

__all__ = [
    "Certificate",
    "Minimum",
    "branches",
    "factorize",
    "jump",
    "prox",
    "prox_power",
    "saddle_node",
    "solve",
    "subgradient",
    "threshold",
    "value",
]
