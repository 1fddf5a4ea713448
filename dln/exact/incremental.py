"""How small a start must be for two modes to be learned one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import checks
from ..typing import ArrayLike
from .mode import mode_time

__all__ = ["incremental_threshold"]

LEAST = 1e-290  # start, relative to the larger singular value, below which there is none to be had in float64
HALVINGS = 64


def incremental_threshold(
    s_1: ArrayLike, s_2: ArrayLike, depth: ArrayLike, *, learned: float = 0.9, waiting: float = 0.1
) -> Any:
    r"""Largest common start a_0 from which mode 2 still waits, a_2 <= g s_2, when mode 1 is learned, a_1 = f s_1.

    The root of :math:`t(g s_2;\, a_0, s_2) = t(f s_1;\, a_0, s_1)`, t being `mode_time`: both sides fall with a_0, the
    left one faster. For L = 2 it falls like :math:`e^{-\text{const}/(1 - s_2/s_1)}` as the modes approach each other,
    for L >= 3 like :math:`(1 - s_2/s_1)^{L/(L-2)}`.

    Parameters
    ----------
    s_1, s_2 : array_like
        Singular values of the target, s_1 > s_2 > 0, from 1e-5 to 1e5.
    depth : array_like of int
        Number of layers L >= 2; inf for the limit.
    learned, waiting : float
        f and g, in (0, 1).

    Returns
    -------
    ndarray or float
        Broadcast over all arguments; 0 where it is below 1e-290 s_1.

    Raises
    ------
    ValueError, TypeError
        If the singular values are not as said, a depth is less than 2, or f or g is not in (0, 1).

    References
    ----------
    D. Gissin, S. Shalev-Shwartz, A. Daniely, arXiv 1909.12051: incremental learning.

    Examples
    --------
    >>> [float(f"{a:.4e}") for a in incremental_threshold(1.0, 0.5, [2, 3, 4, 5])]
    [0.00034258, 0.0072382, 0.012037, 0.014822]
    """
    large, small = checks.array(s_1, "s_1"), checks.array(s_2, "s_2")
    f, g = _share(learned, "learned"), _share(waiting, "waiting")
    depths = checks.array(depth, "depth", finite=False)
    if not (depths >= 2).all():
        raise ValueError(
            f"`depth` must be at least 2, got {depths.min()}. One layer learns all modes at once."
        )
    try:
        large, small, depths = np.broadcast_arrays(large, small, depths)
    except ValueError:
        raise ValueError(
            f"`s_1`, `s_2` and `depth` must broadcast, got {large.shape}, {small.shape}, {depths.shape}. Add axes."
        ) from None
    if not ((small >= 1e-5) & (large <= 1e5) & (small < large)).all():
        raise ValueError(
            f"`s_1` and `s_2` must have s_1 > s_2 > 0 and sizes from 1e-5 to 1e5, got {large.flat[0]:g} and "
            f"{small.flat[0]:g}. Order them, or scale both: the threshold scales with them."
        )

    def waits(log_start: Any) -> Any:
        start = np.exp(log_start)
        return mode_time(g * small, start, small, depths) >= mode_time(f * large, start, large, depths)

    low, high = np.log(LEAST * large), np.log(g * small) + np.log(np.minimum(1.0, f * large / (g * small)))
    possible = waits(low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        good = waits(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    found = np.where(possible, np.exp((low + high) / 2), 0.0)
    return float(found) if found.ndim == 0 else found


def _share(value: float, name: str) -> float:
    x = checks.positive(value, name)
    if not x < 1:
        raise ValueError(f"`{name}` must be in (0, 1), got {x:g}. Give a share of the singular value.")
    return x
