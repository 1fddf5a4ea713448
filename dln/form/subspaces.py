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
BLOCK = 2**22  # bytes of a layer that are read at once, for both of its products


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
        W, last = self.weights, len(self.weights) - 1
        self.norms = tuple(norm(layer) for layer in W)
        forward = [W[0]]
        for layer in W[1:-1]:
            forward.append(layer @ np.linalg.qr(forward[-1])[0])
        backward = [W[last].T]
        for layer in W[last - 1 : 0 : -1]:
            backward.insert(0, layer.T @ np.linalg.qr(backward[0])[0])
        # Householder QR is right to rounding column by column, so that columns of any size keep their digits.
        self.bases = [np.linalg.qr(np.hstack(images))[0] for images in zip(forward, backward, strict=True)]
        self.images: list[list[Array]] = [[] for _ in range(last - 1)]  # W_l P_{l-1} of l = 2 .. L-1
        self.dimensions = [tuple(P.shape[1] for P in self.bases)]
        n_0, n_L = W[0].shape[1], W[-1].shape[0]  # of the inputs only the images backwards are new, and so on
        self._multiply(self.bases, [n_L] * (last - 1), [n_0] * (last - 1))

    @property
    def order(self) -> int:
        """The order reached."""
        return len(self.dimensions) - 1

    def _multiply(self, newest: Sequence[Array], forwards: Sequence[int], backwards: Sequence[int]) -> None:
        """Images of the newest directions, so many of them new; the frames are closed if none leaves them."""
        candidates: list[list[Array]] = [[] for _ in self.bases]
        for l, W in enumerate(self.weights[1:-1]):
            forward, backward = _both_products(W, newest[l], newest[l + 1])
            self.images[l].append(forward)
            for image, place in ((forward, l + 1), (backward, l)):
                candidates[place].append(image / (self.norms[l + 1] or 1.0))
        self.newest = [
            _independent(np.hstack(images), P) if images else P[:, :0]
            for P, images in zip(self.bases, candidates, strict=True)
        ]
        self.closed = not any(N.shape[1] for N in self.newest)
        expected = [a + b for a, b in zip([0, *forwards], [*backwards, 0], strict=True)]
        self.deficient = any(
            N.shape[1] < min(count, len(P) - P.shape[1])
            for N, P, count in zip(self.newest, self.bases, expected, strict=True)
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
        counts = [N.shape[1] for N in newest]
        self._multiply(newest, counts[:-1], counts[1:])

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


def _both_products(W: Array, right: Array, left: Array) -> tuple[Array, Array]:
    """W right and W^T left, each block of rows read once."""
    forward, backward = np.empty((len(W), right.shape[1])), np.zeros((W.shape[1], left.shape[1]))
    start = 0
    for part in _blocks(W):
        rows = slice(start, start + len(part))
        forward[rows] = part @ right
        backward += part.T @ left[rows]
        start += len(part)
    return forward, backward


def _independent(columns: Array, P: Array) -> Array:
    """Orthonormal basis of what columns of size up to 1 add to the frame P, but for what is no larger than rounding.

    Projected twice: what little is left of a nearly dependent column is orthogonal to P too.
    """
    Q, R = np.linalg.qr(columns - P @ (P.T @ columns))
    U, s, _ = np.linalg.svd(R)
    basis = (Q @ U[:, : int(np.sum(s > DROP))])[:, : len(P) - P.shape[1]]
    return np.linalg.qr(basis - P @ (P.T @ basis))[0]
