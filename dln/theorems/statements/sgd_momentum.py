r"""Momentum and weight decay: :math:`W_T = a_n W_{T-n} + b_n V_{T-n} + R`; decay acts at the rate eta/(1 - beta)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ..proof import Proof, matrix
from ..runs import STEP
from ..sgd import PLAIN, Training, draw_training
from ..statement import Statement
from ..trial import Trial

HALF = 4  # steps before the window


def claim_state(rate: Any, decay: Any, momentum: Any) -> Any:
    """A: what a step without a gradient does to (W, V)."""
    return np.array([[1 - rate * decay, -rate * momentum], [decay, momentum]])


def claim_polynomial(z: Any, x: Any, momentum: Any) -> Any:
    """Characteristic polynomial of A."""
    return z**2 - (1 + momentum - x) * z + momentum


def claim_edge(root: Any) -> Any:
    """Largest x with real roots, by the square root of the momentum."""
    return (1 - root) ** 2


def claim_slope(momentum: Any) -> Any:
    """Share that is forgotten in a step, in units of x, at small x."""
    return 1 / (1 - momentum)


def identities() -> Iterator[tuple[str, Any]]:
    rate, decay, beta, z, x, r = sp.symbols("eta lambda beta z x r")
    A, identity = claim_state(rate, decay, beta), np.eye(2, dtype=int)
    determinant = sp.Matrix(z * identity - A).det()
    yield "the characteristic polynomial", claim_polynomial(z, rate * decay, beta) - determinant
    W, V, G = (matrix(name, 2, 2) for name in "WVG")
    velocity = beta * V + G + decay * W
    moved = [A[0, 0] * W + A[0, 1] * V - rate * G, A[1, 0] * W + A[1, 1] * V + G]
    yield "a step", [moved[0] - (W - rate * velocity), moved[1] - velocity]
    at_edge = claim_polynomial(z, claim_edge(r), r**2)
    yield "a double root at the edge", [at_edge.subs(z, r), sp.diff(at_edge, z).subs(z, r)]
    P = claim_polynomial(z, x, beta)
    slope = (sp.diff(P, x) / sp.diff(P, z)).subs({z: 1, x: 0})
    yield "the rate at small x", [P.subs({z: 1, x: 0}), slope - claim_slope(beta)]


def residual(run: Training) -> float:
    """Rank of what the propagator leaves, the roots, and the rate at small x."""
    W, V = run.states()
    beta, x = run.momentum, run.rates * run.decays
    P = np.eye(2)
    for rate, decay in zip(run.rates[HALF:], run.decays[HALF:], strict=True):
        P = claim_state(rate, decay, beta) @ P
    steps = len(run.rates) - HALF
    rest = np.linalg.svd(W[-1] - P[0, 0] * W[HALF] - P[0, 1] * V[HALF], compute_uv=False)
    gaps = [rest[steps * run.rank] / np.linalg.norm(W[-1])]
    roots = np.linalg.eigvals(np.array(claim_state(run.rates[0], run.decays[0], beta), dtype=complex))
    gaps += [abs(claim_polynomial(2.0, x[0], beta) / np.prod(2.0 - roots) - 1)]
    gaps += [abs(claim_edge(np.sqrt(beta)) / _edge(beta) - 1)]
    slope = -_root(STEP * 1j, beta).imag / STEP
    return float(max(*gaps, abs(slope / claim_slope(beta) - 1)))


def _root(x: complex, beta: float) -> complex:
    """The larger root, at small x."""
    half = (1 + beta - x) / 2
    return complex(half + np.sqrt(half**2 - beta))


def _edge(beta: float) -> float:
    """Where the discriminant changes its sign."""
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 + beta - middle) ** 2 > 4 * beta else (low, middle)
    return low


def _draw(rng: Generator, window: int) -> Training:
    run = draw_training(rng, HALF + window, rank=2)
    return replace(run, momentum=rng.uniform(0.2, 0.9))


STATEMENT = Statement(
    title="weight decay under momentum forgets as at the rate eta/(1 - beta)",
    formula="V <- beta V + G + weight_decay W, W <- W - eta V: W_T = a_n W_{T-n} + b_n V_{T-n} + R, (a_n, b_n) the "
    "first row of A^n, rank R at most the sum of those of the gradients; A has real eigenvalues for "
    "x <= (1 - sqrt(beta))^2, the larger 1 - x/(1 - beta) + O(x^2), and at the edge a double one, sqrt(beta)",
    source="derived; B. Polyak, 1964, for the heavy ball",
    symbolic=Proof("matrices 2 x 2, any rates", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={"the gradient is applied as it is": PLAIN},
        residual=residual,
        tolerance=1e-12,
        depths=(1, 2, 3),
    ),
)
