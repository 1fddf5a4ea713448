r"""Subspaces of the hidden layers that the layers carry into one another: what the network does there, it does alone.

.. math:: \dot W_l = P_l \dot R_l P_{l-1}^T - \lambda (1 - P_l P_l^T) W_l (1 - P_{l-1} P_{l-1}^T),
          \qquad R_l = P_l^T W_l P_{l-1}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..proof import Proof, layers, matrix, rotation
from ..runs import Run, draw_layers, draw_orthogonal, draw_run, gap, product
from ..statement import Statement
from ..symmetry import linear_update
from ..trial import Hypothesis, Trial

TIME = 0.3


@dataclass(frozen=True, kw_only=True)
class Case(Run):
    """A run, and orthonormal frames of subspaces of all layers: ``bases`` of them, ``others`` of their complements."""

    bases: list[Array]
    others: list[Array]


def claim(P: Any, Q: Any, velocity: Any, rest: Any, weight_decay: Any) -> Any:
    """Velocity of a layer, by that of the small network and the rest of the layer; P before it, Q after it."""
    return Q @ velocity @ P.T - weight_decay * rest


def _wide(
    bases: Sequence[Any], others: Sequence[Any], small: Sequence[Any], rest: Sequence[Any]
) -> list[Any]:
    """Layers that keep subspaces and complements apart; the first and the last subspace are everything."""
    wide = [Q @ R @ P.T for (P, Q), R in zip(pairwise(bases), small, strict=True)]
    for l, C in enumerate(rest, start=1):
        wide[l] = wide[l] + others[l + 1] @ C @ others[l].T
    return wide


def _reduced(bases: Sequence[Any], weights: Sequence[Any]) -> list[Any]:
    return [Q.T @ W @ P for (P, Q), W in zip(pairwise(bases), weights, strict=True)]


def identities() -> Iterator[tuple[str, Any]]:
    """Planes in every hidden layer, and a line in each that is turned by an angle of its own."""
    decay = sp.Symbol("lambda")
    for depth, first, last in ((2, 2, 1), (3, 1, 2), (4, 1, 1)):
        turns = [rotation(f"phi_{l}") for l in range(1, depth)]
        bases = [np.eye(first, dtype=int), *(O[:, :1] for O in turns), np.eye(last, dtype=int)]
        others = [O[:, 1:] for O in (turns[0], *turns, turns[0])]
        small = layers((first, *[1] * (depth - 1), last))
        rest = [matrix(f"C{l}", 1, 1) for l in range(1, depth - 1)]
        wide, G = _wide(bases, others, small, rest), matrix("G", last, first)
        yield f"the product at L = {depth}", network.end_to_end(wide) - network.end_to_end(small)
        outside = [W - V for W, V in zip(wide, _wide(bases, others, small, ()), strict=True)]
        velocities = [
            [-V - decay * W for V, W in zip(network.layer_gradients(net, G), net, strict=True)]
            for net in (small, wide)
        ]
        for l, (V, U) in enumerate(zip(*velocities, strict=True)):
            yield f"layer {l + 1} at L = {depth}", claim(bases[l], bases[l + 1], V, outside[l], decay) - U


def residual(case: Case) -> float:
    """Velocities of the wide network after some time, against the small network after that time and the rest."""
    small = replace(case, weights=_reduced(case.bases, case.weights))
    lifted = _wide(case.bases, case.others, small.weights, ())
    fade = np.exp(-case.decays[0] * TIME)
    rest = [fade * (W - V) for W, V in zip(case.weights, lifted, strict=True)]
    wide_end, small_end = (replace(run, weights=run.flow(TIME)) for run in (case, small))
    ends = pairwise(case.bases)
    claimed = [
        claim(P, Q, V, C, case.decays[0])
        for (P, Q), V, C in zip(ends, small_end.velocity(), rest, strict=True)
    ]
    return max(gap(claimed, wide_end.velocity()), gap(product(small_end.weights), product(wide_end.weights)))


def _draw(rng: Generator, depth: int) -> Case:
    run = draw_run(rng, depth, weight_decay=rng.uniform(0.2, 1.0))
    n_0, n_L = run.weights[0].shape[1], run.weights[-1].shape[0]
    turns = [draw_orthogonal(rng, int(n)) for n in rng.integers(3, 6, size=depth - 1)]
    kept = rng.integers(1, 3, size=depth - 1)
    bases = [np.eye(n_0), *(O[:, :m] for O, m in zip(turns, kept, strict=True)), np.eye(n_L)]
    others = [np.eye(n_0)[:, :0], *(O[:, m:] for O, m in zip(turns, kept, strict=True)), np.eye(n_L)[:, :0]]
    small = draw_layers(rng, [P.shape[1] for P in bases])
    rest = draw_layers(rng, [Q.shape[1] for Q in others[1:-1]])
    weights = _wide(bases, others, small, rest)
    return Case(**{**vars(run), "weights": weights}, bases=bases, others=others)


def _sharp(gradient: Array) -> Array:
    return np.tanh(5 * gradient)


def _invariant(case: Case) -> bool:
    lifted = [Q @ Q.T @ W - W @ P @ P.T for (P, Q), W in zip(pairwise(case.bases), case.weights, strict=True)]
    return all(np.abs(M).max() < 1e-12 for M in lifted)


def _coupled(case: Case, rng: Generator) -> Case:
    """The first layer also leads out of its subspace."""
    out = case.others[1] @ rng.normal(size=(case.others[1].shape[1], case.weights[0].shape[1]))
    return replace(case, weights=[case.weights[0] + out, *case.weights[1:]])


STATEMENT = Statement(
    title="invariant subspaces of the hidden layers hold a smaller network of the same flow",
    formula="if W_l S_{l-1} and W_{l+1}^T S_{l+1} lie in S_l for all hidden layers, S_0 and S_L being everything, "
    "then R_l = P_l^T W_l P_{l-1} with orthonormal frames P_l of S_l has the product of W and follows the same flow, "
    "and the rest of W_l only decays: W_l' = P_l R_l' P_{l-1}^T - weight_decay (W_l - P_l R_l P_{l-1}^T), for any cost",
    source="derived",
    symbolic=Proof("any cost; L = 2, 3, 4, lines in planes, at any angles", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the subspaces are invariant": Hypothesis(_invariant, _coupled),
            "the update is linear in the layer gradients": linear_update(_sharp),
        },
        residual=residual,
        tolerance=1e-10,
    ),
)
