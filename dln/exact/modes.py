"""Aligned starts of any depth: every singular mode of the target is a scalar network of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..costs import Cost
from ..network import end_to_end, layer_gradients
from ..problem import Problem
from ..trajectory import Trajectory
from ..typing import Array, ArrayLike, Layers
from .linear import linear
from .mode import mode
from .path import path, squared_distance, times
from .scalar import scalar

__all__ = ["modes"]

TOLERANCE, EQUAL = 1e-12, 1e-13  # of alignment and of balance, relative to the layers
LEAST = 1e-300  # product of layers that is not lost to underflow


def modes(cost: Cost, weights: Layers, t: ArrayLike, *, weight_decay: float = 0.0) -> Trajectory:
    r"""Trajectory of an aligned network: all layers diagonal in bases that begin and end with the target's.

    With :math:`W_l = \sum_i w_{l,i}\, b_{l,i} b_{l-1,i}^T`, b_0 and b_L singular vectors of the target,

    .. math:: \dot w_{l,i} = (s_i - \prod_m w_{m,i}) \prod_{m \ne l} w_{m,i} ,

    a balanced mode (all :math:`|w_{l,i}|` equal) follows `dln.exact.mode`, any other `dln.exact.scalar`.

    Parameters
    ----------
    cost : Cost
        FullyObserved, or SquareLoss with whitened inputs.
    weights : sequence of array_like
        An aligned start, such as `dln.inits.aligned` gives, balanced or not. What belongs to no mode does not move.
    t : array_like
        Increasing times >= 0.
    weight_decay : float
        lambda >= 0; closed for balanced modes of one or two layers only.

    Raises
    ------
    ValueError, TypeError
        If the layers are not aligned with the target, no closed form exists, or an argument is wrong.

    Notes
    -----
    Sizes that agree to 1e-13 count as balanced. A balanced mode whose product has the wrong sign dies; this is exact,
    but a difference of the last digit alone would turn it in the end.

    References
    ----------
    A. Saxe, J. McClelland, S. Ganguli, arXiv 1312.6120; S. Tarmoun et al., ICML 2021 (unbalanced).

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved(np.diag([3.0, 2.0]))
    >>> run = modes(cost, dln.inits.aligned(cost.target, 3, scale=1e-6), [0.0, 33.0, 40.0, 60.0])
    >>> np.round(run.singular_values, 3)
    array([[0.   , 0.   ],
           [0.673, 0.   ],
           [3.   , 0.   ],
           [3.   , 2.   ]])
    """
    problem, t = Problem.checked(cost, weights, weight_decay), times(t)
    if problem.depth == 1:
        return linear(cost, weights, t, weight_decay=weight_decay)
    target, factor = squared_distance(cost)
    chains = _chains(problem.weights, target)
    decay = problem.weight_decay / factor

    def law(t: Array) -> tuple[Array, ...]:
        sizes = _sizes(chains.sizes, chains.s, factor * t, decay)
        gone = np.exp(-problem.weight_decay * t)[:, None, None]
        return tuple(
            gone * rest + (after * w[:, None, :]) @ before.T
            for rest, w, before, after in zip(
                chains.rest, sizes, chains.bases[:-1], chains.bases[1:], strict=True
            )
        )

    law(t[:1])  # refused here, where no closed form exists
    return path(problem, t, law, method="modes", state_size=chains.sizes.size)


def _sizes(w: Array, s: Array, t: Array, decay: float) -> Array:
    """Layers of every mode, (L, k) at the start, (L, T, k) at times."""
    L, size = len(w), np.abs(w).max(axis=0)
    level = np.abs(np.abs(w) - size).max(axis=0) <= EQUAL * size
    if decay > 0 and (L > 2 or not level.all()):
        raise ValueError(
            f"`weight_decay` must be 0 unless two layers are balanced, got {decay:g} at depth {L}. "
            "Take dln.gradient_flow."
        )
    level &= size**L > LEAST  # a product that underflows is left to the general law
    result = np.empty((L, len(t), w.shape[1]))
    for i in range(w.shape[1]):
        if level[i]:
            a = mode(t, size[i] ** L, np.prod(np.sign(w[:, i])) * s[i] - decay, L)
            result[:, :, i] = np.sign(w[:, i])[:, None] * a ** (1 / L)
        else:
            result[:, :, i] = scalar(t, w[:, i], s[i]).T
    return result


class _Chains(NamedTuple):
    """Sizes (L, k), singular values (k,), bases b_0 .. b_L with k columns each, and what belongs to no mode."""

    sizes: Array
    s: Array
    bases: list[Array]
    rest: list[Array]


def _chains(weights: tuple[Array, ...], target: Array) -> _Chains:
    """The modes of an aligned network."""
    chains = _followed(weights, *_paired(weights, target))
    if _fit(weights, target, chains):
        return chains
    raise ValueError(
        "`weights` must be diagonal in the singular vectors of the target, got layers that mix them. "
        "Start from dln.inits.aligned, or take dln.gradient_flow."
    )


def _paired(weights: tuple[Array, ...], target: Array) -> tuple[Array, Array, Array]:
    """Singular vectors of the target; where singular values coincide, those that the network singles out."""
    U, s, Vt = np.linalg.svd(target)
    V, A, W = Vt.T, end_to_end(weights), weights[0]
    edges = (
        np.flatnonzero(np.r_[True, np.diff(s) < -1e-10 * s[0], True]) if s[0] > 0 else np.array([0, len(s)])
    )
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        if s[start] > 1e-10 * s[0]:
            u, v = U[:, start:stop], V[:, start:stop]
            H = _scaled(u.T @ A @ v) + 0.37 * _scaled(v.T @ W.T @ W @ v)
            R = np.linalg.eigh((H + H.T) / 2)[1] if stop - start > 1 else np.eye(1)
            U[:, start:stop], V[:, start:stop] = u @ R, v @ R
        else:
            u, v = U[:, start:], V[:, start:]
            P, _, Rt = np.linalg.svd(u.T @ A @ v)
            U[:, start:], V[:, start:] = u @ P, v @ Rt.T
    return U[:, : len(s)], s, V[:, : len(s)]


def _scaled(H: Array) -> Array:
    return H / max(float(np.abs(H).max()), 1e-300)


def _followed(weights: tuple[Array, ...], U: Array, s: Array, V: Array) -> _Chains:
    """Every mode followed through the layers, forward until a layer is zero on it, and backward to there."""
    L, modes = len(weights), np.arange(len(s))
    ahead, passed = _passed(weights[:-1], V)
    back, returned = _passed([W.T for W in weights[:0:-1]], U)
    back, returned = back[::-1], np.vstack([np.zeros(len(s)), returned[::-1]])  # b_1 .. b_L, w_1 .. w_L
    zero = np.where((passed == 0).any(axis=0), np.argmin(passed != 0, axis=0), L - 1) if L > 1 else 0 * modes
    w = np.vstack([passed, np.einsum("ji,ji->i", U, weights[-1] @ ahead[-1])])
    kept = np.ones(len(s), dtype=bool)  # but those on which two layers are zero, and which stand still
    for l in range(L):
        w[l] = np.where(l > zero, returned[l], w[l])
        kept &= (l <= zero) | (returned[l] > 0)
    bases = [
        V,
        *(np.where(l <= zero, b, c) for l, b, c in zip(range(1, L), ahead[1:], back, strict=False)),
        U,
    ]
    bases, w = [b[:, kept] for b in bases], w[:, kept]
    rest = [W - (b * x) @ a.T for W, x, a, b in zip(weights, w, bases[:-1], bases[1:], strict=True)]
    return _Chains(w, s[kept], bases, rest)


def _passed(matrices: Sequence[Array], B: Array) -> tuple[list[Array], Array]:
    """Orthonormal directions passed through matrices, and their sizes; both are zero from where a matrix is zero on.

    The larger ones first, each orthogonal to those before: otherwise the larger modes would grow in the smaller ones.
    """
    k, frames, sizes = B.shape[1], [B], np.zeros((len(matrices), B.shape[1]))
    for W, size in zip(matrices, sizes, strict=True):
        X = W @ frames[-1]
        order = np.argsort(-np.linalg.norm(X, axis=0), kind="stable")
        Q, R = np.linalg.qr(X[:, order])
        frames.append(np.zeros((len(W), k)))
        diagonal = np.diagonal(R)
        size[order[: len(diagonal)]] = np.abs(diagonal)
        frames[-1][:, order[: len(diagonal)]] = Q * np.sign(diagonal)
    return frames, sizes


def _fit(weights: tuple[Array, ...], target: Array, chains: _Chains) -> bool:
    """Whether bases are orthonormal, what is left over lies outside of them, and stands still by itself."""
    for b in chains.bases:
        if np.abs(b.T @ b - np.eye(b.shape[1])).max(initial=0.0) > 1e-8:
            return False
    norms = [float(np.linalg.norm(W)) for W in weights]
    for size, R, a, b in zip(norms, chains.rest, chains.bases[:-1], chains.bases[1:], strict=True):
        if max(np.linalg.norm(R @ a), np.linalg.norm(b.T @ R)) > TOLERANCE * size:
            return False
    alone = target - (chains.bases[-1] * chains.s) @ chains.bases[0].T
    gradients = layer_gradients(chains.rest, end_to_end(chains.rest) - alone)
    scale = float(np.linalg.norm(target)) + float(np.prod(norms))
    others = [np.prod(norms[:l] + norms[l + 1 :]) for l in range(len(norms))]
    return all(np.linalg.norm(g) <= TOLERANCE * scale * o for g, o in zip(gradients, others, strict=True))
