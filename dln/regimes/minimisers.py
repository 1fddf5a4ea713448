r"""Minimisers of a quadratic cost: an affine set of matrices, :math:`\{A : R\,\mathrm{vec}(A) = y\}`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..costs import Cost
from ..exact.linear import EIGENBASES, Eigenbasis
from ..network import ntk
from ..problem import Problem
from ..typing import Array

__all__ = ["Minimisers", "eigenbasis", "minimisers"]


@dataclass(frozen=True, eq=False)
class Minimisers:
    """Matrices A with R vec(A) = y: R takes those coordinates in an orthonormal basis that the cost determines."""

    basis: Eigenbasis
    determined: Array  # which coordinates
    shape: tuple[int, int]  # (n_L, n_0)
    values: Array  # y, (m,)

    def seen(self, A: Array) -> Array:
        """R vec(A), (..., m)."""
        return np.asarray(self.basis.into(A)[..., self.determined])

    def raised(self, v: Array) -> Array:
        """The matrix of R^T v."""
        coordinates = np.zeros(self.determined.shape)
        coordinates[self.determined] = v
        return np.asarray(self.basis.back(coordinates).reshape(self.shape))

    def excess(self, A: Array) -> Array:
        """R vec(A) - y, whose norm is the distance of A to the set."""
        return self.seen(A) - self.values

    def nearest(self, A: Array) -> Array:
        """The member nearest to A."""
        return np.asarray(A - self.raised(self.excess(A)))

    def kernel(self, weights: Sequence[Array]) -> Array:
        """R Theta R^T, the tangent kernel as the cost sees it, (m, m)."""
        half = self.seen(ntk(weights).reshape(-1, *self.shape))
        return self.seen(half.T.reshape(-1, *self.shape))

    @property
    def single(self) -> bool:
        """Whether there is one only."""
        return bool(self.determined.all())

    @property
    def point(self) -> Array | None:
        """The only member, if there is one only."""
        return self.raised(self.values) if self.single else None


def eigenbasis(cost: Cost) -> Eigenbasis:
    """Eigenvalues and eigenbasis of the Hessian of a quadratic cost; others are refused."""
    if type(cost) not in EIGENBASES:
        raise ValueError(
            f"`cost` must be quadratic, one of {[kind.__name__ for kind in EIGENBASES]}, got {cost!r}. "
            "The minimisers of other costs are not known in closed form."
        )
    return EIGENBASES[type(cost)](cost)


def minimisers(problem: Problem) -> Minimisers:
    """Minimisers of the cost, provided that the network can be any one of them."""
    basis: Any = eigenbasis(problem.cost)
    h = np.asarray(basis.eigenvalues)
    n_L, n_0 = problem.widths[-1], problem.widths[0]
    felt = h > (n_L * n_0 * np.finfo(float).eps) ** 2 * h.max()  # squares of singular values
    found = Minimisers(basis, felt, (n_L, n_0), basis.pull[felt] / h[felt])
    needed = min(n_L, n_0) if found.point is None else int(np.linalg.matrix_rank(found.point))
    if min(problem.widths) < needed:
        raise ValueError(
            f"`weights` must have hidden layers of width at least {needed}, got widths {problem.widths}. Then every "
            "minimiser of the cost is a product of such layers."
        )
    return found
