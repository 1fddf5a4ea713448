r"""Layers as a point near the set of factors, :math:`\{\theta : R\,\mathrm{vec}(A_\theta) = y\}`.

J is the derivative of the constraints, and

.. math:: J J^T = R \Big(\sum_l B_l B_l^T \otimes F_{l-1}^T F_{l-1}\Big) R^T

the tangent kernel as the cost sees it. It is applied by products of matrices of the size of A, and inverted by
conjugate gradients. They are preconditioned by a Cholesky factor, that of a point nearby for a while; or, where the
cost determines A, first by the diagonal in the singular bases of :math:`B_1` and :math:`F_{L-1}`, from which nothing
is missing at balanced layers and little at others, so that no matrix of size m is formed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from ..network import forward_products
from ..problem import as_state
from ..typing import Array
from .minimisers import Minimisers

__all__ = ["DENSE", "Factors", "layered"]

DENSE = 1000  # constraints whose kernel is factorised ...
DETERMINED = 64  # ... or, where they determine A, and the singular bases serve
FELT = 1e-15  # of the kernel's largest eigenvalue: what is smaller is lost in rounding
NONE = 1e-200  # an entry of the kernel of layers of order 1 that could underflow
SOLVED = 1e-11
MOST, LONG, SHORT = (
    1000,
    150,
    20,
)  # steps of conjugate gradients: to the end, by bases, by the inverse of a kernel nearby

Map = Callable[[Array], Array]


def layered(x: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Layers from one flat array."""
    ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)])
    return [x[a:b].reshape(shape) for (a, b), shape in zip(pairwise(ends), shapes, strict=True)]


@dataclass(frozen=True, eq=False)
class Factors:
    """Layers, by how much they miss the constraints, and the derivative J of these."""

    weights: list[Array]
    goal: Minimisers
    forward: list[Array]  # F_0 .. F_L
    backward: list[Array]  # B_0 .. B_L
    borrowed: Map | None = None  # inverse of a kernel nearby

    @staticmethod
    def at(weights: list[Array], goal: Minimisers, near: Factors | None = None) -> Factors:
        """The point; where a point nearby had to factorise its kernel, that serves for a while."""
        forward = [np.eye(goal.shape[1]), *forward_products(weights)]
        backward = [B.T for B in reversed(forward_products([W.T for W in reversed(weights)]))]
        borrowed = None if near is None or near.inverse == near.by_bases else near.inverse
        return Factors(weights, goal, forward, [*backward, np.eye(goal.shape[0])], borrowed)

    def arrived(self) -> Factors:
        """The same point with an inverse of its own."""
        return replace(self, borrowed=None)

    @cached_property
    def excess(self) -> Array:
        """What the constraints are missed by, (m,)."""
        return self.goal.excess(self.forward[-1])

    def down(self, v: Array) -> Array:
        """J v, (m,)."""
        parts = layered(v, [W.shape for W in self.weights])
        ways = zip(self.backward[1:], parts, self.forward, strict=False)
        return self.goal.seen(np.asarray(sum(B @ V @ F for B, V, F in ways)))

    def up(self, multipliers: Array) -> Array:
        """J^T mu, as flat as the weights."""
        M = self.goal.raised(multipliers)
        ways = zip(self.backward[1:], self.forward, strict=False)
        return as_state([B.T @ M @ F.T for B, F in ways])

    def curvature(self, multipliers: Array) -> Map:
        """Hessian of the Lagrangian along the set: v less the derivative of J^T mu along v, in the null space of J."""
        M = self.goal.raised(multipliers)
        pulled = [B.T @ M for B in self.backward]  # B_l^T M, and below M F_l^T
        pushed = [M @ F.T for F in self.forward]
        shapes = [W.shape for W in self.weights]

        def product(v: Array) -> Array:
            parts = layered(v, shapes)
            forward, backward = [np.zeros_like(self.forward[0])], [np.zeros_like(self.backward[-1])]
            for W, V, F in zip(self.weights, parts, self.forward, strict=False):
                forward.append(V @ F + W @ forward[-1])
            for W, V, B in zip(self.weights[::-1], parts[::-1], self.backward[::-1], strict=False):
                backward.append(B @ V + backward[-1] @ W)
            ways = zip(pulled[1:], pushed, forward, backward[-2::-1], strict=False)
            return self.tangent(v - as_state([above @ F.T + B.T @ below for above, below, F, B in ways]))

        return product

    def solve(self, r: Array, accuracy: float = SOLVED) -> tuple[Array, Array]:
        """(J J^T)^{-1} r, without what is not felt to rounding, and J^T of it."""
        while True:
            inverse, patience = self.ways[0]
            found, met = _conjugate(self.kernel, inverse, r, accuracy, patience)
            if met or len(self.ways) == 1:
                return found, self.up(found)
            del self.ways[0]

    def tangent(self, v: Array) -> Array:
        """Part of v in the null space of J."""
        return np.asarray(v - self.solve(self.down(v))[1])

    @cached_property
    def grams(self) -> tuple[Array, Array]:
        """B_l B_l^T side by side, and F_{l-1}^T F_{l-1} one over the other."""
        P = np.stack([B @ B.T for B in self.backward[1:]])
        Q = np.stack([F.T @ F for F in self.forward[:-1]])
        return P, Q

    def kernel(self, v: Array) -> Array:
        """J J^T v."""
        P, Q = self.grams
        return self.goal.seen(np.sum(P @ self.goal.raised(v) @ Q, axis=0))

    @cached_property
    def ways(self) -> list[tuple[Map, int]]:
        """Inverses to start from, each with the steps after which the next and better one is taken."""
        m = len(self.goal.values)
        ways: list[tuple[Map, int]] = []
        if self.borrowed is not None:
            ways.append((self.borrowed, SHORT))
        elif m > (DETERMINED if self.goal.single else DENSE):
            ways.append((self.by_bases, LONG if m <= DENSE else MOST))
        return [*ways, (self.by_factor, MOST)] if m <= DENSE else ways

    @property
    def inverse(self) -> Map:
        """The one in use."""
        return self.ways[0][0]

    def by_factor(self, r: Array) -> Array:
        """(J J^T)^{-1} r, but for rounding."""
        return np.asarray(cho_solve(self._factor, r, check_finite=False))

    @cached_property
    def _factor(self) -> tuple[Array, bool]:
        K = self.goal.kernel(self.weights)
        K[np.abs(K) < NONE] = 0.0
        diagonal = np.einsum("ii->i", K)
        shift = np.finfo(float).eps * float(diagonal.sum()) or 1.0
        while True:
            diagonal += shift
            try:
                return cho_factor(K, lower=True, check_finite=False)
            except np.linalg.LinAlgError:
                shift *= 4

    def by_bases(self, r: Array) -> Array:
        """R diag(h)^{-1} R^T r in the singular bases."""
        U, h, V = self._bases
        return self.goal.seen(U @ ((U.T @ self.goal.raised(r) @ V) * h) @ V.T)

    @cached_property
    def _bases(self) -> tuple[Array, Array, Array]:
        U = np.linalg.svd(self.backward[1])[0]
        V = np.linalg.svd(self.forward[-2])[2].T
        rows = [np.sum((U.T @ B) ** 2, axis=1) for B in self.backward[1:]]
        columns = [np.sum((F @ V) ** 2, axis=0) for F in self.forward[:-1]]
        h = np.asarray(sum(np.outer(p, q) for p, q in zip(rows, columns, strict=True)))
        return U, np.where(h > FELT * h.max(), 1.0 / np.where(h > 0, h, 1.0), 0.0), V


def _conjugate(product: Map, inverse: Map, r: Array, accuracy: float, most: int) -> tuple[Array, bool]:
    """Conjugate gradients for product(x) = r, and whether they met the accuracy in time."""
    x, z = np.zeros_like(r), inverse(r)
    d, rz = z, float(r @ z)
    enough = accuracy**2 * rz
    for _ in range(most):
        if rz <= enough:
            return x, True
        Kd = product(d)
        bend = float(d @ Kd)
        if not bend > 0:
            return x, True  # what is left is not felt
        x, r = x + rz / bend * d, r - rz / bend * Kd
        z = inverse(r)
        before, rz = rz, float(r @ z)
        d = z + rz / before * d
    return x, False
