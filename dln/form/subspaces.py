r"""Subspaces of the hidden layers in which the whole dynamics happens, or nearly all of it.

The gradient dC/dW_l = B_l^T G F_{l-1}^T lives between the images of the inputs, range F_{l-1}, and those of the
outputs, range B_l^T. If subspaces S_l of the hidden layers, with S_0 and S_L everything, obey

.. math:: W_l S_{l-1} \subset S_l, \qquad W_{l+1}^T S_{l+1} \subset S_l ,

then every layer stays block diagonal, and what it does outside never feels a gradient. With orthonormal frames P_l of
the S_l the matrices :math:`R_l = P_l^T W_l P_{l-1}` are a smaller network with the same end-to-end matrix, the same
gradients and the same updates: flow, gradient descent, momentum, mini-batches, weight decay.

For two layers the forward and backward images, n_0 + n_L directions, are invariant whatever the start is. Deeper nets
start from them too (order 0), and every order adds the images of the last additions in the neighbouring layers, until
nothing new comes (orthogonal or rank-deficient layers) or the truncation is small enough (Gaussian ones).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..typing import Array

__all__ = ["Frames", "Krylov", "krylov", "norm"]

# An image counts as new if it leaves the subspace by this share of the Frobenius norm of its layer: above rounding.
DROP = 64 * float(np.finfo(float).eps)
CLEAR = 0.1  # what is left of a column by one projection is orthogonal to rounding over this share of it
BLOCK = 2**22  # bytes of a layer whose squares are summed at once


@dataclass(frozen=True)
class Frames:
    """Orthonormal frames of the hidden layers and the network between them.

    Attributes
    ----------
    bases : tuple of ndarray, each (n_l, m_l)
        P_l of the hidden layers l = 1 .. L-1.
    layers : tuple of ndarray, each (m_l, m_{l-1})
        R_l = P_l^T W_l P_{l-1}.
    closed : bool
        Whether the subspaces are invariant (to rounding), so that the small network is exact.
    dimensions : tuple of tuple of int
        (m_1, .., m_{L-1}) at the orders 0, 1, ...
    norms : tuple of float
        Frobenius norms of the W_l.
    """

    bases: tuple[Array, ...]
    layers: tuple[Array, ...]
    closed: bool
    dimensions: tuple[tuple[int, ...], ...]
    norms: tuple[float, ...]

    @property
    def order(self) -> int:
        """Number of times that images were added to the forward and backward ones."""
        return len(self.dimensions) - 1

    def truncated(self, order: int) -> Frames:
        """The frames of a lower order: leading columns of these."""
        if order >= self.order:
            return self
        m = self.dimensions[order]
        ends = (self.layers[0].shape[1], *m, self.layers[-1].shape[0])
        layers = tuple(
            R[:rows, :columns] for R, columns, rows in zip(self.layers, ends[:-1], ends[1:], strict=True)
        )
        bases = tuple(P[:, :columns] for P, columns in zip(self.bases, m, strict=True))
        return Frames(bases, layers, False, self.dimensions[: order + 1], self.norms)


def krylov(layers: Sequence[Array], order: int) -> Frames:
    """Frames of the Krylov subspaces of an order, of a lower one where they close before.

    Parameters
    ----------
    layers : sequence of ndarray
        W_1, .., W_L, L >= 2; memory maps are read block by block, once for every order.
    order : int
        0: forward and backward images. Each further one adds W_l S_{l-1} + W_{l+1}^T S_{l+1} to S_l.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> layers = [rng.standard_normal(shape) for shape in ((200, 4), (200, 200), (4, 200))]
    >>> krylov(layers, 3).dimensions
    ((8, 8), (12, 12), (16, 16), (20, 20))
    """
    space = Krylov(layers)
    while space.order < order and not space.closed:
        space.extend()
    return space.frames()


@dataclass
class Krylov:
    """Frames that grow order by order; `frames` puts together what there is."""

    weights: Sequence[Array]
    bases: list[Array] = field(init=False)
    dimensions: list[tuple[int, ...]] = field(init=False)
    closed: bool = field(init=False, default=False)
    deficient: bool = field(
        init=False, default=False
    )  # fewer new directions than of layers in general position

    def __post_init__(self) -> None:
        W = self.weights
        self.norms = tuple(norm(layer) for layer in W)
        self.images: list[list[Array]] = []  # W_l P_{l-1} of l = 2 .. L-1
        new: list[
            tuple[Array, Array]
        ] = []  # by layer: directions whose images forwards, backwards are not there yet
        if len(W) == 2:
            # Householder QR is right to rounding column by column, so that columns of any size keep their digits.
            self.bases = [np.linalg.qr(np.hstack([W[0], W[1].T]))[0]]
        else:
            forward, backward, self.images = _chains(W)
            beside = [_independent(r, q) for q, r in zip(forward, backward, strict=True)]
            self.bases = [np.hstack(pair) for pair in zip(forward, beside, strict=True)]
            new = list(zip(beside, forward, strict=True))
        self.dimensions = [tuple(P.shape[1] for P in self.bases)]
        self._multiply(new, W[-1].shape[0], W[0].shape[1])

    @property
    def order(self) -> int:
        """The order reached."""
        return len(self.dimensions) - 1

    def _multiply(self, new: Sequence[tuple[Array, Array]], *expected: int) -> None:
        """Images of new directions, forwards and backwards; the frames are closed if none leaves them.

        In general position each layer has so many new ones of both kinds, or as many as it has been given.
        """
        candidates: list[list[Array]] = [[] for _ in self.bases]
        counts = [0] * len(self.bases)
        for l, W in enumerate(self.weights[1:-1]):
            right, left = new[l][0], new[l + 1][1]
            forward, backward = _both_products(W, right, left)
            self.images[l].append(forward)
            for k, (image, place) in enumerate(((forward, l + 1), (backward, l))):
                candidates[place].append(image / (self.norms[l + 1] or 1.0))
                counts[place] += expected[k] if expected else image.shape[1]
        self.newest = [
            _independent(np.hstack(images), P) if images else P[:, :0]
            for P, images in zip(self.bases, candidates, strict=True)
        ]
        self.closed = not any(N.shape[1] for N in self.newest)
        self.deficient = any(
            N.shape[1] < min(count, len(P) - P.shape[1])
            for N, P, count in zip(self.newest, self.bases, counts, strict=True)
        )

    def foreseen(self, order: int) -> list[int]:
        """Dimensions at an order, if what it adds is independent."""
        m, new = [P.shape[1] for P in self.bases], [N.shape[1] for N in self.newest]
        for _ in range(self.order, order):
            m = [min(len(P), a + b) for P, a, b in zip(self.bases, m, new, strict=True)]
            new = [a + b for a, b in zip([0, *new[:-1]], [*new[1:], 0], strict=True)]
        return m

    def extend(self) -> None:
        """Add the images of the last additions."""
        newest = self.newest
        self.bases = [np.hstack([P, N]) for P, N in zip(self.bases, newest, strict=True)]
        self.dimensions.append(tuple(P.shape[1] for P in self.bases))
        self._multiply([(N, N) for N in newest])

    def frames(self) -> Frames:
        """The frames and the network between them."""
        P, W = self.bases, self.weights
        inner = [P[l + 1].T @ np.hstack(images) for l, images in enumerate(self.images)]
        layers = (P[0].T @ W[0], *inner, W[-1] @ P[-1])
        return Frames(tuple(P), layers, self.closed, tuple(self.dimensions), self.norms)


def norm(W: Array) -> float:
    """Frobenius norm, without a copy of the matrix unless its squares leave the range of numbers."""
    with np.errstate(over="ignore", under="ignore"):
        square = sum(float(np.vdot(part, part)) for part in _blocks(W))
    if 1e-250 < square < 1e250:
        return math.sqrt(square)
    largest = max(float(np.abs(part).max()) for part in _blocks(W))
    return largest * float(np.linalg.norm(W / largest)) if 0.0 < largest < math.inf else largest


def _blocks(W: Array) -> list[Array]:
    """Views of consecutive rows."""
    rows = max(1, BLOCK // (8 * W.shape[1]))
    return [W[start : start + rows] for start in range(0, len(W), rows)]


def _chains(W: Sequence[Array]) -> tuple[list[Array], list[Array], list[list[Array]]]:
    """Orthonormal images of the inputs and of the outputs in every hidden layer, and those of the first by each W_l."""
    inner = len(W) - 2
    forward, backward = {0: _basis(W[0])}, {inner: _basis(W[-1].T)}
    images = []
    for l in range(inner):
        m = inner - 1 - l
        if l == m:  # the middle of the network: one reading for both
            ahead, back = _both_products(W[l + 1], forward[l], backward[m + 1])
        else:
            ahead, back = W[l + 1] @ forward[l], W[m + 1].T @ backward[m + 1]
        forward[l + 1], backward[m] = _basis(ahead), _basis(back)
        images.append([ahead])
    return [*forward.values()], [backward[l] for l in forward], images


def _both_products(W: Array, right: Array, left: Array) -> tuple[Array, Array]:
    """W right and W^T left; what is compiled is loaded when it is needed."""
    from ..core.images import both_products

    return both_products(W, right, left)


def _basis(columns: Array) -> Array:
    """Orthonormal basis of columns of any sizes."""
    largest = np.abs(columns).max(axis=0)
    columns = columns[:, largest > 0.0] / largest[largest > 0.0]
    return _independent(columns / np.linalg.norm(columns, axis=0), columns[:, :0])


def _independent(columns: Array, P: Array) -> Array:
    """Orthonormal basis of what columns of size up to 1 add to the frame P, but for what is no larger than rounding.

    Where little is left of a column, what is left is projected again: only then it is orthogonal to P too.
    """
    inside = P.T @ columns
    Q, R = np.linalg.qr(columns - P @ inside)
    size = math.sqrt(np.max(np.sum(inside**2, axis=0) + np.sum(R**2, axis=0), initial=0.0))
    U, s, _ = np.linalg.svd(R)
    rank = int(np.sum(s > DROP))
    basis = (Q if rank == len(s) else Q @ U[:, :rank])[:, : len(P) - P.shape[1]]
    if s.min(initial=1.0) > CLEAR * size:
        return basis
    return np.linalg.qr(basis - P @ (P.T @ basis))[0]
