"""Activations, entry by entry; the derivative at a kink is that from the left, as everywhere in the field.

To add one, add a class with its value and slope, and its name to `ALL`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import erf

from .. import checks
from .layer import Layer

__all__ = ["ALL", "GELU", "Activation", "Identity", "LeakyReLU", "ReLU", "Tanh"]


@dataclass(eq=False)
class Activation(Layer, ABC):
    """A function of each entry."""

    @abstractmethod
    def value(self, z: Any) -> Any:
        """phi(z)."""

    @abstractmethod
    def slope(self, z: Any) -> Any:
        """phi'(z)."""

    def forward(self, x: Any, training: bool) -> Any:
        self.memory = x
        return self.value(x)

    def backward(self, d: Any) -> Any:
        return d * self.slope(self.memory)


@dataclass(eq=False)
class Identity(Activation):
    """phi(z) = z: a deep linear network."""

    def value(self, z: Any) -> Any:
        return z

    def slope(self, z: Any) -> Any:
        return np.ones_like(z)


@dataclass(eq=False)
class ReLU(Activation):
    """phi(z) = max(z, 0)."""

    def value(self, z: Any) -> Any:
        return np.maximum(z, 0)

    def slope(self, z: Any) -> Any:
        return (z > 0).astype(z.dtype)


@dataclass(eq=False)
class LeakyReLU(Activation):
    """phi(z) = z for z > 0, else alpha z."""

    alpha: float = 0.01

    def __post_init__(self) -> None:
        self.alpha = checks.nonnegative(self.alpha, "alpha")

    def value(self, z: Any) -> Any:
        return np.where(z > 0, z, self.alpha * z)

    def slope(self, z: Any) -> Any:
        return np.where(z > 0, 1, self.alpha).astype(z.dtype)


@dataclass(eq=False)
class Tanh(Activation):
    """phi(z) = tanh z."""

    def value(self, z: Any) -> Any:
        return np.tanh(z)

    def slope(self, z: Any) -> Any:
        return 1 - np.tanh(z) ** 2


@dataclass(eq=False)
class GELU(Activation):
    """phi(z) = z Phi(z), Phi the distribution function of the normal law; exact, not its tanh approximation."""

    def value(self, z: Any) -> Any:
        return z * _normal(z)

    def slope(self, z: Any) -> Any:
        return _normal(z) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _normal(z: Any) -> Any:
    return (1 + erf(z / math.sqrt(2))) / 2


ALL: dict[str, type[Activation]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "tanh": Tanh,
    "gelu": GELU,
    "linear": Identity,
}
