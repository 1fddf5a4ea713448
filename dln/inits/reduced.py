r"""Gaussian networks of any width, drawn in the few numbers that matter: their Krylov form, in law.

A Gaussian matrix looks the same in any orthonormal bases. So the hidden spaces can be explored as needed: the image of
known vectors under a layer has a known law on what is known, and a part outside, of which only the inner products
matter, those of a triangular matrix with chi-distributed diagonal (M. Bartlett, 1933).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from .. import checks
from ..typing import RNG, Array
from .entries import deviation

__all__ = ["reduced_gaussian"]

MOST_ENTRIES = 2**26  # of all layers together, 512 MB
WIDEST = 2**53  # whole numbers that float64 counts


def reduced_gaussian(
    widths: Sequence[float],
    *,
    order: int,
    std: float | None = None,
    gamma: float | None = None,
    rho: float | None = None,
    alpha: float = 1.0,
    rng: RNG = None,
) -> list[Array]:
    r"""Layers of a Gaussian network of any width, even infinite, in its Krylov form of an order: small, equal in law.

    A network moves in the images of its ends, and in the images of these, and so on: the hidden space l is cut down to

    .. math:: S_l^{(0)} = \mathrm{range}\,F_l + \mathrm{range}\,B_l^T, \qquad
              S_l^{(k+1)} = S_l^{(k)} + W_l S_{l-1}^{(k)} + W_{l+1}^T S_{l+1}^{(k)}

    with F_l = W_l .. W_1 and B_l = W_L .. W_{l+1}. The layers between these spaces are drawn without the wide ones.

    Parameters
    ----------
    widths : sequence of int
        (n_0, .., n_L), hidden ones up to 2^53, or all hidden ones `math.inf`. At infinite width nothing is random.
    order : int
        k >= 0. Two layers are exact at order 0: their flow knows n_0 + n_L hidden directions. From three on the flow of
        the small network is that of the large one up to an error that falls faster than geometrically for L = 3 (orders
        4 and 6: relative errors of the times about 1e-7 and 1e-10), by a factor of 3 to 10 an order for L = 4.
    std, gamma, rho, alpha : float
        The scale of the *wide* network, as in `gaussian`; `rho` alone at infinite width.
    rng : None, int, SeedSequence or Generator
        Source of randomness.

    Returns
    -------
    list of ndarray
        Layers [W_1, .., W_L]. Hidden widths are (n_0 + n_L)(1 + k/2) for three layers of n_0 = n_L, grow like 2^(k/2)
        for four, and never exceed those given, where the small network is the large one in other bases.

    Raises
    ------
    ValueError, TypeError
        If not exactly one scale is given, a scale is not positive, some hidden widths are infinite and others not, or
        the layers would have more than 2^26 entries.

    References
    ----------
    Derived from the invariance of Gaussian matrices under rotations; M. S. Bartlett, Proc. R. Soc. Edinb. 53, 1933.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved(np.diag([2.0, 1.0]))
    >>> start = reduced_gaussian((2, 10**9, 10**9, 2), order=4, rho=0.1, rng=0)
    >>> [W.shape for W in start], bool(dln.gradient_flow(cost, start, (0.0, 60.0)).cost[-1] < 1e-9)
    ([(12, 2), (12, 12), (2, 12)], True)

    At infinite width each mode moves on a chain of its own, from the first layer to the last and back:

    >>> reduced_gaussian((1, math.inf, math.inf, 1), order=1, rho=0.5)[1]
    array([[0.5, 0. , 0.5],
           [0. , 0.5, 0. ],
           [0. , 0.5, 0. ]])
    """
    n = _widths(widths)
    rounds = checks.integer(order, "order", least=0)
    infinite = math.inf in n
    if infinite and rho is None:
        raise ValueError(
            "`rho` must be given at infinite width, got None. Of std and gamma nothing is left there."
        )
    finite = [1 if size == math.inf else size for size in n]
    scale = deviation(finite, std=std, gamma=gamma, rho=rho, alpha=alpha)
    source = _Limit() if infinite else _Random(checks.generator(rng))
    return [scale * W for W in _explored(n, rounds, source)]


def _widths(value: Any) -> tuple[float, ...]:
    """Widths of which the hidden ones may be large, or all infinite."""
    if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, (str, bytes)) or len(value) < 2:
        return checks.widths(value)  # which refuses it
    first, *hidden, last = value
    ends = [
        checks.integer(n, f"widths[{i}]", least=1, most=checks.MOST)
        for i, n in ((0, first), (len(value) - 1, last))
    ]
    boundless = [isinstance(n, (float, np.floating)) and n == math.inf for n in hidden]
    if hidden and all(boundless):
        return (ends[0], *[math.inf] * len(hidden), ends[1])
    if any(boundless):
        raise ValueError(
            f"`widths` must be finite or infinite in all hidden layers, got {tuple(value)}. Do not mix."
        )
    between = [checks.integer(n, f"widths[{i}]", least=1, most=WIDEST) for i, n in enumerate(hidden, start=1)]
    return (ends[0], *between, ends[1])


class _Random:
    """Blocks of a Gaussian matrix with unit variance."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random

    def block(self, rows: int, columns: int) -> Array:
        return self.random.standard_normal((rows, columns))

    def triangle(self, room: float, columns: int) -> Array:
        """R of the QR factorisation of room x columns entries, with a positive diagonal."""
        rows = int(min(room, columns))
        R = np.triu(self.block(rows, columns), 1)
        R[range(rows), range(rows)] = np.sqrt(self.random.chisquare(room - np.arange(rows)))
        return R


class _Limit(_Random):
    """The same divided by the square root of an infinite width: nothing random is left."""

    def __init__(self) -> None: ...

    def block(self, rows: int, columns: int) -> Array:
        return np.zeros((rows, columns))

    def triangle(self, room: float, columns: int) -> Array:
        return np.eye(int(min(room, columns)), columns)


@dataclass(frozen=True)
class _Seen:
    """What is drawn: entries of the layers in orthonormal bases of spaces 0 .. L, of `widths` dimensions in all.

    The images of the columns of ``right[l]`` under layer l lie in the space after it, those of ``left[l]`` under its
    transpose in the space before; both are orthonormal, in the bases.
    """

    widths: tuple[float, ...]
    layers: tuple[Array, ...]
    right: tuple[Array, ...]
    left: tuple[Array, ...]
    source: _Random

    @staticmethod
    def nothing(widths: tuple[float, ...], source: _Random) -> _Seen:
        sizes = [int(widths[0]), *[0] * (len(widths) - 2), int(widths[-1])]
        layers = tuple(source.block(n, m) for m, n in zip(sizes, sizes[1:], strict=False))
        right = tuple(np.empty((m, 0)) for m in sizes[:-1])
        return _Seen(widths, layers, right, tuple(np.empty((n, 0)) for n in sizes[1:]), source)

    @property
    def sizes(self) -> list[int]:
        return [self.layers[0].shape[1], *(len(W) for W in self.layers)]

    def mirrored(self) -> _Seen:
        """The transposed network."""
        layers = tuple(W.T for W in reversed(self.layers))
        return _Seen(self.widths[::-1], layers, self.left[::-1], self.right[::-1], self.source)

    def image(self, l: int, X: Array) -> _Seen:
        """After the image of orthonormal columns X, so far unseen, has been taken by layer l."""
        seen = np.hstack([self.right[l], X])
        R = self.source.triangle(self.widths[l + 1] - self.sizes[l + 1], X.shape[1])
        rows = R @ X.T + _outside(self.source.block(len(R), len(X)), seen)
        layers, right, left = list(self.layers), list(self.right), list(self.left)
        layers[l], right[l], left[l] = np.vstack([layers[l], rows]), seen, _padded(left[l], len(R))
        if len(R):
            columns = _outside(self.source.block(len(R), len(layers[l + 1])), left[l + 1]).T
            layers[l + 1], right[l + 1] = np.hstack([layers[l + 1], columns]), _padded(right[l + 1], len(R))
        return replace(self, layers=tuple(layers), right=tuple(right), left=tuple(left))

    def ends(self) -> _Seen:
        """After the images F_l of the first space have been taken by all layers."""
        seen, X = self, np.eye(self.sizes[0])
        for l in range(len(self.layers)):
            seen = seen.image(l, X)
            X = _signed(np.linalg.qr(seen.layers[l] @ X)[0])
        return seen

    def images(self, sizes: Sequence[int]) -> _Seen:
        """After every layer has taken the image of as much of the space before as there was at these sizes."""
        seen = self
        for l, size in enumerate(sizes[:-1]):
            seen = seen.image(l, _complement(seen.right[l], size))
        return seen


def _explored(widths: tuple[float, ...], order: int, source: _Random) -> tuple[Array, ...]:
    _refuse_large(widths, order)
    seen = _Seen.nothing(widths, source).ends().mirrored().ends().mirrored()
    for _ in range(order):
        sizes = seen.sizes
        seen = seen.images(sizes).mirrored().images(sizes[::-1]).mirrored()
        if seen.sizes == sizes:
            break
    return seen.layers


def _outside(rows: Array, seen: Array) -> Array:
    """Rows without their part in the range of orthonormal columns."""
    return rows - rows @ seen @ seen.T


def _padded(columns: Array, count: int) -> Array:
    return np.vstack([columns, np.zeros((count, columns.shape[1]))])


def _complement(seen: Array, size: int) -> Array:
    """Orthonormal basis of the first coordinates outside the range of orthonormal columns."""
    rest = np.linalg.qr(seen[:size], mode="complete")[0][:, seen.shape[1] :]
    return _padded(_signed(rest), len(seen) - size)


def _signed(columns: Array) -> Array:
    """Columns whose largest entries are positive."""
    largest = np.take_along_axis(columns, np.abs(columns).argmax(axis=0)[None], axis=0)
    return columns * np.where(largest < 0, -1.0, 1.0)


def _refuse_large(n: Sequence[float], order: int) -> None:
    """An order is refused at which the layers would have too many entries: new directions lead to their neighbours."""
    new = np.array([(n[-1] if l > 1 else 0) + (n[0] if l < len(n) - 2 else 0) for l in range(1, len(n) - 1)])
    sizes = np.full(len(new), n[0] + n[-1])
    for k in range(order + 1):
        least = [min(w, m) for w, m in zip(n, (n[0], *sizes.tolist(), n[-1]), strict=True)]
        entries = sum(a * b for a, b in pairwise(least))
        if entries > MOST_ENTRIES:
            raise ValueError(
                f"`order` must leave layers of at most 2^26 entries, got {order}, where {k} has {entries:.2g} already. "
                "Lower the order."
            )
        if all(m >= w for w, m in zip(n[1:-1], sizes, strict=True)) or not new.any():
            break
        sizes = sizes + new
        new = np.r_[new[1:], 0] + np.r_[0, new[:-1]]
