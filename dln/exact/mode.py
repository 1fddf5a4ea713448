"""One mode of an aligned balanced network: time as a function of value, and its inverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import checks
from ..typing import Array, ArrayLike
from .balanced import Law

__all__ = ["covered", "mode", "mode_time"]


def covered(a: Array, s: Array) -> Any:
    """Which values and s are of sizes at which nothing overflows on the way."""
    a, s = np.abs(a), np.abs(s)
    values = (a >= np.maximum(1e-300, 1e-307 * s)) & (a <= 1e100)
    return ((a == 0) | values) & ((s == 0) | ((s >= 1e-100) & (s <= 1e100)))


def mode_time(a: ArrayLike, a0: ArrayLike, s: ArrayLike, depth: ArrayLike) -> Any:
    r"""Time in which an aligned balanced mode goes from `a0` to `a`.

    .. math:: t = \int_{a_0}^{a} \frac{dx}{L\,x^{2-2/L}\,(s - x)} .

    Parameters
    ----------
    a, a0 : array_like
        Singular values of the mode, >= 0 (of any sign for ``depth=1``).
    s : array_like
        The target's singular value. Zero and negative ones are those of a mode that dies.
    depth : array_like of int
        Number of layers L >= 1; inf gives the limit of L t.

    Returns
    -------
    ndarray or float
        Broadcast over all arguments. Negative where `a` came before `a0`, infinite where one of them is a fixed point
        (0 or s), NaN where they lie on different sides of `s`.

    Raises
    ------
    ValueError, TypeError
        If a depth is not a whole number >= 1 or inf, a number is not finite, or with ``depth > 1`` a value is negative
        or of a size that is not 0 and not from 1e-300 (s: 1e-100) to 1e100, or below 1e-307 s.

    Notes
    -----
    Logarithms for L = 1 and 2, an arctangent besides for L = 3, a 2F1 in general. The relative error is below 1e-15 for
    values from 1e-300 to 1 - 1e-16 of saturation and above it, also where `a` and `a0` differ in their last digit only.

    References
    ----------
    A. Saxe, J. McClelland, S. Ganguli, arXiv 1312.6120; D. Gissin, S. Shalev-Shwartz, A. Daniely, arXiv 1909.12051.

    Examples
    --------
    >>> mode_time(0.5, 1e-6, 1.0, 2)  # ln(s/a0 - 1) / (2 s)
    6.90775...
    >>> np.round(mode_time(0.5, 1e-6, 1.0, [1, 2, 3, 4, np.inf]), 3)
    array([6.93000000e-01, 6.90800000e+00, 9.91500000e+01, 4.99733000e+02,
           1.00001182e+06])
    """
    values, depths = _checked({"a": a, "a0": a0, "s": s}, depth, ("a", "a0"))
    return _by_depth(lambda law, *args: law.time(*args), values, depths)


def mode(t: ArrayLike, a0: ArrayLike, s: ArrayLike, depth: ArrayLike) -> Any:
    r"""Singular value of an aligned balanced mode at time `t`: the solution of :math:`\dot a = L a^{2-2/L}(s - a)`.

    Parameters
    ----------
    t : array_like
        Times; negative ones lead back, inf to the limit.
    a0 : array_like
        Value at t = 0, >= 0 (of any sign for ``depth=1``).
    s : array_like
        The target's singular value, of any sign.
    depth : array_like of int
        Number of layers L >= 1; inf gives the limit with time in units of 1/L.

    Returns
    -------
    ndarray or float
        Broadcast over all arguments; NaN before the blow-up in the past of a value above `s`.

    Raises
    ------
    ValueError, TypeError
        If a depth is not a whole number >= 1 or inf, a time is NaN, a number is not finite, or with ``depth > 1`` a
        value is negative or of a size that is not 0 and not from 1e-300 (s: 1e-100) to 1e100, or below 1e-307 s.

    Notes
    -----
    Right to a few units of rounding of `a`, and of the time: where the value escapes late, the rounding of `t` alone
    moves it by much more.

    Examples
    --------
    >>> mode([0.0, 5.0, np.inf], 1e-4, 2.0, 2)
    array([1.00000000e-04, 1.99991756e+00, 2.00000000e+00])
    >>> round(mode(mode_time(0.7, 1e-9, 1.0, 3), 1e-9, 1.0, 3), 12)
    0.7
    """
    values, depths = _checked({"t": t, "a0": a0, "s": s}, depth, ("a0",))
    return _by_depth(lambda law, *args: law.value(*args), values, depths)


def _checked(given: dict[str, Any], depth: Any, positive: tuple[str, ...]) -> tuple[list[Array], Array]:
    """The arguments and depths, broadcast."""
    names, arrays = list(given), [checks.array(x, name, finite=name != "t") for name, x in given.items()]
    depths = checks.array(depth, "depth", finite=False)
    if np.isnan(arrays[0]).any():
        raise ValueError(f"`{names[0]}` must not be NaN, got NaN. Remove such entries.")
    wrong = ~((depths >= 1) & (np.isinf(depths) | (depths == np.round(depths))))
    if wrong.any():
        raise ValueError(
            f"`depth` must be a whole number >= 1 or inf, got {depths[wrong].flat[0]}. Count the layers."
        )
    try:
        *values, depths = np.broadcast_arrays(*arrays, depths)
    except ValueError:
        shapes = ", ".join(
            f"`{n}` {x.shape}" for n, x in zip((*names, "depth"), (*arrays, depths), strict=True)
        )
        raise ValueError(f"`{names[0]}` must broadcast with the others, got {shapes}. Add axes.") from None
    for value, name in zip(values, names, strict=True):
        if name in positive and (below := (value < 0) & (depths > 1)).any():
            raise ValueError(
                f"`{name}` must be zero or positive, got {value[below].flat[0]}. Change its sign and that of `s`."
            )
    ours = dict(zip(names, values, strict=True))
    for name in positive:
        wrong = (covered(ours[name], ours["s"]) == 0) & (depths > 1)
        if wrong.any():
            raise ValueError(
                f"`{name}` and `s` must be 0 or of sizes from 1e-300 (s: 1e-100) to 1e100, their ratio from 1e-307 on, "
                f"got {ours[name][wrong].flat[0]:g} and {ours['s'][wrong].flat[0]:g}. Scale them, and the time."
            )
    return values, depths


def _by_depth(law: Callable[..., Array], values: list[Array], depths: Array) -> Any:
    result = np.empty(depths.shape)
    with np.errstate(all="ignore"):
        for depth in np.unique(depths):
            mine = depths == depth
            result[mine] = law(Law(float(depth)), *(x[mine] for x in values))
    return float(result) if depths.ndim == 0 else result
