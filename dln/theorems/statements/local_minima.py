r"""Deep regularised networks have K + 1 local minima: the upper branches of the first r modes, r = 0 .. K.

The global one keeps those with :math:`s > s_{jump} = x_{jump} (L-1)/(L-2)`, :math:`x_{jump}^{2-2/L} = \lambda (L-2)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ..points import Aligned, aligned, hessian, roots
from ..proof import Proof, collected
from ..runs import flat
from ..statement import Statement
from ..trial import Hypothesis, Trial
from . import morse_index
from . import regularised_critical_points as branches


@dataclass(frozen=True)
class Case:
    """A target's singular values, a weight decay, and all critical points of a network of given depth."""

    s: Any
    weight_decay: float
    depth: int
    points: list[Aligned]


def claim(modes: int) -> int:
    """Number of local minima, by the number of modes with s above the saddle-node."""
    return modes + 1


def claim_jump(weight_decay: Any, depth: Any) -> list[Any]:
    """``x^(2-2/L)`` and ``s/x`` where a mode is as good as none."""
    return [weight_decay * (depth - 2), (depth - 1) / (depth - 2)]


def claim_collapse(s: Any, depth: Any) -> Any:
    """Weight decay beyond which 0 is the global minimum, by the largest singular value."""
    return ((depth - 2) * s / (depth - 1)) ** (2 - 2 / depth) / (depth - 2)


def identities() -> Iterator[tuple[str, Any]]:
    for modes in range(5):
        # Sizes grow with s on the upper branch, and fall on the lower.
        choices = [[(0, False), (1 + i, True), (9 - i, False)] for i in range(modes)]
        indices = [
            morse_index.claim_index([x for x, _ in choice], [lower for _, lower in choice], 0, 0, 3)
            for choice in product(*choices)
        ]
        yield f"the minima with {modes} modes, by Morse index", indices.count(0) - claim(modes)
    decay, x, L = sp.symbols("lambda x L", positive=True)
    power, ratio = claim_jump(decay, L)  # of x^(2-2/L)
    yield "stationary at the jump, any L", 1 + decay / power - ratio
    yield "as good as none, any L", (1 - ratio) ** 2 + decay * L / power - ratio**2
    collapse = collected(claim_collapse(ratio * x, L) * x ** (2 / L - 2))
    yield "the collapse is the jump of the first mode, any L", collapse - decay / power


def residual(case: Case) -> float:
    """Dense Hessians and objectives of all critical points, and ties of a single mode."""
    lowest = [np.linalg.eigvalsh(hessian(p))[0] for p in case.points]
    minima = sum(x > -1e-9 for x in lowest)
    modes = sum(len(roots(s, case.weight_decay, case.depth)) > 0 for s in case.s)
    best = min(case.points, key=lambda p: float(p.objective()))
    power, ratio = claim_jump(case.weight_decay, case.depth)
    jump = ratio * power ** (1 / (2 - 2 / case.depth))
    ties = [_gain(jump, case.weight_decay, case.depth)]
    ties.append(_gain(case.s[0], claim_collapse(case.s[0], case.depth), case.depth))
    slope = max(np.linalg.norm(flat(p.velocity())) for p in case.points)
    wrong = not np.array_equal(best.u > 0, case.s > jump)
    return float(max(abs(minima - claim(modes)), wrong, slope, *np.abs(ties)))


def _gain(s: float, weight_decay: float, depth: int) -> float:
    """What the upper branch of a mode gains on 0, relative to ``s^2``."""
    u = roots(s, weight_decay, depth)[0]
    return float((s**2 - (s - u**depth) ** 2 - weight_decay * depth * u**2) / s**2)


def _all_points(s: Any, weight_decay: float, depth: int) -> list[Aligned]:
    rng = np.random.default_rng(0)
    choices = product(*([0.0, *roots(x, weight_decay, depth)] for x in s))
    return [aligned(rng, s, np.array(u), weight_decay, [len(s)] * (depth + 1)) for u in choices]


def _draw(rng: Generator, depth: int) -> Case:
    """Two modes above the saddle-node, the second perhaps below the jump, and one below."""
    weight_decay = rng.uniform(0.05, 0.2)
    power, ratio = branches.claim_threshold(weight_decay, depth)
    least = ratio * power ** (1 / (2 - 2 / depth))
    s = least * np.array([rng.uniform(1.7, 2.5), rng.uniform(1.02, 1.6), rng.uniform(0.5, 0.9)])
    return Case(s, weight_decay, depth, _all_points(s, weight_decay, depth))


def _equal(case: Case, _: Generator) -> Case:
    s = case.s[[0, 0, 2]]
    return Case(s, case.weight_decay, case.depth, _all_points(s, case.weight_decay, case.depth))


STATEMENT = Statement(
    title="deep regularised networks have K + 1 local minima, of which the jump tells the global one",
    formula="for L > 2 and s_1 > .. > s_K > s_sn the local minima are A_r = sum_{i <= r} x_+(s_i) u_i v_i^T, r = 0..K; "
    "the global one keeps the modes with s_i > s_jump = x_jump (L-1)/(L-2), x_jump^(2-2/L) = weight_decay (L-2), "
    "and is 0 for weight_decay > ((L-2) s_1/(L-1))^(2-2/L) / (L-2)",
    source="A. Jacot et al., arXiv 2106.15933v1, for their existence; derived",
    symbolic=Proof("up to four modes; the jump and the collapse at any L > 2", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the singular values are distinct": Hypothesis(
                lambda case: len(np.unique(case.s)) == len(case.s), _equal
            )
        },
        residual=residual,
        tolerance=1e-10,
        depths=(3, 4, 5),
    ),
)
