r"""An SGD that is solved exactly: singular values :math:`\frac{\eta}{B} \frac{(1-x)^j}{1 - (1-x)^{m/B}}`, each B times.

It has the samples :math:`x_i = e_i` with losses :math:`\ell_i(u) = u_i`, and batches of B in a fixed cycle.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ..proof import Proof
from ..sgd import NO_MOMENTUM, SETTLED, Training, cyclic
from ..statement import Statement
from ..trial import Trial


def claim_value(j: Any, batches: Any, rate: Any, x: Any, batch: Any) -> Any:
    """Singular value of the samples that were seen j batches ago, in a cycle of so many batches."""
    return rate / batch * (1 - x) ** j / (1 - (1 - x) ** batches)


def identities() -> Iterator[tuple[str, Any]]:
    rate, x, B = sp.symbols("eta x B")
    for batches in (1, 2, 4):
        s = [claim_value(j, batches, rate, x, B) for j in range(batches)]
        yield (
            f"forgotten in a cycle of {batches}",
            [new - (1 - x) * old for old, new in zip(s, s[1:], strict=False)],
        )
        yield f"seen again in a cycle of {batches}", s[0] - (1 - x) * s[-1] - rate / B


def residual(run: Training) -> float:
    """Singular values of the weights at the end of the run."""
    x, batches = run.rates[0] * run.decays[0], len(run.start) // run.rank
    ages = np.repeat(np.arange(batches), run.rank)
    s = np.linalg.svd(run.states()[0][-1], compute_uv=False)
    claimed = claim_value(ages, batches, run.rates[0], x, run.rank)
    return float(np.max(np.abs(s - claimed)) / s[0])


def _draw(rng: Generator, batch: int) -> Training:
    return cyclic(batch * int(rng.integers(2, 6)), batch, rng.uniform(0.5, 1.5), rng.uniform(0.1, 0.5))


STATEMENT = Statement(
    title="an SGD that is solved exactly, whose rank is of the form of the bound",
    formula="f(z) = W z, x_i = e_i, l_i(u) = u_i, cyclic batches of B: the singular values settle at "
    "(eta/B) (1-x)^j / (1 - (1-x)^(m/B)), j = 0 .. m/B - 1, each B times",
    source="derived; it attains the budget of T. Galanti et al., arXiv 2206.05794, but for a factor of log 2",
    symbolic=Proof("cycles of 1, 2 and 4 batches of any size", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "there is no momentum": NO_MOMENTUM,
            "the start is forgotten": SETTLED,
        },
        residual=residual,
        tolerance=1e-12,
        depths=(1, 2, 3),
    ),
)
