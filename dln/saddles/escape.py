r"""When a small start leaves each saddle: homogeneous flows, joined by the orbits of the limit path.

At a saddle :math:`C(A_\theta)` is, in the neurons that wait there, a constant plus
:math:`H = \langle G, A_\theta \rangle` of degree L. Its flow turns into the optimal direction, on which the size c of
the weights obeys :math:`\dot c = s\,c^{L-1}`: it grows exponentially for L = 2, and blows up at a finite time T* for
L >= 3. The orbit leaves the saddle with the same law, so that times along it are measured from its own (virtual) T*.
The neurons that have grown take one direction h_l of every hidden layer; what waits for the next saddle is the rest of
the weights, orthogonal to those.
"""

from __future__ import annotations

import math

import numpy as np

from .. import checks
from ..costs import Cost
from ..problem import Problem
from ..typing import Array, ArrayLike, Layers
from .path import saddle_to_saddle
from .waiting import deep, homogeneous, two_layers

__all__ = ["blow_up_time", "escape_time", "escape_times"]


def blow_up_time(gradient: ArrayLike, weights: Layers) -> float:
    r"""Time T* at which the homogeneous flow at zero, :math:`\dot W_l = -B_l^T G F_{l-1}^T`, becomes infinite.

    It scales like :math:`T^*(\alpha \theta) = \alpha^{2-L} T^*(\theta)`.

    Parameters
    ----------
    gradient : array_like, shape (n_L, n_0)
        G = dC/dA at A = 0.
    weights : sequence of array_like
        Layers [W_1, .., W_L] at time 0.

    Returns
    -------
    float
        inf for L <= 2, where the growth is exponential, and where the weights do not grow at all.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not fit or an entry is not finite.

    References
    ----------
    arXiv 2106.15933v2, escape from the origin; for scalar networks see `dln.exact.blow_up_time`.

    Examples
    --------
    >>> round(blow_up_time([[-1.0]], [[[0.1]], [[0.1]], [[0.1]]]), 9)  # u' = u^2
    10.0
    """
    layers = checks.layers(weights)
    G = checks.array(gradient, "gradient", shape=(layers[-1].shape[0], layers[0].shape[1]))
    if len(layers) <= 2 or not G.any():
        return math.inf
    return homogeneous(G, layers).blow_up


def escape_time(cost: Cost, weights: Layers) -> float:
    r"""First time at which the leading singular value of A reaches half of what it has at the next critical point.

    The first of `escape_times`; for full observation, with c_L the time from half back to the blow-up,

    .. math::
        L = 2 &: \quad \frac{1}{2 s_1} \ln \frac{4 s_1}{|W_1 v_1 + W_2^T u_1|^2} \\
        L \ge 3 &: \quad T^* + c_L\, s_1^{-(2L-2)/L} ,

    T* being `blow_up_time`.

    Parameters
    ----------
    cost : Cost
        The cost C; the largest singular value of its gradient at 0 must be simple.
    weights : sequence of array_like
        A small start [W_1, .., W_L], L >= 2.

    Returns
    -------
    float
        inf where the start does not escape.

    Raises
    ------
    ValueError, TypeError
        If the weights do not fit the cost or there is one layer.

    References
    ----------
    arXiv 2106.15933v2, first escape path.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved([[1.0]])
    >>> print(f"{escape_time(cost, [[[1e-3]], [[1e-3]]]):.6f}")  # ln(1e6) / 2
    6.907755
    """
    times = escape_times(cost, weights, most=1)
    return float(times[0]) if len(times) else math.inf


def escape_times(cost: Cost, weights: Layers, *, most: int | None = None) -> Array:
    r"""Times at which the flow leaves one saddle of its limit path after the other, from a small start.

    The k-th is the time at which the k-th singular value of A reaches half of what it has at the k-th critical point
    after zero. From a start :math:`\alpha\theta_0` the errors vanish with alpha, the better the smaller s_2/s_1 is at
    each saddle passed, and the more of an orbit is over when the next begins:

    * the first time errs by :math:`O(\alpha^{2(1 - s_2/s_1)})` where A is fully observed, by
      :math:`O(\alpha^{1 - s_2/s_1})` else;
    * for L = 2 so do the later ones, of any cost; where an orbit ends slowly, its rest at the next escape adds to that;
    * for L >= 3 the later ones are right to a relative error of order :math:`\alpha^2` or that of the first time where
      A is fully observed, and of order alpha else.

    Parameters
    ----------
    cost : Cost
        The cost C; the largest singular values of its gradients at the saddles must be simple.
    weights : sequence of array_like
        A small start [W_1, .., W_L], L >= 2.
    most : int, optional
        How many escapes to follow; all by default, up to the least width.

    Returns
    -------
    ndarray
        Increasing; inf from the first saddle on that the start does not leave by its fastest mode, and where no
        critical point follows.

    Raises
    ------
    ValueError, TypeError
        If the weights do not fit the cost or there is one layer.

    Notes
    -----
    For L = 2 the waiting weights obey :math:`[W_1^T; W_2]' = K(t)\,[W_1^T; W_2]` along the whole path. For L >= 3 they
    move during the time :math:`\alpha^{2-L}` at a saddle and stand still during an orbit.

    References
    ----------
    arXiv 2106.15933v2, the saddle-to-saddle conjecture; times: derived.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved(np.diag([2.0, 1.0]))
    >>> np.round(escape_times(cost, dln.inits.aligned(cost.target, 3, scale=1e-9)), 6)
    array([499.662578, 999.14975 ])
    >>> dln.exact.mode_time([1.0, 0.5], 1e-9, [2.0, 1.0], 3).round(6)
    array([499.662578, 999.149749])
    """
    problem = Problem.checked(cost, weights, 0.0)
    if problem.depth < 2:
        raise ValueError("`weights` must have at least two layers, got one. One layer has no saddle.")
    shape, narrowest = (problem.widths[-1], problem.widths[0]), min(problem.widths)
    count = narrowest if most is None else checks.integer(most, "most", least=1)
    path = saddle_to_saddle(cost, problem.depth, shape=shape, max_rank=min(count, narrowest), rtol=1e-10)
    law = two_layers if problem.depth == 2 else deep
    times = np.full(len(path.segments), math.inf)
    for k, time in enumerate(law(path, list(problem.weights))):
        times[k] = time
    return times
