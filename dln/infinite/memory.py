r"""The homogeneous flow of infinite width, exactly: what the layers do is known from inner products at two times.

In the time :math:`d\tau = (s - a)\,dt` a mode moves as :math:`\dot W_l = b_l f_{l-1}^T`, whatever s; at rho = 1 so

.. math:: W_l(\tau) = W_l(0) + \int_0^\tau b_l f_{l-1}^T, \qquad
          f_l = W_l \cdots W_1, \quad b_l = W_{l+1}^T \cdots W_L^T.

Infinitely wide, :math:`W_l(0)` takes the known f_{l-1} to new vectors u_l, orthogonal to all that is known and with the
inner products of those; its transpose takes b_{l+1} to v_l; and what came through it, v_{l-1}, it takes back to b_l:

.. math:: f_l = u_l + P_l b_l, \quad b_l = v_l + Q_l f_l, \quad P_l = J \circ F_{l-1} + \beta_{l-1}, \qquad
          F_l(\tau, \tau') = f_l \cdot f_l

J the integral over the past and beta_l the coefficients of f_l on v_l. The transposed network starts alike, so b_l is
f_{L-l} with u and v exchanged, and Q_l = P_{L-l}. Of a(tau) the variable is :math:`\xi = \mathrm{arsinh}\, a`, in which
all is smooth on the scale 1 up to the blow-up, at which

.. math:: \dot a = L\, a^{2 - 2/L} (1 + O(a^{-4/L})),

as the singular values of the layers differ little from a^(1/L), and the sum of their inverse squares is least where
they are equal. Such equations are those of dynamical mean-field theory (B. Bordelon, C. Pehlevan, arXiv 2205.09653).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from ..typing import Array
from .panels import Panels

EDGES = np.r_[0.0, 0.5, 1.0, 1.5, 2.0, 3.0, np.linspace(4.0, 32.0, 11)]  # of xi: a up to 4e13
SETTLED, MOST_SWEEPS = 1e-13, 100  # relative change of the rates at which a panel is done


@dataclass(frozen=True, eq=False)
class Clock:
    """Time tau of the homogeneous flow of depth L >= 3 at rho = 1, by its rate d tau / d xi at the nodes of panels."""

    depth: int
    panels: Panels
    rates: Array

    @cached_property
    def _series(self) -> Array:
        return self.panels.series(np.log(self.rates))

    @cached_property
    def _excess(self) -> float:
        """Relative distance from the law of the blow-up at the last edge."""
        end, L = self.panels.edges[-1:], self.depth
        return float(np.exp(self.panels.at(self._series, end) + (1 - 2 / L) * (end - np.log(2)))[0] * L - 1)

    def rate(self, xi: Array) -> Array:
        """d tau / d xi at any xi >= 0."""
        end, L = self.panels.edges[-1], self.depth
        beyond = np.maximum(xi - end, 0.0)
        falling = (1 + self._excess * np.exp(-4 / L * beyond)) / (1 + self._excess)
        inside = self.panels.at(self._series, np.minimum(xi, end))
        return np.asarray(np.exp(inside + (2 / L - 1) * beyond) * falling)

    def blow_up(self) -> float:
        """The time at which a is infinite."""
        end, L = self.panels.edges[-1], self.depth
        after = np.exp((2 / L - 1) * (end - np.log(2))) / (L - 2)
        return float(self.panels.weights @ self.rates + after)


@lru_cache(maxsize=32)
def clock(depth: int, order: int) -> Clock:
    """The clock at this depth, from polynomials with so many nodes on each panel."""
    panels = Panels(EDGES, order)
    memory = _Memory(depth, panels)
    for i in range(len(panels.halves)):
        memory.follow(i * order, (i + 1) * order)
    return Clock(depth, panels, memory.rates)


class _Memory:
    """F_l at all pairs of nodes and the coefficients alpha_l, beta_l of f_l on u_l and v_l, for l = 0 .. L - 1."""

    def __init__(self, depth: int, panels: Panels) -> None:
        self.depth, self.xi, self.integration = depth, panels.nodes, panels.integration
        n = len(self.xi)
        self.F, self.beta = np.zeros((2, depth, n, n))
        self.F[0] = 1.0
        self.alpha = np.tile(np.eye(n), (depth, 1, 1))
        self.rates = np.full(n, 1 / depth)

    def follow(self, start: int, stop: int) -> None:
        """Fill the nodes of a panel, those before being known."""
        new, seen = slice(start, stop), slice(0, stop)
        self.guess(new)
        for _ in range(MOST_SWEEPS):
            self.sweep(new, seen)
            rates = self.rates[new].copy()
            self.rates[new] = self.paced(new, seen)
            if np.abs(self.rates[new] / rates - 1).max() < SETTLED:
                return
        raise RuntimeError(f"the two-time functions of {self.depth} layers did not settle.")

    def guess(self, new: slice) -> None:
        """As after a blow-up: f_l grows like a^(l/L)."""
        last = new.start - 1
        if last < 0:
            self.F[:, new, new] = 1.0
            return
        growth = np.cosh(self.xi[new]) / np.cosh(self.xi[last])
        power = growth ** (np.arange(self.depth)[:, None] / self.depth)
        for known in (self.alpha, self.beta, self.F):
            known[:, new, : new.start] = power[:, :, None] * known[:, last, None, : new.start]
        self.F[:, : new.start, new] = self.F[:, new, : new.start].swapaxes(1, 2)
        self.F[:, new, new] = power[:, :, None] * power[:, None, :] * self.F[:, last, last, None, None]
        self.rates[new] = self.rates[last] * growth ** (2 / self.depth - 1)

    def sweep(self, new: slice, seen: slice) -> None:
        """Every f_l at the new nodes from those of the layers before and of the b_l."""
        L, F, alpha, beta = (
            self.depth,
            self.F[:, :, seen],
            self.alpha[:, seen, seen],
            self.beta[:, seen, seen],
        )
        J, unit = self.integration[new, seen] * self.rates[seen], np.eye(len(self.xi))[new, seen]
        for l in range(1, L):
            P = F[l - 1, new] * J + beta[l - 1, new]
            alpha[l, new] = unit + P @ beta[L - l]
            beta[l, new] = P @ alpha[L - l]
            F[l, new] = self.inner(l, alpha[l, new], beta[l, new]) @ np.hstack([alpha[l], beta[l]]).T
            F[l, seen, new] = F[l, new].T

    def inner(self, l: int, alpha: Array, beta: Array) -> Array:
        """Vectors of the hidden space l by their inner products with u_l and v_l."""
        seen = slice(0, alpha.shape[1])
        return np.hstack([alpha @ self.F[l - 1, seen, seen], beta @ self.F[self.depth - l - 1, seen, seen]])

    def paced(self, new: slice, seen: slice) -> Array:
        """Rates by da / d tau = sum_l |b_l|^2 |f_{l-1}|^2, moved to where a should be at the nodes."""
        squares = np.diagonal(self.F[:, new, new], axis1=1, axis2=2)
        l, m = self.depth // 2, self.depth - self.depth // 2
        f = self.inner(l, self.alpha[l, new, seen], self.beta[l, new, seen])
        a = np.sum(f * np.hstack([self.beta[m, new, seen], self.alpha[m, new, seen]]), axis=1)
        ahead = (np.sinh(self.xi[new]) / a) ** ((1 - 1 / self.depth) * np.tanh(self.xi[new]) ** 2)
        return np.asarray(np.cosh(self.xi[new]) / (ahead * np.sum(squares * squares[::-1], axis=0)))
