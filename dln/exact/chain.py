r"""One scalar network with unbalanced weights: time by quadrature, and its inverse.

Let x be the smallest weight, with the sign of the product a of all, and d_l = w_l^2 - x^2, which are conserved. Then

.. math:: \dot x = (s - a)\,b, \qquad a = x\,b, \qquad b = \prod_l \sqrt{x^2 + d_l} .

With m^2 the smallest d_l and x = m sinh z (x = +-exp(+-z) where m = 0), every square root is analytic for
|Im z| < pi/2, however different the d_l are, and z' = (s - a) beta, beta one root less than b. Near a fixed point
the logarithm of the distance takes the place of z. So panels of length 1 with 13 Gauss nodes are right to rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..typing import Array
from .integrals import NODES, WEIGHTS
from .invariants import Weights

__all__ = ["Chain", "chain"]

LAST = 40.0  # -ln of the distance to the fixed point from which on the approach is exponential
FAR, NEGLIGIBLE = 1e9, 1e-17  # x against roots, and a against s, from where on the law is a power
CLOSE = 1e-2  # distance to the fixed point below which it is found from s - a rather than from z
ROUNDS, ENOUGH = 60, 1e-14  # of Newton's method, which doubles the digits of a step that is close


def chain(start: Array, force: float, *, free: bool = False) -> Chain | None:
    """The network under the force s - a or, where `free`, s alone, as near the origin; None if it stands still."""
    w = Weights(start, force)
    if (w.x == 0 and w.m == 0) or (w.s == 0 if free else w.s == w.product):
        return None
    drifts = free or (w.m == 0 and (w.x < 0 or w.s == 0))
    moving = Drift(w, free) if drifts else Approach(w)
    with np.errstate(all="ignore"):  # or does not move in any time that float64 holds
        return moving if np.isfinite(moving.rate(np.zeros(1))).all() else None


@dataclass(frozen=True)
class Chain(ABC):
    """A network that moves, and its coordinate p, which grows from 0 on the way."""

    w: Weights

    @property
    @abstractmethod
    def limit(self) -> float:
        """Where the product goes."""

    @property
    @abstractmethod
    def ends(self) -> tuple[float, float]:
        """Minus a p at which a panel has to end, and p from where on dt/dp = constant * exp(growth * p)."""

    @property
    @abstractmethod
    def growth(self) -> float: ...

    @abstractmethod
    def z_of(self, p: Array) -> Array: ...

    @abstractmethod
    def p_of(self, x: Array, rest: Array) -> Array:
        """p at x, where `rest` is s - a."""

    @abstractmethod
    def rate(self, p: Array) -> Array:
        """dt/dp, p of shape (n,)."""

    @cached_property
    def table(self) -> tuple[Array, Array, float]:
        """Ends of the panels, the times there, and dt/dp at the last of them."""
        first, last = self.ends
        inside = np.arange(np.floor(first) + 1, first + last) - first
        edges = np.concatenate([[0.0], inside[inside > 0], [last]])
        times = np.append(0.0, np.cumsum(self._integral(edges[:-1], np.diff(edges))))
        return edges, times, float(self.rate(edges[-1:])[0])

    def _integral(self, p: Array, width: Array) -> Array:
        nodes = p[:, None] + width[:, None] * (0.5 + 0.5 * NODES)
        return width * (self.rate(nodes.ravel()).reshape(nodes.shape) @ (0.5 * WEIGHTS))

    def time(self, p: Array) -> Array:
        edges, times, last = self.table
        panel = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, len(edges) - 2)
        inside = times[panel] + self._integral(edges[panel], np.minimum(p, edges[-1]) - edges[panel])
        ahead = np.maximum(p - edges[-1], 0.0)
        return inside + last * (np.expm1(self.growth * ahead) / self.growth if self.growth else ahead)

    def p_after(self, t: Array) -> Array:
        """p at times >= 0; NaN from a blow-up on."""
        edges, times, last = self.table
        late = np.maximum(t - times[-1], 0.0) / last
        ahead = np.log1p(self.growth * late) / self.growth if self.growth else late
        panel = np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(edges) - 2)
        low, high, goal = edges[panel], edges[panel + 1], np.minimum(t, times[-1]) - times[panel]
        p = low + (high - low) * goal / np.maximum(times[panel + 1] - times[panel], np.finfo(float).tiny)
        for _ in range(ROUNDS):
            step = (self._integral(low, p - low) - goal) / self.rate(p)
            before, p = p, np.clip(p - step, low, high)
            if not (np.abs(p - before) > ENOUGH * p).any():
                break
        return p + ahead

    def weights(self, t: Array) -> Array:
        """Weights at times t >= 0, shape (T, L)."""
        with np.errstate(all="ignore"):
            found = self.w.at(self.w.x_at(self.z_of(self.p_after(t))))
        return np.where(t[:, None] == 0, self.w.start, found)

    @property
    def blow_up(self) -> float:
        """Time at which p is infinite."""
        with np.errstate(all="ignore"):
            _, times, last = self.table
        return float(times[-1]) - last / self.growth if self.growth < 0 else np.inf

    def arrival(self, product: Array) -> Array:
        """Time at which the product has a value: inf for its limit, NaN where it never has it."""
        value, start = self.w.turn * product, self.w.product
        ahead = np.sign(value - start) * np.sign(self.limit - start) > 0
        ahead &= np.sign(self.limit - value) * np.sign(self.limit - start) > 0
        t = np.where(value == self.limit, np.inf, np.where(value == start, 0.0, np.nan))
        if ahead.any():
            with np.errstate(all="ignore"):
                x, rest = self.w.x_of(value[ahead]), self.w.s - value[ahead]
                t[ahead] = self.time(self.p_of(x, rest))
        return t


@dataclass(frozen=True)
class Approach(Chain):
    """The way to a fixed point e: p is 1 - |e - z| up to 0, then -ln|e - z|, less what it is at the start."""

    growth = 0.0

    @property
    def limit(self) -> float:
        return self.w.s

    @cached_property
    def end(self) -> float:
        return float(self.w.z_at(self.w.x_of(np.array([self.w.s])))[0])

    @cached_property
    def heading(self) -> float:
        return 1.0 if self.w.product < self.w.s else -1.0

    @cached_property
    def first(self) -> float:
        x, rest = np.array([self.w.x]), np.array([self.w.s - self.w.product])
        distance = float(self._distance(x, rest)[0])
        return 1 - distance if distance > 1 else -float(np.log(distance))

    @property
    def ends(self) -> tuple[float, float]:
        return self.first, max(LAST - self.first, 0.0)

    def z_of(self, p: Array) -> Array:
        after = p + self.first
        z = self.w.z_at(np.array(self.w.x)) + self.heading * p
        return np.where(after < 0, z, self.end - self.heading * np.exp(-np.maximum(after, 0.0)))

    def _distance(self, x: Array, rest: Array) -> Array:
        distance = np.abs(self.end - self.w.z_at(x))
        for _ in range(8):  # a fixed point of rest = slope * distance, which contracts by the distance
            distance = np.where(distance < CLOSE, np.abs(rest) / self._slope(distance), distance)
        return distance

    def p_of(self, x: Array, rest: Array) -> Array:
        distance = self._distance(x, rest)
        before = np.abs(self.w.z_at(x) - self.w.z_at(np.array(self.w.x)))
        return np.where(distance > 1, before, np.maximum(-np.log(distance) - self.first, 0.0))

    def rate(self, p: Array) -> Array:
        after, x = p + self.first, self.w.x_at(self.z_of(p))
        rest = np.abs(self.w.s - x * np.prod(np.hypot(x, self.w.roots), axis=0))
        slope = self._slope(np.exp(-np.maximum(after, 0.0)))
        return 1 / (np.where(after < 0, rest, slope) * np.prod(np.hypot(x, self.w.others), axis=0))

    def _slope(self, distance: Array) -> Array:
        """(s - a) / (e - z), the difference of two products term by term."""
        w, half = self.w, self.heading * distance / 2
        end = np.array([self.end])
        x, x_end = w.x_at(end - 2 * half), w.x_at(end)
        if w.m > 0:
            gap = (
                w.m
                * np.cosh(end - half)
                * np.where(half == 0, 1.0, np.sinh(half) / np.where(half == 0, 1.0, half))
            )
        else:
            gap = x_end * np.where(half == 0, 1.0, -np.expm1(-2 * half) / np.where(half == 0, 1.0, 2 * half))
        before, after = x * (x + x_end), np.prod(np.hypot(x_end, w.roots))
        total = np.full_like(x, after)
        for root in w.roots[:, 0]:
            size, size_end = np.hypot(x, root), np.hypot(x_end, root)
            after = after / size_end
            total += before * after / (size + size_end)
            before = before * size
        return gap * total


@dataclass(frozen=True)
class Drift(Chain):
    """The way of z to infinity, p = |z - z_0|: x grows beyond bounds, or dies with another weight of the same size."""

    free: bool

    @property
    def dies(self) -> bool:
        return self.w.m == 0 and (self.w.x < 0 or self.w.s == 0)

    @property
    def limit(self) -> float:
        return 0.0 if self.dies else np.inf

    @cached_property
    def heading(self) -> float:
        return -1.0 if self.dies and self.w.x > 0 else 1.0

    @property
    def growth(self) -> float:
        if not self.dies:
            return -float(len(self.w.others))
        power = float(np.sum(self.w.others == 0))
        return power if self.w.s > 0 else 2 * power + 2

    @cached_property
    def ends(self) -> tuple[float, float]:
        w, size = self.w, abs(self.w.x)
        if self.dies:
            sizes = [size, *(w.others[w.others > 0] / FAR)]
            if w.s > 0 and not self.free:
                sizes.append(float(w.x_of(np.array([NEGLIGIBLE * w.s]))[0]))
            far = np.copysign(min(sizes), w.x)
        else:
            far = FAR * w.roots.max() if w.roots.max() > 0 else size
        p = self.heading * float(w.z_at(np.array(far)) - w.z_at(np.array(w.x)))
        return 0.0, max(p, 0.0)

    def z_of(self, p: Array) -> Array:
        return self.w.z_at(np.array(self.w.x)) + self.heading * p

    def p_of(self, x: Array, rest: Array) -> Array:
        return self.heading * (self.w.z_at(x) - self.w.z_at(np.array(self.w.x)))

    def rate(self, p: Array) -> Array:
        x = self.w.x_at(self.z_of(p))
        force = self.w.s if self.free else np.abs(self.w.s - x * np.prod(np.hypot(x, self.w.roots), axis=0))
        return 1 / (force * np.prod(np.hypot(x, self.w.others), axis=0))
