r"""The network itself: products of layers, gradients by layer, balance, symmetries.

Layers are a list ``[W_1, ..., W_L]``, ``W_l`` of shape ``(..., n_l, n_{l-1})``; leading axes are a batch.
Everything here is plain NumPy and serves as the judge of the compiled kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import checks
from .typing import Array, Layers

__all__ = [
    "end_to_end",
    "forward_products",
    "layer_gradients",
    "balances",
    "rotate",
    "include",
    "end_to_end_velocity",
    "ntk",
    "tangent_bound",
    "tangent_kernel",
]


def _transpose(M: Array) -> Array:
    return np.swapaxes(M, -1, -2)


def forward_products(weights: Sequence[Array]) -> list[Array]:
    """Products ``F_l = W_l ... W_1`` for l = 1 .. L; the last one is the end-to-end matrix."""
    weights = checks.chain(weights)
    products = [weights[0].copy()]
    for W in weights[1:]:
        products.append(W @ products[-1])
    return products


def end_to_end(weights: Sequence[Array]) -> Array:
    """End-to-end matrix ``A = W_L ... W_1``, shape (..., n_L, n_0)."""
    return forward_products(weights)[-1]


def finite_product(weights: Sequence[Array]) -> Array:
    """End-to-end matrix of layers of any size, infinite or NaN without a warning where it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return end_to_end(weights)


def layer_gradients(weights: Sequence[Array], G: Array) -> list[Array]:
    r"""Gradients by layer, :math:`\partial C/\partial W_l = B_l^T G F_{l-1}^T`.

    ``G`` is the gradient of the cost at the end-to-end matrix, ``B_l = W_L ... W_{l+1}``,
    ``F_{l-1} = W_{l-1} ... W_1``.
    """
    weights = checks.chain(weights)
    forward = forward_products(weights)
    gradients = []
    back = checks.fits(G, "G", forward[-1].shape[-2:])  # B_l^T G
    for W, F in zip(weights[:0:-1], forward[-2::-1], strict=True):
        gradients.append(back @ _transpose(F))
        back = _transpose(W) @ back
    gradients.append(back)
    return gradients[::-1]


def balances(weights: Sequence[Array]) -> list[Array]:
    r"""Balance matrices :math:`D_l = W_{l+1}^T W_{l+1} - W_l W_l^T`, l = 1 .. L-1.

    Conserved by the gradient flow of any cost; multiplied by ``exp(-2 weight_decay t)`` under weight decay.
    """
    weights = checks.chain(weights)
    return [
        _transpose(above) @ above - below @ _transpose(below)
        for below, above in zip(weights[:-1], weights[1:], strict=True)
    ]


def rotate(weights: Sequence[Array], rotations: Sequence[Array]) -> list[Array]:
    r"""Rotated network :math:`(O_1 W_1, O_2 W_2 O_1^T, \dots, W_L O_{L-1}^T)`: the same end-to-end matrix.

    ``rotations`` are the orthogonal ``O_1 .. O_{L-1}`` of the hidden layers.
    """
    weights = checks.chain(weights)
    if len(rotations) != len(weights) - 1:
        raise ValueError(
            f"`rotations` must be one for each of the {len(weights) - 1} hidden layers, got {len(rotations)}. "
            "Give O_1 .. O_{L-1}."
        )
    rotations = [
        checks.fits(O, "rotations", (W.shape[-2],) * 2) for O, W in zip(rotations, weights, strict=False)
    ]
    left = [*rotations, None]
    right = [None, *rotations]
    rotated = []
    for W, O_out, O_in in zip(weights, left, right, strict=True):
        V = W if O_out is None else O_out @ W
        rotated.append(V if O_in is None else V @ _transpose(O_in))
    return rotated


def include(weights: Sequence[Array], hidden: Sequence[int]) -> list[Array]:
    """Network padded by zero neurons to the given hidden widths: the same end-to-end matrix."""
    weights = checks.chain(weights)
    present = [W.shape[-2] for W in weights[:-1]]
    if len(hidden) != len(present) or any(n < m for n, m in zip(hidden, present, strict=True)):
        raise ValueError(
            f"`hidden` must be at least {present}, got {list(hidden)}. Inclusion only widens a network."
        )
    rows = [*hidden, weights[-1].shape[-2]]
    columns = [weights[0].shape[-1], *hidden]
    padded = []
    for W, n, m in zip(weights, rows, columns, strict=True):
        V = np.zeros((*W.shape[:-2], n, m), dtype=W.dtype)
        V[..., : W.shape[-2], : W.shape[-1]] = W
        padded.append(V)
    return padded


def end_to_end_velocity(weights: Sequence[Array], G: Array) -> Array:
    r"""Velocity of the end-to-end matrix without weight decay, :math:`\dot A = -\sum_l B_l B_l^T G F_{l-1}^T F_{l-1}`.

    The kernel in front of ``G`` is the neural tangent kernel of the deep linear network.
    """
    weights = checks.chain(weights)
    forward = forward_products(weights)
    G = checks.fits(G, "G", forward[-1].shape[-2:])
    velocity = np.zeros_like(forward[-1])
    B: Array | None = None
    for l in range(len(weights) - 1, -1, -1):
        left = G if B is None else B @ (_transpose(B) @ G)
        velocity = velocity - (left if l == 0 else left @ _transpose(forward[l - 1]) @ forward[l - 1])
        B = weights[l] if B is None else B @ weights[l]
    return velocity


def ntk(weights: Layers) -> Array:
    r"""Neural tangent kernel :math:`\Theta = \sum_l (B_l B_l^T) \otimes (F_{l-1}^T F_{l-1})`.

    Parameters
    ----------
    weights : sequence of array_like
        Layers [W_1, .., W_L].

    Returns
    -------
    ndarray, shape (n_L, n_0, n_L, n_0)
        :math:`\dot A_{ij} = -\sum_{kl} \Theta_{ijkl} G_{kl}` for G = dC/dA.

    Raises
    ------
    ValueError, TypeError
        If the layers do not chain.

    References
    ----------
    A. Jacot, F. Gabriel, C. Hongler, arXiv 1806.07572.

    Examples
    --------
    >>> ntk([np.eye(2), 2.0 * np.eye(2)])[0, 0]
    array([[5., 0.],
           [0., 0.]])
    """
    layers = checks.layers(weights)
    reverse = forward_products([W.T for W in reversed(layers)])[:-1]
    forward = [np.eye(layers[0].shape[1]), *forward_products(layers)[:-1]]
    backward = [*(B.T for B in reversed(reverse)), np.eye(layers[-1].shape[0])]
    P, Q = np.stack([B @ B.T for B in backward]), np.stack([F.T @ F for F in forward])
    return np.ascontiguousarray(np.tensordot(P, Q, (0, 0)).transpose(0, 2, 1, 3))


def _spectral(M: Array) -> float:
    return float(np.linalg.norm(M, 2))


def tangent_bound(weights: Sequence[Array]) -> float:
    r"""Upper bound of the neural tangent kernel, :math:`\sum_l \|B_l\|_{op}^2 \|F_{l-1}\|_{op}^2`."""
    reverse = [_transpose(W) for W in reversed(weights)]
    forward = [1.0, *map(_spectral, forward_products(weights)[:-1])]
    backward = [1.0, *map(_spectral, forward_products(reverse)[:-1])]
    return sum((b * f) ** 2 for b, f in zip(reversed(backward), forward, strict=True))


def tangent_kernel(weights: Sequence[Array], u: Array, v: Array) -> float:
    r"""Neural tangent kernel at :math:`u v^T`, :math:`\sum_l |B_l^T u|^2 |F_{l-1} v|^2`."""
    forward, backward = [v], [u]
    for W in weights[:-1]:
        forward.append(W @ forward[-1])
    for W in reversed(weights[1:]):
        backward.append(W.T @ backward[-1])
    return float(sum((f @ f) * (b @ b) for f, b in zip(forward, reversed(backward), strict=True)))
