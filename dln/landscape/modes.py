"""What a critical point chooses for each group of equal singular values of the target, and what that adds up to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..schatten import branches, saddle_node
from ..typing import Array

__all__ = ["LABELS", "MOST", "Group", "Partial", "aligned_layers", "equal", "groups", "rounding_of"]

MOST = 3**12  # points that are listed at once

LABELS = ("+", "-", "+-", "0")  # upper root, lower root, both in one, none


class Group(NamedTuple):
    """`many` equal singular values s of the target, each on one of the branches of `sizes`.

    A choice, a row of `choices`, says how many are on each of LABELS.
    """

    s: float
    many: int
    sizes: dict[str, float]  # label -> x
    choices: NDArray[np.int64]  # (choices, 4)
    costs: Array  # (choices,): what they add to the objective
    patterns: list[tuple[str, ...]]  # label of each of the equal singular values, for every choice

    @property
    def open(self) -> bool:
        """Whether it has a choice."""
        return len(self.choices) > 1

    @property
    def active(self) -> NDArray[np.int64]:
        """How many a choice makes positive, shape (choices,)."""
        return self.many - self.choices[:, -1]


class Partial(NamedTuple):
    """What the choices for the first groups add up to: numbers, or arrays of them."""

    rank: Any
    lacking: Any  # how many smaller ones can overtake: those at 0 or on the lower branch
    index: Any  # Morse index, at L = 2 but for the free neurons
    doubles: Any  # how many are on "+-"
    dimension: Any  # of the family of A
    objective: Any

    @staticmethod
    def none(shape: tuple[int, ...] = ()) -> Partial:
        """Before the first group."""
        zero = np.zeros(shape, dtype=np.int64)
        return Partial(zero, zero, zero, zero, zero, np.zeros(shape))

    def then(self, group: Group, choice: Any) -> Partial:
        """The same with one more group (for arrays: one choice for each)."""
        upper, lower, double, none = group.choices[choice].T
        active = upper + lower + double
        return Partial(
            self.rank + active,
            self.lacking + group.open * (lower + none),
            self.index + lower * (lower + 1) // 2 + active * self.lacking,
            self.doubles + double,
            self.dimension + (upper + double) * (lower + none) + lower * none + upper * double,
            self.objective + group.costs[choice],
        )


def rounding_of(s: Array, shape: tuple[int, ...]) -> float:
    """What the singular values of a matrix may be wrong by, four times the usual bound."""
    return float(4 * max(shape) * np.finfo(float).eps * s[0])


def equal(s: Array, rounding: float) -> list[tuple[float, int]]:
    """Descending singular values as (value, multiplicity), equal within the rounding, also to 0."""
    s = np.where(s <= rounding, 0.0, s)
    ends = np.flatnonzero(np.append(s[:-1] - s[1:] > rounding, True)) + 1
    return [(float(part.mean()), len(part)) for part in np.split(s, ends[:-1])]


def aligned_layers(U: Array, x: Array, Vt: Array, widths: Sequence[int]) -> list[Array]:
    """Balanced layers with product sum x_i u_i v_i^T; its modes take the first neurons of every hidden layer."""
    active = np.flatnonzero(x)
    u = x[active] ** (1 / (len(widths) - 1))
    hidden = (np.eye(w, len(active)) for w in widths[1:-1])
    bases = [Vt[active].T, *hidden, U[:, active]]
    return [(after * u) @ before.T for before, after in zip(bases, bases[1:], strict=False)]


def groups(
    modes: Sequence[tuple[float, int]], depth: int, weight_decay: float, rounding: float
) -> list[Group]:
    """The choices of every group at this depth and weight decay."""
    x_sn, s_sn = (float(v) for v in saddle_node(weight_decay, depth))
    return [
        _group(s, m, _sizes(s, depth, weight_decay, x_sn, s_sn, rounding), depth, weight_decay)
        for s, m in modes
    ]


def _sizes(
    s: float, depth: int, weight_decay: float, x_sn: float, s_sn: float, rounding: float
) -> dict[str, float]:
    """The x of every branch that there is."""
    if depth == 1:
        return {"+": float(branches(s, weight_decay, 1)[0])} if s > 0 else {"0": 0.0}
    if abs(s - s_sn) <= rounding + 8 * np.finfo(float).eps * s_sn:
        return {"+-": x_sn, "0": 0.0} if depth > 2 else {"0": 0.0}
    if s < s_sn:
        return {"0": 0.0}
    x = dict(zip("+-", map(float, branches(s, weight_decay, depth)), strict=True))
    if x["-"] == 0.0:
        raise ValueError(
            f"`weight_decay` must keep the lower root of x + weight_decay x^(2/L-1) = {s:g} above the least number of "
            f"float64, got {weight_decay:g}. Take a larger one."
        )
    return {label: size for label, size in (*x.items(), ("0", 0.0)) if not np.isnan(size)}


def _group(s: float, count: int, sizes: dict[str, float], depth: int, weight_decay: float) -> Group:
    free = [label for label in LABELS if label in sizes]
    cuts = combinations_with_replacement(range(count + 1), len(free) - 1)
    numbers = [np.diff([0, *cut, count]) for cut in cuts]
    choices = np.zeros((len(numbers), len(LABELS)), dtype=np.int64)
    choices[:, [LABELS.index(label) for label in free]] = numbers
    # e = weight_decay x^(2/L-1) is the residual s - x without its cancellation.
    costs = [
        0.5 * s**2
        if x == 0.0
        else 0.5 * (weight_decay * x ** (2 / depth - 1)) ** 2 + weight_decay * depth / 2 * x ** (2 / depth)
        for x in (sizes.get(label, 0.0) for label in LABELS)
    ]
    patterns = [tuple(np.repeat(LABELS, row).tolist()) for row in choices]
    return Group(s, count, sizes, choices, choices @ np.array(costs), patterns)
