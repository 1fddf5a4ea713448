r"""How far a network between Krylov subspaces of hidden layers agrees with the whole: derivatives of A at the start.

.. math:: \frac{d^m}{dt^m} (A_k - A)(0) = 0, \qquad m \le 1 + \left\lfloor \frac{2k + 1}{L - 2} \right\rfloor

A product of j hidden layers, from one end of the network to the same or the other, is kept by the subspaces of order k
if j <= 2 (L - 2 + k) + 1, and the m-th derivative is made of such products with j <= (m + 1)(L - 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...form.subspaces import krylov
from ...typing import Array
from ..proof import Proof
from ..runs import draw_orthogonal
from ..statement import Statement
from ..trial import Hypothesis, Trial

SAME = 1e-10  # relative error of a derivative that counts as none
EXACT = ((3, 0), (3, 1), (4, 0), (4, 1), (5, 1))  # depths and orders
WIDTH, TRIED = 24, 8  # of the numeric cases; derivatives compared


def claim(order: Any, depth: Any) -> Any:
    """The highest derivative of A up to which there is no difference."""
    return 1 + (2 * order + 1) // (depth - 2)


def _series(weights: Sequence[Any], target: Any, terms: int) -> list[Any]:
    """A(t) of the gradient flow of 1/2 (A - target)^2, exactly to the t^terms: by iterated integrals."""
    ring, t = sp.ring("t", sp.QQ)
    start = [np.vectorize(ring, otypes=[object])(W) for W in weights]
    moved = start
    for n in range(1, terms + 1):
        gradients = network.layer_gradients(moved, network.end_to_end(moved) - target)
        moved = [
            W - np.vectorize(lambda f, n=n: _integral(ring, f, n), otypes=[object])(V)
            for W, V in zip(start, gradients, strict=True)
        ]
    entry: Any = network.end_to_end(moved)[0, 0]
    return [entry.coeff(t**m) if m else entry.coeff(1) for m in range(terms + 1)]


def _integral(ring: Any, f: Any, terms: int) -> Any:
    """The integral of a polynomial from 0, up to t^terms."""
    return ring.from_dict({(m + 1,): c / (m + 1) for (m,), c in f.terms() if m < terms})


def _projected(weights: Sequence[Any], order: int) -> list[Any]:
    """The layers between their Krylov subspaces of an order, as layers of the same size, in fractions."""
    W = [sp.Matrix(M) for M in weights]
    forward = list(accumulate(W[1:-1], lambda F, M: M * F, initial=W[0]))
    backward = list(accumulate(reversed(W[1:-1]), lambda B, M: M.T * B, initial=W[-1].T))[::-1]
    spaces = [sp.Matrix.hstack(F, B) for F, B in zip(forward, backward, strict=True)]
    for _ in range(order):
        ahead = [sp.zeros(len(weights[0]), 0), *(M * S for M, S in zip(W[1:-1], spaces, strict=False))]
        back = [*(M.T * S for M, S in zip(W[1:-1], spaces[1:], strict=True)), sp.zeros(len(weights[0]), 0)]
        spaces = [sp.Matrix.hstack(*parts) for parts in zip(spaces, ahead, back, strict=True)]
    projectors = [sp.eye(1), *(_projector(S) for S in spaces), sp.eye(1)]
    return [np.array(Q * M * P) for (P, Q), M in zip(pairwise(projectors), W, strict=True)]


def _projector(S: Any) -> Any:
    P = sp.Matrix.hstack(*S.columnspace())
    return P * (P.T * P).inv() * P.T


def identities() -> Iterator[tuple[str, Any]]:
    """Integer layers of width 5 with one input and one output: the first derivative that differs."""
    rng = np.random.default_rng(0)
    for depth, order in EXACT:
        widths = [1, *[5] * (depth - 1), 1]
        weights = [rng.integers(-2, 3, size=(n, m)).astype(object) for m, n in pairwise(widths)]
        terms = 2 + (2 * order + 1) // (depth - 2)
        whole, cut = (_series(W, 3, terms) for W in (weights, _projected(weights, order)))
        differ = [a != b for a, b in zip(whole, cut, strict=True)]
        agree = differ.index(True) - 1 if any(differ) else terms
        yield (
            f"the derivatives at L = {depth}, order {order}",
            claim(sp.Integer(order), sp.Integer(depth)) - agree,
        )


@dataclass(frozen=True)
class Case:
    """Layers, a target, and the frames of subspaces of the hidden layers."""

    weights: list[Array]
    target: Array
    order: int
    bases: list[Array]


def residual(case: Case) -> float:
    """How many more derivatives agree than claimed, or less."""
    frames = [np.eye(case.weights[0].shape[1]), *case.bases, np.eye(len(case.weights[-1]))]
    small = [Q.T @ W @ P for (P, Q), W in zip(pairwise(frames), case.weights, strict=True)]
    whole, cut = (_derivatives(W, case.target) for W in (case.weights, small))
    differ = [np.linalg.norm(a - b) > SAME * np.linalg.norm(a) for a, b in zip(whole, cut, strict=True)]
    agree = differ.index(True) - 1 if any(differ) else TRIED
    return abs(float(claim(case.order, len(case.weights))) - agree)


def _derivatives(weights: Sequence[Array], target: Array) -> list[Array]:
    """Taylor coefficients of A(t), by those of the layers; each product of series is a sum over their orders."""
    layers = [[W] for W in weights]
    for n in range(TRIED):
        forward = list(accumulate(layers, lambda F, W: _times(W, F)))
        backward = list(
            accumulate(([W.T for W in series] for series in layers[:0:-1]), lambda B, W: _times(W, B))
        )
        G = [forward[-1][0] - target, *forward[-1][1:]]
        ahead, back = (
            [_constant(target.shape[1], n), *forward[:-1]],
            [*backward[::-1], _constant(len(target), n)],
        )
        for series, B, F in zip(layers, back, ahead, strict=True):
            series.append(-_times(_times(B, G), [f.T for f in F])[n] / (n + 1))
    return list(accumulate(layers, lambda F, W: _times(W, F)))[-1]


def _constant(size: int, terms: int) -> list[Array]:
    """The series of the identity."""
    return [np.eye(size), *[np.zeros((size, size))] * terms]


def _times(left: Sequence[Array], right: Sequence[Array]) -> list[Array]:
    return [sum(left[i] @ right[m - i] for i in range(m + 1)) for m in range(len(left))]  # type: ignore[misc]


def _draw(rng: Generator, depth: int) -> Case:
    """Gaussian layers with one or two inputs and outputs."""
    n = int(rng.integers(1, 3))
    widths = [n, *[WIDTH] * (depth - 1), n]
    weights = [rng.normal(size=(a, b)) / np.sqrt(WIDTH) for b, a in pairwise(widths)]
    return _cut(weights, rng.normal(size=(n, n)), int(rng.integers(0, 3)))


def _cut(weights: list[Array], target: Array, order: int) -> Case:
    return Case(weights, target, order, list(krylov(weights, order).bases))


def _holds_images(case: Case) -> bool:
    """Whether the frames hold the forward images."""
    images = accumulate(case.weights[:-1], lambda F, W: W @ F)
    return all(np.allclose(P @ (P.T @ F), F, atol=1e-9) for P, F in zip(case.bases, images, strict=True))


def _elsewhere(case: Case, rng: Generator) -> Case:
    bases = [draw_orthogonal(rng, WIDTH)[:, : P.shape[1]] for P in case.bases]
    return replace(case, bases=bases)


def _open(case: Case) -> bool:
    return not krylov(case.weights, case.order).closed


def _orthogonal(case: Case, rng: Generator) -> Case:
    """Orthogonal hidden layers, whose subspaces close at order 0."""
    first, *hidden, last = case.weights
    return _cut([first, *(draw_orthogonal(rng, WIDTH) for _ in hidden), last], case.target, case.order)


STATEMENT = Statement(
    title="a network between Krylov subspaces of its hidden layers has the first derivatives of the whole",
    formula="with S_l^(0) = range F_l + range B_l^T, S_l^(k+1) = S_l^(k) + W_l S_{l-1}^(k) + W_{l+1}^T S_{l+1}^(k), "
    "the flow of the layers cut down to the S_l^(k) has d^m A/dt^m at the start for m <= 1 + floor((2k + 1)/(L - 2)), "
    "and, for layers in general position, no further; L > 2",
    source="derived; compare moment matching by Krylov subspaces, E. Grimme, 1997",
    symbolic=Proof(
        "integer layers of width 5; L = 3 and 4 with orders 0 and 1, L = 5 with order 1", identities
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the subspaces hold the images": Hypothesis(_holds_images, _elsewhere),
            "the subspaces do not close": Hypothesis(_open, _orthogonal),
        },
        residual=residual,
        tolerance=0.0,
        depths=(3, 4, 5),
    ),
)
