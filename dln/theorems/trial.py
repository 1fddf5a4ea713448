"""Trials by number: a statement holds where its hypotheses do, and fails when any one of them is broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from numpy.random import Generator

from .statement import Check

__all__ = ["Hypothesis", "Trial"]

C = TypeVar("C")


@dataclass(frozen=True)
class Hypothesis(Generic[C]):
    """A condition on a case.

    Attributes
    ----------
    holds : callable
        ``holds(case)``: whether the case satisfies it.
    broken : callable
        ``broken(case, rng)``: a like case that violates this condition and no other.
    """

    holds: Callable[[C], bool]
    broken: Callable[[C, Generator], C]


@dataclass(frozen=True)
class Trial(Generic[C]):
    """Numeric check of a statement.

    Cases that satisfy all hypotheses must have a residual of at most `tolerance`, and the same cases with one
    hypothesis broken a residual of at least `margin`: no hypothesis is idle.

    Attributes
    ----------
    draw : callable
        ``draw(rng, depth)``: a random case that satisfies all hypotheses.
    hypotheses : mapping of str to Hypothesis
        What the statement needs, in words.
    residual : callable
        ``residual(case)``: relative distance from the statement, found by an independent computation.
    tolerance, margin : float
        Bounds of the residual where the statement must hold and where it must fail.
    depths : tuple of int
        Depths tried.
    repeats : int
        Cases of each depth.
    """

    draw: Callable[[Generator, int], C]
    hypotheses: Mapping[str, Hypothesis[C]]
    residual: Callable[[C], float]
    tolerance: float
    margin: float = 1e-3
    depths: tuple[int, ...] = (2, 3, 4, 5)
    repeats: int = 3

    def __call__(self, rng: Generator) -> Check:
        worst, cases = 0.0, 0
        margins = dict.fromkeys(self.hypotheses, math.inf)
        for depth in self.depths * self.repeats:
            case, cases = self.draw(rng, depth), cases + 1
            residual = self._residual(case, [])
            if not residual <= self.tolerance:
                return Check(False, cases, residual, f"At depth {depth} the residual is {residual:.1e}.")
            worst = max(worst, residual)
            for name, hypothesis in self.hypotheses.items():
                residual = self._residual(hypothesis.broken(case, rng), [name])
                if not residual >= self.margin:
                    return Check(False, cases, worst, f"At depth {depth} it holds without {name!r}.")
                margins[name] = min(margins[name], residual)
        violations = ", ".join(f"{margin:.1e} without {name!r}" for name, margin in margins.items())
        return Check(True, cases, worst, f"Residuals are at most {worst:.1e}, and at least {violations}.")

    def _residual(self, case: C, broken: list[str]) -> float:
        """Residual of a case that breaks the hypotheses named, and these alone."""
        found = [name for name, hypothesis in self.hypotheses.items() if not hypothesis.holds(case)]
        if found != broken:
            raise RuntimeError(f"a case should break {broken} of the hypotheses, and breaks {found}")
        return self.residual(case)
