r"""Two layers with :math:`W_2^T W_2 - W_1 W_1^T = \kappa I`: a matrix Riccati equation, solved in closed form.

.. math:: \dot M = F M + M F - M^2, \qquad F = \begin{pmatrix} -\kappa/2 & A^{*T} \\ A^* & \kappa/2 \end{pmatrix}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ..proof import Proof, derivative, entrywise, layers, matrix, rotation
from ..runs import (
    FULL_OBSERVATION,
    NO_DECAY,
    UNIT_RATES,
    Run,
    complex_step,
    draw_layers,
    draw_orthogonal,
    full_observation,
    gap,
)
from ..statement import Statement
from ..trial import Hypothesis, Trial

TIME = 0.8
a, b = sp.symbols("a_:2"), sp.symbols("b_:2")
kappa = sp.Symbol("kappa")


def claim_generator(target: Any, kappa: Any) -> Any:
    """The matrix F of the Riccati equation."""
    n, m = target.shape
    F = np.zeros((m + n, m + n), dtype=target.dtype)
    F[:m, :m] = -kappa * np.eye(m, dtype=int) / 2
    F[m:, m:] = kappa * np.eye(n, dtype=int) / 2
    F[m:, :m], F[:m, m:] = target, target.T
    return F


def claim(M: Any, F: Any) -> Any:
    """Velocity of the Gram matrix of the stacked layers."""
    return F @ M + M @ F - M @ M


def claim_layers(Q: Any, F: Any, J: Any, D: Any) -> Any:
    """Velocity of the stacked layers at any balance D, with F at kappa = 0 and ``J = diag(I, -I)``."""
    return F @ Q - Q @ Q.T @ Q / 2 - J @ Q @ D / 2


def claim_solution(growth: Any, integral: Any, Q: Any, inverse: Any) -> Any:
    """Gram matrix, by ``growth = exp(F t)``, ``integral`` of ``exp(2 F s)`` up to t, and a way to invert."""
    stretched = growth @ Q
    return stretched @ inverse(np.eye(Q.shape[1], dtype=int) + Q.T @ integral @ Q) @ stretched.T


def _stack(weights: Sequence[Any]) -> Any:
    return np.concatenate([weights[0].T, weights[1]])


def _gram(weights: Sequence[Any]) -> Any:
    return _stack(weights) @ _stack(weights).T


def _stack_velocity(weights: Sequence[Any], target: Any) -> Any:
    """Velocity of the stacked layers, as claimed."""
    n, m = target.shape
    J = np.diag([1] * m + [-1] * n)
    return claim_layers(_stack(weights), claim_generator(target, 0), J, network.balances(weights)[0])


def _velocity(weights: Sequence[Any], target: Any) -> Any:
    """Velocity of the Gram matrix under full observation."""
    gradients = network.layer_gradients(weights, network.end_to_end(weights) - target)
    return derivative(_gram, weights, [-V for V in gradients])


def identities() -> Iterator[tuple[str, Any]]:
    for n, m in [(1, 1), (2, 2), (1, 3)]:
        weights, target = layers([m, 1, n]), matrix("T", n, m)
        balance = network.balances(weights)[0][0, 0]
        F = claim_generator(target, balance)
        yield f"width 1, A of shape {n, m}", _velocity(weights, target) - claim(_gram(weights), F)
    for n, m, width in [(2, 2, 2), (1, 2, 3)]:
        weights, target = layers([m, width, n]), matrix("T", n, m)
        gradients = network.layer_gradients(weights, network.end_to_end(weights) - target)
        claimed = _stack_velocity(weights, target)
        yield f"any balance, widths {m}-{width}-{n}", _stack(gradients) + claimed
    weights = [np.diag(b) @ rotation("psi"), rotation("phi") @ np.diag(a)]
    target = matrix("T", 2, 2)
    yield "width 2", _velocity(weights, target) - claim(_gram(weights), claim_generator(target, kappa))
    f, e = sp.symbols("f_:2"), sp.symbols("e_:2")
    integral = np.diag([(y**2 - 1) / (2 * x) for x, y in zip(f, e, strict=True)])
    for Q in (matrix("Q", 2, 1), np.array([[1, 2], [-3, 5]])):
        width = Q.shape[1]
        M = claim_solution(np.diag(e), integral, Q, _inverse)
        yield f"the start at width {width}", [x.subs(dict.fromkeys(e, 1)) for x in np.ravel(M - Q @ Q.T)]
        motion = entrywise(lambda z: sum(x * y * sp.diff(z, y) for x, y in zip(f, e, strict=True)), M)
        yield f"the solution at width {width}, in the basis of F", motion - claim(M, np.diag(f))


def _inverse(N: Any) -> Any:
    """Inverse by Cramer's rule."""
    if len(N) == 1:
        return 1 / N
    adjugate = np.array([[N[1, 1], -N[0, 1]], [-N[1, 0], N[0, 0]]])
    return adjugate / (N[0, 0] * N[1, 1] - N[0, 1] * N[1, 0])


def residual(run: Run) -> float:
    """Against the Gram matrix of the layers, integrated to 12 digits, and the derivative of the solution."""
    kappa = float(network.balances(run.weights)[0][0, 0])
    F = claim_generator(run.cost.target, kappa)
    f, V = np.linalg.eigh(F)
    growth = V * np.exp(f * TIME) @ V.T
    integral = V * (np.expm1(2 * f * TIME) / (2 * f)) @ V.T
    M = claim_solution(growth, integral, _stack(run.weights), np.linalg.inv)
    start = complex_step(_gram, run.weights, run.velocity())
    gaps = [gap(M, _gram(run.flow(TIME))), gap(start, claim(_gram(run.weights), F))]
    layers = gap(_stack(run.velocity()), _stack_velocity(run.weights, run.cost.target))
    return float(np.max([*gaps, layers]))


def _draw(rng: Generator, depth: int) -> Run:
    """Layers of width 1 to 3, one from the square root of ``|kappa| I`` and the Gram matrix of the other."""
    width = int(rng.integers(1, 4))
    m, n = rng.integers(width, 5, size=2)
    first, _ = draw_layers(rng, [m, width, n])
    U, s, _ = np.linalg.svd(first)
    kappa = rng.uniform(0.1, 1.0)
    second = draw_orthogonal(rng, n)[:, :width] @ (np.sqrt(s**2 + kappa) * U).T
    weights, target = [first, second], rng.normal(size=(n, m))
    if rng.random() < 0.5:  # kappa < 0
        weights, target = [second.T, first.T], target.T
    return Run(weights, full_observation(target), np.ones(depth), np.zeros(depth))


def _balanced(run: Run) -> bool:
    (D,) = network.balances(run.weights)
    return bool(np.allclose(D, D[0, 0] * np.eye(len(D)), atol=1e-12))


def _unbalanced(run: Run, rng: Generator) -> Run:
    """A second hidden neuron with a balance of its own."""
    first, second = run.weights
    row, column = rng.normal(size=(1, first.shape[1])), rng.normal(size=(len(second), 1))
    return replace(run, weights=[np.concatenate([first, 2 * row]), np.concatenate([second, column], axis=1)])


STATEMENT = Statement(
    title="two layers with balance kappa I obey a Riccati equation with a closed solution",
    formula="W_2^T W_2 - W_1 W_1^T = kappa I (always so at width 1): M' = F M + M F - M^2, F = [[-kappa/2, A*^T], "
    "[A*, kappa/2]], M(t) = e^{Ft} Q (I + Q^T int_0^t e^{2Fs} ds Q)^{-1} Q^T e^{Ft}; at any balance D "
    "Q' = F_0 Q - (Q Q^T Q + J Q D)/2, J = diag(I, -I)",
    source="K. Fukumizu, ICONIP 1998; L. Braun et al., NeurIPS 2022; C. Domine et al., arXiv 2409.14623",
    symbolic=Proof(
        "any balance: widths 2-2-2, 2-3-1; kappa I: widths 1-1-1, 2-1-2, 3-1-1, 2-2-2; the solution of order two, "
        "from any start of rank one, a rational one of rank two",
        identities,
        rules={x**2: kappa + y**2 for x, y in zip(a, b, strict=True)},
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the balance is a multiple of the identity": Hypothesis(_balanced, _unbalanced),
            "the cost is full observation": FULL_OBSERVATION,
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-10,
        depths=(2,),
        repeats=4,
    ),
)
