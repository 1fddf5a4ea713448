"""Radau collocation in extended precision: the reference where plateaus are long.

Rounding is what limits float64 there: while a plateau lasts, errors of 1e-16 in the velocity add up for a time of
alpha^-(L-2) and shift the escape. Stages and states are therefore long doubles (where a machine has none, the floor
is that of float64, and shows). The linear systems of Newton's method are solved in float64: its corrections shrink
until they reach the last digits of the long doubles, however rough each is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..typing import Array
from .problems import Problem, end_to_end

__all__ = ["STAGES", "Path", "solve"]

STAGES = (10, 8)  # of the reference and of its judge: orders 19 and 15
TAIL = 1e-14  # of a layer: the last coefficient of a step, far above the error at its end
MOST_STEPS = 20_000
MOST_ITERATIONS = 40
LONG = np.longdouble


@dataclass(frozen=True)
class Path:
    """The pieces of a solution: times of their ends, states at them, and the stage velocities."""

    t: Array  # long doubles, as all of these
    states: Any
    stages: list[Any]
    widths: tuple[int, ...]

    def end_to_end(self, times: Array) -> Array:
        """A at the given times, from the polynomials of the steps."""
        piece = np.clip(np.searchsorted(self.t, times, side="left") - 1, 0, len(self.stages) - 1)
        inverse = _tables(len(self.stages[0])).inverse
        powers, out = np.arange(1, len(inverse) + 1), []
        for i, time in zip(piece, times, strict=True):
            h = self.t[i + 1] - self.t[i]
            theta = (LONG(time) - self.t[i]) / h
            out.append(self.states[i] + h * ((theta**powers / powers) @ inverse) @ self.stages[i])
        return end_to_end(np.array(out), self.widths).astype(float)


def solve(problem: Problem, stages: int, end: float | None = None) -> Path:
    """The flow to time `end`, by default to the horizon of the problem; RuntimeError if it takes too many steps."""
    y, t, h = problem.start.astype(LONG), LONG(0.0), LONG(1e-2 / problem.fastest_rate)
    goal = problem.fraction * problem.cost(end_to_end(problem.start[None], problem.widths)[0])
    norms, tables = _Norms(problem.widths), _tables(stages)
    ends, states, pieces = list[Any]([t]), list[Any]([y]), list[Any]()
    for _ in range(MOST_STEPS):
        if end is not None:
            h = min(h, LONG(end) - t)
        F = _stages(problem, y, h, tables, norms)
        factor = 0.5 if F is None else _factor(problem, y, F, h, tables, norms)
        if F is not None and factor > 0.7:
            y, t = y + h * (tables.A[-1] @ F), t + h
            for grown, entry in ((ends, t), (states, y), (pieces, F)):
                grown.append(entry)
            cost = problem.cost(end_to_end(y[None], problem.widths)[0])
            if t >= end if end is not None else cost <= goal:
                return Path(np.array(ends), np.array(states), pieces, problem.widths)
        h *= LONG(factor)
    raise RuntimeError(f"collocation with {stages} stages took more than {MOST_STEPS} steps")


def _factor(problem: Problem, y: Any, F: Any, h: Any, tables: _Tables, norms: _Norms) -> float:
    """By what the step should have been longer, for its last coefficient to be TAIL of each layer."""
    tail = np.max(float(h) * norms(tables.last @ F) / norms(y))
    allowed = TAIL + _rounding(problem, h)
    return float(np.clip(0.8 * (allowed / max(tail, 1e-300)) ** (1.0 / len(tables.A)), 0.2, 5.0))


class _Tables(NamedTuple):
    """A, inverse Vandermonde matrix of its nodes, row that gives the last Legendre coefficient; A diagonalised."""

    A: Any
    inverse: Any
    last: Any
    values: Array
    vectors: Array
    back: Array


@cache
def _tables(stages: int) -> _Tables:
    """Collocation at the roots of P_s - P_{s-1}, shifted to [0, 1]; the last of them is 1."""
    import mpmath

    s = stages
    with mpmath.workdps(50):
        guesses = np.sort(np.polynomial.legendre.Legendre([0.0] * (s - 1) + [-1.0, 1.0]).roots().real)
        nodes = [
            mpmath.findroot(lambda x: mpmath.legendre(s, x) - mpmath.legendre(s - 1, x), g) for g in guesses
        ]
        c = [(x + 1) / 2 for x in nodes]
        inverse = mpmath.matrix([[x**k for k in range(s)] for x in c]) ** -1
        A = mpmath.matrix([[x ** (k + 1) / (k + 1) for k in range(s)] for x in c]) * inverse
        last = inverse[s - 1, :] / mpmath.binomial(2 * s - 2, s - 1)
        long_A, long_inverse, long_last = (_long(M) for M in (A, inverse, last))
    values, vectors = np.linalg.eig(long_A.astype(float))
    half = values.imag >= 0.0  # the others are their conjugates
    back = np.linalg.inv(vectors)[half] * np.where(values[half].imag > 0.0, 2.0, 1.0)[:, None]
    return _Tables(long_A, long_inverse, long_last[0], values[half], vectors[:, half], back)


def _long(M: Any) -> Any:
    import mpmath

    return np.array([[LONG(mpmath.nstr(x, 30)) for x in row] for row in M.tolist()])


def _rounding(problem: Problem, h: Any) -> float:
    """What rounded velocities add to a layer in a step, in terms of its size: no step is shortened for less."""
    return float(10.0 * h * problem.fastest_rate * np.finfo(LONG).eps)


class _Norms:
    """Norm of each layer of a flat state."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        self.cuts = np.cumsum([0, *(m * k for k, m in pairwise(widths))])

    def __call__(self, y: Any) -> Array:
        return np.sqrt([float(np.sum(y[a:b] ** 2)) for a, b in pairwise(self.cuts)])


def _stages(problem: Problem, y: Any, h: Any, tables: _Tables, norms: _Norms) -> Any:
    """Velocities at the stages of a step from y; None where Newton's method does not converge."""
    from scipy.linalg import lu_factor, lu_solve

    J, eye = _jacobian(problem, y.astype(float)), np.eye(y.size)
    factors = [lu_factor(eye - float(h) * value * J) for value in tables.values]
    Z, size, before = np.zeros((len(tables.A), y.size), LONG), norms(y), np.inf
    for _ in range(MOST_ITERATIONS):
        F = velocity(problem, y + Z)
        residual = tables.back @ (h * (tables.A @ F) - Z).astype(float)
        step = (
            tables.vectors @ np.array([lu_solve(f, r) for f, r in zip(factors, residual, strict=True)])
        ).real
        Z = Z + step
        change = float(np.max([np.max(norms(row) / size) for row in step]))
        if not np.isfinite(change) or change > 10.0 * before:
            return None
        if change < 1e-18 or (change > 0.5 * before and change < 1e-16 + _rounding(problem, h)):
            return velocity(problem, y + Z)
        before = change
    return None


def velocity(problem: Problem, states: Any) -> Any:
    """The velocity of states (T, n), in their precision."""
    W = _layers(states, problem.widths)
    P = [
        np.broadcast_to(
            np.eye(problem.widths[0], dtype=states.dtype), (len(states), *(problem.widths[0],) * 2)
        )
    ]
    for V in W:
        P.append(V @ P[-1])
    H, out = problem.mask * (problem.target - P[-1]), []
    for V, below in zip(W[::-1], P[-2::-1], strict=True):
        out.append((H @ below.transpose(0, 2, 1)).reshape(len(states), -1))
        H = V.transpose(0, 2, 1) @ H
    return np.concatenate(out[::-1], axis=1)


def _jacobian(problem: Problem, y: Array) -> Array:
    """Derivative of the velocity, column by column: the product rule along every unit vector at once."""
    n, n_0 = y.size, problem.widths[0]
    W = [V[0] for V in _layers(y[None], problem.widths)]
    D = _layers(np.eye(n), problem.widths)
    P, dP = [np.eye(n_0)], [np.zeros((n, n_0, n_0))]
    for V, d in zip(W, D, strict=True):
        dP.append(d @ P[-1] + V @ dP[-1])
        P.append(V @ P[-1])
    H, dH, out = problem.mask * (problem.target - P[-1]), -problem.mask * dP[-1], []
    for V, d, Q, dQ in zip(W[::-1], D[::-1], P[-2::-1], dP[-2::-1], strict=True):
        out.append((dH @ Q.T + H @ dQ.transpose(0, 2, 1)).reshape(n, -1))
        H, dH = V.T @ H, d.transpose(0, 2, 1) @ H + V.T @ dH
    return np.concatenate(out[::-1], axis=1).T


def _layers(states: Any, widths: tuple[int, ...]) -> list[Any]:
    cuts = np.cumsum([m * k for k, m in pairwise(widths)])[:-1]
    shapes = [(len(states), m, k) for k, m in pairwise(widths)]
    return [part.reshape(shape) for part, shape in zip(np.split(states, cuts, axis=1), shapes, strict=True)]
