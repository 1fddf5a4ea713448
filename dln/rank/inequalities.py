r"""What holds between two matrices with W = M + U, rank U <= K, in terms of their singular values.

For SGD with weight decay M is what is left of old weights, :math:`M = D_n W_{T-n}`, and U is made of n gradients. Each
function takes singular values in decreasing order, with one budget K for each matrix, and returns the least slack in
units of the larger matrix: negative where no such U can exist, inf where K leaves nothing to ask.
"""

from __future__ import annotations

import numpy as np

from ..typing import Array
from .measures import NORMS, Counts, tails

__all__ = ["interlacing", "low_rank", "near", "shrinking", "within"]


def interlacing(after: Array, memory: Array, budget: Counts) -> Array:
    r"""Slack of :math:`\sigma_{k+K}(W) \le \sigma_k(M)` and :math:`\sigma_{k+K}(M) \le \sigma_k(W)`, all k (Weyl)."""
    size = np.maximum(after[..., 0], memory[..., 0])
    return np.minimum(_above(memory, after, budget), _above(after, memory, budget)) / _unit(size)


def within(after: Array, memory: Array, budget: Counts) -> Array:
    r"""Slack of :math:`E_K(W) \le \|M\|` in the spectral, Frobenius and nuclear norm."""
    slack = np.full(after.shape[:-1], np.inf)
    for norm in NORMS:
        own, other = tails(after, norm), tails(memory, norm)
        size = np.maximum(own[..., 0], other[..., 0])
        slack = np.minimum(slack, (other[..., 0] - _at(own, budget)) / _unit(size))
    return np.where(budget < after.shape[-1], slack, np.inf)


def low_rank(update: Array, size: Array, budget: Counts) -> Array:
    r"""Slack of :math:`\sigma_{K+1}(U) = 0`, U itself given by its singular values."""
    return np.where(budget < update.shape[-1], -_at(tails(update, "spectral"), budget) / _unit(size), np.inf)


def shrinking(step: Array, before: Array, factor: float, budget: Counts) -> Array:
    r"""Slack of :math:`\|W - W_0\|_F \ge (1 - D) E_K(W_0)`, M = D W_0: where W_0 is not of rank K it must move."""
    own = tails(before, "frobenius")
    slack = step - (1.0 - factor) * _at(own, budget)
    return np.where(budget < before.shape[-1], slack / _unit(own[..., 0]), np.inf)


def near(after: Array, certified: Array, epsilon: float) -> Array:
    r"""Slack of :math:`E_r(W) \le \epsilon \|W\|_F` for a certified rank r, which may be inf."""
    own = tails(after, "frobenius")
    r = np.minimum(certified, after.shape[-1]).astype(np.int64)
    return np.where(r < after.shape[-1], epsilon - _at(own, r) / _unit(own[..., 0]), np.inf)


def _above(upper: Array, lower: Array, budget: Counts) -> Array:
    """Least of upper_k - lower_{k+K}; inf where no pair is left."""
    k = np.arange(lower.shape[-1]) + budget[..., None]
    shifted = np.take_along_axis(lower, np.minimum(k, lower.shape[-1] - 1), axis=-1)
    return np.min(np.where(k < lower.shape[-1], upper - shifted, np.inf), axis=-1)


def _at(values: Array, budget: Counts) -> Array:
    index = np.minimum(budget, values.shape[-1] - 1)
    return np.take_along_axis(values, index[..., None], axis=-1)[..., 0]


def _unit(size: Array) -> Array:
    return np.where(size > 0, size, 1.0)
