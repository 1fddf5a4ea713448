r"""The greedy low-rank algorithm: a neuron of size eps along the top singular pair of dC/dA, descent, and so on.

Under full observation each width learns one singular value of the target: after k of them A is its best approximation
of rank k.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ..proof import Proof, layers, matrix, rotation
from ..runs import FULL_OBSERVATION, NO_DECAY, Run, draw_orthogonal, full_observation, gap, product
from ..statement import Statement
from ..trial import Hypothesis, Trial
from . import representation_cost


@dataclass(frozen=True, kw_only=True)
class Case(Run):
    """Balanced layers with k of the modes of the target; a neuron of size `eps` comes along a pair of the gradient."""

    k: int
    eps: float
    pair: int


def claim_neuron(weights: Sequence[Any], u: Any, v: Any, eps: Any) -> list[Any]:
    """The layers with one hidden neuron more, along left and right singular vectors of the gradient."""
    first, *hidden, last = weights
    wider = [np.pad(W, (0, 1)) for W in hidden]
    for W in wider:
        rows, columns = W.shape
        W[rows - 1, columns - 1] = eps
    return [np.vstack([first, -eps * v]), *wider, np.column_stack([last, eps * u])]


def claim_change(u: Any, v: Any, eps: Any, depth: int) -> Any:
    """What the neuron adds to A."""
    return -(eps**depth) * np.outer(u, v)


def claim_slope(s: Any, eps: Any, depth: int) -> Any:
    """Change of the cost along it, to first order: by the singular value."""
    return -(eps**depth) * s


def claim_learned(U: Any, s: Any, V: Any, k: int) -> Any:
    """A after k widths, from the singular values and vectors of the target."""
    return U[:, :k] * s[:k] @ V[:, :k].T


def claim_cost(s: Any, k: int) -> Any:
    """The cost after k widths."""
    return np.sum(s[k:] ** 2) / 2


def identities() -> Iterator[tuple[str, Any]]:
    eps, sigma = sp.symbols("eps sigma", positive=True)
    U, V = rotation("phi"), rotation("psi")
    u, v = matrix("u", 2, 1)[:, 0], matrix("v", 2, 1)[:, 0]
    for widths in [(2, 1, 2), (2, 2, 3, 2), (2, 1, 2, 1, 2)]:
        weights, depth = layers(widths), len(widths) - 1
        added = network.end_to_end(claim_neuron(weights, u, v, eps)) - network.end_to_end(weights)
        yield f"the neuron at L = {depth}", added - claim_change(u, v, eps, depth)
        G = U @ np.diag([sigma, sp.Symbol("sigma_2")]) @ V.T
        change = claim_change(U[:, 0], V[:, 0], eps, depth)
        yield f"the slope at L = {depth}", np.sum(G * change) - claim_slope(sigma, eps, depth)
        roots = np.array(sp.symbols("r_:2", positive=True))
        s, one = roots**depth, representation_cost.claim_factors(U[:, :1], roots[:1], V[:, :1], depth)
        learned = claim_learned(U, s, V, 1)
        yield f"what is learned at L = {depth}", network.end_to_end(one) - learned
        left = learned - claim_learned(U, s, V, 2)
        yield f"the cost at L = {depth}", np.sum(left**2) / 2 - claim_cost(s, 1)
        for gradient in network.layer_gradients(one, left):
            yield f"no gradient at L = {depth}", gradient


def residual(case: Case) -> float:
    """The neuron, its slope by a complex step, and the flow of the wider network to the end."""
    depth, A = len(case.weights), product(case.weights)
    U, s, Vt = np.linalg.svd(case.cost.gradient(A))
    u, v = U[:, case.pair], Vt[case.pair]
    change = claim_change(u, v, case.eps, depth)
    wider = replace(case, weights=claim_neuron(case.weights, u, v, case.eps))
    slope = np.imag(case.cost.value(A + 1e-30j * change)) / 1e-30
    descended = sum(np.sum(g**2) for g in network.layer_gradients(case.weights, case.cost.gradient(A)))
    U, values, Vt = np.linalg.svd(case.cost.target, full_matrices=False)
    end = replace(wider, weights=wider.flow(60.0 / s[0]))
    learned = claim_learned(U, values, Vt.T, case.k + 1)
    parts = [
        gap(product(wider.weights), A + change),
        abs(slope / claim_slope(s[0], case.eps, depth) - 1),
        descended,
        gap(product(end.weights), learned),
        abs(end.objective() / claim_cost(values, case.k + 1) - 1),
    ]
    return float(np.max(parts))


def _draw(rng: Generator, depth: int) -> Case:
    n, m, k = (int(x) for x in rng.integers([3, 3, 1], [5, 5, 3]))
    modes = min(n, m)
    U, V = draw_orthogonal(rng, n)[:, :modes], draw_orthogonal(rng, m)[:, :modes]
    s = rng.uniform(1.5, 2.0) * 0.7 ** np.arange(modes)
    s[-1] *= 0.8  # what is never learned here
    k = min(k, modes - 2)
    u = s[:k] ** (1 / depth)
    return Case(
        weights=[u[:, None] * V[:, :k].T, *[np.diag(u)] * (depth - 2), U[:, :k] * u],
        cost=full_observation(U * s @ V.T),
        rates=np.ones(depth),
        decays=np.zeros(depth),
        k=k,
        eps=rng.uniform(0.5, 0.6),
        pair=0,
    )


STATEMENT = Statement(
    title="the greedy low-rank algorithm learns one singular value of the target after the other",
    formula="a neuron -eps v^T below W_1, eps on the diagonals, eps u beside W_L, with G v = s u the top pair of "
    "dC/dA, adds -eps^L u v^T to A, so C changes by -eps^L s + O(eps^2L); under full observation the layers then flow "
    "to A_k = sum_(i <= k) s_i u_i v_i^T, a critical point of cost 1/2 sum_(i > k) s_i^2",
    source="A. Jacot et al., arXiv 2106.15933v2, the greedy low-rank algorithm",
    symbolic=Proof(
        "any layers of widths 2-1-2, 2-2-3-2, 2-1-2-1-2; what is learned for A of shape (2, 2), L = 2, 3, 4",
        identities,
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the neuron is along the top pair": Hypothesis(
                lambda case: case.pair == 0, lambda case, _: replace(case, pair=1)
            ),
            "every entry is observed, and alike": FULL_OBSERVATION,
            "there is no weight decay": NO_DECAY,
        },
        residual=residual,
        tolerance=1e-7,
        repeats=1,
    ),
)
