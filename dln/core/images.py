"""Images of directions on both sides of a large matrix, W X and W^T Y, for one reading of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import config, float64, types, void

from .compile import compiled, vector
from .vectors import multiply, multiply_tn

__all__ = ["both_products"]

Array = np.ndarray[Any, np.dtype[np.float64]]

# Memory maps are often read only.
given, directions = (types.Array(float64, n, "C", readonly=True) for n in (1, 2))
ROWS = 64  # rows of W that are still near, for their second product, after the first one
PART = 2**22  # bytes of a matrix from which on another thread pays


def both_products(W: Array, X: Array, Y: Array) -> tuple[Array, Array]:
    """W X and W^T Y; rows of W are shared between the threads that Numba may use."""
    if not W.flags.c_contiguous and W.flags.f_contiguous:
        return both_products(W.T, Y, X)[::-1]
    threads = max(1, min(config.NUMBA_NUM_THREADS, W.nbytes // PART))
    ends = np.linspace(0, len(W), threads + 1).astype(int)
    forward, backward = np.empty((len(W), X.shape[1])), np.zeros((threads, W.shape[1], Y.shape[1]))

    def share(k: int) -> None:
        rows = slice(ends[k], ends[k + 1])
        _images()(
            np.ascontiguousarray(W[rows]).ravel(),
            np.ascontiguousarray(X),
            np.ascontiguousarray(Y[rows]),
            forward[rows].ravel(),
            backward[k].ravel(),
        )

    if threads == 1:
        share(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(share, range(threads)))
    return forward, backward.sum(axis=0)


def images(W, X, Y, forward, backward):  # type: ignore[no-untyped-def]
    """W X into `forward`, W^T Y added to `backward`."""
    (columns, right), (rows, left) = X.shape, Y.shape
    part = np.empty(columns * left)
    for start in range(0, rows, ROWS):
        m = min(ROWS, rows - start)
        multiply(W, start * columns, X.reshape(X.size), 0, forward, start * right, m, columns, right)
        multiply_tn(W, start * columns, Y.reshape(Y.size), start * left, part, 0, columns, m, left)
        for i in range(part.size):
            backward[i] += part[i]


@functools.cache
def _images() -> Callable[..., None]:
    """`images` as machine code."""
    return compiled(images, void(given, directions, directions, vector, vector))
