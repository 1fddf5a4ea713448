r"""Two layers: the Gram matrix :math:`M = Q Q^T` of :math:`Q = (W_1^T; W_2)` moves by itself.

.. math:: \dot M = K M + M K - 2 \lambda M, \qquad K = \begin{pmatrix} 0 & -G^T \\ -G & 0 \end{pmatrix}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.integrate import solve_ivp

from ... import network
from ...typing import Array
from ..proof import Proof, derivative, layers, matrix
from ..runs import Run, draw_run, gap
from ..statement import Statement
from ..symmetry import linear_update
from ..trial import Hypothesis, Trial

TIME, LEARNING_RATE, STEPS = 0.3, 0.01, 20


def claim_generator(G: Any) -> Any:
    """The matrix K, by which the stacked layers move: ``Q' = K Q``."""
    n, m = G.shape
    square = np.zeros((m + n, m + n), dtype=G.dtype)
    square[:m, m:] = -G.T
    square[m:, :m] = -G
    return square


def claim(M: Any, K: Any, weight_decay: Any) -> Any:
    """Velocity of the Gram matrix."""
    return K @ M + M @ K - 2 * weight_decay * M


def claim_step(M: Any, K: Any, weight_decay: Any, learning_rate: Any) -> Any:
    """Gram matrix after a step of gradient descent."""
    step = (1 - learning_rate * weight_decay) * np.eye(len(M), dtype=int) + learning_rate * K
    return step @ M @ step


def _stack(weights: Sequence[Any]) -> Any:
    return np.concatenate([weights[0].T, weights[1]])


def _gram(weights: Sequence[Any]) -> Any:
    return _stack(weights) @ _stack(weights).T


def identities() -> Iterator[tuple[str, Any]]:
    decay, rate = sp.symbols("lambda eta")
    for widths in [(2, 2, 2), (2, 1, 3), (1, 3, 2)]:
        weights, G = layers(widths), matrix("G", widths[-1], widths[0])
        K, M = claim_generator(G), _gram(weights)
        gradients = network.layer_gradients(weights, G)
        velocity = [-V - decay * W for V, W in zip(gradients, weights, strict=True)]
        Q = _stack(weights)
        yield f"the layers at widths {widths}", derivative(_stack, weights, velocity) - (K @ Q - decay * Q)
        yield f"the flow at widths {widths}", derivative(_gram, weights, velocity) - claim(M, K, decay)
        ahead = [W + rate * V for W, V in zip(weights, velocity, strict=True)]
        yield f"the step at widths {widths}", _gram(ahead) - claim_step(M, K, decay, rate)


def residual(run: Run) -> float:
    """The Gram matrix alone, integrated and iterated, against that of the layers."""
    M, decay = _gram(run.weights), run.decays[0]
    n = run.cost.target.shape[1]

    def generator(M: Array) -> Array:
        return claim_generator(run.cost.gradient(M[n:, :n]))

    def velocity(_: float, state: Array) -> Array:
        M = state.reshape(size, size)
        return np.ravel(claim(M, generator(M), decay))

    size = len(M)
    path = solve_ivp(velocity, (0.0, TIME), np.ravel(M), method="DOP853", rtol=1e-12, atol=1e-14)
    flow = path.y[:, -1].reshape(M.shape)
    for _ in range(STEPS):
        M = claim_step(M, generator(M), decay, LEARNING_RATE)
    gaps = [gap(flow, _gram(run.flow(TIME))), gap(M, _gram(run.descend(LEARNING_RATE, STEPS, 0.0)))]
    return float(np.max(gaps))


def _draw(rng: Generator, depth: int) -> Run:
    return draw_run(rng, depth, weight_decay=rng.uniform(0.0, 1.0))


def _symmetric(run: Run) -> bool:
    return bool(run.rates[0] == run.rates[1])


def _uneven(run: Run, _: Generator) -> Run:
    """The second layer moves slower."""
    return replace(run, rates=np.array([1.0, 0.7]))


STATEMENT = Statement(
    title="two layers: the Gram matrix of the stacked layers moves by itself",
    formula="M = Q Q^T, Q = [W_1^T; W_2]: Q' = K Q - weight_decay Q, M' = K M + M K - 2 weight_decay M with "
    "K = [[0, -G^T], [-G, 0]], "
    "and M <- S M S with S = (1 - lr weight_decay) I + lr K in gradient descent, for any cost and any start",
    source="K. Fukumizu, ICONIP 1998; S. Tarmoun et al., ICML 2021; derived for any cost and for descent",
    symbolic=Proof("any cost; L = 2 with widths 2-2-2, 2-1-3, 1-3-2", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "both layers move at one rate": Hypothesis(_symmetric, _uneven),
            "the update is linear in the layer gradients": linear_update(np.tanh),
        },
        residual=residual,
        tolerance=1e-10,
        depths=(2,),
    ),
)
