r"""Balanced networks: the end-to-end matrix moves by itself.

.. math:: \dot A = -\sum_l (A A^T)^{(L-l)/L} G (A^T A)^{(l-1)/L}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..proof import Proof, derivative_along, matrix, rotation
from ..runs import BALANCED, NO_DECAY, UNIT_RATES, Run, complex_step, draw_orthogonal, draw_run, gap, product
from ..statement import Statement
from ..trial import Trial

Power = Callable[[Any], Any]  # exponent q -> q-th power of a Gram matrix


def claim(left: Power, right: Power, G: Any, depth: Any) -> Any:
    """Velocity of A, by the powers ``left(q) = (A A^T)^q`` and ``right(q) = (A^T A)^q``."""
    return -sum(left((depth - l) / depth) @ G @ right((l - 1) / depth) for l in range(1, int(depth) + 1))


def claim_kernel(a: Any, b: Any, depth: Any) -> Any:
    """Divided difference of ``x^2`` over ``x^(2/L)``: what the sum over layers is in the singular basis."""
    if a == b:
        return depth * a ** (2 - 2 / depth)
    return (a**2 - b**2) / (a ** (2 / depth) - b ** (2 / depth))


def claim_spectral(U: Any, K: Any, V: Any, G: Any) -> Any:
    """Velocity of A, by its full singular bases and the matrix K of kernels of its singular values."""
    return -U @ (K * (U.T @ G @ V)) @ V.T


def _kernels(left: Iterable[Any], right: Iterable[Any], depth: Any) -> list[list[Any]]:
    return [[claim_kernel(a, b, depth) for b in right] for a in left]


def identities() -> Iterator[tuple[str, Any]]:
    """Layers ``U S, S, .., S V^T``: up to rotations of the hidden layers, all balanced ones of rank two."""
    u, v = sp.symbols("u v", positive=True)
    U, V, G = np.eye(3, dtype=object), rotation("psi"), matrix("G", 3, 2)
    U[:2, :2] = rotation("phi")
    S = np.diag([u, v])
    for depth in map(sp.Integer, (2, 3, 4)):
        weights = [S @ V.T, *[S] * (depth - 2), U[:, :2] @ S]
        velocity = derivative_along(weights, [-W for W in network.layer_gradients(weights, G)])
        a = [u**depth, v**depth, sp.Integer(0)]
        powers = [lambda q, B=B, a=a: B @ np.diag([x ** (2 * q) for x in a[: len(B)]]) @ B.T for B in (U, V)]
        yield f"the sum of powers at L = {depth}", velocity - claim(powers[0], powers[1], G, depth)
        K = np.vectorize(sp.cancel, otypes=[object])(_kernels(a, a[:2], depth))
        yield f"the singular basis at L = {depth}", velocity - claim_spectral(U, K, V, G)


def residual(run: Run) -> float:
    """Against the complex-step derivative of A along the velocity of the layers."""
    velocity = complex_step(product, run.weights, run.velocity())
    A, G, depth = product(run.weights), run.gradient_of_cost(), len(run.weights)
    powers = claim(partial(_power, A @ A.T), partial(_power, A.T @ A), G, depth)
    U, s, Vt = np.linalg.svd(A)
    a, b = (np.pad(np.where(s > 1e-10 * s[0], s, 0.0), (0, n - len(s))) for n in A.shape)
    spectral = claim_spectral(U, np.array(_kernels(a, b, depth)), Vt.T, G)
    return float(np.max([gap(velocity, powers), gap(velocity, spectral)]))


def _power(M: Array, exponent: float) -> Array:
    """Power of a positive semi-definite matrix; eigenvalues that are rounding count as zero."""
    x, V = np.linalg.eigh(M)
    return np.asarray(V * np.where(x > 1e-12 * x[-1], x, 0.0) ** exponent @ V.T)


def _draw(rng: Generator, depth: int) -> Run:
    run = draw_run(rng, depth)
    widths = [run.weights[0].shape[1], *(W.shape[0] for W in run.weights)]
    u = 0.7 + 0.14 * (np.arange(min(widths)) + rng.uniform(0.0, 0.5, size=min(widths)))  # distinct
    frames = [draw_orthogonal(rng, n)[:, : len(u)] for n in widths]
    return replace(run, weights=[P * u @ Q.T for P, Q in zip(frames[1:], frames[:-1], strict=True)])


STATEMENT = Statement(
    title="a balanced network moves as its end-to-end matrix alone",
    formula="A' = -sum_l (A A^T)^((L-l)/L) G (A^T A)^((l-1)/L) = -U (K * (U^T G V)) V^T for balanced "
    "layers and any cost, with A = U diag(a) V^T, K_ij = (a_i^2 - a_j^2)/(a_i^(2/L) - a_j^(2/L)), "
    "K_ii = L a_i^(2-2/L)",
    source="S. Arora, N. Cohen, E. Hazan, arXiv 1802.06509, theorem 1; S. Arora et al., arXiv 1905.13655",
    symbolic=Proof("any cost, A of shape (3, 2) and rank 2 in any singular bases; L = 2, 3, 4", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the layers are balanced": BALANCED,
            "all layers move at one rate": UNIT_RATES,
            "there is no weight decay": NO_DECAY,
        },
        residual=residual,
        tolerance=1e-12,
    ),
)
