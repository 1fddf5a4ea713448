"""Alignment: the modes of a network whose layers are diagonal in bases that begin and end with a target's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..network import end_to_end, layer_gradients
from ..typing import Array

__all__ = ["Modes", "aligned_modes"]

EQUAL = 1e-10  # singular values that count as one, relative to the largest
TOLERANCE = 1e-12  # of the alignment, relative to the layers
ROUNDING = 4 * float(
    np.finfo(float).eps
)  # of a layer on a vector, relative to its norm and for each of its columns


@dataclass(frozen=True)
class Modes:
    """Sizes (L, k), singular values (k,), bases b_0 .. b_L with k columns each, and what belongs to no mode."""

    sizes: Array
    s: Array
    bases: list[Array]
    rest: list[Array]

    def layers(self, sizes: Array, rest: Array | float = 1.0) -> tuple[Array, ...]:
        """Layers (T, n_l, n_{l-1}) of modes with other sizes (L, T, k), and the rest times a factor (T, 1, 1)."""
        between = zip(self.rest, sizes, self.bases[:-1], self.bases[1:], strict=True)
        return tuple(rest * R + (b * w[:, None, :]) @ a.T for R, w, a, b in between)


def aligned_modes(weights: Sequence[Array], target: Array, *, free: bool = False) -> Modes:
    """The modes of a network with a target, or, where `free`, pulled by the target alone as near the origin.

    The smallest size counts; those that may be rounding are taken for zero only where the network fits no other way.
    """
    pairs = _paired(weights, target)
    for noise in (0.0, ROUNDING * max(max(W.shape) for W in weights)):
        modes = _followed(weights, *pairs, noise)
        if _orthogonal(weights, modes) and _still(weights, target, modes, free):
            return modes
    raise ValueError(
        "`weights` must be diagonal in the singular vectors of the target, got layers that mix them. "
        "Start from dln.inits.aligned, or integrate with dln.gradient_flow."
    )


def _paired(weights: Sequence[Array], target: Array) -> tuple[Array, Array, Array]:
    """Singular vectors of the target; where singular values coincide, those that the network singles out."""
    U, s, Vt = np.linalg.svd(target)
    V, A, W = Vt.T, end_to_end(weights), weights[0]
    edges = np.flatnonzero(np.r_[True, np.diff(s) < -EQUAL * s[0], True])
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        if s[start] > EQUAL * s[0]:
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


def _followed(weights: Sequence[Array], U: Array, s: Array, V: Array, noise: float) -> Modes:
    """Every mode followed through the layers, forward until a layer is zero on it, and backward to there."""
    L = len(weights)
    ahead, passed = _passed(weights[:-1], V, noise)
    back, returned = _passed([W.T for W in weights[:0:-1]], U, noise)
    last = np.einsum("ij,ij->j", U, weights[-1] @ ahead[-1])
    forward, backward = np.vstack([passed, last]), np.vstack([0 * last, returned[::-1]])  # w_1 .. w_L
    zero = np.argmin(np.vstack([passed != 0, False * (last == 0)]), axis=0)[
        None, :
    ]  # the first layer that is zero
    later = np.arange(L)[:, None] > zero
    kept = ~(later & (backward == 0)).any(axis=0)  # where two layers are zero, the mode stands still
    w, s = np.where(later, backward, forward)[:, kept], s[kept]
    hidden = [np.where(l, c, b) for l, b, c in zip(later[1:], ahead[1:], back[:0:-1], strict=True)]
    bases = [b[:, kept] for b in (V, *hidden, U)]
    rest = [W - (b * x) @ a.T for W, x, a, b in zip(weights, w, bases[:-1], bases[1:], strict=True)]
    return Modes(w, s, bases, rest)


def _passed(matrices: Sequence[Array], B: Array, noise: float) -> tuple[list[Array], Array]:
    """Orthonormal directions passed through matrices, and their sizes; both are zero from where a matrix is zero on.

    The larger ones first, each orthogonal to those before: otherwise the larger modes would grow in the smaller ones.
    """
    k, frames, sizes = B.shape[1], [B], np.zeros((len(matrices), B.shape[1]))
    for W, size in zip(matrices, sizes, strict=True):
        X = W @ frames[-1]
        order = np.argsort(-np.linalg.norm(X, axis=0), kind="stable")
        Q, R = np.linalg.qr(X[:, order])
        frames.append(np.zeros((len(W), k)))
        diagonal = np.diagonal(R) * (np.abs(np.diagonal(R)) > noise * np.linalg.norm(W))
        size[order[: len(diagonal)]] = np.abs(diagonal)
        frames[-1][:, order[: len(diagonal)]] = Q * np.sign(diagonal)
    return frames, sizes


def _orthogonal(weights: Sequence[Array], modes: Modes) -> bool:
    """Whether bases are orthonormal, and what is left over lies outside of them."""
    bases, rest = modes.bases, modes.rest
    if any(np.abs(b.T @ b - np.eye(b.shape[1])).max(initial=0.0) > 1e-8 for b in bases):
        return False
    outside = (
        max(np.linalg.norm(R @ a), np.linalg.norm(b.T @ R))
        for R, a, b in zip(rest, bases, bases[1:], strict=False)
    )
    return all(part <= TOLERANCE * np.linalg.norm(W) for part, W in zip(outside, weights, strict=True))


def _still(weights: Sequence[Array], target: Array, modes: Modes, free: bool) -> bool:
    """Whether what is left over stands still by itself."""
    alone = target - (modes.bases[-1] * modes.s) @ modes.bases[0].T
    product = end_to_end(modes.rest)
    gradients = layer_gradients(modes.rest, (0.0 if free else 1.0) * product - alone)
    norms = [float(np.linalg.norm(W)) for W in weights]
    scale = float(np.linalg.norm(target)) + float(np.prod(norms))
    others = [np.prod(norms[:l] + norms[l + 1 :]) for l in range(len(norms))]
    return all(np.linalg.norm(g) <= TOLERANCE * scale * o for g, o in zip(gradients, others, strict=True))
