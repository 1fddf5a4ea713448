r"""The gradient of a mini-batch, :math:`\sum_j \delta_j u_j^T` over the uses of the matrix, has rank at most m B."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ...typing import Array
from ..proof import Proof, matrix
from ..runs import STEP, gap
from ..statement import Statement
from ..trial import Hypothesis, Trial


@dataclass(frozen=True)
class Batch:
    """Losses ``sum_j <c, sin v_j> + (sum_j <d, v_j>)^2 / 2`` of ``v_j = W u_j``, m uses j for each of B samples."""

    W: Array
    inputs: Array  # (B, m, n)
    c: Array
    d: Array
    shared: float = 0.0  # how much the inputs are made by W itself

    def fed(self, W: Any) -> Any:
        """Inputs of the matrix."""
        return self.inputs + self.shared * np.sin(self.inputs @ W.T) @ np.eye(len(W), W.shape[1])

    def loss(self, V: Any) -> Any:
        """Mean over the batch, from the outputs (B, m, rows)."""
        each = np.sum(np.sin(V) @ self.c, axis=1) + np.sum(V @ self.d, axis=1) ** 2 / 2
        return np.mean(each)


def claim_gradient(signals: Any, inputs: Any) -> Any:
    """Gradient from the derivatives of the loss by every output of the matrix, and its inputs, a row for each use."""
    return signals.T @ inputs


def claim_rank(uses: Any, batch: Any) -> Any:
    """Largest rank of it."""
    return uses * batch


def identities() -> Iterator[tuple[str, Any]]:
    for uses, batch in ((1, 1), (2, 1), (1, 2)):
        count = uses * batch
        W, U, c = matrix("W", 3, 3), matrix("u", count, 3), matrix("c", count, 3)
        V = matrix("v", count, 3)

        def loss(V: Any, c: Any = c) -> Any:
            """Any slope at every output, and outputs of one batch that meet in one term."""
            return np.sum(c * V) + np.sum(V) ** 2 + V[0, 0] ** 3

        outputs = dict(zip(V.ravel(), (U @ W.T).ravel(), strict=True))
        signals = np.array([[sp.diff(loss(V), v).subs(outputs) for v in row] for row in V])
        gradient = np.array([[sp.diff(loss(U @ W.T), w) for w in row] for row in W])
        yield f"the chain rule, {count} uses", gradient - claim_gradient(signals, U)
        rank = claim_rank(uses, batch)
        example = sp.Matrix(claim_gradient(np.eye(count, 3, dtype=int), 2 * np.eye(count, 3, dtype=int)))
        yield "the rank is attained", rank - example.rank()
        G = sp.Matrix(claim_gradient(matrix("d", count, 3), U))
        sets = list(combinations(range(3), int(rank) + 1))
        yield (
            "all larger minors vanish",
            [G.extract(rows, columns).det() for rows in sets for columns in sets],
        )


def residual(batch: Batch) -> float:
    """Gradient by complex steps against the sum of outer products; its rank by singular values."""
    U = batch.fed(batch.W)
    signals = _derivative(batch.loss, U @ batch.W.T)
    exact = _derivative(lambda W: batch.loss(batch.fed(W) @ W.T), batch.W)
    claimed = claim_gradient(signals.reshape(-1, len(batch.W)), U.reshape(-1, U.shape[2]))
    s = np.linalg.svd(exact, compute_uv=False)
    wrong = abs(claim_rank(batch.inputs.shape[1], len(U)) - np.sum(s > 1e-12 * s[0]))
    return float(max(gap(exact, claimed), wrong))


def _derivative(function: Any, at: Array) -> Array:
    """Derivative by every entry, by complex steps."""
    result = np.empty(at.shape)
    for entry in np.ndindex(at.shape):
        moved = at.astype(complex)
        moved[entry] += STEP * 1j
        result[entry] = function(moved).imag / STEP
    return result


def _draw(rng: Generator, uses: int) -> Batch:
    B = int(rng.integers(1, 3))
    W = rng.normal(size=(7, 8)) / 3
    return Batch(W, rng.normal(size=(B, uses, 8)), *rng.normal(size=(2, 7)))


STATEMENT = Statement(
    title="the gradient of a mini-batch has at most the rank of its uses",
    formula="if a matrix W acts on inputs that do not depend on it, m times for each of B samples, the gradient of any "
    "loss is a sum of m B outer products of signals and inputs, of rank at most m B",
    source="T. Galanti, Z. Siegel, A. Gupte, T. Poggio, arXiv 2206.05794, Lemma 3.1, for one sample",
    symbolic=Proof("3 x 3 matrices with one and two uses", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the inputs do not depend on the matrix": Hypothesis(
                lambda batch: batch.shared == 0,
                lambda batch, rng: replace(batch, shared=rng.uniform(0.5, 1.0)),
            ),
        },
        residual=residual,
        tolerance=1e-13,
        depths=(1, 2, 3),
    ),
)
