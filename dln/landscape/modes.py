"""What a critical point chooses for each group of equal singular values of the target, and what that adds up to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import combinations_with_replacement
from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..schatten import branches, saddle_node
from ..typing import Array

__all__ = ["LABELS", "MOST", "Group", "Partial", "aligned_layers", "decomposed", "groups", "labels", "ways"]

MOST = 3**12  # points that are listed at once
LARGEST = 1e150  # norm of a target of which float64 holds the square, and the square of the inverse

LABELS = ("+", "-", "+-", "0")  # upper root, lower root, both in one, none


@lru_cache(maxsize=2**16)
def labels(row: tuple[int, ...]) -> tuple[str, ...]:
    """The labels, each as often as a row of choices says."""
    return tuple(label for label, n in zip(LABELS, row, strict=True) for _ in range(n))


class Group(NamedTuple):
    """`many` equal singular values s of the target, each on one of the branches of `sizes`.

    A choice, a row of `choices`, says how many are on each of LABELS.
    """

    s: float
    many: int
    sizes: dict[str, float]  # label -> x
    choices: NDArray[np.int64]  # (choices, 4)
    costs: Array  # (choices,): what they add to the objective
    excess: Array  # (choices,): how much that is above the best of them, without cancellation
    rows: list[tuple[int, ...]]  # the choices once more, as tuples

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
    excess: Any  # of the objective over its infimum in a network without limits

    @staticmethod
    def none(shape: tuple[int, ...] = ()) -> Partial:
        """Before the first group."""
        zero = np.zeros(shape, dtype=np.int64)
        return Partial(zero, zero, zero, zero, zero, np.zeros(shape), np.zeros(shape))

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
            self.excess + group.excess[choice],
        )


def ways(options: Iterable[Iterable[int]], most: int) -> list[int]:
    """In how many ways one of the numbers of every group can be taken, by their sum 0 .. most."""
    found = [1] + [0] * most
    for numbers in options:
        found = [sum(found[total - n] for n in numbers if n <= total) for total in range(most + 1)]
    return found


def decomposed(target: Array) -> tuple[Array, list[tuple[float, int]], Array, float]:
    """U, the singular values from the largest down as (value, multiplicity), V^T, and the rounding.

    What lies within the rounding, four times the usual bound of the error of a decomposition, of each other or of 0, is
    equal.
    """
    U, s, Vt = np.linalg.svd(target, full_matrices=False)
    if s[0] != 0 and not 1 / LARGEST < s[0] < LARGEST:
        raise ValueError(
            f"`target` must be 0 or have a norm between {1 / LARGEST:g} and {LARGEST:g}, got {s[0]:g}. Rescale it."
        )
    rounding = float(4 * max(target.shape) * np.finfo(float).eps * s[0])
    s = np.where(s <= rounding, 0.0, s)
    ends = np.flatnonzero(np.append(s[:-1] - s[1:] > rounding, True)) + 1
    return U, [(float(part.mean()), len(part)) for part in np.split(s, ends[:-1])], Vt, rounding


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
    if s == 0:
        return {"0": 0.0}
    if depth == 1:
        return {"+": float(branches(s, weight_decay, 1)[0])}
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
    if (total := comb(count + len(free) - 1, count)) > MOST:
        raise ValueError(
            f"`target` must leave equal singular values at most {MOST} choices of branches, got {total} for {count} "
            f"times {s:g}. Take a target with fewer equal ones."
        )
    cuts = np.array(list(combinations_with_replacement(range(count + 1), len(free) - 1)), dtype=np.int64)
    choices = np.zeros((total, len(LABELS)), dtype=np.int64)
    choices[:, [LABELS.index(label) for label in free]] = np.diff(cuts, axis=1, prepend=0, append=count)
    x = np.array([sizes.get(label, 0.0) for label in LABELS])
    # With e = weight_decay x^(2/L-1) = s - x the objective of a mode is e^2/2 + L x e/2, and above that of x = 0 it is
    # x ((L-2) s - (L-1) x) / 2: two forms without cancellation, for the value and for the order.
    e = np.where(x > 0, weight_decay * np.where(x > 0, x, 1.0) ** (2 / depth - 1), s)
    costs, gains = e * (e + depth * x) / 2, x * ((depth - 2) * s - (depth - 1) * x) / 2
    excess = gains - min(gains[LABELS.index(label)] for label in free)
    rows = [tuple(row) for row in choices.tolist()]
    return Group(s, count, sizes, choices, choices @ costs, choices @ excess, rows)
