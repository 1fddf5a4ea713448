r"""The least squared norm of factors is a Schatten quasi-norm, :math:`\min |\theta|^2 = L \sum_i s_i(A)^{2/L}`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.optimize import minimize

from ... import network
from ...typing import Array
from ..proof import Proof, layers, rotation
from ..runs import draw_orthogonal, flat, gap, product
from ..statement import Statement
from ..trial import Hypothesis, Trial


@dataclass(frozen=True)
class Case:
    """A matrix, factors of it, and how much the squared norm of each counts."""

    A: Array
    weights: list[Array]
    counts: Array


def claim(s: Any, depth: Any) -> Any:
    """Least squared norm, by the singular values."""
    return depth * sum(x ** (2 / depth) for x in s)


def claim_factors(U: Any, u: Any, V: Any, depth: Any) -> list[Any]:
    """Factors of least norm, by the singular vectors and the roots ``u = s^(1/L)`` of the singular values."""
    return [u[:, None] * V.T, *[np.diag(u)] * (int(depth) - 2), U * u]


def claim_gradient(U: Any, u: Any, V: Any, depth: Any) -> Any:
    """Gradient of the least squared norm in A."""
    return 2 * U * u ** (2 - depth) @ V.T


def identities() -> Iterator[tuple[str, Any]]:
    u = np.array(sp.symbols("u_:2", positive=True))
    U, V = rotation("phi"), rotation("psi")
    for depth in map(sp.Integer, (2, 3, 4)):
        weights, s = claim_factors(U, u, V, depth), u**depth
        yield f"they are factors at L = {depth}", network.end_to_end(weights) - U * s @ V.T
        yield f"their norm at L = {depth}", sum(np.sum(W * W) for W in weights) - claim(s, depth)
        for W, M in zip(
            weights, network.layer_gradients(weights, claim_gradient(U, u, V, depth)), strict=True
        ):
            yield f"they are stationary at L = {depth}", 2 * W - M
    first, second = layers([2, 2, 2])
    surplus = sum(np.sum(W * W) for W in (first, second)) - 2 * np.sum(U @ V.T * (second @ first))
    yield "the surplus at L = 2 is a square", surplus - np.sum((second.T @ U - first @ V) ** 2)
    # Any depth, rank one, by induction: w^2 + claim(s/w, L-1) is least at w = s^(1/L).
    q, z, L = sp.symbols("q z L", positive=True)
    slope = 2 * q - z * sp.diff(claim([z], L - 1), z) / q
    yield "a further layer is balanced", slope.subs(z, q ** (L - 1))
    yield "a further layer adds up", q**2 + claim([q ** (L - 1)], L - 1) - claim([q**L], L)


def residual(case: Case) -> float:
    """Against the least norm over all factors of A, found from random ones."""
    depth = len(case.weights)
    U, s, Vt = np.linalg.svd(case.A, full_matrices=False)
    found, u = _least(case), s ** (1 / depth)
    value = sum(c * np.sum(W * W) for c, W in zip(case.counts, found, strict=True))
    slopes = network.layer_gradients(found, claim_gradient(U, u, Vt.T, depth))
    gaps = [
        abs(value / claim(s, depth) - 1),
        gap(product(found), case.A),
        gap([2 * W for W in found], slopes),
    ]
    return float(np.max([*gaps, gap(product(claim_factors(U, u, Vt.T, depth)), case.A)]))


def _least(case: Case) -> list[Array]:
    """Minimiser over the factors ``T_l W_l T_{l-1}^{-1}``: those of A, all of them if hidden widths equal the rank."""
    widths = [W.shape[0] for W in case.weights[:-1]]
    ends = np.cumsum(np.square(widths))[:-1]
    inner, outer = np.eye(case.A.shape[1]), np.eye(case.A.shape[0])

    def frames(x: Array) -> list[Array]:
        return [part.reshape(n, n) for part, n in zip(np.split(x, ends), widths, strict=True)]

    def moved(x: Array) -> list[Array]:
        T = [inner, *frames(x), outer]
        return [M @ W @ np.linalg.inv(N) for M, W, N in zip(T[1:], case.weights, T[:-1], strict=True)]

    def value(x: Array) -> float:
        return float(sum(c * np.sum(W * W) for c, W in zip(case.counts, moved(x), strict=True)))

    def slope(x: Array) -> Array:
        scaled = [np.sqrt(c) * W for c, W in zip(case.counts, moved(x), strict=True)]
        balances = zip(scaled, scaled[1:], frames(x), strict=False)
        return flat([2 * (V @ V.T - W.T @ W) @ np.linalg.inv(T).T for V, W, T in balances])

    start = flat([np.eye(n) for n in widths])
    return moved(minimize(value, start, jac=slope, method="BFGS", options={"gtol": 1e-9}).x)


def _draw(rng: Generator, depth: int) -> Case:
    m, n = rng.integers(2, 4, size=2)
    k = min(m, n)
    U, V = draw_orthogonal(rng, n)[:, :k], draw_orthogonal(rng, m)[:, :k]
    A = U * rng.uniform(0.5, 2.0, size=k) @ V.T
    weights = [np.eye(k) + 0.4 * rng.normal(size=(k, k)) for _ in range(depth)]
    weights[0], weights[-1] = weights[0] @ V.T, U @ weights[-1]
    lift = np.linalg.pinv(product(weights[:-1]))
    return Case(A, [*weights[:-1], A @ lift], np.ones(depth))


def _wide(case: Case) -> bool:
    return all(W.shape[0] >= min(case.A.shape) for W in case.weights[:-1])


def _narrow(case: Case, _: Generator) -> Case:
    """The first hidden layer has one neuron."""
    first, second, *rest = case.weights
    return replace(case, weights=[first[:1], second[:, :1], *rest])


STATEMENT = Statement(
    title="the least squared norm of factors is a Schatten quasi-norm",
    formula="min {sum_l ||W_l||_F^2 : W_L ... W_1 = A} = L sum_i s_i(A)^(2/L), attained by balanced factors, for "
    "hidden widths of at least rank A; so weight decay is the penalty weight_decay (L/2) sum_i s_i(A)^(2/L)",
    source="A. Jacot et al., arXiv 2106.15933v1; Z. Dai, M. Karzand, N. Srebro, NeurIPS 2021",
    symbolic=Proof(
        "A of shape (2, 2) in any singular bases: attained and stationary at L = 2, 3, 4, least at L = 2; "
        "rank one at any L by induction",
        identities,
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "hidden layers are as wide as the rank": Hypothesis(_wide, _narrow),
            "all layers count alike": Hypothesis(
                lambda case: bool(np.ptp(case.counts) == 0),
                lambda case, rng: replace(case, counts=np.arange(1.0, len(case.counts) + 1)),
            ),
        },
        residual=residual,
        tolerance=1e-6,
    ),
)
