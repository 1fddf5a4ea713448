"""Taylor series of the gradient flow, to order 30.

The velocity is a polynomial of the weights, so the Taylor coefficients of W_l, of P_l = W_l ... W_1 and of
H_l = (W_L ... W_{l+1})^T G follow one from the other by Cauchy products [1]_. Each step is as long as the
series allows: its last two terms stay below 1e-17 of each layer.

.. [1] A. Jorba, M. Zou, "A software package for the numerical integration of ODEs by means of high-order
       Taylor methods", Experimental Mathematics 14(1), 2005.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import brentq

from ..typing import Array
from .problems import Problem, end_to_end

__all__ = ["read", "steps", "walk"]

ORDER = 30
LAST_TERM = 1e-17


def steps(problem: Problem) -> Iterator[tuple[float, float, Array]]:
    """Yield (t, h, coefficients of A on [t, t + h]), without end."""
    t, weights = 0.0, list(problem.weights)
    while True:
        W, A = _coefficients(weights, problem.target, problem.mask)
        h = min(_radius(V) for V in W)
        yield t, h, A
        t, weights = t + h, [_evaluate(V, h) for V in W]


def walk(problem: Problem, samples: int = 16) -> tuple[Array, Array]:
    """Times up to the horizon, and the arc length of A at them."""
    goal = problem.fraction * problem.cost(end_to_end(problem.start[None], problem.widths)[0])
    t, length = [0.0], [0.0]
    for t0, step, A in steps(problem):
        h = step
        arrived = problem.cost(_evaluate(A, h)) <= goal
        if arrived:
            h = brentq(_excess, 0.0, h, args=(problem, A, goal), xtol=1e-12 * (t0 + h))
        s = np.linspace(0.0, h, samples + 1)
        moved = np.linalg.norm(np.diff(_evaluate(A, s), axis=0), axis=(1, 2))
        t.extend(t0 + s[1:])
        length.extend(length[-1] + np.cumsum(moved))
        if arrived:
            break
    return np.array(t), np.array(length)


def read(problem: Problem, times: Array) -> Array:
    """A at the given times, shape (T, n_L, n_0)."""
    out: list[Array] = []
    for t0, h, A in steps(problem):
        end = np.searchsorted(times, t0 + h, side="right")
        out.extend(_evaluate(A, times[len(out) : end] - t0))
        if end == len(times):
            break
    return np.array(out)


def _coefficients(weights: list[Array], target: Array, mask: Array) -> tuple[list[Array], Array]:
    """Taylor coefficients of every layer, and of A."""
    L = len(weights)
    W = [np.zeros((ORDER + 1, *V.shape)) for V in weights]
    P = [W[0], *(np.zeros((ORDER + 1, V.shape[0], target.shape[1])) for V in weights[1:])]
    H = [np.zeros_like(V) for V in P]
    for V, V0 in zip(W, weights, strict=True):
        V[0] = V0
    for k in range(ORDER + 1):
        for l in range(1, L):
            P[l][k] = np.tensordot(W[l][: k + 1], P[l - 1][k::-1], axes=([0, 2], [0, 1]))
        H[-1][k] = mask * ((target if k == 0 else 0.0) - P[-1][k])
        for l in range(L - 1, 0, -1):
            H[l - 1][k] = np.tensordot(W[l][: k + 1], H[l][k::-1], axes=([0, 1], [0, 1]))
        if k < ORDER:
            W[0][k + 1] = H[0][k] / (k + 1)
            for l in range(1, L):
                W[l][k + 1] = np.tensordot(H[l][: k + 1], P[l - 1][k::-1], axes=([0, 2], [0, 2])) / (k + 1)
    return W, P[-1]


def _radius(V: Array) -> float:
    """Step at which the last two terms of a layer's series are LAST_TERM of the layer."""
    size = np.linalg.norm(V, axis=(1, 2))
    return float(min((LAST_TERM * size[0] / size[k]) ** (1.0 / k) for k in (ORDER - 1, ORDER)))


def _evaluate(V: Array, s: float | Array) -> Array:
    """The series at s; the shape of s leads that of what comes back."""
    return np.tensordot(np.asarray(s)[..., None] ** np.arange(len(V)), V, axes=1)


def _excess(s: float, problem: Problem, A: Array, goal: float) -> float:
    return float(np.log(problem.cost(_evaluate(A, s)) / goal))
