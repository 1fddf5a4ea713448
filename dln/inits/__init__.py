r"""Starts: each function returns a list of layers ``[W_1, ..., W_L]``, ``W_l`` of shape ``(n_l, n_{l-1})``.

To add a start, add a function to a file of this folder and to `ALL`.
"""

from __future__ import annotations

from collections.abc import Callable

from ..typing import Array
from .entries import gaussian
from .reduced import reduced_gaussian
from .spectra import aligned, balanced, balanced_factors, lambda_balanced, orthogonal, orthonormal

__all__ = [
    "ALL",
    "aligned",
    "balanced",
    "balanced_factors",
    "gaussian",
    "lambda_balanced",
    "orthogonal",
    "orthonormal",
    "reduced_gaussian",
]

ALL: dict[str, Callable[..., list[Array]]] = {
    start.__name__: start
    for start in (gaussian, reduced_gaussian, orthogonal, balanced, lambda_balanced, aligned)
}
