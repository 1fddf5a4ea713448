r"""The tangent kernel of a Gaussian start is a multiple of the identity: in the mean, and in wide networks always.

.. math::
    \mathbb E\, \Theta = L \rho^{2L-2} I, \qquad
    \mathbb E\, \|\rho^{-2k} F_k^T F_k - I\|_F^2 = \tfrac{n(n+2)}{3} \big(1 + \tfrac 2w\big)^k
        - \tfrac{n(n-1)}{3} \big(1 - \tfrac 1w\big)^k - n, \qquad F_k = W_k \cdots W_1
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
from ..proof import Proof, entrywise, expectation, layers, matrix
from ..statement import Statement
from ..trial import Hypothesis, Trial
from ..wide import jacobian

GAUSSIAN = np.array([-1.0, 0.0, 1.0]) * np.sqrt(3), np.array([1.0, 4.0, 1.0]) / 6  # right up to fifth moments
SIGNS = np.array([-1.0, 1.0]), np.array([1.0, 1.0]) / 2


@dataclass(frozen=True)
class Case:
    """Layers of n inputs and outputs and hidden width w, whose entries are factors times independent nodes."""

    n: int
    w: int
    depth: int
    rho: float
    nodes: tuple[Array, Array]
    scales: Array
    mean: float = 0.0
    copied: bool = False


def claim_kernel(rho: Any, depth: Any) -> Any:
    """Mean of the kernel, a multiple of the identity."""
    return depth * rho ** (2 * depth - 2)


def claim_spread(n: Any, w: Any, k: Any) -> Any:
    """Mean square of the distance of F^T F from the identity, for the product F of k layers and n inputs, rho = 1."""
    return n * (n + 2) * (1 + 2 / w) ** k / 3 - n * (n - 1) * (1 - 1 / w) ** k / 3 - n


def identities() -> Iterator[tuple[str, Any]]:
    sigma = sp.Symbol("sigma", positive=True)
    for widths in [(2, 2, 2), (2, 3, 1), (1, 2, 2, 1), (1, 2, 2, 2, 1)]:
        units = np.eye(widths[0] * widths[-1], dtype=int).reshape(-1, widths[-1], widths[0])
        J, depth = jacobian(layers(widths), units), len(widths) - 1
        mean = sigma ** (2 * depth - 2) * entrywise(lambda e: expectation(sp.expand(e), {}), J @ J.T)
        law = claim_kernel(sigma * sp.sqrt(widths[1]), depth)
        yield f"the mean at widths {widths}", mean - law * np.eye(len(mean), dtype=int)
    yield from _layer_by_layer()


def _layer_by_layer() -> Iterator[tuple[str, Any]]:
    """Means of (tr F^T F)^2 and tr (F^T F)^2 at any width: on F = Q R a further layer acts as a triangle on R."""
    w, n, k = sp.symbols("w n k")
    c, d, g = sp.symbols("c d g")
    R = matrix("R", 2, 2)
    for F, T in ((R, np.array([[c, g], [0, d]])), (R[:1, :1], np.array([[c]]))):
        moved = [sp.expand(square) for square in _squares(T @ F)]
        means = [expectation(square, {c: w, d: w - 1}, R.ravel()) / w**2 for square in moved]
        whole, trace = _squares(F)
        yield "the square of the trace after a layer", means[0] - whole - 2 * trace / w
        yield "the trace of the square after a layer", means[1] - whole / w - (1 + 1 / w) * trace

    def trace_at(order: Any) -> Any:
        return _factored(n + claim_spread(n, w, order), k)

    def whole_at(order: Any) -> Any:
        return w * trace_at(order + 1) - (w + 1) * trace_at(order)

    yield "none", [trace_at(sp.Integer(0)) - n, whole_at(sp.Integer(0)) - n**2]
    yield "one more", whole_at(k + 1) - whole_at(k) - 2 * trace_at(k) / w


def _factored(expression: Any, k: Any) -> Any:
    """Powers ``x^(k + j)`` as ``x^j`` times a symbol."""
    return expression.replace(
        lambda e: e.is_Pow and e.exp.has(k), lambda e: sp.Symbol(f"({e.base})^k") * e.base ** (e.exp - k)
    )


def _squares(F: Any) -> tuple[Any, Any]:
    S = F.T @ F
    return np.trace(S) ** 2, np.trace(S @ S)


def residual(case: Case) -> float:
    """Means over all choices of nodes, one for each entry: exact for polynomials of degree up to 5 in each."""
    shapes = [(b, a) for a, b in pairwise([case.n, *[case.w] * (case.depth - 1), 1])]
    inner = shapes[:-1]
    weights, p = _all(case, shapes)
    units = np.eye(case.n).reshape(-1, 1, case.n)
    gradients = [network.layer_gradients(weights, E) for E in units]
    J = np.stack([np.concatenate([g.reshape(len(p), -1) for g in parts], axis=1) for parts in gradients], 1)
    mean = np.tensordot(p, J @ J.swapaxes(1, 2), 1) / claim_kernel(case.rho, case.depth)
    weights, p = _all(case, inner)
    F = network.end_to_end(weights) / case.rho ** len(inner)
    spread = p @ np.sum((F.swapaxes(1, 2) @ F - np.eye(case.n)) ** 2, axis=(1, 2))
    law = claim_spread(case.n, case.w, len(inner))
    return max(float(np.linalg.norm(mean - np.eye(case.n))), abs(float(spread / law) - 1))


def _all(case: Case, shapes: Sequence[tuple[int, int]]) -> tuple[list[Array], Array]:
    """Layers for every choice of a node for every entry, and its probability."""
    x, p = case.nodes
    sizes = [a * b for a, b in shapes]
    choices = np.indices([len(x)] * sum(sizes)).reshape(sum(sizes), -1).T
    parts = np.split(case.rho / np.sqrt(case.w) * (x[choices] + case.mean), np.cumsum(sizes)[:-1], axis=1)
    weights = [c * W.reshape(-1, *shape) for c, W, shape in zip(case.scales, parts, shapes, strict=False)]
    if case.copied:
        weights[0] = weights[0][:, [0] * case.w]
    return weights, np.prod(p[choices], axis=1)


def _draw(rng: Generator, depth: int) -> Case:
    sizes: list[tuple[int, int]] = [(1, 4), (2, 2), (2, 3), (3, 2)] if depth == 2 else [(1, 2), (2, 2)]
    n, w = sizes[rng.integers(len(sizes))]
    return Case(n, w, depth, rng.uniform(0.5, 2.0), GAUSSIAN, np.ones(depth))


STATEMENT = Statement(
    title="the tangent kernel of a wide Gaussian start is a multiple of the identity",
    formula="for entries N(0, rho^2/w) the kernel has the mean L rho^(2L-2) I at any width, and "
    "E ||F^T F / rho^2k - I||^2 = n(n+2)/3 (1 + 2/w)^k - n(n-1)/3 (1 - 1/w)^k - n for the product F of k layers from n "
    "inputs, likewise from the outputs: the relative distance of the kernel from its mean is of order w^(-1/2)",
    source="A. Jacot, F. Gabriel, C. Hongler, arXiv 1806.07572, for linear networks; the spread is derived",
    symbolic=Proof(
        "the mean at L = 2, 3, 4 and widths up to 3; the spread for n = 1, 2 and any w and k by induction",
        identities,
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the entries have mean zero": Hypothesis(
                lambda case: case.mean == 0, lambda case, _: replace(case, mean=0.5)
            ),
            "they are Gaussian": Hypothesis(
                lambda case: case.nodes is GAUSSIAN, lambda case, _: replace(case, nodes=SIGNS)
            ),
            "all layers have one variance": Hypothesis(
                lambda case: bool(np.ptp(case.scales) == 0),
                lambda case, _: replace(case, scales=np.array([2.0, 0.5, *case.scales[2:]])),
            ),
            "neurons are independent": Hypothesis(
                lambda case: not case.copied, lambda case, _: replace(case, copied=True)
            ),
        },
        residual=residual,
        tolerance=1e-12,
        depths=(2, 3),
    ),
)
