r"""SGD with weight decay forgets: :math:`W_T = \prod_s (1 - x_s)\, W_0 - \sum_t \eta_t \prod_{s>t} (1 - x_s)\, G_t`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import sympy as sp
from numpy.random import Generator

from ..proof import Proof, matrix
from ..runs import gap
from ..sgd import NO_MOMENTUM, PLAIN, Training, draw_training
from ..statement import Statement
from ..trial import Trial


def claim_factor(x: Any) -> Any:
    """What is left of the start, from x = rate * decay of every step."""
    return math.prod(1 - y for y in x)


def claim_update(rates: Any, x: Any, gradients: Any) -> Any:
    """What the gradients have added."""
    return -sum(rates[t] * claim_factor(x[t + 1 :]) * G for t, G in enumerate(gradients))


def identities() -> Iterator[tuple[str, Any]]:
    for steps in (1, 2, 5):
        rates, decays = (sp.symbols(f"{name}_:{steps}") for name in ("eta", "lambda"))
        start, gradients = matrix("W", 2, 2), [matrix(f"G{t}", 2, 2) for t in range(steps)]
        W = start
        for rate, decay, G in zip(rates, decays, gradients, strict=True):
            W = W - rate * (G + decay * W)
        x = [rate * decay for rate, decay in zip(rates, decays, strict=True)]
        yield f"{steps} steps", claim_factor(x) * start + claim_update(rates, x, gradients) - W


def residual(run: Training) -> float:
    """Start and gradients apart, against the run itself."""
    x, steps = run.rates * run.decays, len(run.rates)
    weights, _ = run.states()
    whole = claim_factor(x) * run.start + claim_update(run.rates, x, run.gradients)
    later = claim_factor(x[2:]) * weights[2] + claim_update(run.rates[2:], x[2:], run.gradients[2:])
    return max(gap(weights[steps], whole), gap(weights[steps], later))


def _draw(rng: Generator, steps: int) -> Training:
    return draw_training(rng, steps)


STATEMENT = Statement(
    title="SGD with weight decay forgets its start at a rate that is known",
    formula="W_T = prod_s (1 - x_s) W_0 - sum_t eta_t prod_{s>t} (1 - x_s) G_t with x_s = eta_s weight_decay_s, for "
    "any network, loss, data and schedule: the start and each gradient are there with a known weight",
    source="T. Galanti, Z. Siegel, A. Gupte, T. Poggio, arXiv 2206.05794, Lemma 3.2, for constant rates",
    symbolic=Proof("matrices 2 x 2; 1, 2 and 5 steps with a rate and a decay each", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={"there is no momentum": NO_MOMENTUM, "the gradient is applied as it is": PLAIN},
        residual=residual,
        tolerance=1e-13,
        depths=(3, 6, 12),
    ),
)
