"""Bases of the layers in which what waits on a plateau is not lost in the rounding of what is fitted.

A mode of size u beside fitted ones of size 1 is known to 1e-16 / u in any basis that mixes the two, and so is its
velocity. With W_l = B_l W_l' B_{l-1}^T, B_l orthogonal, the flow of the W_l' is the same, and in the singular vectors
of the layers the two stand in different rows and columns, where every entry is known to 1e-16 of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..typing import Array

__all__ = ["LONG", "singular_bases", "turned", "turned_to_the_last_digit"]

# A state holds more digits than its rounded entries: they are turned in longer numbers, where a machine has such.
LONG: Any = np.longdouble


def singular_bases(layers: Sequence[Array], first: Array, last: Array) -> list[Array]:
    """Orthogonal B_0 .. B_L: the given ones at the ends, left singular vectors of the layers between."""
    return [first, *(np.linalg.svd(W)[0] for W in layers[:-1]), last]


def turned(layers: Sequence[Any], bases: Sequence[Any]) -> list[Any]:
    """B_l^T W_l B_{l-1}, for stacks of layers too."""
    return [after.T @ W @ before for W, (before, after) in zip(layers, pairwise(bases), strict=True)]


def turned_to_the_last_digit(
    layers: Sequence[Array], rests: Sequence[Array], bases: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """The same for layers and what their rounded entries leave out."""
    long = turned(
        [W.astype(LONG) + rest for W, rest in zip(layers, rests, strict=True)],
        [B.astype(LONG) for B in bases],
    )
    rounded = [W.astype(float) for W in long]
    return rounded, [(W - near).astype(float) for W, near in zip(long, rounded, strict=True)]
