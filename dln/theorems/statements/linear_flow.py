r"""One layer: :math:`A(t) = A_\infty + (A(0) - A_\infty) e^{-(1 + \lambda) t}`, :math:`A_\infty = A^*/(1+\lambda)`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ..proof import Proof, entrywise, matrix
from ..runs import FULL_OBSERVATION, UNIT_RATES, Run, draw_layers, draw_run, full_observation, gap
from ..statement import Statement
from ..trial import Hypothesis, Trial

TIME = 0.7


def claim_rate(weight_decay: Any) -> Any:
    """Rate at which A relaxes."""
    return 1 + weight_decay


def claim(start: Any, target: Any, weight_decay: Any, factor: Any) -> Any:
    """End-to-end matrix, by the factor ``exp(-rate t)`` that has gone by."""
    limit = target / (1 + weight_decay)
    return limit + (start - limit) * factor


def identities() -> Iterator[tuple[str, Any]]:
    decay, E = sp.symbols("lambda E")
    A, target = matrix("A", 2, 3), matrix("T", 2, 3)
    yield "the start", claim(A, target, decay, 1) - A
    path = claim(A, target, decay, E)
    (gradient,) = network.layer_gradients([path], path - target)
    velocity = entrywise(lambda x: -claim_rate(decay) * E * sp.diff(x, E), path)
    yield "the flow", velocity + gradient + decay * path


def residual(run: Run) -> float:
    """Along the flow, integrated to 12 digits."""
    decay = run.decays[0]
    factor = np.exp(-claim_rate(decay) * TIME)
    expected = claim(network.end_to_end(run.weights), run.cost.target, decay, factor)
    return gap(network.end_to_end(run.flow(TIME)), expected)


def _draw(rng: Generator, depth: int) -> Run:
    run = draw_run(rng, depth, weight_decay=rng.uniform(0.0, 1.0))
    return replace(run, cost=full_observation(run.cost.target))


def _deeper(run: Run, rng: Generator) -> Run:
    """The same widths at the ends, with a second layer."""
    n, m = run.cost.target.shape
    return replace(run, weights=draw_layers(rng, [m, 4, n]), rates=np.ones(2), decays=run.decays.repeat(2))


STATEMENT = Statement(
    title="one layer relaxes at one rate",
    formula="A(t) = T + (A(0) - T) exp(-(1 + weight_decay) t), T = A*/(1 + weight_decay), for the flow of "
    "1/2 ||A - A*||_F^2 + weight_decay/2 ||A||_F^2 at L = 1",
    source="classical",
    symbolic=Proof("L = 1, A of shape (2, 3)", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "there is one layer": Hypothesis(lambda run: len(run.weights) == 1, _deeper),
            "the cost is full observation": FULL_OBSERVATION,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-10,
        depths=(1,),
    ),
)
