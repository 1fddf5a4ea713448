r"""Without its first and its last layer a network is at a strict saddle, however large the hidden layers are.

Its distance is :math:`(\|W_1\|_F^2 + \|W_L\|_F^2)^{1/2}`, about :math:`\rho \sqrt{n_0 + n_L}` for a Gaussian start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..points import hessian
from ..proof import Proof, derivative, layers, rotation
from ..runs import NO_DECAY, UNIT_RATES, Run, draw_run, flat, gap
from ..statement import Statement
from ..trial import Hypothesis, Trial


def claim_eigenvalue(s: Any, m: Any) -> Any:
    """Least curvature, by the largest singular values of dC/dA and of ``W_{L-1} .. W_2``."""
    return -s * m


def claim_direction(u: Any, v: Any, p: Any, q: Any) -> list[Any]:
    """Steps of the first and the last layer along it, ``G v = s u`` and ``W_{L-1} .. W_2 q = m p``."""
    return [np.outer(q, v), -np.outer(u, p)]


def identities() -> Iterator[tuple[str, Any]]:
    s, m = np.array(sp.symbols("s_:2")), np.array(sp.symbols("m_:2"))
    U, V, P, Q = (rotation(angle) for angle in ("phi", "psi", "chi", "xi"))
    G, M = U * s @ V.T, P * m @ Q.T
    zero = np.zeros((2, 2), dtype=int) * sp.Integer(0)
    (hidden,) = layers([2, 2])
    for middle in ([], [hidden], [hidden, hidden.T]):
        gradients = network.layer_gradients([zero, *middle, zero], G)
        yield (
            f"all gradients vanish at L = {len(gradients)}",
            np.concatenate([np.ravel(g) for g in gradients]),
        )
    step = claim_direction(U[:, 0], V[:, 0], P[:, 0], Q[:, 0])
    yield "the direction has both layers of length one", [np.sum(W * W) - 1 for W in step]
    moved = [step[0], zero, step[1]]
    for l in range(3):
        turned = derivative(partial(_gradient, G, l), [zero, M, zero], moved)
        yield f"it is an eigenvector in layer {l + 1}", turned - claim_eigenvalue(s[0], m[0]) * moved[l]


def _gradient(G: Any, l: int, weights: list[Any]) -> Any:
    return network.layer_gradients(weights, G)[l]


def residual(run: Run) -> float:
    """Gradient, least eigenvalue of the Hessian, and its eigenvector, by complex steps of the velocity."""
    G = run.gradient_of_cost()
    middle = (
        network.end_to_end(run.weights[1:-1]) if len(run.weights) > 2 else np.eye(run.weights[0].shape[0])
    )
    (U, s, Vt), (P, m, Qt) = np.linalg.svd(G), np.linalg.svd(middle)
    first, last = claim_direction(U[:, 0], Vt[0], P[:, 0], Qt[0])
    step = flat([first, *(0 * W for W in run.weights[1:-1]), last])
    H, least = hessian(run), claim_eigenvalue(s[0], m[0])
    gaps = [
        np.linalg.norm(flat(run.velocity())) / np.linalg.norm(G),
        abs(np.linalg.eigvalsh(H)[0] / least - 1),
        gap(H @ step, least * step),
        abs(step @ step / 2 - 1),
    ]
    return float(np.max(gaps))


def _emptied(run: Run) -> Run:
    first, *middle, last = run.weights
    return replace(run, weights=[0 * first, *middle, 0 * last])


def _draw(rng: Generator, depth: int) -> Run:
    return _emptied(draw_run(rng, depth))


def _filled(run: Run, rng: Generator) -> Run:
    """Something in the first layer."""
    first, *rest = run.weights
    filled: Array = first + rng.normal(size=first.shape)
    return replace(run, weights=[filled, *rest])


STATEMENT = Statement(
    title="a strict saddle is as near as the first and the last layer are small",
    formula="W_1 = W_L = 0 with any W_2 .. W_{L-1} is a critical point of every cost; the least eigenvalue of the "
    "Hessian there is -s_1(dC/dA) ||W_{L-1} ... W_2||, along (q v^T, 0, .., -u p^T)",
    source="A. Jacot et al., arXiv 2106.15933v2, phase transition of the distances; eigenvalue derived",
    symbolic=Proof(
        "any cost; gradients at L = 2, 3, 4, eigenvectors at L = 3 (a product of hidden layers is one), widths 2, "
        "any singular bases",
        identities,
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the first and the last layer are zero": Hypothesis(
                lambda run: not np.any(run.weights[0]) and not np.any(run.weights[-1]), _filled
            ),
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-10,
        depths=(2, 3, 4),
    ),
)
