"""The noise of SGD that weight decay keeps alive: lower bounds on the length of its steps."""

from __future__ import annotations

import numpy as np

from .. import checks
from ..typing import Array, ArrayLike
from .measures import tail
from .momentum import scalars

__all__ = ["least_noise", "least_step"]


def least_step(W: ArrayLike, learning_rate: float, weight_decay: float, rank: int) -> Array:
    r"""Least Frobenius norm of a step from W with a gradient of rank at most r: :math:`x\,E_r(W)`.

    As :math:`W_{t+1} - W_t = -\eta (G_t + \lambda W_t)`, the step is at least :math:`\eta\lambda` times the distance of
    W to the matrices of rank r. So SGD comes to rest only at matrices of rank at most m B: its noise never ends
    elsewhere.

    Parameters
    ----------
    W : array_like, shape (..., m, n)
        Weights before the step.
    learning_rate, weight_decay : float
        Rates >= 0.
    rank : int
        r, the rank of the gradient or a bound on it.

    Returns
    -------
    length : ndarray, shape (...)

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    References
    ----------
    arXiv 2206.05794, section on SGD noise, made quantitative.

    Examples
    --------
    >>> print(round(float(least_step(np.diag([5.0, 4.0, 3.0]), 0.1, 0.01, rank=1)), 12))
    0.005
    """
    lr, wd = scalars(learning_rate, weight_decay)
    return lr * wd * tail(W, rank, "frobenius")


def least_noise(gradients: ArrayLike, batch_size: int) -> float:
    r"""Lower bound on the largest regularised gradient of a batch, :math:`\max_{i,j} \|\Phi_i - \Phi_j\|_F / (2B)`.

    Two batches that differ by one sample differ by :math:`(\Phi_i - \Phi_j)/B` in their gradients, whatever the decay
    adds; one of the two is at least half as long. So the steps of SGD end only where all samples have one gradient.

    Parameters
    ----------
    gradients : array_like, shape (N, m, n)
        Gradients :math:`\Phi_i` of the samples.
    batch_size : int
        B < N.

    Returns
    -------
    norm : float
        Some batch has :math:`\|\frac1B \sum \Phi_i + \lambda W\|_F` at least as large, for any W and decay.

    Raises
    ------
    ValueError, TypeError
        If the batch is not smaller than the data.

    References
    ----------
    arXiv 2206.05794, section on SGD noise, made quantitative.

    Examples
    --------
    >>> least_noise([[[1.0]], [[1.0]], [[5.0]]], batch_size=2)
    1.0
    """
    Phi = checks.array(gradients, "gradients", ndim=3)
    B = checks.integer(batch_size, "batch_size", least=1)
    if len(Phi) <= B:
        raise ValueError(f"`batch_size` must be below the number of samples {len(Phi)}, got {B}. Draw fewer.")
    widest = max(float(np.linalg.norm(Phi[i + 1 :] - Phi[i], axis=(1, 2)).max()) for i in range(len(Phi) - 1))
    return widest / (2 * B)
