"""Update rules on the vector of all parameters, as ``torch.optim`` defines them.

A rule is one class: how many vectors it remembers, its step, and what it leaves of the start. To add one, add its name
to `ALL`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import checks

__all__ = ["ALL", "SGD", "Adam", "Optimizer"]


@dataclass(frozen=True)
class Optimizer(ABC):
    """Weight decay w on parameters p, coupled (added to the gradient) or decoupled (p <- (1 - lr w) p beside the step).

    Attributes
    ----------
    weight_decay, momentum : float
    nesterov, decoupled : bool
    """

    remembers: ClassVar[int] = 0  # vectors as long as the parameters
    weight_decay: float
    momentum: float = 0.0
    nesterov: bool = False
    decoupled: bool = False

    def __post_init__(self) -> None:
        checks.nonnegative(self.weight_decay, "weight_decay")
        if not checks.nonnegative(self.momentum, "momentum") < 1:
            raise ValueError(
                f"`momentum` must be in [0, 1), got {self.momentum}. At 1 nothing is ever forgotten."
            )
        if checks.flag(self.nesterov, "nesterov") and not self.momentum:
            raise ValueError(
                "`nesterov` must come with momentum, got momentum 0. Give a momentum, or nesterov=False."
            )
        checks.flag(self.decoupled, "decoupled")

    @abstractmethod
    def step(self, p: Any, gradient: Any, memory: Any, learning_rate: float, t: int) -> None:
        """Change the parameters and what is remembered, in place, in step t = 1, 2, .."""

    @abstractmethod
    def forgetting(self, learning_rate: float) -> Any:
        """Matrix M of a step without gradients, (p, V) <- M (p, V): the start enters the present through its powers."""


@dataclass(frozen=True)
class SGD(Optimizer):
    r"""Heavy ball, V <- beta V + g + w p and p <- p - lr V; Nesterov steps along g + w p + beta V instead."""

    remembers: ClassVar[int] = 1

    def step(self, p: Any, gradient: Any, memory: Any, learning_rate: float, t: int) -> None:
        d = gradient if self.decoupled else gradient + self.weight_decay * p
        if self.momentum:
            memory[0] = self.momentum * memory[0] + d
            d = d + self.momentum * memory[0] if self.nesterov else memory[0]
        if self.decoupled:
            p *= 1 - learning_rate * self.weight_decay
        p -= learning_rate * d

    def forgetting(self, learning_rate: float) -> Any:
        columns = np.eye(2)  # (1, 0) and (0, 1) as parameter and velocity, each moved by one step
        for state in columns:
            self.step(state[:1], np.zeros(1), state[1:].reshape(1, 1), learning_rate, 1)
        return columns.T


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam, or with decoupled decay AdamW; `momentum` is its first beta, the second is 0.999.

    Its step divides entry by entry, so its rank is not bounded by that of the gradients: here the rank bound ends.
    """

    remembers: ClassVar[int] = 2
    second: ClassVar[float] = 0.999
    epsilon: ClassVar[float] = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov:
            raise ValueError("`nesterov` must be False with Adam, got True. It belongs to SGD.")

    def step(self, p: Any, gradient: Any, memory: Any, learning_rate: float, t: int) -> None:
        d = gradient if self.decoupled else gradient + self.weight_decay * p
        memory[0] = self.momentum * memory[0] + (1 - self.momentum) * d
        memory[1] = self.second * memory[1] + (1 - self.second) * d**2
        size = np.sqrt(memory[1] / (1 - self.second**t)) + self.epsilon
        if self.decoupled:
            p *= 1 - learning_rate * self.weight_decay
        p -= learning_rate / (1 - self.momentum**t) * memory[0] / size

    def forgetting(self, learning_rate: float) -> Any:
        return np.diag([1 - learning_rate * self.weight_decay if self.decoupled else 1.0, 1.0])


ALL: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam}
