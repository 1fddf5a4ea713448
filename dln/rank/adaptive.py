"""The rank that a run certifies of itself: from norms, ranks of gradients and rates, without any assumption."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..typing import Array, ArrayLike
from .bounds import forgotten
from .measures import rates, threshold

__all__ = ["Certified", "certificate"]


class Certified(NamedTuple):
    """Certified rank after each step, and the number of steps back to which it reaches (both inf: none)."""

    rank: Array
    window: Array


def certificate(
    norms: ArrayLike,
    gradient_ranks: ArrayLike,
    learning_rate: ArrayLike,
    weight_decay: ArrayLike,
    epsilon: float = 1e-3,
) -> Certified:
    r"""Ranks within epsilon of which the weights are proved to lie, from what was recorded of a run; no assumption.

    For the least n with :math:`D_n \|W_{T-n}\| \le \epsilon \|W_T\|`, the weights W_T are within
    :math:`\epsilon \|W_T\|` of a matrix of rank :math:`\sum_{j=1}^n \operatorname{rank} G_{T-j}`, in the norm recorded.

    Parameters
    ----------
    norms : array_like, shape (T + 1, ...)
        Norms of W_0, .., W_T; layers and runs on further axes. A NaN marks a step that was not observed.
    gradient_ranks : array_like, shape (T, ...)
        Ranks of the gradients of the steps, or upper bounds on them.
    learning_rate, weight_decay : float or array_like, shape (T,)
        Rates with x < 1, without momentum.
    epsilon : float
        0 < epsilon < 1.

    Returns
    -------
    Certified
        `rank` and `window`, shape (T + 1, ...). The rank may exceed the size of the matrix and says nothing then.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit or a value is out of range.

    References
    ----------
    arXiv 2206.05794, the lemma over n steps, made adaptive.

    Examples
    --------
    >>> rank, steps = certificate([1.0, 1.0, 1.0, 1.0, 1.0], [3, 1, 2, 1], 0.1, 5.0, epsilon=0.3)
    >>> print(rank, steps)
    [inf inf  4.  3.  3.] [inf inf  2.  2.  2.]
    """
    sizes = checks.array(norms, "norms", finite=False)
    T = len(sizes) - 1 if sizes.ndim else 0
    ranks = checks.array(gradient_ranks, "gradient_ranks", shape=(T, *sizes.shape[1:]))
    if (sizes < 0).any() or np.isinf(sizes).any() or (ranks < 0).any():
        raise ValueError(
            "`norms` and `gradient_ranks` must be zero or positive, got less. Record them again."
        )
    x = forgotten(*rates(learning_rate, weight_decay, T))
    log = np.append(0.0, np.cumsum(np.log1p(-x)))
    with np.errstate(divide="ignore"):
        heights = np.log(sizes).reshape(T + 1, -1) - log[:, None]
    total = np.concatenate([np.zeros((1, heights.shape[1])), np.cumsum(ranks.reshape(T, -1), axis=0)])
    origin = np.stack([_last_below(h, math.log(threshold(epsilon))) for h in heights.T], axis=1)
    t = np.arange(T + 1)[:, None]
    found = origin >= 0
    rank = np.where(found, total - np.take_along_axis(total, np.maximum(origin, 0), axis=0), np.inf)
    return Certified(rank.reshape(sizes.shape), np.where(found, t - origin, np.inf).reshape(sizes.shape))


def _last_below(height: Array, margin: float) -> Any:
    """For every t the last s < t with height[s] <= height[t] + margin, or -1; margin < 0. NaN is never chosen."""
    result = np.full(len(height), -1)
    stack: list[float] = []  # increasing heights, each the last that is so low
    index: list[int] = []
    for t, h in enumerate(height):
        if h != h:
            continue
        if (k := bisect_right(stack, h + margin)) > 0:
            result[t] = index[k - 1]
        while stack and stack[-1] >= h:
            stack.pop()
            index.pop()
        stack.append(float(h))
        index.append(t)
    return result
