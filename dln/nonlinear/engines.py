"""What takes the steps: NumPy for every net, one compiled loop for stacks of dense layers.

Both run batches in order and stop at the first loss that is not finite. The first is the meaning of the second.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rank.probes import Watch
from .activations import GELU, Activation, Identity, LeakyReLU, ReLU, Tanh
from .layer import Layer
from .layers import BatchNorm, Dense
from .losses import CrossEntropy, Loss, Squared
from .network import Network
from .optimizers import SGD, Optimizer

__all__ = ["Compiled", "Plain", "compiles"]

# As core.dense numbers them.
CODES: tuple[type[Layer], ...] = (Identity, ReLU, LeakyReLU, Tanh, GELU)
LOSSES: tuple[type[Loss], ...] = (CrossEntropy, Squared)


class Plain:
    """Steps in NumPy.

    Parameters
    ----------
    net : Network
        Is changed by the steps.
    X, Y : ndarray
        Samples and targets.
    loss : Loss
    optimizer : Optimizer
    memory : ndarray, shape (vectors, parameters)
        What the optimizer remembers.
    """

    def __init__(self, net: Network, X: Any, Y: Any, loss: Loss, optimizer: Optimizer, memory: Any) -> None:
        self.net, self.X, self.Y, self.loss = net, X, Y, loss
        self.optimizer, self.memory = optimizer, memory

    def run(self, drawn: Any, learning_rate: float, t: int, watch: Watch | None = None) -> Any:
        """Loss of each batch of `drawn` (steps, B), before its step; shorter where one is not finite.

        t is the number of steps taken before. The first step that a watch finds wrong is the last.
        """
        losses: list[float] = []
        matrices = self.net.matrices
        weights = [p.value for p in matrices]
        velocities = self._velocities() if self.optimizer.momentum else None
        for i, batch in enumerate(drawn):
            loss = self.evaluate(batch)
            if not np.isfinite(loss):
                break
            losses.append(loss)
            if watch:
                watch.look(i, weights, [p.gradient for p in matrices], [p.factors for p in matrices])
            self.optimizer.step(self.net.theta, self.net.gradient, self.memory, learning_rate, t + i + 1)
            if watch and not watch.compare(i, weights, velocities):
                break
        return np.array(losses)

    def _velocities(self) -> list[Any]:
        """Of each weight matrix, as views."""
        return [self.memory[0, p.start : p.start + p.size].reshape(p.shape) for p in self.net.matrices]

    def evaluate(self, batch: Any) -> float:
        """Loss of a batch; leaves the gradient in the net."""
        return self.net.backpropagate(self.X[batch], self.Y[batch], self.loss)


class Compiled(Plain):
    """Steps of a stack of dense layers, as machine code."""

    def __init__(self, net: Network, X: Any, Y: Any, loss: Loss, optimizer: Optimizer, memory: Any) -> None:
        super().__init__(net, X, Y, loss, optimizer, memory)
        self.flat = np.ascontiguousarray(X).reshape(-1), np.ascontiguousarray(Y).reshape(-1)
        from ..core import dense

        self.kernel = dense.compiled_descend(net.dtype.name)
        self.kind = LOSSES.index(type(loss))
        self.size = 0

    def run(self, drawn: Any, learning_rate: float, t: int, watch: Watch | None = None) -> Any:
        if isinstance(self.optimizer, SGD):
            return self._call(drawn, learning_rate, update=True, watch=watch)
        return super().run(drawn, learning_rate, t)

    def evaluate(self, batch: Any) -> float:
        losses = self._call(batch[None], 0.0, update=False)
        return float(losses[0]) if len(losses) else np.nan

    def _call(self, drawn: Any, learning_rate: float, update: bool, watch: Watch | None = None) -> Any:
        steps, size = drawn.shape
        if size != self.size:
            self.size = size
            self.table, self.reals, self.work = _table(self.net, size)
        o, net = self.optimizer, self.net
        hyper = [
            learning_rate,
            o.momentum,
            0.0 if o.decoupled else o.weight_decay,
            1 - learning_rate * o.weight_decay if o.decoupled else 1.0,
        ]
        flags = np.array([size, self.kind, update, o.momentum > 0, o.nesterov], dtype=np.int64)
        losses = np.empty(steps)
        done = self.kernel(
            *(self.table, self.reals, np.array(hyper, dtype=net.dtype), flags),
            *(net.theta, self.memory[0], net.gradient, net.running),
            *(*self.flat, np.ascontiguousarray(drawn, dtype=np.int64).reshape(-1), losses, self.work),
            *(watch.arrays if watch else [np.zeros(0)] * 4),
        )
        return losses[:done]


def compiles(net: Network, loss: Loss) -> bool:
    """Whether the compiled loop knows every layer and the loss."""
    return blocks(net) is not None and type(loss) in LOSSES


def blocks(net: Network) -> list[tuple[Dense, BatchNorm | None, Activation]] | None:
    """The net as dense layers, each with a batch norm or none and an activation; None where it is something else."""
    if len(net.shape) != 1:
        return None
    layers, found = list(net.body.layers), []
    while layers:
        dense = layers.pop(0)
        if type(dense) is not Dense:
            return None
        norm = layers.pop(0) if layers and type(layers[0]) is BatchNorm else None
        phi = layers.pop(0) if layers and type(layers[0]) in CODES else Identity()
        found.append((dense, norm, phi))
    return found  # type: ignore[return-value]


def _table(net: Network, batch_size: int) -> tuple[Any, Any, Any]:
    """The table of a stack, its real numbers, and room to work in."""
    from ..core import dense as core

    stack = blocks(net)
    assert stack is not None
    widths = [net.shape[0], *(dense.width for dense, _, _ in stack)]
    rows, reals = [], np.zeros((len(stack), len(core.REALS)), dtype=net.dtype)
    end = batch_size * 2 * (widths[0] + max(widths))  # the batch and its transpose, two places for signals
    probe = kept = 0
    for l, (dense, norm, phi) in enumerate(stack):
        row = {"n_in": widths[l], "n_out": widths[l + 1], "activation": CODES.index(type(phi))}
        row |= {"probe": probe, "kept": kept}
        probe, kept = probe + widths[l], kept + 3 * widths[l + 1]
        row |= {p.name: p.start for p in dense.parameters}
        reals[l, 0] = getattr(phi, "alpha", 0.0)
        if norm is not None:
            row |= {"gamma": norm.parameters[0].start, "mean": norm.running[0].start}
            reals[l, 1:] = norm.epsilon, norm.momentum
        for name in core.PLACES:
            row[name], end = end, end + batch_size * widths[l + 1]
        rows.append([row.get(name, -1) for name in core.COLUMNS])
    return np.array(rows, dtype=np.int64), reals, np.zeros(end, dtype=net.dtype)
