"""Smooth functions of one variable in Legendre polynomials, panel by panel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import legendre

from ..typing import Array


@dataclass(frozen=True, eq=False)
class Panels:
    """Panels between `edges`, each with the nodes of a Gauss rule of an order; nodes are counted along all panels."""

    edges: Array
    order: int

    @cached_property
    def halves(self) -> Array:
        return np.diff(self.edges) / 2

    @cached_property
    def middles(self) -> Array:
        return self.edges[:-1] + self.halves

    @cached_property
    def rule(self) -> tuple[Array, Array]:
        x, w = legendre.leggauss(self.order)
        return x, w

    @cached_property
    def nodes(self) -> Array:
        return np.asarray((self.middles[:, None] + np.outer(self.halves, self.rule[0])).ravel())

    @cached_property
    def weights(self) -> Array:
        return np.asarray(np.outer(self.halves, self.rule[1]).ravel())

    @cached_property
    def integration(self) -> Array:
        """Matrix that takes values at the nodes to integrals from the first edge to the nodes."""
        within = legendre.legval(self.rule[0], legendre.legint(self._inverse, lbnd=-1)).T
        blocks = np.kron(np.tri(len(self.halves), k=-1), np.ones((self.order, self.order))) * self.weights
        return np.asarray(blocks + np.kron(np.diag(self.halves), within))

    @cached_property
    def _inverse(self) -> Array:
        """Matrix that takes values at the nodes of a panel to Legendre coefficients."""
        return np.asarray(np.linalg.inv(legendre.legvander(self.rule[0], self.order - 1)))

    def series(self, values: Array) -> Array:
        """Coefficients (order, panels) of the polynomials through values at the nodes."""
        return np.asarray(self._inverse @ values.reshape(-1, self.order).T)

    def at(self, series: Array, x: Array) -> Array:
        """Piecewise polynomials at points between the first edge and the last."""
        i = np.clip(np.searchsorted(self.edges, x, side="right") - 1, 0, len(self.halves) - 1)
        y = (x - self.middles[i]) / self.halves[i]
        return np.asarray(legendre.legval(y, series[:, i], tensor=False))

    def integral(self, series: Array) -> Array:
        """Coefficients of the integrals from the first edge."""
        within = legendre.legint(series, lbnd=-1) * self.halves
        within[0] += np.r_[0.0, np.cumsum(2 * series[0] * self.halves)[:-1]]
        return np.asarray(within)
