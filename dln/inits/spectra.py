r"""Starts by their spectra: orthogonal layers, balanced factors of a matrix, modes aligned with a target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from .. import checks
from ..typing import RNG, Array, ArrayLike

__all__ = ["aligned", "balanced", "balanced_factors", "lambda_balanced", "orthogonal", "orthonormal"]


def orthogonal(widths: Sequence[int], *, scale: float, rng: RNG = None) -> list[Array]:
    """Layers `scale` times a random matrix with orthonormal rows or columns (whichever are fewer), Haar distributed.

    Parameters
    ----------
    widths : sequence of int
        (n_0, .., n_L).
    scale : float
        Every singular value of every layer.
    rng : None, int, SeedSequence or Generator
        Source of randomness.

    Raises
    ------
    ValueError, TypeError
        If `scale` is not positive or `widths` is not a list of positive integers.

    Examples
    --------
    >>> W_1, W_2 = orthogonal((2, 4, 2), scale=0.5, rng=0)
    >>> np.allclose(W_1.T @ W_1, 0.25 * np.eye(2))
    True
    """
    n = checks.widths(widths)
    size = checks.positive(scale, "scale")
    random = checks.generator(rng)
    layers = []
    for rows, columns in zip(n[1:], n[:-1], strict=True):
        Q = orthonormal(max(rows, columns), min(rows, columns), random)
        layers.append(size * (Q if rows >= columns else Q.T))
    return [np.ascontiguousarray(W) for W in layers]


def balanced(
    A: ArrayLike, depth: int, *, widths: Sequence[int] | None = None, rng: RNG = None
) -> list[Array]:
    r"""Balanced layers with product A: :math:`W_l = O_l S^{1/L} O_{l-1}^T` for :math:`A = U S V^T`, O_0 = V, O_L = U.

    These are the factors of least :math:`\sum_l \|W_l\|_F^2`. The hidden O_l are random matrices with orthonormal
    columns.

    Parameters
    ----------
    A : array_like, shape (n_L, n_0)
        The product.
    depth : int
        Number of layers L >= 1.
    widths : sequence of int, optional
        (n_0, .., n_L), hidden ones at least the rank of A; by default all hidden widths are min(n_0, n_L).
    rng : None, int, SeedSequence or Generator
        Source of randomness of the hidden bases.

    Raises
    ------
    ValueError, TypeError
        If a hidden width is below the rank of A or the widths do not fit A and the depth.

    References
    ----------
    arXiv 2106.15933v1, representation cost (J1-T2).

    Examples
    --------
    >>> W_1, W_2, W_3 = balanced(np.diag([8.0, 1.0]), 3, rng=0)
    >>> np.allclose(W_3 @ W_2 @ W_1, np.diag([8.0, 1.0])), np.allclose(W_2.T @ W_2, W_1 @ W_1.T)
    (True, True)
    """
    random = checks.generator(rng)
    return balanced_factors(A, depth, widths, lambda rows, columns: orthonormal(rows, columns, random))


def lambda_balanced(widths: Sequence[int], balance: float, *, scale: float, rng: RNG = None) -> list[Array]:
    r"""Two layers with :math:`W_2^T W_2 - W_1 W_1^T = \kappa I`.

    The lighter layer is Gaussian with standard deviation ``scale / sqrt(max(shape))``; the other follows from it.

    Parameters
    ----------
    widths : sequence of int
        (n_0, w, n_2).
    balance : float
        kappa. Positive needs w <= n_2, negative w <= n_0.
    scale : float
        Size of the lighter layer.
    rng : None, int, SeedSequence or Generator
        Source of randomness.

    Raises
    ------
    ValueError, TypeError
        If there are not two layers, or the hidden width does not admit this balance.

    References
    ----------
    Theory F-3: the starts for which the dynamics of two layers is a Riccati equation.

    Examples
    --------
    >>> W_1, W_2 = lambda_balanced((3, 2, 4), 0.7, scale=0.1, rng=0)
    >>> np.allclose(W_2.T @ W_2 - W_1 @ W_1.T, 0.7 * np.eye(2))
    True
    """
    n = checks.widths(widths)
    kappa = checks.number(balance, "balance")
    scale = checks.positive(scale, "scale")
    if len(n) != 3:
        raise ValueError(
            f"`widths` must describe two layers (n_0, w, n_2), got {n}. This start is for depth 2."
        )
    n_0, w, n_2 = n
    random = checks.generator(rng)
    if kappa == 0:
        A = scale**2 * random.standard_normal((n_2, w)) @ random.standard_normal((w, n_0)) / max(n)
        return balanced(A, 2, widths=n, rng=random)
    side, room = ("n_2", n_2) if kappa > 0 else ("n_0", n_0)
    if w > room:
        raise ValueError(
            f"`balance` = {kappa:g} must come with w <= {side}, got widths {n}. Narrow the hidden layer."
        )
    light = scale / max(w, n_0 + n_2 - room) ** 0.5 * random.standard_normal((w, n_0 + n_2 - room))
    # heavy^T heavy = light light^T + |kappa| I has the root P diag(sqrt(s^2 + |kappa|)) P^T.
    P, s, _ = np.linalg.svd(light, full_matrices=True)
    sizes = np.zeros(w)
    sizes[: len(s)] = s**2
    heavy = orthonormal(room, w, random) @ (P * np.sqrt(sizes + abs(kappa))) @ P.T
    return [light, heavy] if kappa > 0 else [np.ascontiguousarray(heavy.T), np.ascontiguousarray(light.T)]


def aligned(
    target: ArrayLike, depth: int, *, scale: float, widths: Sequence[int] | None = None
) -> list[Array]:
    r"""Balanced layers whose product has the singular vectors of `target`, every singular value being `scale`.

    Layer l carries each mode at :math:`u_0 = \text{scale}^{1/L}`, so the modes move independently (theory F-6).

    Parameters
    ----------
    target : array_like, shape (n_L, n_0)
        Matrix whose singular vectors are taken.
    depth : int
        Number of layers L >= 1.
    scale : float
        Singular value a_0 of every one of the min(n_0, n_L) modes of the product.
    widths : sequence of int, optional
        (n_0, .., n_L), hidden ones at least min(n_0, n_L), which is the default.

    Raises
    ------
    ValueError, TypeError
        If `scale` is not positive or the widths do not fit.

    Examples
    --------
    >>> W_1, W_2, W_3 = aligned(np.diag([3.0, 2.0]), 3, scale=0.008)
    >>> np.round(W_3 @ W_2 @ W_1, 12)
    array([[0.008, 0.   ],
           [0.   , 0.008]])
    """
    target = checks.array(target, "target", ndim=2)
    depth = checks.integer(depth, "depth", least=1, most=checks.MOST)
    u = checks.positive(scale, "scale") ** (1 / depth)
    U, s, Vt = np.linalg.svd(target, full_matrices=False)
    n = _widths_around(target.shape, depth, widths, len(s))
    return _between([Vt.T, *(np.eye(w, len(s)) for w in n[1:-1]), U], u)


def balanced_factors(
    A: ArrayLike, depth: int, widths: Sequence[int] | None, hidden: Callable[[int, int], Array]
) -> list[Array]:
    """Balanced layers with product A, between hidden bases ``hidden(width, rank)`` with orthonormal columns."""
    A = checks.array(A, "A", ndim=2)
    depth = checks.integer(depth, "depth", least=1, most=checks.MOST)
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    rank = int(np.sum(s > max(A.shape) * np.finfo(float).eps * s[0]))
    n = _widths_around(A.shape, depth, widths, rank)
    return _between([Vt[:rank].T, *(hidden(w, rank) for w in n[1:-1]), U[:, :rank]], s[:rank] ** (1 / depth))


def _between(bases: Sequence[Array], u: Array | float) -> list[Array]:
    """Layers that take each column of a basis to u times that column of the next."""
    return [(after * u) @ before.T for before, after in pairwise(bases)]


def _widths_around(
    shape: tuple[int, ...], depth: int, given: Sequence[int] | None, least: int
) -> tuple[int, ...]:
    """Widths of a network of this depth whose product has this shape and whose hidden layers hold `least` modes."""
    n_L, n_0 = shape
    if given is None:
        return (n_0, *[min(n_0, n_L)] * (depth - 1), n_L)
    n = checks.widths(given)
    if len(n) != depth + 1 or n[0] != n_0 or n[-1] != n_L:
        raise ValueError(
            f"`widths` must be (n_0, ..., n_L) = ({n_0}, ..., {n_L}) with {depth + 1} entries, got {n}. "
            "It must fit the matrix and the depth."
        )
    if min(n[1:-1], default=least) < least:
        raise ValueError(
            f"`widths` must be at least {least} in every hidden layer, got {n}. Widen the network."
        )
    return n


def orthonormal(rows: int, columns: int, random: np.random.Generator) -> Array:
    """Haar-distributed matrix with orthonormal columns."""
    Q, R = np.linalg.qr(random.standard_normal((rows, columns)))
    signs: Array = np.where(np.diag(R) < 0, -1.0, 1.0)
    return np.asarray(Q * signs)
