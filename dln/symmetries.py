r"""Symmetries of the loss of the layers: rotations of hidden layers, and inclusion into wider networks; the way out.

Both keep :math:`A = W_L \cdots W_1` and commute with the gradient flow, gradient descent, mini-batches, momentum and
weight decay, and with whatever else is linear in the gradients of the layers (not with Adam). An included network is
thus never left: its new neurons stay at zero, and a run of the wide network is one of the narrow one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import checks, network
from .inits import orthonormal
from .typing import RNG, Array, ArrayLike, Layers

__all__ = ["grow", "grown", "include", "rotate"]

ORTHOGONAL = 1e-10  # largest entry of O O^T - I that passes


def rotate(weights: Layers, rotations: Sequence[ArrayLike] | None = None, *, rng: RNG = None) -> list[Array]:
    r"""Rotated layers :math:`(O_1 W_1,\, O_2 W_2 O_1^T,\, \dots,\, W_L O_{L-1}^T)`, with the same product.

    Parameters
    ----------
    weights : sequence of array_like
        Layers [W_1, .., W_L].
    rotations : sequence of array_like, optional
        Orthogonal matrices O_1, .., O_{L-1}, one for each hidden layer; by default random ones (Haar measure).
    rng : None, int, SeedSequence or Generator
        Source of randomness, where no rotations are given.

    Returns
    -------
    list of ndarray
        Its A, balance up to rotation, norms, and singular values of all layers are those of `weights`.

    Raises
    ------
    ValueError, TypeError
        If the layers do not chain, or a rotation does not fit its layer or is not orthogonal to 1e-10.

    Notes
    -----
    `dln.network.rotate` does the same to layers with leading axes, such as those of a Trajectory, without checks.

    References
    ----------
    A. Jacot et al., arXiv 2106.15933, rotations and inclusions.

    Examples
    --------
    >>> W_1, W_2 = rotate([[[1.0], [0.0]], [[2.0, 0.0]]], [[[0.0, -1.0], [1.0, 0.0]]])
    >>> W_1, W_2
    (array([[0.],
           [1.]]), array([[0., 2.]]))
    """
    layers = checks.layers(weights)
    if rotations is None:
        random = checks.generator(rng)
        return network.rotate(layers, [orthonormal(len(W), len(W), random) for W in layers[:-1]])
    if rng is not None:
        raise ValueError("`rng` must be left out where `rotations` are given, got both. Give one of them.")
    if not isinstance(rotations, (Sequence, np.ndarray)):
        raise TypeError(
            f"`rotations` must be a sequence of matrices, got {type(rotations).__name__}. Give [O_1, .., O_{{L-1}}]."
        )
    turns = [checks.array(O, f"rotations[{l}]", ndim=2) for l, O in enumerate(rotations)]
    for l, (O, W) in enumerate(zip(turns, layers, strict=False)):
        checks.fits(O, f"rotations[{l}]", (len(W), len(W)))
        error = float(np.abs(O @ O.T - np.eye(len(O))).max())
        if not error <= ORTHOGONAL:
            raise ValueError(
                f"`rotations[{l}]` must be orthogonal, got O O^T that differs from I by {error:.2g}. "
                "Take the Q of its QR decomposition."
            )
    return network.rotate(layers, turns)


def include(weights: Layers, hidden: int | Sequence[int]) -> list[Array]:
    """Layers of a wider network: the same, and new hidden neurons whose weights are all zero.

    Parameters
    ----------
    weights : sequence of array_like
        Layers [W_1, .., W_L].
    hidden : int or sequence of int
        Widths of the hidden layers, or the one width of all of them; none below the present one.

    Returns
    -------
    list of ndarray
        They have the same product A. A critical point remains one, but for L = 2 a local minimum that is not global
        becomes a strict saddle, and for L > 2 (without weight decay) one that is left at order L only.

    Raises
    ------
    ValueError, TypeError
        If the layers do not chain or a width is missing or too small.

    References
    ----------
    A. Jacot et al., arXiv 2106.15933, rotations and inclusions.

    Examples
    --------
    >>> include([[[1.0]], [[2.0]]], 2)
    [array([[1.],
           [0.]]), array([[2., 0.]])]
    """
    layers = checks.layers(weights)
    if isinstance(hidden, (Sequence, np.ndarray)):
        widths = [checks.integer(n, f"hidden[{l}]", least=1, most=checks.MOST) for l, n in enumerate(hidden)]
    else:
        widths = [checks.integer(hidden, "hidden", least=1, most=checks.MOST)] * (len(layers) - 1)
    return network.include(layers, widths)


def grow(weights: Layers, G: ArrayLike, size: float) -> list[Array]:
    r"""Layers with one neuron more in every hidden layer, along the top singular pair (u, v) of the gradient G = dC/dA.

    The new weights have norm `size` in every layer: :math:`-\epsilon v^T`, :math:`\epsilon`, .., :math:`\epsilon u`.
    The product changes by :math:`-\epsilon^L u v^T`, and the cost by :math:`-\epsilon^L \sigma_1(G)` to leading order:
    no other new neuron of this norm lowers it more.

    Parameters
    ----------
    weights : sequence of array_like
        Layers [W_1, .., W_L], L >= 2.
    G : array_like, shape (n_L, n_0)
        Gradient of the cost at their product.
    size : float
        epsilon > 0.

    Returns
    -------
    list of ndarray

    Raises
    ------
    ValueError, TypeError
        If the layers do not chain, there is one only, G does not fit them, or `size` is not positive.

    References
    ----------
    A. Jacot et al., arXiv 2106.15933, the step of the greedy low-rank algorithm.

    Examples
    --------
    >>> W_1, W_2 = grow([[[1.0, 0.0]], [[1.0], [0.0]]], [[0.0, 0.0], [0.0, -2.0]], 0.1)
    >>> print(W_2 @ W_1)
    [[1.   0.  ]
     [0.   0.01]]
    """
    layers, size = checks.layers(weights), checks.positive(size, "size")
    if len(layers) < 2:
        raise ValueError("`weights` must have a hidden layer, got one layer. Give at least two.")
    return grown(layers, checks.array(G, "G", shape=(len(layers[-1]), layers[0].shape[1])), size)


def grown(weights: Sequence[Array], G: Array, size: float) -> list[Array]:
    """The same of checked layers, whose hidden widths may be 0."""
    U, _, Vt = np.linalg.svd(G)
    wider = network.include(weights, [len(W) + 1 for W in weights[:-1]])
    wider[0][-1] = -size * Vt[0]
    for W in wider[1:-1]:
        W[-1, -1] = size
    wider[-1][:, -1] = size * U[:, 0]
    return wider
