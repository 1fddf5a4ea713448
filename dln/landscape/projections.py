r"""Critical points without weight decay: projections of the target on subsets of its singular modes.

Every critical point of :math:`\tfrac12 \|W_L \cdots W_1 - A^*\|_F^2` has the product
:math:`A_S = \sum_{i \in S} s_i u_i v_i^T` for a set S of at most :math:`\min_l n_l` modes. Here the second order is not
decided by A_S: it may depend on the factors. With G = A_S - A* and r modes in S, call the factors *tightened* if for
every pair of layers l < m

.. math:: \operatorname{rank}(W_{m-1} \cdots W_{l+1}) = r \quad\text{or}\quad
    (W_{l-1} \cdots W_1)\, G^T (W_L \cdots W_{m+1}) = 0 .

If S holds the largest singular values, but not all that would fit, the point is a saddle, strict if and only if its
factors are not tightened.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .. import checks
from ..network import end_to_end, forward_products
from ..typing import Array, ArrayLike, Layers
from .modes import MOST, aligned_layers, decomposed, ways
from .spectra import spectrum

__all__ = ["Projection", "is_tightened", "unregularised"]


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    r"""The critical matrices :math:`A_S = \sum_{i \in S} s_i u_i v_i^T` for a set S of singular modes of the target.

    Attributes
    ----------
    modes : tuple of int
        S, counted from 0 for the largest singular value.
    cost : float
        :math:`\tfrac12 \sum_{i \notin S} s_i^2`.
    kind : str
        "global minimum"; "strict saddle": the Hessian has a negative eigenvalue whatever the factors are; or
        "degenerate": a saddle that is strict for some factors (`strict_weights`) and not for others (`weights`).
    dimension : int
        0 if A_S is isolated among the critical matrices, otherwise that of the connected family that equal singular
        values make of it.
    widths : tuple of int
        (n_0, .., n_L).
    """

    modes: tuple[int, ...]
    cost: float
    kind: str
    dimension: int
    widths: tuple[int, ...]
    _target: tuple[Array, Array, Array] = field(repr=False)

    @property
    def rank(self) -> int:
        """Number of modes in S."""
        return len(self.modes)

    @property
    def singular_values(self) -> Array:
        """s_i for the modes in S and 0 for the others, in the order of the singular values of the target."""
        x = np.zeros_like(self._target[1])
        x[list(self.modes)] = self._target[1][list(self.modes)]
        return x

    @property
    def end_to_end(self) -> Array:
        """A_S, shape (n_L, n_0)."""
        return np.asarray((self._target[0] * self.singular_values) @ self._target[2])

    @property
    def weights(self) -> list[Array]:
        """Balanced layers with product A_S: for L >= 3 they are tightened."""
        return aligned_layers(self._target[0], self.singular_values, self._target[2], self.widths)

    @property
    def strict_weights(self) -> list[Array]:
        """Layers with product A_S at which the Hessian has a negative eigenvalue.

        The free neurons of the hidden layers are wired to each other, but neither to the input nor to the output.
        """
        if self.kind == "global minimum":
            raise ValueError(
                f"`strict_weights` must belong to a saddle, got a global minimum {self.modes}. Use .weights."
            )
        layers = self.weights
        for W in layers[1:-1]:
            free = np.arange(self.rank, min(W.shape))
            W[free, free] = self._target[1][0] ** (1 / len(layers))
        return layers

    def spectrum(self) -> Array:
        """All eigenvalues of the Hessian at the balanced layers, ascending, in closed form."""
        return spectrum(self._target[1], self.singular_values, self.widths, 0.0)


def unregularised(target: ArrayLike, depth: int, *, width: int | None = None) -> tuple[Projection, ...]:
    r"""Every critical value of :math:`\tfrac12 \|W_L \cdots W_1 - A^*\|_F^2`, in order of the cost.

    One for each set S of at most :math:`\min(w, n_0, n_L)` modes with positive singular values.

    * S holds the largest, as many as fit: global minimum.
    * S leaves out one that is larger than one it holds: strict saddle.
    * S holds the r largest and more would fit: a strict saddle for L = 2; for L >= 3 it depends on the factors.

    There are no other local minima.

    Parameters
    ----------
    target : array_like, shape (n_L, n_0)
        A*, of any rank.
    depth : int
        Number of layers L >= 1.
    width : int, optional
        Width w of every hidden layer; min(n_0, n_L) by default.

    Returns
    -------
    tuple of Projection

    Raises
    ------
    ValueError, TypeError
        If `depth` or `width` is less than 1, the target is not finite, or there are more than 3^12 sets.

    Notes
    -----
    Singular values within 4 max(n_0, n_L) eps s_1 of each other, or of 0, are taken to be equal; families of A_S that
    arise so count once.

    References
    ----------
    P. Baldi, K. Hornik, Neural Networks 2(1), 1989, for L = 2; A. Achour, F. Malgouyres, S. Gerchinovitz, arXiv
    2107.13289, for any depth.

    Examples
    --------
    >>> for point in unregularised(np.diag([2.0, 1.0]), 3):
    ...     print(point.modes, point.cost, point.kind)
    (0, 1) 0.0 global minimum
    (0,) 0.5 degenerate
    (1,) 2.0 strict saddle
    () 2.5 degenerate
    """
    A = checks.array(target, "target", ndim=2)
    depth = checks.integer(depth, "depth", least=1, most=checks.MOST)
    if depth == 1 and width is not None:
        raise ValueError(f"`width` must be None for one layer, got {width!r}. It has no hidden layer.")
    U, groups, Vt, _ = decomposed(A)
    hidden = min(A.shape) if width is None else checks.integer(width, "width", least=1, most=checks.MOST)
    widths = (A.shape[1], *[hidden] * (depth - 1), A.shape[0])
    s = np.array([value for value, many in groups for _ in range(many)])
    sizes = [many for value, many in groups if value > 0]
    most = min(hidden, sum(sizes))
    chosen = [tuple(sizes)] if depth == 1 else _choices(sizes, most)
    starts = np.cumsum([0, *sizes]).tolist()
    points = [
        Projection(
            modes=tuple(
                k for start, n in zip(starts, numbers, strict=False) for k in range(start, start + n)
            ),
            cost=sum(0.5 * value**2 * (many - n) for (value, many), n in zip(groups, numbers, strict=False)),
            kind=_kind(numbers, sizes, most, depth),
            dimension=sum(n * (many - n) for n, many in zip(numbers, sizes, strict=True)),
            widths=widths,
            _target=(U, s, Vt),
        )
        for numbers in chosen
    ]
    return tuple(sorted(points, key=lambda point: (point.cost, point.modes)))


def _choices(sizes: list[int], most: int) -> list[tuple[int, ...]]:
    """Numbers of modes from every group of equal ones, `most` in all at most."""
    if (total := sum(ways([range(many + 1) for many in sizes], most))) > MOST:
        raise ValueError(
            f"`target` must have at most {MOST} sets of modes to list them, got {total}. "
            "Take a target of lower rank, or a narrower network."
        )
    chosen: list[tuple[int, ...]] = [()]
    for many in sizes:
        chosen = [(*c, n) for c in chosen for n in range(min(many, most - sum(c)) + 1)]
    return chosen


def _kind(numbers: tuple[int, ...], sizes: list[int], most: int, depth: int) -> str:
    last = max((i for i, n in enumerate(numbers) if n), default=0)
    if numbers[:last] != tuple(sizes[:last]):  # a larger mode is left out
        return "strict saddle"
    if sum(numbers) == most:
        return "global minimum"
    return "strict saddle" if depth == 2 else "degenerate"


def is_tightened(target: ArrayLike, weights: Layers, *, tol: float = 1e-8) -> bool:
    r"""Whether the factors of a critical point without weight decay are tightened.

    That is, for every pair of layers l < m, :math:`\operatorname{rank}(W_{m-1} \cdots W_{l+1}) = r`, the rank of the
    product, or :math:`(W_{l-1} \cdots W_1)\, G^T (W_L \cdots W_{m+1}) = 0`, where G = A - A*. A saddle of kind
    "degenerate" in `unregularised` has a negative eigenvalue if and only if its factors are not tightened.

    Parameters
    ----------
    target : array_like, shape (n_L, n_0)
        A*.
    weights : sequence of array_like
        Layers at a critical point.
    tol : float
        What counts as zero, relative to the norms of the matrices that are multiplied.

    Raises
    ------
    ValueError, TypeError
        If the layers do not chain or their product does not have the shape of the target.

    References
    ----------
    A. Achour, F. Malgouyres, S. Gerchinovitz, arXiv 2107.13289, complementary blocks of pivots.

    Examples
    --------
    The origin is flat to second order for three layers; with a hidden layer that is not zero it is a strict saddle.

    >>> zero, eye = np.zeros((2, 2)), np.eye(2)
    >>> is_tightened(np.diag([2.0, 1.0]), [zero, zero, zero]), is_tightened(np.diag([2.0, 1.0]), [zero, eye, zero])
    (True, False)
    """
    layers = checks.layers(weights)
    shape = (len(layers[-1]), layers[0].shape[1])
    A = checks.array(target, "target", shape=shape)
    tol = checks.positive(tol, "tol")
    rank = _rank(layers, tol)
    forward = [np.eye(shape[1]), *forward_products(layers)[:-1]]
    backward = [np.eye(shape[0])]
    for W in reversed(layers[1:]):
        backward.insert(0, backward[0] @ W)
    G = A - end_to_end(layers)
    for l in range(len(layers)):
        for m in range(l + 1, len(layers)):
            small = tol * _size(layers[:l]) * _size(layers[m + 1 :]) * float(np.linalg.norm(A, 2))
            sees = np.abs(forward[l] @ G.T @ backward[m]).max() > small
            if sees and (_rank(layers[l + 1 : m], tol) if m > l + 1 else len(layers[l])) > rank:
                return False
    return True


def _size(layers: list[Array]) -> float:
    return float(np.prod([np.linalg.norm(W, 2) for W in layers]))


def _rank(layers: list[Array], tol: float) -> int:
    """Rank of a product of layers."""
    return int(np.sum(np.linalg.svd(end_to_end(layers), compute_uv=False) > tol * _size(layers)))
