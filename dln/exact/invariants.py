"""Weights of a scalar network as functions of one of them: the differences of their squares are conserved."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..typing import Array

__all__ = ["Weights"]

ROUNDS, ENOUGH = 60, 1e-15  # of Newton's method


@dataclass(frozen=True)
class Weights:
    """Weights and their invariants; the force s is made positive by the sign of the least weight."""

    start: Array
    force: float

    @cached_property
    def least(self) -> int:
        return int(np.argmin(np.abs(self.start)))

    @property
    def turn(self) -> float:
        return -1.0 if self.force < 0 else 1.0

    @cached_property
    def signs(self) -> Array:
        """Signs of the weights; that of the least is the one between it and x."""
        signs = np.where(self.start < 0, -1.0, 1.0)
        signs[self.least] = 1.0
        signs[self.least] = self.turn * np.prod(signs)
        return signs

    @property
    def s(self) -> float:
        return abs(self.force)

    @cached_property
    def x(self) -> float:
        return float(self.signs[self.least] * self.start[self.least])

    @cached_property
    def product(self) -> float:
        return float(self.turn * np.prod(self.start))

    @cached_property
    def roots(self) -> Array:
        """Square roots of d_l of all weights but the least, shape (L - 1, 1)."""
        sizes = np.delete(np.abs(self.start), self.least)
        return (np.sqrt(sizes - abs(self.x)) * np.sqrt(sizes + abs(self.x)))[:, None]

    @cached_property
    def m(self) -> float:
        return float(self.roots.min())

    @cached_property
    def others(self) -> Array:
        """The roots without the smallest one, which z has taken."""
        return np.delete(self.roots, int(np.argmin(self.roots)), axis=0)

    @property
    def side(self) -> float:
        return 1.0 if self.x > 0 else -1.0

    def x_at(self, z: Array) -> Array:
        return np.asarray(self.m * np.sinh(z) if self.m > 0 else self.side * np.exp(self.side * z))

    def z_at(self, x: Array) -> Array:
        return np.asarray(np.arcsinh(x / self.m) if self.m > 0 else self.side * np.log(np.abs(x)))

    def x_of(self, product: Array) -> Array:
        """x at which the product has a value: Newton's method for a convex function of ln|x|."""
        goal = np.log(np.where(product == 0, 1.0, np.abs(product)))
        u = goal / len(self.start)
        for _ in range(ROUNDS):
            sizes = np.hypot(np.exp(u), self.roots)
            step = (u + np.log(sizes).sum(axis=0) - goal) / (1 + ((np.exp(u) / sizes) ** 2).sum(axis=0))
            u = u - step
            if not (np.abs(step) > ENOUGH * np.maximum(1.0, np.abs(u))).any():
                break
        return np.sign(product) * np.exp(u)

    def at(self, x: Array) -> Array:
        """All weights at x, shape (T, L)."""
        return np.insert(np.hypot(x, self.roots), self.least, x, axis=0).T * self.signs
