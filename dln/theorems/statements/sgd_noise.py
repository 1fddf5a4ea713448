r"""A step of SGD with weight decay has at least the length :math:`x\, E_r(W)`, r the rank of the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ...typing import Array
from ..proof import Proof, matrix
from ..sgd import Training, draw_training, tail
from ..statement import Statement
from ..trial import Hypothesis, Trial


def claim_length(x: Any, distance: Any) -> Any:
    """Least length of a step, by the distance of the weights to the matrices of rank r."""
    return x * distance


def claim_gradient(head: Any, decay: Any) -> Any:
    """The gradient of the shortest step, by the r largest singular components of the weights."""
    return -decay * head


def identities() -> Iterator[tuple[str, Any]]:
    rate, decay = sp.symbols("eta lambda")
    W, H = matrix("W", 3, 3), matrix("H", 3, 3)
    step = rate * (claim_gradient(H, decay) + decay * W)
    yield "a step is x times a distance", step - claim_length(rate * decay, W - H)
    s = sp.symbols("s_1:4")
    head, whole = sp.diag(s[0], 0, 0), sp.diag(*s)
    shortest = rate * (claim_gradient(head, decay) + decay * whole)
    yield (
        "attained",
        sum(e**2 for e in shortest) - claim_length(rate * decay, 1) ** 2 * (s[1] ** 2 + s[2] ** 2),
    )


def residual(run: Training) -> float:
    """Last step of a run with gradients of rank r, and the shortest that there is from there."""
    weights, _ = run.states()
    W, x = weights[-2], run.rates[-1] * run.decays[-1]
    least = claim_length(x, tail(W, run.rank, "fro"))
    shortest = run.rates[-1] * (claim_gradient(_head(W, run.rank), run.decays[-1]) + run.decays[-1] * W)
    taken = np.linalg.norm(weights[-1] - W)
    return float(max(least - taken, abs(np.linalg.norm(shortest) - least)) / np.linalg.norm(W))


def _head(W: Array, rank: int) -> Array:
    U, s, Vt = np.linalg.svd(W)
    return (U[:, :rank] * s[:rank]) @ Vt[:rank]


def _draw(rng: Generator, rank: int) -> Training:
    """A run that ends with almost the shortest of steps."""
    run = draw_training(rng, 4, rank=rank)
    W = run.states()[0][-2]
    gradients = run.gradients.copy()
    gradients[-1] = (1 - 1e-4) * claim_gradient(_head(W, rank), run.decays[-1])
    return Training(run.start, gradients, run.rates, run.decays, rank)


def _shorter(run: Training, _: Generator) -> Training:
    """The last gradient may hold twice the rank, and the step is shorter."""
    gradients = run.gradients.copy()
    gradients[-1] = -run.decays[-1] * _head(run.states()[0][-2], 2 * run.rank)
    return Training(run.start, gradients, run.rates, run.decays, run.rank)


STATEMENT = Statement(
    title="the noise of SGD does not end where the rank is high",
    formula="||W_{t+1} - W_t||_F >= x E_r(W_t) with r the rank of the gradient, x = eta weight_decay and E_r the "
    "distance to the matrices of rank r; so the weights can converge to matrices of rank at most m B alone",
    source="T. Galanti, Z. Siegel, A. Gupte, T. Poggio, arXiv 2206.05794, on noise at convergence; this form derived",
    symbolic=Proof("3 x 3 matrices", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the gradient has the rank that is counted": Hypothesis(
                lambda run: bool(np.linalg.matrix_rank(run.gradients[-1], rtol=1e-12) <= run.rank), _shorter
            ),
        },
        residual=residual,
        tolerance=1e-14,
        depths=(1, 2, 3),
    ),
)
