"""Hidden layers padded by zero neurons: the end-to-end matrix is kept, and the new neurons never wake.

Linearity is more than inclusions ask of an update: an entrywise update that keeps zero at zero, such as that
of Adam, commutes with them too (and not with rotations).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..proof import Proof, layers, matrix
from ..runs import Run, draw_run
from ..statement import Statement
from ..symmetry import claim_action, commutation, commutator, linear_update
from ..trial import Hypothesis, Trial


@dataclass(frozen=True, kw_only=True)
class Case(Run):
    """A run, the hidden widths it is padded to, and what is written into the new entries (zero)."""

    hidden: list[int]
    padding: list[Array]


def claim(hidden: Sequence[int], weights: Sequence[Any]) -> list[Any]:
    """Padded layers, by the frames ``[I; 0]`` of shape (new width, old width)."""
    return claim_action(
        [np.eye(n, W.shape[0], dtype=int) for n, W in zip(hidden, weights[:-1], strict=True)], weights
    )


def identities() -> Iterator[tuple[str, Any]]:
    for widths, hidden in [((2, 1, 2), [3]), ((3, 1, 2, 2), [2, 3]), ((2, 2, 1, 2, 2), [3, 2, 3])]:
        yield from commutation(layers(widths), matrix("G", widths[-1], widths[0]), partial(claim, hidden))


def residual(case: Case) -> float:
    """Flow and descent from the padded start, against the padded flow and descent."""
    image = [W + P for W, P in zip(network.include(case.weights, case.hidden), case.padding, strict=True)]
    return commutator(case, image, partial(claim, case.hidden))


def _draw(rng: Generator, depth: int) -> Case:
    run = draw_run(rng, depth, weight_decay=rng.uniform(0.0, 1.0))
    hidden = [W.shape[0] + int(rng.integers(1, 4)) for W in run.weights[:-1]]
    return Case(**vars(run), hidden=hidden, padding=[np.zeros_like(W) for W in claim(hidden, run.weights)])


def _awake(case: Case, rng: Generator) -> Case:
    old = claim(case.hidden, [np.ones_like(W) for W in case.weights])
    return replace(case, padding=[0.5 * rng.normal(size=mask.shape) * (1 - mask) for mask in old])


def _drifting(gradient: Array) -> Array:
    return gradient + 0.3


STATEMENT = Statement(
    title="zero neurons commute with the dynamics",
    formula="I(W) = hidden layers of W padded by zero neurons keeps A, and flow(I(W)) = I(flow(W)), likewise "
    "gradient descent, with momentum and weight decay; for any cost",
    source="A. Jacot et al., arXiv 2106.15933",
    symbolic=Proof(
        "any cost; L = 2, 3, 4, widths 2-1-2 to 2-3-2, 3-1-2-2 to 3-2-3-2, 2-2-1-2-2 to 2-3-2-3-2", identities
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the new neurons are zero": Hypothesis(
                lambda case: not any(np.any(P) for P in case.padding), _awake
            ),
            "the update is linear in the layer gradients": linear_update(_drifting),
        },
        residual=residual,
        tolerance=1e-10,
    ),
)
