r"""Velocity of the end-to-end matrix of a balanced network, which moves by itself whatever the widths:

    dA/dt = -U (K * (U^T G V)) V^T - L weight_decay A,    A = U diag(a) V^T,

K_ij the sum over the layers of x_i^(L-l) x_j^(l-1), x = a^(2/L). The index is (n_0, L, rank, n_L).
"""

from __future__ import annotations

import math

import numpy as np

from .compile import helper
from .views import matrix_at, vector_at
from .weights import minus_gradient

__all__ = ["measure", "read", "velocity", "work_size"]


def work_size(n_0: int, n_L: int) -> int:
    """Length of the scratch array: A, -G, and what `measure` needs of the velocity."""
    return 2 * n_0 * n_L + 3


@helper
def _kernel(a, b, depth):  # type: ignore[no-untyped-def]
    """Divided difference of x^L at x = a^(2/L) and b^(2/L), for a >= b >= 0; no term cancels another."""
    if a == 0.0:
        return 1.0 if depth == 1 else 0.0
    largest = a ** (2.0 - 2.0 / depth)
    if b == 0.0:
        return largest
    step = 2.0 / depth * math.log1p((b - a) / a) if 2.0 * b > a else 2.0 / depth * math.log(b / a)
    if step == 0.0:
        return depth * largest
    return largest * math.expm1(depth * step) / math.expm1(step)


def velocity(state, index, weight_decay, gradient, data, batch, work, out):  # type: ignore[no-untyped-def]
    """dA/dt; singular values beyond the rank of the start stay zero, whatever rounding makes of them."""
    n_0, depth, rank, n_L = index[0], index[1], index[2], index[3]
    ends = n_L * n_0
    for i in range(ends):
        work[i] = state[i]
    minus_gradient(gradient, n_L, n_0, data, batch, work)
    finite = True
    for i in range(2 * ends):
        finite = finite and np.isfinite(work[i])
    if not finite:  # LAPACK refuses them
        out[:] = np.nan
        work[2 * ends :] = np.nan
        return
    A, force, moved = (
        matrix_at(state, 0, n_L, n_0),
        matrix_at(work, ends, n_L, n_0),
        matrix_at(out, 0, n_L, n_0),
    )
    U, a, Vt = np.linalg.svd(A, full_matrices=True)
    turned = U.T @ force @ Vt.T
    speed, squares = 0.0, 0.0
    for i in range(n_L):
        for j in range(n_0):
            x, y = (a[i] if i < rank else 0.0), (a[j] if j < rank else 0.0)
            K = _kernel(max(x, y), min(x, y), depth)
            speed += K * turned[i, j] ** 2
            turned[i, j] *= K
    for i in range(rank):
        squares += a[i] ** (2.0 / depth)
    moved[:] = U @ turned @ Vt
    along = 0.0
    for i in range(ends):
        along += state[i] * work[ends + i]
        out[i] -= depth * weight_decay * state[i]
    work[2 * ends], work[2 * ends + 1], work[2 * ends + 2] = speed, along, depth * squares


def measure(state, velocity, index, weight_decay, value, data, work, out):  # type: ignore[no-untyped-def]
    r"""Cost, objective and dissipation, with |theta|^2 = L sum a^(2/L) and |dW_l/dt|^2 summed over the layers."""
    n_0, depth, n_L = index[0], index[1], index[3]
    ends = n_L * n_0
    speed, along, squares = work[2 * ends], work[2 * ends + 1], work[2 * ends + 2]
    out[0] = value(vector_at(work, 0, ends), n_L, n_0, data)
    out[1] = out[0]
    out[2] = speed
    if weight_decay != 0.0:
        out[1] += 0.5 * weight_decay * squares
        out[2] = max(0.0, speed - 2.0 * depth * weight_decay * along + weight_decay**2 * squares)


def read(state, index, work, out):  # type: ignore[no-untyped-def]
    """The state is the end-to-end matrix."""
    for i in range(state.size):
        out[i] = state[i]
