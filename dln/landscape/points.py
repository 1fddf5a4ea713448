r"""Critical points of the regularised loss of a fully observed target, by enumeration.

Every critical point of :math:`\tfrac12 \|W_L \cdots W_1 - A^*\|_F^2 + \tfrac\lambda2 \sum_l \|W_l\|_F^2` is
balanced, and its product is :math:`A = \sum_i x_i u_i v_i^T` on singular pairs of A*, where each x_i is 0 or a root of

.. math:: x + \lambda x^{2/L - 1} = s_i ,

of which there are two for L >= 3 (:math:`x_+ > x_-`, from the saddle-node on) and one for L = 2. It is one orbit of the
rotations of the hidden layers. Its Morse index is

.. math::
    L \ge 3 &: \quad \#\{i \le j : s_i = s_j,\ x_i = x_j = x_-(s_i)\} + \#\{i, j : s_i > s_j,\ x_i < x_j\} , \\
    L = 2 &: \quad (w - r)\, \#\{i : x_i = 0,\ s_i > \lambda\} + \#\{i, j : s_i > s_j,\ x_i = 0 < x_j\} ,

r the rank, w the hidden width, in narrow layers (r <= w) as in wide ones. Equal singular values leave their singular
pairs open, so that the critical A form connected families.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from .. import checks
from ..schatten import jump
from ..typing import Array, ArrayLike
from .modes import MOST, Partial, decomposed, groups, labels, ways
from .point import CriticalPoint

__all__ = ["Landscape", "critical_points", "local_minima"]


class Landscape:
    r"""All critical points of the regularised loss of a fully observed target, made when they are asked for.

    Iteration yields them in order of the objective, the global minimum first, `by_index` in order of the Morse index.
    Both are lazy: the first points come at once where there are 3^50.

    Parameters
    ----------
    target : array_like, shape (n_L, n_0)
        A*.
    depth : int
        Number of layers L >= 1.
    weight_decay : float
        lambda > 0.
    width : int, optional
        Width w of every hidden layer; min(n_0, n_L) by default. A narrower one limits the rank.

    Attributes
    ----------
    singular_values : ndarray
        Those of the target.
    widths : tuple of int
        (n_0, w, .., w, n_L).
    count : int
        Number of critical points, `len` where that is not too large; families count once.

    Raises
    ------
    ValueError, TypeError
        If `weight_decay` is not positive, `depth` or `width` is less than 1, or the target is not finite.

    Notes
    -----
    Singular values within the rounding of a decomposition, 4 max(n_0, n_L) eps s_1, of each other, of 0 or of a
    threshold are taken to be equal to it. At the jump (`dln.schatten.threshold`) the minima with and without that mode
    have the same objective, and both are "global minimum".

    References
    ----------
    arXiv 2106.15933v1, L2-regularised shallow and deep networks; compare arXiv 2506.20344 and 2603.27072.

    Examples
    --------
    >>> space = Landscape(np.diag([3.0, 2.0]), 3, 0.1)
    >>> len(space), [point.rank for point in space.local_minima()]
    (9, [0, 1, 2])
    >>> for point in list(space)[:3]:
    ...     print(point.branches, round(point.objective, 6), point.morse_index, point.kind)
    ('+', '+') 0.544507 0 global minimum
    ('+', '0') 2.30959 0 local minimum
    ('+', '-') 2.309715 1 strict saddle
    """

    def __init__(
        self, target: ArrayLike, depth: int, weight_decay: float, *, width: int | None = None
    ) -> None:
        A = checks.array(target, "target", ndim=2)
        self.depth = checks.integer(depth, "depth", least=1, most=checks.MOST)
        self.weight_decay = checks.nonnegative(weight_decay, "weight_decay")
        if self.weight_decay == 0.0:
            raise ValueError(
                "`weight_decay` must be positive, got 0.0. "
                "Without it the critical points are those of dln.landscape.unregularised."
            )
        if self.depth == 1 and width is not None:
            raise ValueError(f"`width` must be None for one layer, got {width!r}. It has no hidden layer.")
        self.U, modes, self.Vt, self.rounding = decomposed(A)
        self.width = (
            min(A.shape) if width is None else checks.integer(width, "width", least=1, most=checks.MOST)
        )
        self.groups = groups(modes, self.depth, self.weight_decay, self.rounding)
        self.singular_values = np.array([group.s for group in self.groups for _ in range(group.many)])
        self.sizes = [group.sizes for group in self.groups for _ in range(group.many)]

    @property
    def widths(self) -> tuple[int, ...]:
        """(n_0, w, .., w, n_L)."""
        return (self.Vt.shape[1], *[self.width] * (self.depth - 1), self.U.shape[0])

    @cached_property
    def count(self) -> int:
        """Number of critical points; families count once."""
        return sum(ways([group.active.tolist() for group in self.groups], self._most))

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        n_L, n_0 = len(self.U), self.Vt.shape[1]
        return (
            f"Landscape({n_L}x{n_0}, depth={self.depth}, weight_decay={self.weight_decay:g}, width={self.width}, "
            f"count={self.count})"
        )

    def __iter__(self) -> Iterator[CriticalPoint]:
        least = self._least_excess()
        return self._best_first(lambda k, part: part.excess + least[k][self._most - part.rank])

    def by_index(self) -> Iterator[CriticalPoint]:
        """The points in order of the Morse index, lazily."""
        sizes = [group.many * group.open for group in self.groups]
        return self._best_first(lambda k, part: self._least_index(part, sum(sizes[k:])))

    def all(self) -> list[CriticalPoint]:
        """All points in order of the objective; refused if there are more than 3^12."""
        if self.count > MOST:
            raise ValueError(
                f"`target` must have at most {MOST} critical points to list them, got {self.count}. "
                "Iterate over dln.landscape.Landscape, or ask for local_minima."
            )
        part, chosen = Partial.none((1,)), np.empty((1, 0), dtype=np.int64)
        for group in self.groups:
            i, c = np.nonzero(part.rank[:, None] + group.active <= self._most)
            part = Partial(*(number[i] for number in part)).then(group, c)
            chosen = np.column_stack([chosen[i], c])
        order = np.lexsort((part.index, part.excess))
        rows = zip(*(number[order].tolist() for number in part), strict=True)
        return [
            self._point(choice, Partial(*row))
            for choice, row in zip(chosen[order].tolist(), rows, strict=True)
        ]

    def local_minima(self) -> list[CriticalPoint]:
        """The local minima in order of their rank, without the saddles: one for L <= 2, otherwise K + 1.

        They hold the r largest singular values on the upper branch, r = 0 .. K, where K is the number of those beyond
        the saddle-node, or the width if that is less.
        """
        upper = min(self._most, sum(group.many for group in self.groups if "+" in group.sizes))
        where = [{row: c for c, row in enumerate(group.rows)} for group in self.groups]
        return [self._prefix(rank, where) for rank in (range(upper + 1) if self.depth > 2 else [upper])]

    @property
    def _most(self) -> int:
        return min(self.width, len(self.sizes))

    def _prefix(self, rank: int, where: list[dict[tuple[int, ...], int]]) -> CriticalPoint:
        """The largest singular values on the upper branch, the others at 0."""
        part, chosen = Partial.none(), []
        for group, numbers in zip(self.groups, where, strict=True):
            take = min(group.many, rank - int(part.rank)) if "+" in group.sizes else 0
            chosen.append(numbers[take, 0, 0, group.many - take])
            part = part.then(group, chosen[-1])
        return self._point(chosen, part)

    def _best_first(self, bound: Callable[[int, Partial], Any]) -> Iterator[CriticalPoint]:
        """Points in ascending order; the bound of the choices for the first k groups is that of the best completion."""
        waiting: list[tuple[Any, tuple[int, ...], Partial]] = [(0, (), Partial.none())]
        while waiting:
            _, chosen, part = heapq.heappop(waiting)
            if len(chosen) == len(self.groups):
                yield self._point(chosen, part)
                continue
            group = self.groups[len(chosen)]
            for c in np.flatnonzero(part.rank + group.active <= self._most).tolist():
                longer = part.then(group, c)
                heapq.heappush(waiting, (bound(len(chosen) + 1, longer), (*chosen, c), longer))

    def _least_excess(self) -> list[Array]:
        """What the groups from k on add to the objective at least, by the rank that is left to them."""
        least = [np.zeros(self._most + 1)]
        for group in reversed(self.groups):
            after = np.full(self._most + 1, np.inf)
            for active, cost in zip(group.active.tolist(), group.excess.tolist(), strict=True):
                if active <= self._most:
                    np.minimum(after[active:], cost + least[-1][: len(after) - active], out=after[active:])
            least.append(after)
        return least[::-1]

    def _least_index(self, part: Partial, modes: int) -> int:
        """Morse index of the best completion by so many modes: at L = 2 the first t of them active, otherwise none."""
        t = np.arange(min(modes, self.width - int(part.rank)) + 1) * (self.depth == 2)
        return int(
            (part.index + t * part.lacking + self._free(part.rank + t, part.lacking + modes - t)).min()
        )

    def _free(self, rank: Any, lacking: Any) -> Any:
        """Negative directions of the free neurons, which only L = 2 has."""
        return (self.depth == 2) * (self.width - rank) * lacking

    def _point(self, chosen: Any, part: Partial) -> CriticalPoint:
        branches = [labels(group.rows[c]) for group, c in zip(self.groups, chosen, strict=True)]
        index = int(part.index + self._free(part.rank, part.lacking))
        kind = self._kind(index, part.rank, part.doubles)
        return CriticalPoint(sum(branches, ()), float(part.objective), index, kind, int(part.dimension), self)

    def _kind(self, index: int, rank: int, doubles: int) -> str:
        if index > 0:
            return "strict saddle"
        if doubles > 0:
            return "degenerate"
        least, greatest = self._ranks
        return "global minimum" if least <= rank <= greatest else "local minimum"

    @cached_property
    def _ranks(self) -> tuple[int, int]:
        """Least and greatest rank of a global minimum: they differ where a singular value is at the jump."""
        if self.depth == 1:
            return 0, len(self.sizes)
        beyond = self.singular_values - float(jump(self.weight_decay, self.depth)[1])
        least, greatest = (int(np.sum(beyond > margin)) for margin in (self.rounding, -self.rounding))
        return min(self.width, least), min(self.width, greatest)


def critical_points(
    target: ArrayLike, depth: int, weight_decay: float, *, width: int | None = None
) -> tuple[CriticalPoint, ...]:
    r"""Every critical point of the regularised loss of a fully observed target, in order of the objective.

    The loss is :math:`\tfrac12 \|W_L \cdots W_1 - A^*\|_F^2 + \tfrac\lambda2 \sum_l \|W_l\|_F^2`. With K distinct
    singular values beyond `dln.schatten.saddle_node` and hidden layers at least as wide, there are 3^K points for
    L >= 3, 2^K for L = 2 and one for L = 1, up to the rotations of the hidden layers.

    Parameters
    ----------
    target : array_like, shape (n_L, n_0)
        A*, of any rank.
    depth : int
        Number of layers L >= 1.
    weight_decay : float
        lambda > 0.
    width : int, optional
        Width of every hidden layer; min(n_0, n_L) by default. A narrower one limits the rank, and for L = 2 a wider one
        gives saddles more directions to leave.

    Returns
    -------
    tuple of CriticalPoint
        With `end_to_end`, `singular_values`, `rank`, `branches`, `objective`, `morse_index`, `kind`.

    Raises
    ------
    ValueError, TypeError
        If `weight_decay` is not positive, `depth` or `width` is less than 1, the target is not finite, or there are
        more than 3^12 points (`Landscape` yields them one by one).

    See Also
    --------
    Landscape : the same lazily, and what is taken for equal.
    unregularised : the critical points without weight decay.

    References
    ----------
    arXiv 2106.15933v1, L2-regularised shallow and deep networks; compare arXiv 2506.20344 and 2603.27072.

    Examples
    --------
    >>> for point in critical_points([[2.0]], 3, 1.0):
    ...     print(point.kind, point.branches, point.singular_values.round(6), point.morse_index)
    global minimum ('0',) [0.] 0
    global minimum ('+',) [1.] 0
    strict saddle ('-',) [0.160713] 1
    """
    return tuple(Landscape(target, depth, weight_decay, width=width).all())


def local_minima(
    target: ArrayLike, depth: int, weight_decay: float, *, width: int | None = None
) -> tuple[CriticalPoint, ...]:
    """Local minima of the regularised loss of a fully observed target, in order of their rank.

    There is one for L <= 2; for L >= 3 there is one for each rank from 0 to the number K of singular values beyond
    `dln.schatten.saddle_node`. They are found without the saddles, however many there are.

    Parameters
    ----------
    target, depth, weight_decay, width
        As for `critical_points`.

    Raises
    ------
    ValueError, TypeError
        As `critical_points`, but for the number of points.

    Examples
    --------
    >>> minima = local_minima(np.diag(np.arange(40.0, 0.0, -1.0)), 3, 0.1)
    >>> len(minima), [point.rank for point in minima if point.kind == "global minimum"]
    (41, [40])
    """
    return tuple(Landscape(target, depth, weight_decay, width=width).local_minima())
