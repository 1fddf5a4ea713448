"""SGD with weight decay on one matrix whose gradients are given: the case that is solved exactly, and random ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .. import checks
from ..typing import RNG, Array, ArrayLike
from .measures import rates, threshold
from .momentum import below_one, scalars

__all__ = ["CyclicSteadyState", "Gradients", "cyclic", "cyclic_gradients", "driven", "random_gradients"]


class Gradients(NamedTuple):
    """Factors of a sequence of gradients :math:`G_t = L_t^T R_t`: left (P, r, m), right (P, r, n)."""

    left: Array
    right: Array


class CyclicSteadyState(NamedTuple):
    """Singular values in decreasing order, each repeated `multiplicity` times, and the rank at a level."""

    singular_values: Array
    multiplicity: int
    rank: int


def cyclic(
    size: int, batch_size: int, learning_rate: float, weight_decay: float, epsilon: float = 1e-3
) -> CyclicSteadyState:
    r"""Steady state of the SGD that is solved exactly, which shows the bound on the rank to be of the right form.

    For f(z) = W z with W of size m x m, samples :math:`x_i = e_i` with losses :math:`\ell_i(u) = u_i`, and batches of B
    in a fixed cycle, the weights become diagonal, with the singular values

    .. math:: \sigma_j = \frac{\eta}{B}\, \frac{(1 - x)^j}{1 - (1 - x)^{m/B}}, \qquad j = 0, \dots, m/B - 1,

    each B times; :math:`\|W_T\|` is constant. With the spectral norm the rank at level epsilon is

    .. math:: \min\big(m,\; B \lceil \log(1/\epsilon) / (-\log(1 - x)) \rceil\big),

    the "sharp" form of `bound` but for the rounding. Where the memory 1/x is much longer than the cycle m/B all
    singular values are alike: no bias.

    Parameters
    ----------
    size : int
        m.
    batch_size : int
        B, a divisor of m.
    learning_rate, weight_decay : float
        eta and lambda with 0 < x = eta lambda < 1.
    epsilon : float
        Level of the rank, 0 < epsilon < 1.

    Returns
    -------
    CyclicSteadyState
        `singular_values` (m/B distinct ones), `multiplicity` B, `rank`.

    Raises
    ------
    ValueError, TypeError
        If the batches do not fit into m, or x is not between 0 and 1.

    Examples
    --------
    >>> state = cyclic(6, 2, 0.5, 1.0, epsilon=0.3)
    >>> print(state.singular_values.round(4), state.multiplicity, state.rank)
    [0.2857 0.1429 0.0714] 2 4
    """
    m, B = _cycle(size, batch_size)
    lr, wd = scalars(learning_rate, weight_decay)
    x = lr * wd
    if not 0 < x < 1:
        raise ValueError(
            f"`weight_decay` times `learning_rate` must be between 0 and 1, got {x}. There is no steady state."
        )
    log = math.log1p(-x)
    s = lr / B * np.exp(log * np.arange(m // B)) / -math.expm1(log * (m // B))
    rank = min(m, B * math.ceil(math.log(threshold(epsilon)) / log))
    return CyclicSteadyState(s, B, rank)


def cyclic_gradients(size: int, batch_size: int) -> Gradients:
    r"""Gradients of the exactly solvable SGD of `cyclic`: :math:`\frac1B \sum_{i \in \text{batch}} e_i e_i^T`.

    Parameters
    ----------
    size, batch_size : int
        m and B, a divisor of m.

    Returns
    -------
    Gradients
        One cycle, P = m / B.

    Raises
    ------
    ValueError, TypeError
        If the batches do not fit into m.

    Examples
    --------
    >>> cyclic_gradients(4, 2).left.shape
    (2, 2, 4)
    """
    m, B = _cycle(size, batch_size)
    right = np.eye(m).reshape(m // B, B, m)
    return Gradients(right / B, right.copy())


def random_gradients(shape: tuple[int, int], rank: int, count: int, *, rng: RNG = None) -> Gradients:
    r"""Independent Gaussian gradients of a given rank, with :math:`E\|G\|_F^2 = 1`.

    SGD of constant rates under them has :math:`E\|W\|_F^2 \to \eta^2 / (1 - (1 - x)^2)`.

    Parameters
    ----------
    shape : (int, int)
        Shape of the gradients.
    rank : int
        r >= 1, the number of outer products in each.
    count : int
        P, how many.
    rng : None, int, SeedSequence or Generator
        Source of randomness.

    Returns
    -------
    Gradients

    Raises
    ------
    ValueError, TypeError
        If a size is not a positive integer.

    Examples
    --------
    >>> left, right = random_gradients((5, 4), 2, 100, rng=0)
    >>> print(np.linalg.matrix_rank(left[0].T @ right[0]))
    2
    """
    m, n = checks.widths(shape, "shape")
    r = checks.integer(rank, "rank", least=1, most=checks.MOST)
    P = checks.integer(count, "count", least=1, most=checks.MOST)
    random = checks.generator(rng)
    left, right = random.standard_normal((P, r, m)), random.standard_normal((P, r, n))
    return Gradients(left / math.sqrt(r * m * n), right)


def driven(
    start: ArrayLike,
    gradients: tuple[ArrayLike, ArrayLike],
    learning_rate: ArrayLike,
    weight_decay: ArrayLike,
    *,
    steps: int | None = None,
    momentum: float = 0.0,
    every: int | None = None,
) -> Array:
    r"""Weights of SGD with decay on one matrix under given gradients, taken in turn as often as needed.

    .. math:: V \leftarrow \beta V + L_t^T R_t + \lambda_t W, \qquad W \leftarrow W - \eta_t V .

    Parameters
    ----------
    start : array_like, shape (m, n)
        W_0.
    gradients : (array_like, array_like), shapes (P, r, m) and (P, r, n)
        Factors, see `Gradients`.
    learning_rate, weight_decay : float or array_like, shape (T,)
        Rates of each step; scalars with `steps`.
    steps : int, optional
        T, where both rates are scalars.
    momentum : float
        beta, 0 <= beta < 1.
    every : int, optional
        Every such step is kept; by default the last alone.

    Returns
    -------
    W : ndarray, shape (T // every, m, n)

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit or a rate is negative.

    Examples
    --------
    >>> W = driven(np.zeros((6, 6)), cyclic_gradients(6, 2), 0.5, 1.0, steps=300)
    >>> print(np.linalg.svd(W[-1], compute_uv=False).round(4))
    [0.2857 0.2857 0.1429 0.1429 0.0714 0.0714]
    """
    from ..core.sgd import compiled_driven

    W = checks.array(start, "start", ndim=2)
    left = checks.array(gradients[0], "gradients[0]", ndim=3)
    right = checks.array(gradients[1], "gradients[1]", ndim=3)
    if left.shape[:2] != right.shape[:2] or (left.shape[2], right.shape[2]) != W.shape:
        raise ValueError(
            f"`gradients` must have shapes (P, r, {W.shape[0]}) and (P, r, {W.shape[1]}), "
            f"got {left.shape} and {right.shape}. They must fit the start."
        )
    lr, wd = rates(learning_rate, weight_decay, steps)
    kept = checks.integer(max(1, len(lr)) if every is None else every, "every", least=1)
    out = np.zeros((len(lr) // kept, W.size))
    compiled_driven()(
        *(W.ravel(), np.zeros(W.size), left.ravel(), right.ravel(), left.shape[1], *W.shape),
        *(lr, wd, below_one(momentum), kept, out),
    )
    return out.reshape(-1, *W.shape)


def _cycle(size: int, batch_size: int) -> tuple[int, int]:
    m = checks.integer(size, "size", least=1, most=checks.MOST)
    B = checks.integer(batch_size, "batch_size", least=1)
    if m % B:
        raise ValueError(f"`batch_size` must divide the size {m}, got {B}. The cycle has m / B batches.")
    return m, B
