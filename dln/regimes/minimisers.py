r"""Minimisers of a quadratic cost: an affine set of matrices, :math:`\{A : R\,\mathrm{vec}(A) = y\}`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..costs import Cost
from ..exact.linear import EIGENBASES, Eigenbasis
from ..problem import Problem
from ..typing import Array

__all__ = ["Minimisers", "eigenbasis", "minimisers"]


@dataclass(frozen=True, eq=False)
class Minimisers:
    """Matrices A with R vec(A) = y, the rows of R orthonormal; one matrix where R is square."""

    rows: Array  # (m, n_L, n_0)
    values: Array  # (m,)

    def excess(self, A: Array) -> Array:
        """R vec(A) - y, whose norm is the distance of A to the set."""
        return np.tensordot(self.rows, A, 2) - self.values

    def nearest(self, A: Array) -> Array:
        """The member nearest to A."""
        return np.asarray(A - np.tensordot(self.excess(A), self.rows, 1))

    @property
    def point(self) -> Array | None:
        """The only member, if there is one only."""
        m, *shape = self.rows.shape
        return self.nearest(np.zeros(shape)) if m == np.prod(shape) else None


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
    units = np.eye(h.size).reshape(h.size, *h.shape)[felt.ravel()]
    found = Minimisers(basis.back(units).reshape(-1, n_L, n_0), basis.pull[felt] / h[felt])
    needed = min(n_L, n_0) if found.point is None else int(np.linalg.matrix_rank(found.point))
    if min(problem.widths) < needed:
        raise ValueError(
            f"`weights` must have hidden layers of width at least {needed}, got widths {problem.widths}. Then every "
            "minimiser of the cost is a product of such layers."
        )
    return found
