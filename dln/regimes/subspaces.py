r"""A network seen from small subspaces of its hidden layers, by which its width stops to matter.

Gradients, and shortest ways to a minimum, live in the images :math:`F_l` of the inputs and :math:`B_l^T` of the
outputs. A Krylov space of order k holds those, and what k further layers make of them; the error of the network
projected on it falls faster than geometrically in k.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..network import forward_products
from ..typing import Array

__all__ = ["images", "krylov", "lifted", "projected", "widened"]

SEEN = 1e-10  # of a direction's length that must be new


def images(weights: Sequence[Array]) -> list[Array]:
    """F_l and B_l^T side by side, for each hidden layer."""
    forward = forward_products(weights)[:-1]
    backward = forward_products([W.T for W in reversed(weights)])[:-1]
    return [np.hstack([F, B]) for F, B in zip(forward, reversed(backward), strict=True)]


def widened(bases: Sequence[Array], more: Sequence[Array]) -> list[Array]:
    """Orthonormal bases of the spans of orthonormal bases and further columns."""
    return [_orthonormal(Q, columns) for Q, columns in zip(bases, more, strict=True)]


def krylov(weights: Sequence[Array], order: int) -> list[Array]:
    """Bases of the hidden layers that hold the images, and W_l and W_l^T of those of the order before."""
    none = [np.empty((len(W), 0)) for W in weights[:-1]]
    bases = widened(none, images(weights))
    for _ in range(order if bases else 0):
        up = [none[0], *(W @ Q for W, Q in zip(weights[1:-1], bases, strict=False))]
        down = [*(W.T @ Q for W, Q in zip(weights[1:-1], bases[1:], strict=True)), none[-1]]
        bases = widened(bases, [np.hstack(pair) for pair in zip(up, down, strict=True)])
    return bases


def projected(weights: Sequence[Array], bases: Sequence[Array]) -> list[Array]:
    """Layers Q_l^T W_l Q_{l-1}, Q_0 and Q_L the identity."""
    left = [Q.T @ W for Q, W in zip(bases, weights, strict=False)] + [weights[-1]]
    return [left[0], *(W @ Q for W, Q in zip(left[1:], bases, strict=True))]


def lifted(layers: Sequence[Array], bases: Sequence[Array]) -> list[Array]:
    """Layers Q_l V_l Q_{l-1}^T of the whole network."""
    left = [Q @ V for Q, V in zip(bases, layers, strict=False)] + [layers[-1]]
    return [left[0], *(V @ Q.T for V, Q in zip(left[1:], bases, strict=True))]


def _orthonormal(Q: Array, columns: Array) -> Array:
    """Q, and an orthonormal basis of what the columns, each taken at length one, have outside of it."""
    lengths = np.linalg.norm(columns, axis=0)
    units = columns[:, lengths > 0] / lengths[lengths > 0]
    U, s, _ = np.linalg.svd(units - Q @ (Q.T @ units), full_matrices=False)
    new = U[:, s > SEEN]
    return np.hstack([Q, np.linalg.qr(new - Q @ (Q.T @ new))[0]])
