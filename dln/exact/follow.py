"""A law of time followed as far as a run of `gradient_flow` asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .. import critical
from ..problem import Problem, Until
from ..trajectory import Trajectory
from ..typing import Array
from ..watch import slowest
from .path import Law, even_times, measure, path

__all__ = ["follow"]

SAVED = 512  # times, where none are asked for
LATEST = 1e200  # in units of the first time constant: nothing happens later
FAR = 16.0  # factor between two looks for saddles
EXACT = 44  # halvings of the interval in which a condition begins to hold


def follow(
    problem: Problem,
    law: Law,
    span: tuple[float, float],
    t: Array | None,
    until: Until | None,
    *,
    method: str,
    state_size: int,
) -> Trajectory:
    """The trajectory of a law, whose times count from span[0], up to the first time at which `until` holds.

    Every condition of `until` holds on once it holds: the cost falls where there is no weight decay, and modes that are
    active, saddles that are visited and minima that are reached stay so.
    """
    if until is not None and until.cost is not None and problem.weight_decay > 0.0:
        raise ValueError(
            f'`until` must have no cost with form="modes" and weight decay, got {until!r}: the cost may rise again. '
            "Leave `form` out."
        )
    start, length = span[0], span[1] - span[0]
    status, end = ("finished", length) if until is None else _reached(problem, law, until, length)
    inner = even_times(problem, law, end, SAVED) if t is None else (t - start)[t - start <= end]
    inner = (
        inner
        if len(inner) and (t is None or inner[-1] == end or status == "finished")
        else np.append(inner, end)
    )
    found = path(problem, inner, law, method=method, state_size=state_size)
    return replace(
        found,
        t=found.t + start,
        t_start=start,
        status=status,
        form=method,
        extrema=found.extrema + np.array([start, 0.0, 0.0]),
        continue_from=lambda _, __, later: list(law(later - start)),
    )


def _reached(problem: Problem, law: Law, until: Until, length: float) -> tuple[str, float]:
    """Status and time of the end."""
    rate = critical.gradient_norm(problem.cost, problem.weights, problem.weight_decay)
    size = math.sqrt(sum(float(np.sum(W**2)) for W in problem.weights))
    unit = size / float(rate) if rate > 0 else 1.0
    last = _slow_time(problem, law, until.saddle, length, unit)
    before, now = 0.0, min(last, unit)
    while not (status := _holds(problem, law, until, now)):
        if now >= last:
            return ("finished" if last == length else "saddle"), last
        if now > LATEST * unit:
            return "at_rest", now
        before, now = now, min(last, 2.0 * now)
    for _ in range(EXACT):
        middle = 0.5 * (before + now)
        earlier = _holds(problem, law, until, middle)
        before, now, status = (before, middle, earlier) if earlier else (middle, now, status)
    return status, now


def _slow_time(problem: Problem, law: Law, count: int | None, length: float, unit: float) -> float:
    """Time of the slowest point of a saddle, by its number, or `length` where the law does not visit so many."""
    now = min(length, unit)
    while count is not None:
        found = path(problem, np.array([now]), law, method="")
        if len(slow := critical.slow_points(found.extrema)) >= count:
            return slowest(found, float(slow[count - 1, 0]))
        if now >= length or now > LATEST * unit:
            break
        now = min(length, FAR * now)
    return length


def _holds(problem: Problem, law: Law, until: Until, t: float) -> str:
    """Name of a condition that holds at t, or ""."""
    layers = [W[0] for W in law(np.array([t]))]
    A, measured = measure(problem, [W[None] for W in layers])
    if measured[0, 0] <= until.cost_goal:
        return "cost"
    rank = critical.active_modes(
        problem.cost, A[0], problem.depth, problem.weight_decay, layers=layers, elapsed=t
    ).rank
    if until.rank is not None and rank >= until.rank:
        return "rank"
    small = until.gradient_norm
    if small is not None and measured[0, 2] <= small**2 and _minimum(problem, layers, rank, small):
        return "gradient_norm"
    return ""


def _minimum(problem: Problem, layers: Sequence[Array], rank: int, small: float) -> bool:
    return critical.is_minimum(problem.cost, layers, rank, small, weight_decay=problem.weight_decay)
