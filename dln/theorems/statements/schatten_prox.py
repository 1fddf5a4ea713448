r"""The proximal operator of :math:`\mu x^p`, p = 2/L: where it jumps, and its roots in closed form for L = 2, 3, 4.

.. math:: \operatorname{prox}(s) = \arg\min_{x \ge 0} \tfrac12 (x - s)^2 + \mu x^p, \qquad \mu = \lambda L / 2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.optimize import brentq

from ...typing import Array
from ..proof import Proof
from ..runs import STEP
from ..statement import Statement
from ..trial import Hypothesis, Trial

a, b, r = sp.symbols("a b r")


@dataclass(frozen=True)
class Case:
    """A singular value s under a weight decay, at depth L: the penalty's factor is mu, its exponent p."""

    s: float
    weight_decay: float
    depth: int

    @property
    def mu(self) -> float:
        return self.weight_decay * self.depth / 2

    @property
    def p(self) -> float:
        return 2 / self.depth

    def objective(self, x: Array) -> Array:
        return (x - self.s) ** 2 / 2 + self.mu * x**self.p

    def slope(self, x: Any) -> Any:
        return x - self.s + self.mu * self.p * x ** (self.p - 1)

    def birth(self, x: Any) -> Any:
        """The s for which x > 0 is stationary; the branches are born where it is least."""
        return x + self.mu * self.p * x ** (self.p - 1)

    def tie(self, x: Any) -> Any:
        """The s for which x > 0 is as good as 0; the prox jumps where it is least."""
        return x / 2 + self.mu * x ** (self.p - 1)


def claim_saddle_node(mu: Any, p: Any) -> list[Any]:
    """``x^(2-p)`` and ``s/x`` where the stationary points x > 0 are born."""
    return [mu * p * (1 - p), (2 - p) / (1 - p)]


def claim_jump(mu: Any, p: Any) -> list[Any]:
    """``x^(2-p)`` and ``s/x`` where x is as good as 0."""
    return [2 * mu * (1 - p), (2 - p) / (2 * (1 - p))]


def claim_two(s: Any, weight_decay: Any) -> Any:
    """Stationary point at L = 2."""
    return s - weight_decay


def claim_cubic(g: Any, c: Any) -> Any:
    """Root of ``x^3 - 3 g^2 x = value``, by the cosine c (hyperbolic or not) of a third of an angle."""
    return 2 * g * c


def claim_argument(g: Any, value: Any) -> Any:
    """Cosine (hyperbolic or not) of that angle."""
    return value / (2 * g**3)


def claim_three(a: Any, r: Any) -> list[Any]:
    """Both ``x^(1/3)`` at L = 3, by the square root a of the root of the cubic, and r."""
    return [(a + r) / 2, (a - r) / 2]


def claim_three_scale(weight_decay: Any) -> Any:
    """``g^2`` of the cubic at L = 3, whose value is ``s^2``."""
    return 4 * weight_decay / 3


def claim_three_square(s: Any, a: Any) -> Any:
    """``r^2`` at L = 3."""
    return 2 * s / a - a**2


def claim_four_scale(s: Any) -> Any:
    """``g^2`` of the cubic for ``x^(1/2)`` at L = 4, whose value is ``-weight_decay``."""
    return s / 3


def identities() -> Iterator[tuple[str, Any]]:
    mu, p, s, decay, x, g, c = sp.symbols("mu p s lambda x g c")
    power, ratio = claim_saddle_node(mu, p)  # x^p = x^2 / power
    yield "stationary at the saddle-node", 1 + mu * p / power - ratio
    yield "inflected at the saddle-node", 1 + mu * p * (p - 1) / power
    power, ratio = claim_jump(mu, p)
    yield "stationary at the jump", 1 + mu * p / power - ratio
    yield "as good as zero at the jump", (1 - ratio) ** 2 / 2 + mu / power - ratio**2 / 2
    yield "L = 2", claim_two(s, decay) + decay - s
    cosine = 4 * c**3 - 3 * c  # of three times the angle, hyperbolic or not
    value = 2 * g**3 * cosine
    x = claim_cubic(g, c)
    yield "the cubic", [x**3 - 3 * g**2 * x - value, claim_argument(g, value) - cosine]
    s, decay = a * b, (a**4 - b**2) / 4  # for any a, b: y = a^2 solves y^3 - 4 lambda y = s^2
    roots = claim_three(a, r)
    yield "the roots at L = 3", [u**4 - s * u + decay for u in roots]
    yield "there are two", [sum(roots) - a, a**6 - 3 * claim_three_scale(decay) * a**2 - s**2]
    yield "their distance at L = 3", r**2 - claim_three_square(s, a)
    v, s = sp.symbols("v s")
    decay = s * v - v**3  # x + lambda x^(-1/2) = s with x = v^2
    yield "L = 4", v**3 - 3 * claim_four_scale(s) * v + decay


def residual(case: Case) -> float:
    """Thresholds against the least s of all x, the prox against a search on a grid, roots against bisection."""
    roots = _roots(case)
    gaps = [(roots[0] - _minimiser(case)) / case.s]
    if case.depth > 2:
        x, s = _least(case.tie)
        power, ratio = claim_jump(case.mu, case.p)
        gaps += [x ** (2 - case.p) / power - 1, s / x / ratio - 1]
        x, s = _least(case.birth)
        power, ratio = claim_saddle_node(case.mu, case.p)
        gaps += [x ** (2 - case.p) / power - 1, s / x / ratio - 1]
        gaps += [roots[0] / _root(case.slope, x, case.s) - 1, roots[1] / _root(case.slope, 1e-9, x) - 1]
    return float(np.max(np.abs(gaps)))


def _roots(case: Case) -> list[float]:
    """Stationary points x > 0 by the formulas, the larger first."""
    s, decay = case.s, case.weight_decay
    if case.depth == 2:
        return [claim_two(s, decay)]
    if case.depth == 3:
        g = np.sqrt(claim_three_scale(decay))
        angle = np.arccosh(claim_argument(g, s**2)) / 3
        root = np.sqrt(claim_cubic(g, np.cosh(angle)))
        spread = np.sqrt(claim_three_square(s, root))
        return [u**3 for u in claim_three(root, spread)]
    g = np.sqrt(claim_four_scale(s))
    angle = np.arccos(claim_argument(g, -decay)) / 3
    return [claim_cubic(g, np.cos(angle)) ** 2, claim_cubic(g, np.cos(angle - 2 * np.pi / 3)) ** 2]


def _minimiser(case: Case) -> float:
    """The prox by search: the best of a grid, then bisection of the slope beside it."""
    grid = np.linspace(0.0, case.s, 2001)
    best = int(np.argmin(case.objective(grid)))
    return _root(case.slope, *grid[[best - 1, min(best + 1, 2000)]]) if best else 0.0


def _least(curve: Callable[[Any], Any]) -> tuple[float, float]:
    """Where a curve is least, from its complex-step derivative, and its value there."""
    x = _root(lambda x: curve(x + STEP * 1j).imag / STEP, 1e-6, 1e3)
    return x, curve(x)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(function, low, high, xtol=1e-16, rtol=1e-14, maxiter=500))


def _draw(rng: Generator, depth: int) -> Case:
    case = Case(1.0, rng.uniform(0.2, 2.0), depth)
    return replace(case, s=rng.uniform(1.1, 2.0) * _jump(case))


def _jump(case: Case) -> float:
    return case.weight_decay if case.depth == 2 else _least(case.tie)[1]


def _below(case: Case, rng: Generator) -> Case:
    """Between the saddle-node and the jump; at L = 2, where they are one, just below."""
    least = 0.5 * case.weight_decay if case.depth == 2 else _least(case.birth)[1]
    return replace(case, s=least + rng.uniform(0.1, 0.9) * (_jump(case) - least))


STATEMENT = Statement(
    title="the proximal operator of the Schatten-2/L penalty of a singular value",
    formula="argmin_x (x - s)^2/2 + mu x^p, p = 2/L, mu = weight_decay L/2, is 0 for s < s_jump and else the larger "
    "root of x + weight_decay x^(p-1) = s: x_sn^(2-p) = mu p (1-p), s_sn = x_sn (2-p)/(1-p), "
    "x_jump^(2-p) = 2 mu (1-p), s_jump = x_jump (2-p)/(2 (1-p)); s - weight_decay at L = 2, by a cubic at L = 3, 4",
    source="Z. Xu et al., IEEE TNNLS 23(7), 2012, for p = 1/2; W. Cao, J. Sun, Z. Xu, JVCIR 24(1), 2013, for 2/3",
    symbolic=Proof(
        "any p in (0, 1) for the thresholds; L = 2, 3, 4 for the roots",
        identities,
        rules={r**2: 2 * b - a**2},
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={"s is above the jump": Hypothesis(lambda case: case.s > _jump(case), _below)},
        residual=residual,
        tolerance=1e-10,
        depths=(2, 3, 4),
    ),
)
