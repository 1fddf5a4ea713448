"""What the matrix laws share: their times, the cost they are closed for, and the Trajectory they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import checks
from ..costs import Cost, FullyObserved, SquareLoss
from ..critical import gradient_norm
from ..network import finite_product
from ..problem import Problem
from ..trajectory import KEEP_BYTES, Trajectory
from ..typing import Array

__all__ = ["Law", "even_times", "measure", "narrowed", "path", "room", "squared_distance", "times"]

Law = Callable[[Array], tuple[Array, ...]]  # times (T,) from the start on -> layers, each (T, n_l, n_{l-1})

WHITE = 1e-12  # relative distance of the inputs' covariance from a multiple of the identity
# The rate is looked at for its turns at so many times: at least, and about at most.
FEW, MOST = 9, 4000
# More are added where the log rate, or A, is so far from a straight line, and A moves at all.
BEND, CURVE, STILL = 0.5, 0.05, 1e-10
RATE_ARC, LEAST_ARC = (
    0.05,
    1e-4,
)  # arc length of a unit of the log rate, and of an interval in which nothing moves


def times(t: Any) -> Array:
    """Increasing times from 0 on, as an array with one axis; a single number is one time."""
    result = np.atleast_1d(checks.array(t, "t"))
    if result.ndim != 1:
        raise ValueError(f"`t` must have one axis, got shape {result.shape}. Ravel it.")
    if not result[0] >= 0 or (np.diff(result) <= 0).any():
        raise ValueError(
            f"`t` must increase strictly from 0 on, got {result[0]:g} .. {result[-1]:g}. Sort it."
        )
    return result


def squared_distance(cost: Cost) -> tuple[Array, float]:
    """Target A* and factor c where the cost is c/2 ||A - A*||_F^2 plus a constant; others are refused."""
    if isinstance(cost, FullyObserved):
        return cost.target, cost.scale
    if isinstance(cost, SquareLoss):
        covariance = cost.X @ cost.X.T / cost.samples
        size = float(np.trace(covariance)) / len(covariance)
        if np.abs(covariance - size * np.eye(len(covariance))).max() <= WHITE * size:
            return cost.Y @ cost.X.T / (cost.samples * size), cost.scale * size
    raise ValueError(
        f"`cost` must be FullyObserved, or SquareLoss with whitened inputs (X X^T / N = c I), got {cost!r}. "
        "For other costs there is no closed form: take dln.gradient_flow, or dln.exact.gram for two layers."
    )


def narrowed(weights: Sequence[Array]) -> tuple[Array, tuple[Array, Array]]:
    """B with orthonormal columns and two layers of width at most n_0 + n_L: W_1 = B Z_1, W_2 = Z_2 B^T."""
    W_1, W_2 = weights
    (w, n_0), n_L = W_1.shape, W_2.shape[0]
    if w <= n_0 + n_L:
        return np.eye(w), (W_1, W_2)
    B, R = np.linalg.qr(np.hstack([W_1, W_2.T]))
    return B, (R[:, :n_0], R[:, n_0:].T)


def path(
    problem: Problem,
    t: Array,
    law: Law,
    *,
    method: str,
    bare: Law | None = None,
    plateaus: bool = True,
    **more: Any,
) -> Trajectory:
    """The trajectory of a law at increasing times; `bare` is the law up to rotations of the hidden layers.

    The layers are kept up to the size up to which a run of `gradient_flow` keeps them.
    """
    layers = law(t) if len(t) <= room(problem) else None
    A, measured = _measured(problem, bare or law, t) if layers is None else measure(problem, layers)
    return Trajectory(
        t=t,
        end_to_end=A,
        weights=layers,
        measured=measured if layers is None else None,
        start=problem.weights,
        cost_function=problem.cost,
        depth=problem.depth,
        weight_decay=problem.weight_decay,
        message="The closed form, at the times asked for.",
        method=method,
        form="exact",
        extrema=_turns(problem, bare or law, t, A, measured) if plateaus else np.empty((0, 3)),
        continue_from=lambda _, __, later: list(law(later)),
        **more,
    )


def room(problem: Problem) -> int:
    """Number of times whose layers take no more than is kept."""
    return max(1, KEEP_BYTES // (8 * problem.parameters))


def measure(problem: Problem, layers: Sequence[Array]) -> tuple[Array, Array]:
    """A, and cost, objective and squared gradient norm, of layers (T, n_l, n_{l-1})."""
    A = finite_product(layers)
    cost, size = problem.cost.raw_value(A), sum(np.sum(W**2, axis=(-2, -1)) for W in layers)
    squared = gradient_norm(problem.cost, layers, problem.weight_decay) ** 2
    return A, np.column_stack([cost, cost + 0.5 * problem.weight_decay * size, squared])


def _measured(problem: Problem, law: Law, t: Array) -> tuple[Array, Array]:
    """The same at times, of which no more are seen at once than there is room for."""
    few = room(problem)
    parts = [measure(problem, law(t[i : i + few])) for i in range(0, len(t), few)]
    return np.concatenate([A for A, _ in parts]), np.concatenate([m for _, m in parts])


def _turns(problem: Problem, law: Law, t: Array, A: Array, measured: Array) -> Array:
    """Turns of the log rate of decrease (time, log rate, objective), for which times are added where it bends."""
    when, _, rate, objective = _resolved(problem, law, t, A, measured)
    # A rate that is only rounding may be constant.
    usable = np.isfinite(rate) & np.r_[True, rate[1:] != rate[:-1]]
    when, rate, objective = when[usable], rate[usable], objective[usable]
    if len(when) < 3:
        return np.empty((0, 3))
    turn = np.r_[True, np.diff(np.sign(np.diff(rate))) != 0, True]
    return np.column_stack([when, rate, objective])[turn]


def _resolved(problem: Problem, law: Law, t: Array, A: Array, measured: Array) -> tuple[Array, ...]:
    """Times up to the last, A, log rate and objective, so many that neither A nor the rate bends between them."""
    seen: tuple[Array, ...] = (t, A, *_rates(measured))
    more = np.setdiff1d(np.linspace(0.0, t[-1], FEW), t)
    while len(more) > 0:
        A, measured = _measured(problem, law, more)
        seen = _merge(seen, (more, A, *_rates(measured)))
        more = _between(*seen[:3]) if len(seen[0]) < MOST else more[:0]
    return seen


def even_times(problem: Problem, law: Law, end: float, count: int) -> Array:
    """Times from 0 to `end`, evenly spaced in the arc length of A and of the log rate of decrease."""
    t = np.array([0.0, end])
    t, A, rate, _ = _resolved(problem, law, t, *_measured(problem, law, t))
    steps = np.linalg.norm(np.diff(A, axis=0), axis=(1, 2)) / (np.linalg.norm(A, axis=(1, 2)).max() or 1.0)
    turned = np.abs(np.diff(np.where(np.isfinite(rate), rate, 0.0)))
    arc = np.r_[0.0, np.cumsum(steps + RATE_ARC * turned + LEAST_ARC)]
    return np.unique(np.r_[np.interp(np.linspace(0.0, arc[-1], count), arc, t)[:-1], end])


def _rates(measured: Array) -> tuple[Array, Array]:
    """Log rate, and objective."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(measured[:, 2]) - np.log(measured[:, 1]), measured[:, 1]


def _merge(*parts: tuple[Array, ...]) -> tuple[Array, ...]:
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0])
    return tuple(column[order] for column in columns)


def _between(t: Array, A: Array, rate: Array) -> Array:
    """Middles of the intervals on both sides of a time at which A or the log rate is far from a straight line."""
    size = np.linalg.norm(A - A[:1], axis=(1, 2)).max()
    share = ((t[1:-1] - t[:-2]) / (t[2:] - t[:-2]))[:, None, None]
    curve = np.linalg.norm(A[1:-1] - (1 - share) * A[:-2] - share * A[2:], axis=(1, 2))
    with np.errstate(invalid="ignore"):
        bend = np.abs(rate[1:-1] - (1 - share[:, 0, 0]) * rate[:-2] - share[:, 0, 0] * rate[2:])
    moves = np.linalg.norm(A[2:] - A[:-2], axis=(1, 2)) > STILL * size
    rough = (curve > CURVE * size) | (moves & (bend > BEND))
    split = np.r_[rough, False] | np.r_[False, rough]
    middle = t[:-1] + 0.5 * np.diff(t)
    return middle[split & (middle > t[:-1]) & (middle < t[1:])]
