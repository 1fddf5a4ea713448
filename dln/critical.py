r"""What a slow point of the flow is: how many modes are active there, and whether it is a saddle or a minimum.

Near a critical point of the flow with layers of small balance, the singular values of A fall into two groups. An
*active* mode has relaxed (the time so far exceeds its time constant), and is stationary: by Newton's estimate, the
distance |g_i| / h_i that it still wants to go is less than half the size s_i that it has, where

.. math:: g_i = u_i^T G v_i + \lambda s_i^{2/L - 1}, \qquad h_i = \langle u_i v_i^T, C''(A)[u_i v_i^T] \rangle .

The others are small, and either wait to grow or decay. The rank is the number of active modes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from . import checks
from .costs import Cost
from .network import end_to_end, layer_gradients, tangent_kernel
from .typing import Array, ArrayLike

__all__ = [
    "ActiveModes",
    "active_modes",
    "escape_speed",
    "gradient_norm",
    "is_minimum",
    "simplified",
    "singular_modes",
    "slow_points",
]

# A mode can escape if it is heading for this multiple of the largest inactive singular value.
GAP = 10.0


# A slow point is a plateau if the rate of decrease falls and rises by this factor around it ...
DEPTH = float(np.log(10.0))


def simplified(turns: Array, depth: float = DEPTH) -> Array:
    """Turns of the log rate (time, log rate, objective) of which no neighbours differ by less than `depth`.

    The pair of neighbours that differ least is dropped until none is left; at either end only the end itself goes.
    """
    turns = np.asarray(turns)
    while len(turns) > 1:
        gaps = np.abs(np.diff(turns[:, 1]))
        i = int(np.argmin(gaps))
        if gaps[i] >= depth:
            break
        if i == 0:
            turns = turns[1:]
        elif i == len(gaps) - 1:
            turns = turns[:-1]
        else:
            turns = np.delete(turns, [i, i + 1], axis=0)
    return turns


def slow_points(turns: Array, depth: float = DEPTH) -> Array:
    """Those turns that are minima followed by a rise, at least `depth` deep on both sides (the start only after)."""
    kept = simplified(turns, depth)
    if len(kept) < 2:
        return kept[:0]
    minimum = kept[:-1, 1] < kept[1:, 1]
    return kept[:-1][minimum]


class ActiveModes(NamedTuple):
    """Number of active modes, and the ratio of the last active to the first inactive singular value.

    At rank 0, the singular value for which the fastest escape is heading to the largest one.
    """

    rank: int
    gap: float


def active_modes(
    cost: Cost,
    A: Array,
    depth: int,
    weight_decay: float = 0.0,
    *,
    layers: Sequence[Array] | None = None,
    elapsed: float = np.inf,
) -> ActiveModes:
    """Active modes of A after a time `elapsed`; `layers`, where known, give their rates without assuming balance."""
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    pairs = np.einsum("ij,jk->jik", U, Vt)
    g = np.einsum("jik,ik->j", pairs, cost.gradient(A))
    if weight_decay > 0.0:
        with np.errstate(divide="ignore"):
            g = g + weight_decay * np.where(s > 0, s, np.nan) ** (2 / depth - 1)
    h = np.array([np.sum(pair * cost.hessian_vector(A, pair)) for pair in pairs])
    kernel = depth * s ** (2 - 2 / depth)
    if layers is not None:
        kernel = np.maximum(kernel, [tangent_kernel(layers, u, v) for u, v in zip(U.T, Vt, strict=False)])
    # Stationary (false where g is NaN), and not by chance: it is no rounding, and has had the time to relax.
    active = (s * np.abs(h) > 2 * np.abs(g)) & (kernel * np.abs(h) * elapsed > 1.0)
    active &= s > 4 * max(A.shape) * np.finfo(float).eps * s[0]
    rank = len(s) if active.all() else int(np.argmin(active))
    above = s[rank - 1] if rank > 0 else escape(cost, A)[1]
    return ActiveModes(rank, _ratio(above, s[rank] if rank < len(s) else 0.0))


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else np.inf


def escape_speed(gradient: ArrayLike, depth: int, modes: Sequence[int] = (0,)) -> float:
    r"""Speed s of the escape along a set of singular modes of the gradient: :math:`\dot c = s\,c^{L-1}`.

    The layers grow as :math:`\theta(t) = c(t)\,e` along a unit direction e in which every layer is diagonal in the
    singular vectors of the chosen modes S,

    .. math:: s_S = \Big(L \sum_{i \in S} s_i^{-2/(L-2)}\Big)^{-(L-2)/2}, \qquad s_{\{1\}} = L^{-(L-2)/2} s_1 ,

    and for L = 2 the speed of a single mode is its singular value. The first mode has the
    largest speed.

    Parameters
    ----------
    gradient : array_like, shape (n_L, n_0)
        Gradient dC/dA at the saddle.
    depth : int
        Number of layers L >= 2.
    modes : sequence of int
        Singular modes that grow together, counted from 0.

    Returns
    -------
    float
        The speed; for L = 2 the least of the chosen singular values, the rate of the common exponential growth.

    Raises
    ------
    ValueError, TypeError
        If `depth` is less than 2 or a mode does not exist.

    References
    ----------
    arXiv 2106.15933, optimal escape directions (J2-P3); all diagonal directions: X-1.

    Examples
    --------
    >>> escape_speed(np.diag([3.0, 1.0]), depth=2)
    3.0
    >>> round(escape_speed(np.diag([3.0, 1.0]), depth=4), 12)
    0.75
    """
    G, depth, chosen = singular_modes(gradient, depth, modes)
    s = np.linalg.svd(G, compute_uv=False)[chosen]
    if depth == 2 or s.min() == 0.0:
        return float(s.min())
    least = s.min()  # as a unit, for gradients of any size
    return float(least * (depth * np.sum((s / least) ** (-2 / (depth - 2)))) ** (-(depth - 2) / 2))


def singular_modes(gradient: ArrayLike, depth: int, modes: Sequence[int]) -> tuple[Array, int, list[int]]:
    """Gradient, depth >= 2 and a set of singular modes of the gradient, checked; the modes in order."""
    G = checks.array(gradient, "gradient", ndim=2)
    depth = checks.integer(depth, "depth", least=2, most=checks.MOST)
    if not isinstance(modes, (Sequence, np.ndarray)) or isinstance(modes, (str, bytes)):
        raise TypeError(f"`modes` must be a sequence of integers, got {modes!r}. For example (0,).")
    chosen = sorted({checks.integer(mode, "modes", least=0) for mode in modes})
    if not chosen or chosen[-1] >= min(G.shape):
        raise ValueError(
            f"`modes` must be among 0 .. {min(G.shape) - 1}, got {tuple(modes)}. "
            "Choose singular modes of the gradient."
        )
    return G, depth, chosen


def gradient_norm(cost: Cost, weights: Sequence[Array], weight_decay: float = 0.0) -> Array:
    """Frobenius norm of the gradient of the objective with respect to all weights, over leading axes."""
    G = cost.raw_gradient(end_to_end(weights))
    layers = layer_gradients(weights, G)
    squares = [
        np.sum((g + weight_decay * W) ** 2, axis=(-2, -1)) for g, W in zip(layers, weights, strict=True)
    ]
    return np.sqrt(np.sum(squares, axis=0))


def is_minimum(
    cost: Cost, weights: Sequence[Array], rank: int, small: float, *, weight_decay: float = 0.0
) -> bool:
    """Whether a point at which the gradient with respect to the weights is small is a minimum rather than a saddle.

    A network with a free neuron in every hidden layer (rank < widths) can grow a new mode along the top singular pair
    of G = dC/dA, however small its gradient is: it is at a minimum only if s_1(G) is at most `small` (no decay), or at
    most `weight_decay` (two layers; J1-T4), or if the new mode would not outgrow the inactive ones that are there, of
    which G is then the trace. Otherwise the lowest curvature decides.
    """
    if len(weights) == 1:
        return True  # C is convex in A
    A = end_to_end(weights)
    top, wanted, _ = escape(cost, A)
    inactive = np.append(np.linalg.svd(A, compute_uv=False), 0.0)[rank]
    free = rank < min(A.shape) and rank < min(W.shape[0] for W in weights[:-1])
    if weight_decay == 0.0 and (free or top <= small):
        return bool(top <= small or wanted <= GAP * inactive)
    if len(weights) == 2 and free:
        return bool(top <= weight_decay + small)
    lowest, highest = curvature_range(cost, weights, weight_decay)
    return lowest >= -1e-4 * highest


def escape(cost: Cost, A: Array) -> tuple[float, float, float]:
    """Fastest escape from A: singular value s_1 of dC/dA, size s_1/h for which it is heading, gain s_1^2/(2h)."""
    U, s, Vt = np.linalg.svd(cost.gradient(A))
    pair = np.outer(U[:, 0], Vt[0])
    size = _ratio(s[0], float(np.sum(pair * cost.hessian_vector(A, pair))))
    return float(s[0]), size, 0.5 * float(s[0]) * size


def curvature_range(cost: Cost, weights: Sequence[Array], weight_decay: float) -> tuple[float, float]:
    """Lowest and highest eigenvalue of the Hessian of the objective with respect to the weights (Lanczos)."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    sizes = [W.size for W in weights]
    n = sum(sizes)
    theta = np.concatenate([W.ravel() for W in weights])

    def gradient(x: Array) -> Array:
        layers = [
            part.reshape(W.shape) for part, W in zip(np.split(x, np.cumsum(sizes)[:-1]), weights, strict=True)
        ]
        parts = layer_gradients(layers, cost.gradient(end_to_end(layers)))
        return np.concatenate([g.ravel() for g in parts]) + weight_decay * x

    step = 1e-5 * max(float(np.linalg.norm(theta)), 1e-3)

    def product(v: Array) -> Array:
        v = np.ravel(v)
        unit = step / max(float(np.linalg.norm(v)), 1e-300)
        return (gradient(theta + unit * v) - gradient(theta - unit * v)) / (2 * unit)

    if n <= 64:
        H = np.array([product(e) for e in np.eye(n)])
        values = np.linalg.eigvalsh((H + H.T) / 2)
        return float(values[0]), float(values[-1])
    start = np.random.default_rng(0).standard_normal(n)

    def largest(matvec: Callable[[Array], Array], tol: float) -> float:
        operator = LinearOperator((n, n), matvec=matvec, dtype=np.float64)
        return float(eigsh(operator, k=1, which="LA", tol=tol, v0=start, return_eigenvectors=False)[0])

    try:
        highest = largest(product, 1e-2)
        # turned round, the least eigenvalue is the largest, and its tolerance absolute: it may be zero
        return highest - largest(lambda v: highest * np.ravel(v) - product(v), 1e-5), highest
    except ArpackNoConvergence:
        return -np.inf, 0.0  # no minimum that we could vouch for
