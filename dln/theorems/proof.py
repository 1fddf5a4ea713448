"""Proofs in explicit entries: polynomial and rational identities, checked exactly with SymPy.

The functions of `dln.network` accept arrays of symbols, so it is the library's own code that is proved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import sympy as sp

from .. import network
from .statement import Check

__all__ = [
    "Proof",
    "collected",
    "derivative",
    "derivative_along",
    "entrywise",
    "expectation",
    "hessian",
    "inertia",
    "layers",
    "matrix",
    "rotation",
]


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
    return sum(network.end_to_end([*weights[:l], V, *weights[l + 1 :]]) for l, V in enumerate(velocity))


def entrywise(function: Callable[[Any], Any], M: Any) -> Any:
    """Array of a function of every entry, such as its derivative by a symbol."""
    return np.vectorize(function, otypes=[object])(M)


def derivative(function: Callable[[list[Any]], Any], weights: Sequence[Any], step: Sequence[Any]) -> Any:
    """Derivative of a polynomial function of the layers along a step, as an object array, exactly."""
    t = sp.Symbol("_t")
    values = function([W + t * S for W, S in zip(weights, step, strict=True)])
    return entrywise(lambda x: sp.diff(x, t).subs(t, 0), values)


def hessian(weights: Sequence[Any], target: Any, weight_decay: Any) -> Any:
    """Hessian of ``1/2 ||A - target||_F^2 + weight_decay/2 |theta|^2`` in all entries, row by row: the product rule."""
    G, rows = network.end_to_end(weights) - target, []
    for m, W in enumerate(weights):
        for entry in np.ndindex(W.shape):
            step = 0 * W
            step[entry] = 1
            moved = [*weights[:m], step, *weights[m + 1 :]]
            row = network.layer_gradients(weights, network.end_to_end(moved))
            row[m] = row[m] + weight_decay * step
            for l, part in enumerate(network.layer_gradients(moved, G)):
                row[l] = row[l] + (part if l != m else 0)  # the gradient of a layer does not contain it
            rows.append(np.concatenate([np.ravel(part) for part in row]))
    return np.array(rows)


def inertia(M: Any) -> tuple[int, int]:
    """Numbers of negative and of zero eigenvalues of a symmetric matrix of fractions, by congruences (Sylvester)."""
    M, negative = M.copy(), 0
    while len(M):
        places = sorted(np.argwhere(M).tolist(), key=lambda place: place[0] != place[1])  # the diagonal first
        if not places:
            break
        i, j = places[0]
        if i != j:
            M[i] += M[j]
            M[:, i] += M[:, j]
        negative += M[i, i] < 0
        M = M - np.outer(M[:, i], M[i]) / M[i, i]
        M = np.delete(np.delete(M, i, axis=0), i, axis=1)
    return negative, len(M)


def expectation(expression: Any, degrees: Mapping[Any, Any], constants: Iterable[Any] = ()) -> Any:
    """Expectation of a polynomial in independent symbols: chi variables with these degrees of freedom, else normal."""
    symbols = sorted(expression.free_symbols.difference(constants), key=str)
    total = sp.Integer(0)
    for powers, coefficient in sp.Poly(expression, *symbols).terms() if symbols else [((), expression)]:
        normal = [p for x, p in zip(symbols, powers, strict=True) if x not in degrees]
        if any(p % 2 for p in normal):
            continue
        chi = [(degrees[x], p) for x, p in zip(symbols, powers, strict=True) if x in degrees]
        if any(p % 2 for _, p in chi):
            raise ValueError(f"an odd moment of a chi variable in {expression}")
        moments = [
            sp.rf(d / 2, p // 2) * 2 ** (p // 2) for d, p in (*chi, *((sp.Integer(1), p) for p in normal))
        ]
        total += coefficient * sp.prod(moments)
    return total


def collected(expression: Any) -> Any:
    """A product with the exponents of each symbol added up, symbolic ones too."""
    return sp.Mul(*(base ** sp.cancel(power) for base, power in expression.as_powers_dict().items()))


@dataclass(frozen=True)
class Proof:
    """Symbolic check of a statement: every entry of every identity must vanish.

    Attributes
    ----------
    sizes : str
        Depths and widths for which the identities are proved.
    identities : callable
        Yields pairs ``(label, entries)``; `entries` are rational in symbols, cosines and sines.
    rules : mapping
        What is known of the symbols: ``{k**2: s**2 + 1}`` replaces a power of a symbol by a polynomial, in free
        symbols and those of the rules that follow. Cosine and sine of one angle are known.
    """

    sizes: str
    identities: Callable[[], Iterable[tuple[str, Any]]]
    rules: Mapping[Any, Any] = field(default_factory=dict)

    def __call__(self) -> Check:
        cases = 0
        for label, entries in self.identities():
            cases += 1
            if not all(_vanishes(sp.sympify(entry), self.rules) for entry in np.ravel(entries)):
                return Check(False, cases, math.inf, f"{label} does not hold.")
        return Check(cases > 0, cases, 0.0, f"{cases} identities hold exactly, for {self.sizes}.")


def _vanishes(expression: Any, rules: Mapping[Any, Any]) -> bool:
    """Whether a rational expression is zero, given the rules.

    The left sides are powers of distinct symbols, which lead in the lexicographic order: the rules are a Gröbner
    basis, and the remainder is unique.
    """
    angles = sorted({f.args[0] for f in expression.atoms(sp.cos, sp.sin)}, key=str)
    known = {**rules, **{sp.cos(angle) ** 2: 1 - sp.sin(angle) ** 2 for angle in angles}}
    leading = [power.as_base_exp()[0] for power in known]
    others = expression.free_symbols.union(*(sp.sympify(value).free_symbols for value in known.values()))
    free = sorted(others.difference(leading, *(angle.free_symbols for angle in angles)), key=str)
    generators = [*leading, *(sp.sin(angle) for angle in angles), *free]
    if not generators:
        return bool(sp.simplify(expression) == 0)
    field, *_ = sp.field(generators, sp.QQ, sp.lex)
    basis = [field.ring.from_expr(power - value) for power, value in known.items()]
    if any(power.exp.is_negative for power in expression.atoms(sp.Pow)):
        fraction = field.from_expr(expression)
        if not fraction.denom.rem(basis):
            raise ZeroDivisionError(f"a denominator of {expression} vanishes")
        return not fraction.numer.rem(basis)
    return not field.ring.from_expr(expression).rem(basis)
