"""The reference: A(t) by two independent methods that have to agree.

Where an explicit method can, a Taylor method of order 30 gives it and an eighth-order Runge-Kutta method of SciPy
judges. Where plateaus are long, two collocation methods in extended precision do; where the state is too large for
them, two different methods of `dln` at rtol 1e-13. What the two differ by is the floor below which no error can be
measured.

The problem is simplified first. Two layers with a wide space between them are turned exactly into two layers of width
n_0 + n_L, and three wide ones into those of a Krylov subspace in which A is right to rounding. And where plateaus are
long, rows and columns of A are rotated to the singular vectors of the target:
rounding then disturbs a small mode by a part of that mode, not by a part of the large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..form import krylov
from ..typing import Array
from . import collocation, taylor
from .problems import Problem, end_to_end
from .velocity import compile_for, new_data, seconds_per_call

__all__ = ["TIGHT", "NoReference", "Reference", "error", "narrowed", "output_times", "rotated", "solve"]

# The truncation error falls by 6 (k + 1) and more at order k, for Gaussian starts: here it is far below rounding.
KRYLOV_ORDER = 9
AGREEMENT = 1e-6  # largest difference of the two; levels within ten times it are not shown
LARGEST_COLLOCATION = 150  # unknowns: dense matrices, again and again
# Methods of `dln` for larger states: the first two that there are and that finish give the reference.
TIGHT = ("radau13", "gauss12", "dop853", "tsit5")
TIGHT_RTOL = 1e-13
TIGHT_SECONDS = 200.0  # of one method, by the price of its velocity evaluations


class NoReference(RuntimeError):
    """A reference that two methods agree on cannot be had here."""


@dataclass(frozen=True)
class Reference:
    """A(t) at times of which half are uniform and half lie at equal arc lengths of A."""

    times: Array
    end_to_end: Array
    disagreement: float
    methods: tuple[str, str]
    rate_time: float  # integral of L ||A||_2^(2 - 2/L): what an explicit method pays for


def solve(problem: Problem, count: int = 64, tight: Sequence[str] = TIGHT) -> Reference:
    """The `Reference` of a problem at `count` times; NoReference if its two methods are not there or differ."""
    narrow, turn = narrowed(problem), (np.eye(problem.widths[-1]), np.eye(problem.widths[0]))
    if not problem.explicit:
        narrow, turn = rotated(narrow)
    try:
        times, A, judged, methods = _pair(narrow, count, tight)
    except RuntimeError as reason:
        raise NoReference(f"{problem.name} is left out: {reason}.") from None
    disagreement = error(A, judged, problem)
    if not disagreement <= AGREEMENT:
        raise NoReference(
            f"{problem.name} is left out: {methods[0]} and {methods[1]} differ by {disagreement:.1e} in its reference, "
            f"{AGREEMENT:.0e} is allowed."
        )
    left, right = turn
    return Reference(
        times, left @ A @ right, disagreement, methods, _rate_time(times, A, len(problem.weights))
    )


def error(A: Array, A_ref: Array, problem: Problem) -> float:
    """max over the times of ||A - A_ref||_F / ||target||_F; NaN where A is not finite or not of that shape."""
    if A.shape != A_ref.shape:
        return float("nan")
    return float(np.max(np.linalg.norm(A - A_ref, axis=(-2, -1))) / np.linalg.norm(problem.target))


def narrowed(problem: Problem) -> Problem:
    """A problem with the same A(t): the layers only see the span of their rows and columns, or little more."""
    n_0, *hidden, n_L = problem.widths
    order = {2: 0, 3: KRYLOV_ORDER}.get(len(problem.weights))
    if order is None or min(hidden) <= n_0 + n_L + order * max(n_0, n_L):
        return problem
    layers = krylov(problem.weights, order).layers
    return replace(problem, weights=layers, explicit=problem.explicit or order > 0)


def rotated(problem: Problem) -> tuple[Problem, tuple[Array, Array]]:
    """The problem with a diagonal target, and the (U, V^T) that bring its A back; as it is if entries are missing."""
    U, s, Vt = np.linalg.svd(problem.target)
    if not problem.fully_observed:
        return problem, (np.eye(len(U)), np.eye(len(Vt)))
    target = np.zeros_like(problem.target)
    np.fill_diagonal(target, np.where(s > 1e-12 * s[0], s, 0.0))
    first, *between, last = problem.weights
    return replace(problem, weights=(first @ Vt.T, *between, U.T @ last), target=target), (U, Vt)


def output_times(t: Array, length: Array, count: int) -> Array:
    """Increasing times up to t[-1]: half uniform, half at equal arc lengths, so that each transition has its share."""
    half = count // 2
    uniform = np.linspace(0.0, t[-1], half + 1)[1:]
    return np.unique(
        np.concatenate([uniform, np.interp((np.arange(half) + 0.5) / half * length[-1], length, t)])
    )


Pair = tuple[Array, Array, Array, tuple[str, str]]


def _pair(problem: Problem, count: int, tight: Sequence[str]) -> Pair:
    if problem.explicit:
        return _by_taylor(problem, count)
    if problem.start.size <= LARGEST_COLLOCATION:
        return _by_collocation(problem, count)
    return _by_dln(problem, count, tight)


def _by_taylor(problem: Problem, count: int) -> Pair:
    t, length = taylor.walk(problem)
    times = output_times(t, length, count)
    return times, taylor.read(problem, times), _runge_kutta(problem, times), ("Taylor 30", "DOP853")


def _by_collocation(problem: Problem, count: int) -> Pair:
    one, other = collocation.STAGES
    path = collocation.solve(problem, one)
    t = path.t.astype(float)
    times = output_times(t, _arc_length(path.end_to_end(t)), count)
    judged = collocation.solve(problem, other, times[-1]).end_to_end(times)
    return times, path.end_to_end(times), judged, (f"Radau {2 * one - 1}", f"Radau {2 * other - 1}")


def _arc_length(A: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(A, axis=0), axis=(1, 2)))])


def _runge_kutta(problem: Problem, times: Array) -> Array:
    """The judge: DOP853 at rtol 1e-13, started anew at every output time so that nothing is interpolated."""
    from scipy.integrate import solve_ivp

    velocity, data = compile_for(problem.widths, "dot", "y, dy, data"), new_data(problem)
    y, dy, states = problem.start, np.empty_like(problem.start), []

    def rhs(t: float, y: Array) -> Array:
        velocity(y, dy, data)
        return dy.copy()

    for span in pairwise([0.0, *times]):
        y = solve_ivp(rhs, span, y, "DOP853", rtol=1e-13, atol=1e-14 * problem.scale).y[:, -1]
        states.append(y)
    return end_to_end(np.array(states), problem.widths)


def _by_dln(problem: Problem, count: int, tight: Sequence[str]) -> Pair:
    from ..costs import FullyObserved, MatrixCompletion
    from ..flow import gradient_flow, methods
    from ..problem import Until

    p, there = problem, [name for name in tight if name in methods()]
    cost = FullyObserved(p.target) if p.fully_observed else MatrixCompletion(p.target, p.mask)
    goal = float(p.fraction * p.cost(end_to_end(p.start[None], p.widths)[0]))
    steps = int(TIGHT_SECONDS / (12.0 * seconds_per_call(p, "dot", budget=0.03, repeats=3)))
    options: dict[str, Any] = {
        "form": "weights",
        "rtol": TIGHT_RTOL,
        "max_steps": steps,
        "keep_weights": False,
    }
    times, found = None, {}
    for name in there:
        options["method"] = name
        if times is None:
            run = gradient_flow(cost, p.weights, (0.0, np.inf), until=Until(cost=goal), **options)
            if run.success:
                times = output_times(run.t, _arc_length(run.end_to_end), count)
        if times is not None:
            run = gradient_flow(cost, p.weights, (0.0, times[-1]), t_eval=times, **options)
            if run.success:
                found[name] = run.end_to_end
        if len(found) == 2:
            break
    if times is None or len(found) < 2:
        raise RuntimeError(
            f"its reference needs two of the methods {', '.join(tight)}, "
            f"dln has {', '.join(there) or 'none'} of them, and {', '.join(found) or 'none'} finished"
        )
    (one, A), (other, judged) = found.items()
    return times, A, judged, (f"dln {one}", f"dln {other}")


def _rate_time(times: Array, A: Array, depth: int) -> float:
    rates = depth * np.linalg.norm(A, 2, axis=(1, 2)) ** (2.0 - 2.0 / depth)
    return float(np.sum(rates * np.diff(times, prepend=0.0)))
