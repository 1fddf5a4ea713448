"""The flow near the origin, where the cost is linear: homogeneous in the layers."""

from __future__ import annotations

import numpy as np

from .. import checks
from ..costs import Cost, Custom
from ..problem import Problem
from ..trajectory import Trajectory
from ..typing import Array, ArrayLike, Layers
from .aligned import aligned_modes
from .chain import chain
from .path import Law, path, times

__all__ = ["again", "origin"]


def origin(gradient: ArrayLike, weights: Layers, t: ArrayLike) -> Trajectory:
    r"""Trajectory of the homogeneous flow at the origin: that of the linear cost :math:`\langle G, A\rangle`.

    Two layers grow as :math:`[W_1^T; W_2](t) = \exp\!\Big(t \begin{pmatrix} 0 & -G^T \\ -G & 0 \end{pmatrix}\Big)
    [W_1^T; W_2]`. With more layers, each mode of an aligned start, :math:`\dot w_l = s \prod_{m \ne l} w_m`, blows up
    at `dln.exact.blow_up_time` of its weights: where all are equal as

    .. math:: w(t) = \big(w_0^{2-L} - (L - 2)\, s\, t\big)^{-1/(L-2)} ,

    for L = 3 as Jacobi's functions :math:`(\sqrt{d_2}\,\mathrm{sc}, \sqrt{d_2}\,\mathrm{nc}, \sqrt{d_3}\,\mathrm{dc})`
    of :math:`\sqrt{d_3}\, s t + z_0` with parameter :math:`1 - d_2/d_3` and :math:`d_l = w_l^2 - w_1^2`.

    Parameters
    ----------
    gradient : array_like, shape (n_L, n_0)
        G = dC/dA at A = 0.
    weights : sequence of array_like
        Layers at t = 0. More than two must be diagonal in bases that begin and end with singular vectors of G.
    t : array_like
        Increasing times >= 0, before the blow-up.

    Returns
    -------
    Trajectory
        With the cost <G, A>, which has no lower bound: `find_saddles` refuses it.

    Raises
    ------
    ValueError, TypeError
        If more than two layers are not aligned with the gradient, the flow blows up before the last time, or an
        argument is wrong.

    References
    ----------
    arXiv 2106.15933, escape paths from the saddle at the origin.

    Examples
    --------
    >>> run = origin([[-2.0]], [[[0.1]], [[0.1]], [[0.1]]], [0.0, 4.0, 4.9])  # 0.1 / (1 - t/5)
    >>> np.round(run.weights[0].ravel(), 12)
    array([0.1, 0.5, 5. ])
    """
    G = checks.array(gradient, "gradient", ndim=2)
    problem, t = (
        Problem.checked(Custom(lambda A: float(np.sum(G * A)), lambda A: G.copy()), weights, 0.0),
        times(t),
    )
    checks.fits(G, "gradient", (problem.widths[-1], problem.widths[0]))
    laws = {1: _translation, 2: _exponential}
    law, end = laws.get(problem.depth, _modes)(G, problem)
    if t[-1] >= end:
        raise ValueError(
            f"`t` must be before the end of the flow at {end:.12g}, got {t[-1]:g}. Stop earlier."
        )
    return path(problem, t, law, method="origin", plateaus=False, state_size=problem.parameters)


def again(cost: Cost, weights: Layers, t: ArrayLike, *, weight_decay: float = 0.0) -> Trajectory:
    """The same flow from the linear cost of its trajectory."""
    shape = (np.shape(weights[-1])[0], np.shape(weights[0])[1])
    return origin(cost.gradient(np.zeros(shape)), weights, t)


def _translation(G: Array, problem: Problem) -> tuple[Law, float]:
    return lambda t: (problem.weights[0] - t[:, None, None] * G,), np.inf


def _exponential(G: Array, problem: Problem) -> tuple[Law, float]:
    """Both layers by the singular modes of G; the end is where they leave float64."""
    U, s, Vt = np.linalg.svd(-G, full_matrices=False)
    W_1, W_2 = problem.weights
    p, r = Vt @ W_1.T, U.T @ W_2
    grows, fades = (p + r) / 2, (p - r) / 2

    def law(t: Array) -> tuple[Array, ...]:
        st = (s * t[:, None])[:, :, None]
        up, down = np.expm1(st) * grows, np.expm1(-st) * fades
        return W_1 + np.swapaxes(Vt.T @ (up + down), 1, 2), W_2 + U @ (up - down)

    return law, 350.0 / s[0] if s[0] > 0 else np.inf


def _modes(G: Array, problem: Problem) -> tuple[Law, float]:
    modes = aligned_modes(problem.weights, -G, free=True)
    chains = [chain(w, float(s), free=True) for w, s in zip(modes.sizes.T, modes.s, strict=True)]

    def law(t: Array) -> tuple[Array, ...]:
        sizes = np.repeat(modes.sizes[:, None, :], len(t), axis=1)
        for i, moving in enumerate(chains):
            if moving is not None:
                sizes[:, :, i] = moving.weights(t).T
        return modes.layers(sizes)

    return law, min((moving.blow_up for moving in chains if moving is not None), default=np.inf)
