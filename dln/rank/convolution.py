"""The two ranks of a convolution: of its flattened kernel, and of the map between images that it stands for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import checks
from ..typing import Array, ArrayLike
from .measures import Counts, counted

__all__ = ["flattened", "operator", "operator_singular_values", "patches"]


def flattened(kernel: ArrayLike) -> Array:
    r"""Matrix of shape (c_out, c_in k_1 k_2) whose rows are the flattened filters: the matrix that SGD updates.

    Its rank, ``numerical(flattened(kernel))``, is what the rank bounds are about; the map between images that the
    kernel stands for has the rank `operator`.

    Parameters
    ----------
    kernel : array_like, shape (..., c_out, c_in, k_1, k_2)
        Kernels of a convolution.

    Returns
    -------
    W : ndarray, shape (..., c_out, c_in k_1 k_2)

    Raises
    ------
    ValueError, TypeError
        If the kernel has less than four axes or is not finite.

    Examples
    --------
    >>> flattened(np.zeros((8, 3, 5, 5))).shape
    (8, 75)
    """
    K = _kernel(kernel)
    return K.reshape(*K.shape[:-3], -1)


def operator_singular_values(kernel: ArrayLike, image: tuple[int, int], *, stride: int = 1) -> Array:
    r"""Singular values of a convolution as a map between images with periodic boundary, in decreasing order.

    The Fourier transform splits the map into one block for each frequency: :math:`\hat K(\omega)`, c_out x c_in, and
    with a stride s the s^2 blocks that fall upon the same frequency of the smaller image, side by side and over s. The
    blocks have the singular values of the full matrix, which is never formed.

    Parameters
    ----------
    kernel : array_like, shape (..., c_out, c_in, k_1, k_2)
        Kernels; where the kernel is larger than the image it wraps around.
    image : (int, int)
        Height and width of the image.
    stride : int
        Divides the height and the width.

    Returns
    -------
    s : ndarray, shape (..., h w min(c_out, c_in s^2) / s^2)
        Zeros of the rectangular rest are left out.

    Raises
    ------
    ValueError, TypeError
        If the kernel has less than four axes, or the stride does not divide the image.

    References
    ----------
    H. Sedghi, V. Gupta, P. M. Long, "The singular values of convolutional layers", ICLR 2019 (stride 1).

    Examples
    --------
    >>> print(operator_singular_values(np.ones((1, 1, 1, 2)), (1, 4)).round(3))
    [2.    1.414 1.414 0.   ]
    """
    K = _kernel(kernel)
    h, w = _pair(image, "image")
    s = checks.integer(stride, "stride", least=1)
    if h % s or w % s:
        raise ValueError(f"`stride` must divide the image, got {s} and {(h, w)}. Crop or pad the image.")
    spare = [(0, 0)] * (K.ndim - 2) + [(0, -K.shape[-2] % h), (0, -K.shape[-1] % w)]
    wrapped = np.pad(K, spare).reshape(*K.shape[:-2], -(-K.shape[-2] // h), h, -1, w).sum(axis=(-4, -2))
    blocks = np.fft.fft2(wrapped).reshape(*K.shape[:-2], s, h // s, s, w // s)
    blocks = np.moveaxis(blocks, (-3, -1), (-6, -5))  # frequencies of the small image first
    values = np.linalg.svd(blocks.reshape(*blocks.shape[:-3], -1) / s, compute_uv=False)
    return -np.sort(-values.reshape(*K.shape[:-4], -1), axis=-1)


def operator(
    kernel: ArrayLike,
    image: tuple[int, int],
    epsilon: float = 1e-3,
    norm: str = "spectral",
    *,
    stride: int = 1,
) -> Counts:
    r"""Numerical rank of a convolution as a map between images with periodic boundary.

    It is at most h w min(c_out, c_in), where the rank of the flattened kernel is at most min(c_out, c_in k_1 k_2).

    Parameters
    ----------
    kernel, image, stride
        As in `operator_singular_values`.
    epsilon, norm
        As in `numerical`; the norm is that of the map.

    Returns
    -------
    rank : ndarray of int, shape (...)

    Raises
    ------
    ValueError, TypeError
        As `operator_singular_values` and `numerical`.

    Examples
    --------
    >>> print(operator(np.ones((1, 1, 1, 2)), (1, 4)))  # x_i + x_{i+1} loses the alternating image
    3
    """
    return counted(operator_singular_values(kernel, image, stride=stride), epsilon, norm)


def patches(image: tuple[int, int], kernel: tuple[int, int], *, stride: int = 1, padding: int = 0) -> int:
    r"""Number of patches of a convolution, :math:`\prod_i (\lfloor (h_i + 2p - k_i)/s \rfloor + 1)`.

    Parameters
    ----------
    image, kernel : (int, int)
        Heights and widths.
    stride, padding : int
        As in the layer.

    Returns
    -------
    patches : int

    Raises
    ------
    ValueError, TypeError
        If the kernel does not fit into the padded image.

    Examples
    --------
    >>> patches((8, 8), (3, 3), stride=2, padding=1)
    16
    """
    s, p = checks.integer(stride, "stride", least=1), checks.integer(padding, "padding", least=0)
    room = [
        h + 2 * p - k
        for h, k in zip(checks.widths(image, "image"), checks.widths(kernel, "kernel"), strict=True)
    ]
    if min(room) < 0:
        raise ValueError(
            f"`kernel` must fit into the padded image, got {tuple(kernel)} and {tuple(image)}, padding {p}. Pad more."
        )
    return math.prod(r // s + 1 for r in room)


def _kernel(kernel: Any) -> Array:
    K = checks.array(kernel, "kernel")
    if K.ndim < 4:
        raise ValueError(
            f"`kernel` must have shape (..., c_out, c_in, k_1, k_2), got {K.shape}. Matrices have `numerical`."
        )
    return K


def _pair(value: Any, name: str) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"`{name}` must be a pair of integers, got {value!r}. For example (8, 8).")
    first, second = (
        checks.integer(n, f"{name}[{i}]", least=1, most=checks.MOST) for i, n in enumerate(value)
    )
    return first, second
