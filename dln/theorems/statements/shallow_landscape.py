r"""Two layers, a convex cost: critical points are global minima if :math:`s_1(G) \le \lambda`, else strict saddles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..points import CRITICAL, hessian, settled
from ..proof import Proof, derivative, layers, rotation
from ..runs import EQUAL_DECAYS, Run, draw_layers, draw_run, flat
from ..statement import Statement
from ..trial import Hypothesis, Trial


@dataclass(frozen=True, kw_only=True)
class Case(Run):
    """A run, and layers of full width from which to search for the global minimum."""

    wide: list[Array]


def claim(weight_decay: Any, s: Any) -> Any:
    """Least eigenvalue of the Hessian, by the largest singular value s of the gradient."""
    return weight_decay - s


def claim_direction(u: Any, v: Any, h: Any) -> list[Any]:
    """Its eigenvector of squared length 2, by the top singular vectors of the gradient and a free hidden direction."""
    return [np.outer(h, v), -np.outer(u, h)]


def claim_pairing(weight_decay: Any, W: Any) -> Any:
    """``<G, A>`` at a critical point, by either layer."""
    return -weight_decay * np.sum(W * W)


def identities() -> Iterator[tuple[str, Any]]:
    decay, s, s_2 = sp.symbols("lambda s s_2")
    U, V, H = rotation("phi"), rotation("psi"), rotation("chi")
    G = U @ np.diag([s, s_2]) @ V.T
    # Layers that leave the second hidden direction free.
    below, above = layers([2, 1, 2])
    weights, step = [H[:, :1] @ below, above @ H[:, :1].T], claim_direction(U[:, 0], V[:, 0], H[:, 1])
    yield "the step has squared length 2", sum(np.sum(W * W) for W in step) - 2
    yield "the step does not move A", derivative(network.end_to_end, weights, step)

    def gradient(weights: list[Any]) -> Any:
        return flat(network.layer_gradients(weights, G)) + decay * flat(weights)

    yield "it is an eigenvector", derivative(gradient, weights, step) - claim(decay, s) * flat(step)
    weights = layers([2, 2, 2])
    pairing = np.sum(G * network.end_to_end(weights))
    for W, V_l in zip(weights, network.layer_gradients(weights, G), strict=True):
        stationary = np.sum(W * (V_l + decay * W))
        yield "the pairing of G and A", pairing - claim_pairing(decay, W) - stationary


def residual(case: Case) -> float:
    """The dense Hessian at a minimum of a narrower network, and the minimum of a wide one."""
    decay, H, A = case.decays[0], hessian(case), network.end_to_end(case.weights)
    G = case.gradient_of_cost()
    U, s, Vt = np.linalg.svd(G)
    least = claim(decay, s[0])
    free = np.eye(case.weights[0].shape[0])[-1]
    step = flat(claim_direction(U[:, 0], Vt[0], free))
    deficit = case.objective() / settled(replace(case, weights=case.wide)).objective() - 1
    gaps = [
        abs(np.linalg.eigvalsh(H)[0] - least) / decay,
        abs(step @ step - 2),
        np.linalg.norm(H @ step - least * step) / decay,
        float((deficit > 1e-10) != (s[0] > decay * (1 + 1e-8))),  # global exactly where it is no saddle
        *(abs(np.sum(G * A) / claim_pairing(decay, W) - 1) for W in case.weights),
    ]
    return float(np.max(gaps))


def _draw(rng: Generator, depth: int) -> Case:
    """A network of one or two neurons at its minimum, which is not 0, with a free neuron added."""
    run = draw_run(rng, depth, narrowest=3)
    start = run.cost.gradient(np.zeros_like(run.cost.target))
    run = replace(run, decays=np.full(depth, rng.uniform(0.1, 0.8) * np.linalg.norm(start, 2)))
    m, n = run.weights[0].shape[1], len(run.weights[-1])
    narrow = settled(replace(run, weights=draw_layers(rng, [m, int(rng.integers(1, 3)), n])))
    return Case(**{**vars(narrow), "weights": _widened(narrow), "wide": draw_layers(rng, [m, min(m, n), n])})


def _widened(run: Run) -> list[Array]:
    return network.include(run.weights, [W.shape[0] + 1 for W in run.weights[:-1]])


def _free(case: Case) -> bool:
    first, second = case.weights
    return not (np.any(first[-1]) or np.any(second[:, -1]))


def _occupied(case: Case, _: Generator) -> Case:
    """Without the free neuron."""
    first, second = case.weights
    return replace(case, weights=[first[:-1], second[:, :-1]])


def _uneven(case: Case, rng: Generator) -> Case:
    narrow = EQUAL_DECAYS.broken(_occupied(case, rng), rng)
    return replace(narrow, weights=_widened(settled(narrow)))


STATEMENT = Statement(
    title="two layers have no local minima but global ones, for any convex cost",
    formula="at a critical point of C(W_2 W_1) + weight_decay/2 |theta|^2 with a free hidden direction h the least "
    "eigenvalue of the Hessian is weight_decay - s_1(G), along (h v_1^T, -u_1 h^T): the point is a global minimum "
    "if s_1(G) <= weight_decay, and a strict saddle otherwise",
    source="A. Jacot et al., arXiv 2106.15933v1; B. Haeffele, R. Vidal, arXiv 1506.07540",
    symbolic=Proof("any cost; widths 2-2-2, any free hidden direction and singular bases of G", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the point is critical": CRITICAL,
            "a hidden direction is free": Hypothesis(_free, _occupied),
            "all layers decay alike": Hypothesis(EQUAL_DECAYS.holds, _uneven),
        },
        residual=residual,
        tolerance=1e-8,
        depths=(2,),
        repeats=4,
    ),
)
