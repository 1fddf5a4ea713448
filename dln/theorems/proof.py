"""Proofs in explicit entries: polynomial identities, checked exactly with SymPy.

The functions of `dln.network` accept arrays of symbols, so it is the library's own code that is proved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import sympy as sp

from ..network import end_to_end
from .statement import Check

__all__ = ["Proof", "derivative_along", "layers", "matrix", "rotation"]


def matrix(name: str, rows: int, columns: int) -> Any:
    """Matrix of independent symbols, as an object array of shape (rows, columns)."""
    return np.array(sp.symbols(f"{name}_:{rows}_:{columns}"), dtype=object).reshape(rows, columns)


def layers(widths: Sequence[int]) -> list[Any]:
    """Layers ``W_1 .. W_L`` of independent symbols for widths ``(n_0, .., n_L)``."""
    return [matrix(f"W{l + 1}", n, m) for l, (m, n) in enumerate(pairwise(widths))]


def rotation(angle: str, determinant: int = 1) -> Any:
    """Orthogonal 2 x 2 matrix of the given determinant, +1 or -1, with a symbolic angle."""
    c, s = sp.cos(sp.Symbol(angle)), sp.sin(sp.Symbol(angle))
    return np.array([[c, -s * determinant], [s, c * determinant]], dtype=object)


def derivative_along(weights: Sequence[Any], velocity: Sequence[Any]) -> Any:
    """Derivative of the end-to-end matrix as the layers move with the given velocity: the product rule."""
    return sum(end_to_end([*weights[:l], V, *weights[l + 1 :]]) for l, V in enumerate(velocity))


@dataclass(frozen=True)
class Proof:
    """Symbolic check of a statement: every entry of every identity must vanish as a polynomial.

    Attributes
    ----------
    sizes : str
        Depths and widths for which the identities are proved.
    identities : callable
        Yields pairs ``(label, entries)``; `entries` are polynomials in symbols, cosines and sines.
    """

    sizes: str
    identities: Callable[[], Iterable[tuple[str, Any]]]

    def __call__(self) -> Check:
        cases = 0
        for label, entries in self.identities():
            cases += 1
            if not all(_vanishes(sp.sympify(entry)) for entry in np.ravel(entries)):
                return Check(False, cases, math.inf, f"{label} does not hold.")
        return Check(cases > 0, cases, 0.0, f"{cases} matrix identities hold exactly, for {self.sizes}.")


def _vanishes(expression: Any) -> bool:
    """Whether a polynomial is zero, given that the squares of a cosine and its sine add to one."""
    angles = {f.args[0] for f in expression.atoms(sp.cos, sp.sin)}
    pairs = [(sp.cos(angle), sp.sin(angle)) for angle in angles]
    symbols = sorted(expression.free_symbols - angles, key=str)
    if not symbols:
        return bool(sp.simplify(expression) == 0)
    ring = sp.ring([*symbols, *(f for pair in pairs for f in pair)], sp.QQ)[0]
    circles = [ring.from_expr(c**2 + s**2 - 1) for c, s in pairs]
    polynomial = ring.from_expr(expression)
    return not (polynomial.rem(circles) if circles else polynomial)
