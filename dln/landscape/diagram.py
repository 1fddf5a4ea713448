"""How the landscape changes with weight decay: thresholds of the modes, and critical points followed along it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..schatten import jump, saddle_node
from ..typing import Array, ArrayLike
from .modes import MOST
from .point import CriticalPoint
from .points import Landscape

__all__ = ["Bifurcation", "Thresholds", "bifurcation", "thresholds"]


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Weight decays at which the modes of a target change.

    Attributes
    ----------
    singular_values : ndarray, shape (K,)
        Those of the target.
    saddle_node : ndarray, shape (K,)
        Where both branches of a mode vanish: beyond it, no critical point holds the mode.
    jump : ndarray, shape (K,)
        Where the global minimum lets go of a mode. For two layers both are the singular value itself.
    """

    singular_values: Array
    saddle_node: Array
    jump: Array

    @property
    def collapse(self) -> float:
        """Weight decay from which the global minimum is 0."""
        return float(self.jump.max())


def thresholds(target: ArrayLike, depth: int) -> Thresholds:
    r"""Weight decays at which the modes of a fully observed target are born, kept and lost.

    .. math:: \lambda_{sn}(s) = \frac{L}{L-2} \Big(\frac{(L-2)\,s}{2L-2}\Big)^{(2L-2)/L}, \qquad
        \lambda_{jump}(s) = \frac{1}{L-2} \Big(\frac{(L-2)\,s}{L-1}\Big)^{(2L-2)/L},

    both equal to s for L = 2: the inverses of `dln.schatten.saddle_node` and `dln.schatten.threshold`.

    Parameters
    ----------
    target : array_like, shape (n_L, n_0)
        A*.
    depth : int
        Number of layers L >= 2.

    Returns
    -------
    Thresholds

    Raises
    ------
    ValueError, TypeError
        If `depth` is less than 2 (one layer keeps every mode) or the target is not finite.

    References
    ----------
    arXiv 2603.27072 for the collapse; arXiv 2506.20344.

    Examples
    --------
    >>> found = thresholds(np.diag([4.0, 2.0]), 4)
    >>> found.jump.round(6), round(found.collapse, 6)
    (array([2.177324, 0.7698  ]), 2.177324)
    """
    A = checks.array(target, "target", ndim=2)
    depth = checks.integer(depth, "depth", least=2, most=checks.MOST)
    s: Any = np.linalg.svd(A, compute_uv=False)
    # Both thresholds in s are a power of the weight decay times their value at 1.
    born, kept = ((s / float(at(1.0, depth)[1])) ** (2 - 2 / depth) for at in (saddle_node, jump))
    return Thresholds(s, born, kept)


@dataclass(frozen=True, eq=False)
class Bifurcation:
    """Critical points followed along the weight decay; NaN, or -1 for the index, where a curve has no point.

    Attributes
    ----------
    weight_decays : ndarray, shape (n,)
    branches : tuple of tuple of str
        Of every curve: the label of each singular value, see `CriticalPoint`.
    norm, objective : ndarray, shape (curves, n)
        Frobenius norm of A, and the value of the regularised loss.
    morse_index : ndarray of int, shape (curves, n)
    is_global : ndarray of bool, shape (curves, n)
        Where the point is a global minimum.
    """

    weight_decays: Array
    branches: tuple[tuple[str, ...], ...]
    norm: Array
    objective: Array
    morse_index: NDArray[np.int64]
    is_global: NDArray[np.bool_]


def bifurcation(
    target: ArrayLike, depth: int, weight_decays: ArrayLike, *, width: int | None = None
) -> Bifurcation:
    """Critical points of the regularised loss of a fully observed target, followed along the weight decay.

    Every curve is a choice of branches; it ends where one of its modes reaches the saddle-node and there meets the
    curve with the other branch of that mode.

    Parameters
    ----------
    target : array_like, shape (n_L, n_0)
        A*.
    depth : int
        Number of layers L >= 1.
    weight_decays : array_like, shape (n,)
        Positive and increasing.
    width : int, optional
        Width of every hidden layer; min(n_0, n_L) by default.

    Returns
    -------
    Bifurcation
        `dln.plotting.plot_bifurcation` draws it.

    Raises
    ------
    ValueError, TypeError
        If the weight decays are not positive and increasing, another argument is out of range, or there are more than
        3^12 points in all.

    Examples
    --------
    >>> diagram = bifurcation([[2.0]], 3, [0.5, 1.0, 1.5])
    >>> diagram.branches
    (('+',), ('0',), ('-',))
    >>> diagram.norm.round(3)
    array([[1.57 , 1.   ,   nan],
           [0.   , 0.   , 0.   ],
           [0.016, 0.161,   nan]])
    """
    decays = checks.array(weight_decays, "weight_decays", ndim=1)
    if not (decays[0] > 0 and np.all(np.diff(decays) > 0)):
        raise ValueError(
            f"`weight_decays` must be positive and increasing, got {decays[:3]}... Sort them and leave out 0."
        )
    spaces = [Landscape(target, depth, wd, width=width) for wd in decays.tolist()]
    if (total := sum(space.count for space in spaces)) > MOST:
        raise ValueError(
            f"`weight_decays` must have at most {MOST} critical points in all, got {total}. Take fewer of them, or a "
            "target of lower rank."
        )
    curves: dict[tuple[str, ...], dict[int, CriticalPoint]] = {}
    for i, space in enumerate(spaces):
        for point in space.all():
            for side in ("+", "-") if "+-" in point.branches else ("",):  # where two curves meet
                pattern = tuple(side if branch == "+-" else branch for branch in point.branches)
                curves.setdefault(pattern, {})[i] = point
    shape = (len(curves), len(decays))
    norm, objective = np.full(shape, np.nan), np.full(shape, np.nan)
    index, is_global = np.full(shape, -1), np.zeros(shape, dtype=bool)
    for row, points in enumerate(curves.values()):
        for i, point in points.items():
            norm[row, i] = np.linalg.norm(point.singular_values)
            objective[row, i], index[row, i] = point.objective, point.morse_index
            is_global[row, i] = point.kind == "global minimum"
    return Bifurcation(decays, tuple(curves), norm, objective, index, is_global)
