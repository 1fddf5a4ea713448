"""Rotations of the hidden layers keep the end-to-end matrix and commute with the dynamics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..proof import Proof, layers, matrix, rotation
from ..runs import Run, draw_orthogonal, draw_run
from ..statement import Statement
from ..symmetry import claim_action, commutation, commutator, linear_update
from ..trial import Hypothesis, Trial


@dataclass(frozen=True, kw_only=True)
class Case(Run):
    """A run, and the matrices that shall turn its hidden layers."""

    rotations: list[Array]


def identities() -> Iterator[tuple[str, Any]]:
    for depth in (2, 3, 4):
        weights, G = layers([3, *[2] * (depth - 1), 1]), matrix("G", 1, 3)
        for determinants in product((1, -1), repeat=depth - 1):
            O = [rotation(f"phi{l}", d) for l, d in enumerate(determinants, start=1)]
            for W, V in zip(network.rotate(weights, O), claim_action(O, weights), strict=True):
                yield "dln.network.rotate", W - V
            yield from commutation(weights, G, partial(claim_action, O))


def residual(case: Case) -> float:
    """Flow and descent from the rotated start, against the rotated flow and descent."""
    image = network.rotate(case.weights, case.rotations)
    return commutator(case, image, partial(claim_action, case.rotations))


def _draw(rng: Generator, depth: int) -> Case:
    run = draw_run(rng, depth, weight_decay=rng.uniform(0.0, 1.0), narrowest=3)
    return Case(**vars(run), rotations=[draw_orthogonal(rng, W.shape[0]) for W in run.weights[:-1]])


def _orthogonal(case: Case) -> bool:
    return all(np.allclose(O.T @ O, np.eye(len(O))) for O in case.rotations)


def _stretching(case: Case, rng: Generator) -> Case:
    first, *rest = case.rotations
    return replace(case, rotations=[rng.uniform(1.2, 1.5) * first, *rest])


def _adam(gradient: Array) -> Array:
    """Every entry divided by its own size, as Adam does."""
    return gradient / np.sqrt(gradient**2 + 0.01)


STATEMENT = Statement(
    title="rotations of the hidden layers commute with the dynamics",
    formula="R(W) = (O_1 W_1, O_2 W_2 O_1^T, ..., W_L O_{L-1}^T) keeps A, and flow(R(W)) = R(flow(W)), "
    "likewise gradient descent, with momentum and weight decay; for any cost",
    source="A. Jacot et al., arXiv 2106.15933",
    symbolic=Proof(
        "any cost, all of O(2) in every hidden layer; L = 2, 3, 4 with widths 3-2-..-2-1", identities
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the rotations are orthogonal": Hypothesis(_orthogonal, _stretching),
            "the update is linear in the layer gradients": linear_update(_adam),
        },
        residual=residual,
        tolerance=1e-10,
    ),
)
