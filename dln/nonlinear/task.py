"""What a training run is given, checked at the door."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from .. import checks
from ..typing import RNG, Array, ArrayLike
from . import batches
from .losses import Loss
from .network import Network
from .optimizers import Optimizer

__all__ = ["Pair", "Task"]

Pair = tuple[Any, Any]  # samples and targets, in the numbers of the net


class Task:
    """A net, its data, and the rule of its steps.

    Attributes
    ----------
    train, test : pair of samples and targets
        `test` may be None.
    size, steps : int
        Samples of a batch; steps of an epoch.
    rates : ndarray
        Learning rate of each epoch.
    seed : int
        The order of every epoch follows from this one number, so that a run can be taken up at any of them.
    """

    def __init__(self, net: Network, loss: Loss, optimizer: Optimizer, rates: Array) -> None:
        if not np.isfinite(net.theta).all():
            raise ValueError("`net` must have finite parameters, got some that are not. Start it anew.")
        if not net.matrices:
            raise ValueError(f"`net` must have a weight matrix, got {net}. Put in a Dense layer.")
        self.net, self.loss, self.optimizer, self.rates = net, loss, optimizer, rates

    def take_data(self, X: ArrayLike, y: ArrayLike, test: Any) -> None:
        """Check samples and targets."""
        self.train = self._pair(X, y, "X", "y")
        if test is not None and (not isinstance(test, (tuple, list)) or len(test) != 2):
            raise TypeError(
                f"`test` must be a pair (X, y), got {type(test).__name__}. Give samples and labels."
            )
        self.test = None if test is None else self._pair(*test, "test[0]", "test[1]")

    def _pair(self, X: ArrayLike, y: ArrayLike, *names: str) -> Pair:
        samples = self.net.samples(X, names[0])
        targets = self.loss.targets(y, len(samples), self.net.outputs, names[1])
        return samples, self.net.cast(targets, names[1])

    def take_order(self, sampling: str, batch_size: int, rng: RNG) -> None:
        """Check which samples the steps take, on the first of them."""
        X, Y = self.train
        self.sampling = checks.one_of(sampling, "sampling", batches.ALL)
        self.size = checks.integer(batch_size, "batch_size", least=1)
        if self.size > len(X):
            raise ValueError(
                f"`batch_size` must be at most the number of samples, {len(X)}, got {self.size}. Take fewer."
            )
        self.steps = len(X) // self.size
        self.seeded, self.seed = rng is not None, int(checks.generator(rng).integers(2**63))
        with np.errstate(over="ignore", invalid="ignore"):  # the run will say so
            self.net.try_out(X[: self.size], Y[: self.size], self.loss)

    def order(self, epoch: int) -> Any:
        """Indices of the samples of each step, (steps, size)."""
        return batches.ALL[self.sampling](len(self.train[0]), self.size, self.seed, epoch)

    def settings(self) -> dict[str, Any]:
        """What makes a run the one that it is, but for the learning rates and the start, which go on."""
        digest = hashlib.sha256()
        for values in (*self.train, *(self.test or ())):
            digest.update(values.tobytes())
        return {
            "net": repr(self.net),
            "optimizer": repr(self.optimizer),
            "loss": type(self.loss).__name__,
            "sampling": self.sampling,
            "batch_size": self.size,
            "seed": self.seed if self.seeded else None,
            "data": digest.hexdigest(),
        }
