r"""Collocation methods: Gauss and Radau IIA of any order. A method is its nodes.

.. math::

    Y_i = y + h \sum_j a_{ij} f(Y_j), \qquad a_{ij} = \int_0^{c_i} \ell_j, \qquad
    y_{new} = y + h \sum_j b_j f(Y_j) .

With the Gauss nodes the order is 2s, and quadratic invariants, such as the balance W_{l+1}^T W_{l+1} - W_l W_l^T, are
conserved to rounding. With the Radau nodes the order is 2s - 1, and stiff modes are damped (L-stable).

A mode that waits grows as u' = u^{L-1}: it is (D - t)^{-1/(L-2)}, which polynomials of t follow over a third of the
time D that is left, and an exponential of theta with 1 - t / D = exp(-kappa theta), which they follow over half of it
and more. Adaptive Radau steps towards an escape are therefore those of the same method for dy/dtheta = g(theta) f(y),
g = dt/dtheta, with kappa a near multiple of `STRETCH`.

References
----------
E. Hairer, G. Wanner, "Solving Ordinary Differential Equations II", 2nd ed., 1996, IV.5 and IV.8.
E. Hairer, C. Lubich, G. Wanner, "Geometric Numerical Integration", 2nd ed., 2006, IV.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.polynomial import Legendre

from ..typing import Array, ArrayLike
from .base import Method, frozen

__all__ = ["ALL", "Collocation"]

# Steps of kappa for which there are tables, and their number, 0 among them.
STRETCH, STRETCHES = 0.125, 9
FEWEST = 5  # stages: polynomials of lower degrees follow an exponential no better than what it is in t


class Collocation(Method):
    """The collocation method with given nodes in (0, 1]; see the module.

    Parameters
    ----------
    name, title, purpose : str
        As in `Method`.
    nodes : array_like
        c_1 < .. < c_s; Radau where the last is 1.
    order : int
        2s for Gauss, 2s - 1 for Radau nodes.
    to_rounding : bool
        Whether the stages are iterated until rounding, so that what the method conserves is conserved.
    """

    curvature = True

    def __init__(
        self,
        name: str,
        title: str,
        purpose: str,
        nodes: ArrayLike,
        order: int,
        to_rounding: bool = False,
    ) -> None:
        self.name, self.title, self.purpose, self.order = name, title, purpose, order
        self.nodes = frozen(nodes)
        self.stages = s = len(self.nodes)
        self.to_rounding = to_rounding
        self.stretches = 1 if to_rounding or s < FEWEST else STRETCHES
        self.error_exponent = 2 * s
        self.dense_order = s
        # Velocities at the nodes -> Legendre coefficients of their polynomial, and its integral up to a node.
        basis = [Legendre.basis(k, domain=[0.0, 1.0]) for k in range(s)]
        at_nodes = np.array([p(self.nodes) for p in basis]).T
        self.to_legendre = frozen(np.linalg.inv(at_nodes))
        integrals = [p.integ(lbnd=0.0) for p in basis]
        self.A = frozen(np.array([q(self.nodes) for q in integrals]).T @ self.to_legendre)
        self.b = frozen(np.array([q(1.0) for q in integrals]) @ self.to_legendre)
        # The collocation polynomial through y and the stages: Z_i times theta / c_i prod_j (theta - c_j) / (c_i - c_j).
        through = np.zeros((s, s))
        for i, c in enumerate(self.nodes):
            others = np.delete(self.nodes, i)
            through[i] = np.poly(others)[::-1] / (c * np.prod(c - others))
        dense = np.zeros((self.closing + 1 + s, s))
        dense[self.closing + 1 :] = through
        self.dense = frozen(dense)
        self.error = frozen(np.zeros((1, 1)))  # the estimate comes from the Legendre coefficients

    @property
    def closing(self) -> int:
        """Radau: the last stage; Gauss: a row of its own."""
        return self.stages if self.nodes[-1] == 1.0 else self.stages + 1

    @cached_property
    def table(self) -> Array:
        """The Legendre transform, rows c, b, and the slope at the end; then `stretched` for every stretch."""
        at_end = np.array([Legendre.basis(k, domain=[0.0, 1.0]).deriv()(1.0) for k in range(self.stages)])
        head = [
            self.to_legendre,
            self.nodes,
            self.b,
            at_end @ self.to_legendre,
            np.full(self.stages, STRETCH),
        ]
        return frozen(np.vstack([*head, *(self.stretched(k * STRETCH) for k in range(self.stretches))]))

    def stretched(self, kappa: float) -> Array:
        """A diag(g), T, T^-1 (s rows each), then rows alpha, beta, times, g; see the module.

        T^-1 A diag(g) T has the blocks [[alpha, beta], [-beta, alpha]] (beta = 0 and one row for a real eigenvalue).
        """
        s, c = self.stages, self.nodes
        g, times = np.ones(s), c
        if kappa > 0.0:
            g, times = kappa * np.exp(-kappa * c) / -np.expm1(-kappa), np.expm1(-kappa * c) / np.expm1(-kappa)
            g = g / (self.b @ g)
        A = self.A * g
        values, vectors = np.linalg.eig(A)
        order = np.lexsort((-values.imag, np.abs(values.imag) > 1e-12, values.real))
        T, alpha, beta, column = np.zeros((s, s)), np.zeros(s), np.zeros(s), 0
        for k in order:
            if values[k].imag < -1e-12:
                continue
            if abs(values[k].imag) <= 1e-12:
                T[:, column], alpha[column] = vectors[:, k].real, values[k].real
                column += 1
            else:
                T[:, column], T[:, column + 1] = vectors[:, k].real, vectors[:, k].imag
                alpha[column : column + 2], beta[column] = values[k].real, values[k].imag
                column += 2
        return np.vstack([A, T, np.linalg.inv(T), alpha, beta, times, g])

    def stiff_room(self, widths: Sequence[int]) -> int:
        """Largest number of eigenpairs that are kept: all, or as many as A has entries."""
        n = sum(a * b for a, b in pairwise(widths))
        return min(n, widths[0] * widths[-1])

    def numbers(self, widths: Sequence[int]) -> Array:
        """Stages, closing, error_exponent, eigenpairs kept, whether to iterate to rounding, number of stretches."""
        more = [self.stiff_room(widths), int(self.to_rounding), self.stretches]
        return np.append(super().numbers(widths), more)

    def memory(self, widths: Sequence[int]) -> Array:
        """Room for the eigenpairs, the stages and their residuals; see `dln.core.collocation`."""
        from ..core.collocation import memory_size

        n = sum(a * b for a, b in pairwise(widths))
        return np.zeros(memory_size(n, self.stages, self.stiff_room(widths)))

    def turn(self, memory: Array, widths: Sequence[int], turned: Callable[[Array], Array]) -> None:
        """Eigenvectors, stages, and what the step keeps beside them."""
        from ..core.collocation import states_in

        n = sum(a * b for a, b in pairwise(widths))
        V, *others = states_in(memory, n, self.stages, self.stiff_room(widths))
        for rows in others:
            rows[:] = turned(rows)
        V[:] = others[0].T

    @staticmethod
    def kernels() -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Compiled `step` and `complete`."""
        from ..core import collocation
        from ..core.compile import compiled
        from ..core.steps import STEP

        return compiled(collocation.step, STEP), compiled(collocation.complete, STEP)


def gauss_nodes(s: int) -> Array:
    """Zeros of the Legendre polynomial of degree s on [0, 1]."""
    return (1.0 + np.polynomial.legendre.leggauss(s)[0]) / 2.0


def radau_nodes(s: int) -> Array:
    """Zeros of P_s - P_{s-1} on [0, 1]; the last is 1."""
    inner = (Legendre.basis(s) - Legendre.basis(s - 1)) // Legendre([-1.0, 1.0])  # without the zero at 1
    nodes = np.sort(inner.roots().real)
    for _ in range(3):
        nodes -= inner(nodes) / inner.deriv()(nodes)
    return np.append((1.0 + nodes) / 2.0, 1.0)


def gauss(s: int) -> Collocation:
    """The Gauss method with s stages."""
    purpose = "conserves the balance of the layers to rounding"
    return Collocation(f"gauss{2 * s}", f"Gauss {s}", purpose, gauss_nodes(s), 2 * s, to_rounding=True)


def radau(s: int, purpose: str) -> Collocation:
    """The Radau IIA method with s stages."""
    return Collocation(f"radau{2 * s - 1}", f"Radau IIA {s}", purpose, radau_nodes(s), 2 * s - 1)


ALL = {
    method.name: method
    for method in (
        gauss(2),
        gauss(3),
        gauss(6),
        radau(3, "stiff plateaus, loose tolerances"),
        radau(5, "stiff plateaus, tolerances from 1e-5"),
        radau(7, "stiff plateaus, tight tolerances"),
    )
}
