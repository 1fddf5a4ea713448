r"""Batch normalisation after a matrix: signals sum to zero, :math:`\langle G, W \rangle = 0`, and the norm is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ...typing import Array
from ..proof import Proof, matrix
from ..runs import STEP
from ..statement import Statement
from ..trial import Hypothesis, Trial


@dataclass(frozen=True)
class Batch:
    """A loss of the normalised outputs of ``W`` on a batch of inputs, in a step of SGD with weight decay."""

    W: Array
    inputs: Array
    slopes: Array
    rate: float
    decay: float
    added: float = 0.0  # to the variance
    fixed: bool = False  # mean and variance are those of another batch

    def normalised(self, W: Any) -> Any:
        outputs = self.inputs @ W.T
        if self.fixed:
            return (outputs - 0.3) / 1.7
        centred = outputs - np.mean(outputs, axis=0)
        return centred / np.sqrt(np.mean(centred**2, axis=0) + self.added)

    def loss(self, W: Any) -> Any:
        return np.sum(np.sin(self.normalised(W)) * self.slopes)


def claim_rank(uses: Any) -> Any:
    """Largest rank of the gradient."""
    return uses - 1


def claim_square(x: Any, rate: Any, weights: Any, gradient: Any) -> Any:
    """Squared norm of a row after a step, from those of the weights and the gradient."""
    return (1 - x) ** 2 * weights + rate**2 * gradient


def _outputs(uses: int) -> tuple[Any, Any, Any]:
    """Inputs, a row of weights, and its outputs, in symbols."""
    X, w = matrix("x", uses, 2), matrix("w", 1, 2)[0]
    return X, w, X @ w


def _variance(outputs: Any) -> Any:
    return sum((v - sum(outputs) / len(outputs)) ** 2 for v in outputs) / len(outputs)


DEVIATIONS = {uses: sp.Symbol(f"s_{uses}") for uses in (2, 3)}  # of the outputs of so many uses
SQUARES = {s**2: sp.expand(_variance(_outputs(uses)[2])) for uses, s in DEVIATIONS.items()}


def identities() -> Iterator[tuple[str, Any]]:
    rate, decay = sp.symbols("eta lambda")
    for uses, s in DEVIATIONS.items():
        X, w, outputs = _outputs(uses)
        signals = _signals(uses, s, outputs)
        yield f"signals sum to zero, {uses} uses", sum(signals)
        G = signals @ X
        yield "the gradient is orthogonal to the weights", G @ w
        after = np.sum(((1 - rate * decay) * w - rate * G) ** 2)
        yield "the squared norm", after - claim_square(rate * decay, rate, w @ w, G @ G)
        free = matrix("d", uses - 1, uses)
        balanced = np.vstack([free, [-d for d in free.sum(axis=0)]])  # signals of so many rows
        yield "the determinant", sp.Matrix(balanced.T @ matrix("x", uses, uses)).det()
        centring = uses * np.eye(uses, dtype=int) - 1
        yield "the rank is attained", claim_rank(uses) - sp.Matrix(centring).rank()


def _signals(uses: int, s: Any, outputs: Any) -> Any:
    """Derivatives by the outputs of a loss with any slopes, by the chain rule through the deviation s."""
    v, slopes = sp.symbols(f"v_:{uses}"), sp.symbols(f"c_:{uses}")
    loss = sum(c * (y - sum(v) / uses) / s for c, y in zip(slopes, v, strict=True))
    signals = [sp.diff(loss, y) + sp.diff(loss, s) * sp.diff(_variance(v), y) / (2 * s) for y in v]
    return np.array([signal.subs(dict(zip(v, outputs, strict=True))) for signal in signals])


def residual(batch: Batch) -> float:
    """Gradient by complex steps: its rank, and the norm after the step."""
    G = np.empty(batch.W.shape)
    for entry in np.ndindex(G.shape):
        moved = batch.W.astype(complex)
        moved[entry] += STEP * 1j
        G[entry] = batch.loss(moved).imag / STEP
    s = np.linalg.svd(G, compute_uv=False)
    wrong = abs(claim_rank(len(batch.inputs)) - np.sum(s > 1e-12 * s[0]))
    after = batch.W - batch.rate * (G + batch.decay * batch.W)
    squares = (np.sum(M**2, axis=1) for M in (batch.W, G))
    claimed = claim_square(batch.rate * batch.decay, batch.rate, *squares)
    return float(max(wrong, np.max(np.abs(np.sum(after**2, axis=1) / claimed - 1))))


def _draw(rng: Generator, uses: int) -> Batch:
    W, inputs, slopes = (rng.normal(size=shape) for shape in ((6, 7), (uses, 7), (uses, 6)))
    return Batch(W / 4, inputs, slopes, *rng.uniform(0.2, 0.6, size=2))


STATEMENT = Statement(
    title="batch normalisation takes a rank from the gradient, and its angle to the weights",
    formula="with batch normalisation right after W, in training mode: rank G <= m B - 1 and every row of "
    "G is orthogonal to that of W, so ||W_{t+1}||_F^2 = (1 - x)^2 ||W_t||_F^2 + eta^2 ||G_t||_F^2, row by row as well",
    source="T. van Laarhoven, arXiv 1706.05350, for the angle; the rank derived",
    symbolic=Proof("any loss; 2 and 3 uses of a row of two weights", identities, rules=SQUARES),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "mean and variance are those of the batch": Hypothesis(
                lambda batch: not batch.fixed, lambda batch, _: replace(batch, fixed=True)
            ),
            "nothing is added to the variance": Hypothesis(
                lambda batch: batch.added == 0, lambda batch, rng: replace(batch, added=rng.uniform(0.5, 1.0))
            ),
        },
        residual=residual,
        tolerance=1e-12,
        depths=(3, 4, 5),
    ),
)
