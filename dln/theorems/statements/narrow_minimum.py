r"""A local minimum of a narrow network, with G = dC/dA not zero, is a saddle of the network with one neuron more.

It is left by the new neuron h, :math:`\epsilon (h v^T, h h^T, \dots, -u h^T)`, (u, v) the top singular pair of G.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...inits import balanced
from ...typing import Array
from ..points import CRITICAL, hessian, settled
from ..proof import Proof, rotation
from ..proof import hessian as exact_hessian
from ..proof import layers as symbols
from ..runs import Run, draw_layers, draw_run, flat
from ..statement import Statement
from ..trial import Hypothesis, Trial

KICK = 0.1


@dataclass(frozen=True, kw_only=True)
class Case(Run):
    """A narrow network, and what is written into the weights of the new neuron (zero)."""

    padding: list[Array]


def claim_escape(u: Any, v: Any, h: Any, size: Any, depth: int) -> list[Any]:
    """Perturbation of the layers by the new neuron h, each of norm `size`."""
    return [size * np.outer(h, v), *[size * np.outer(h, h)] * (depth - 2), -size * np.outer(u, h)]


def claim_lowest(s: Any, depth: int) -> Any:
    """Least eigenvalue of the Hessian of the wider network: -s for two layers, 0 for more."""
    return -s * 0 ** (depth - 2)


def claim_drop(s: Any, size: Any, depth: Any) -> Any:
    """Change of the cost to leading order in the perturbation."""
    return -s * size**depth


def _wider(weights: Any) -> list[Any]:
    return network.include(weights, [W.shape[0] + 1 for W in weights[:-1]])


def identities() -> Iterator[tuple[str, Any]]:
    s, e, a = sp.symbols("s_:2"), sp.Symbol("e"), sp.symbols("a_:4")
    U, V, h = rotation("phi"), rotation("psi"), np.array([0, 1])
    G = U @ np.diag(s) @ V.T
    for depth in (2, 3, 4):
        weights = symbols([2, *[1] * (depth - 1), 2])
        kick = claim_escape(U[:, 0], V[:, 0], h, e, depth)
        wide = [W + D for W, D in zip(_wider(weights), kick, strict=True)]
        change = network.end_to_end(wide) - network.end_to_end(weights)
        yield f"the change of A at L = {depth}", np.sum(G * change) - claim_drop(s[0], e, depth)
        if (
            depth > 2
        ):  # a critical point whose layers are invertible on the neuron: W_L^T G = 0 and G W_1^T = 0
            G_0, inner = s[0] * np.outer(U[:, 0], V[:, 0]), [np.array([[x]]) for x in a[1 : depth - 1]]
            weights = [a[0] * V[:, 1:].T, *inner, a[3] * U[:, 1:]]
        else:
            G_0 = G
        H = exact_hessian(_wider(weights), network.end_to_end(weights) - G_0, 0)
        x = np.concatenate([np.ravel(D) for D in claim_escape(U[:, 0], V[:, 0], h, 1, depth)])
        yield f"the eigenvector at L = {depth}", H @ x - claim_lowest(s[0], depth) * x


def residual(case: Case) -> float:
    """Gradient and least eigenvalue of the Hessian of the wider network, and the odd part of its cost in the kick."""
    depth = len(case.weights)
    wide: Run = replace(
        case, weights=[W + P for W, P in zip(_wider(case.weights), case.padding, strict=True)]
    )
    U, s, Vt = np.linalg.svd(case.gradient_of_cost())
    h = np.eye(len(wide.weights[0]))[-1]
    kick = claim_escape(U[:, 0], Vt[0], h, KICK, depth)
    moved = [W + D for W, D in zip(wide.weights, kick, strict=True)]
    turned = [*moved[:-1], wide.weights[-1] - kick[-1]]  # the other sign of the product
    forth, back = (replace(wide, weights=layers).objective() for layers in (moved, turned))
    drop = claim_drop(s[0], KICK, depth)
    gaps = [
        np.linalg.norm(flat(wide.velocity())) / s[0],
        abs(np.linalg.eigvalsh(hessian(wide))[0] - claim_lowest(s[0], depth)) / s[0],
        abs((forth - back) / (2 * drop) - 1),
    ]
    return float(np.max(gaps))


def _draw(rng: Generator, depth: int) -> Case:
    """A network of width 1 or 2 at a local minimum; A of shape (3, 3) to (4, 4)."""
    run = draw_run(rng, 1, narrowest=3)
    n, m = run.cost.target.shape
    widths = [m, *[int(rng.integers(1, 3))] * (depth - 1), n]
    narrow = Run(draw_layers(rng, widths), run.cost, np.ones(depth), np.zeros(depth))
    A = network.end_to_end(settled(narrow).weights)  # of layers that may be of very different size
    weights = settled(replace(narrow, weights=balanced(A, depth, widths=widths, rng=rng))).weights
    return Case(
        weights=weights, cost=run.cost, rates=narrow.rates, decays=narrow.decays,
        padding=[np.zeros_like(W) for W in _wider(weights)],
    )  # fmt: skip


def _awake(case: Case, rng: Generator) -> Case:
    """One weight of the new neuron is not zero: A stays."""
    first, *rest = case.padding
    first = first.copy()
    first[-1] = 0.5 * rng.normal(size=first.shape[1])
    return replace(case, padding=[first, *rest])


STATEMENT = Statement(
    title="a local minimum of a narrow network is a saddle of the wider one",
    formula="if theta is a local minimum of width k with G = dC/dA != 0, its inclusion in width k+1 is critical; the "
    "least eigenvalue of the Hessian is -s_1(G) for L = 2 and 0 for L > 2, where eps (h v^T, .., -u h^T) along the new "
    "neuron h changes the cost by -eps^L s_1(G) + O(eps^2L)",
    source="A. Jacot et al., arXiv 2106.15933; derived",
    symbolic=Proof(
        "any cost; G of shape (2, 2) in any singular bases, k = 1; L = 2, 3, 4; the Hessian under full observation",
        identities,
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the narrow point is critical": CRITICAL,
            "the new neuron is silent": Hypothesis(lambda case: not np.any(flat(case.padding)), _awake),
        },
        residual=residual,
        tolerance=1e-8,
        depths=(2, 3, 4),
        repeats=2,
    ),
)
