r"""After n steps of SGD with weight decay :math:`\sigma_{k+K}(W_T) \le D\, \sigma_k(W_{T-n})`, K the rank added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ...typing import Array
from ..proof import Proof, matrix
from ..sgd import ORDERS, PLAIN, Training, draw_training, tail
from ..statement import Statement
from ..trial import Hypothesis, Trial


@dataclass(frozen=True)
class Attained(Training):
    """A run whose gradients leave the singular vectors of the start alone: nothing is lost in the inequalities."""


def claim_memory(factor: Any, value: Any) -> Any:
    """Bound on singular values K further down, and on the distance to rank K, by those n steps before."""
    return factor * value


def claim_budget(rank: Any, steps: Any) -> Any:
    """K: rank that the gradients can add."""
    return rank * steps


def identities() -> Iterator[tuple[str, Any]]:
    D, u, v = sp.Symbol("D"), matrix("u", 3, 2), matrix("v", 2, 3)
    W, y = matrix("W", 3, 3), sp.Symbol("y")
    null = y * np.cross(v[0], v[1])  # where an update of rank 2 vanishes
    yield "where the update vanishes", (D * W + u @ v) @ null - claim_memory(D, W @ null)
    s, t = sp.symbols("s_1 s_2"), sp.symbols("t_1 t_2")
    rates, decay = sp.symbols("eta_1 eta_2"), sp.Symbol("lambda")
    later = start = sp.diag(*s, 0, 0)
    for rate, G in zip(rates, (sp.diag(0, 0, t[0], 0), sp.diag(0, 0, 0, t[1])), strict=True):
        later = later - rate * (G + decay * later)  # a step of rank 1 beside the start
    D = (1 - rates[0] * decay) * (1 - rates[1] * decay)
    yield "attained", [later[k, k] - claim_memory(D, s[k]) for k in range(2)]
    yield "the rank that is added", claim_budget(1, 2) - (later - D * start).rank()


def residual(run: Training) -> float:
    """By how much the inequalities fail, and how far they are from equality where it is attained."""
    weights, _ = run.states()
    D, K = float(np.prod(1 - run.rates * run.decays)), claim_budget(run.rank, len(run.rates))
    old, new = (np.linalg.svd(W, compute_uv=False) for W in (weights[0], weights[-1]))
    count = round(K)
    gaps = [new[count:] - claim_memory(D, old[: len(old) - count])]
    gaps += [claim_memory(D, old[count:]) - new[: len(old) - count]]  # the rank cannot fall faster either
    for order in ORDERS:
        bound = claim_memory(D, np.linalg.norm(weights[0], order))
        gaps.append(np.array([tail(weights[-1], count, order) - bound]))
        if isinstance(run, Attained):
            gaps.append(-gaps[-1])
    if isinstance(run, Attained):
        added = np.linalg.matrix_rank(weights[-1] - D * weights[0], tol=1e-9)
        gaps.append(np.array([abs(float(added - K))]))
    return float(np.max(np.concatenate(gaps) / old[0]))


def _draw(rng: Generator, steps: int) -> Training:
    """At one step, an extremal case; at more, a random one."""
    run = draw_training(rng, steps, rank=2)
    return run if steps > 1 else _extremal(run, rng)


def _extremal(run: Training, rng: Generator) -> Attained:
    U, V = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in run.start.shape)
    free = slice(6, 6 + run.rank)
    start = U[:, :6] @ np.diag(rng.uniform(1.0, 2.0, 6)) @ V[:, :6].T
    G: Array = 40 * U[:, free] @ V[:, free].T
    return Attained(start, G[None], run.rates, run.decays, run.rank)


def _of_low_rank(run: Training) -> bool:
    return bool(np.all(np.linalg.matrix_rank(run.gradients, rtol=1e-12) <= run.rank))


def _of_full_rank(run: Training, rng: Generator) -> Training:
    return replace(run, gradients=40 * rng.normal(size=run.gradients.shape))


def _adaptive(G: Array) -> Array:
    return 40 * np.cbrt(G)


STATEMENT = Statement(
    title="SGD with weight decay is close to what its last gradients span",
    formula="s_{k+K}(W_T) <= D s_k(W_{T-n}) and D s_{k+K}(W_{T-n}) <= s_k(W_T) with D = prod (1 - x_s) and K the sum "
    "of the ranks of the n gradients; so W_T is within D ||W_{T-n}|| of rank K in every unitarily invariant norm",
    source="T. Galanti, Z. Siegel, A. Gupte, T. Poggio, arXiv 2206.05794, Lemma 3.2; by H. Weyl's inequalities",
    symbolic=Proof("rank 2 in 3 x 3: the vectors of Courant and Fischer, and a case of equality", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "every gradient has at most the rank that is counted": Hypothesis(_of_low_rank, _of_full_rank),
            "the gradient is applied as it is": Hypothesis(
                PLAIN.holds, lambda run, _: replace(run, update=_adaptive)
            ),
        },
        residual=residual,
        tolerance=1e-13,
        depths=(1, 2, 3),
    ),
)
