"""Weights of one matrix under SGD with weight decay and given gradients, step by step in plain NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from ..typing import Array
from .trial import Hypothesis

__all__ = ["NO_MOMENTUM", "ORDERS", "PLAIN", "SETTLED", "Training", "cyclic", "draw_training", "tail"]

ORDERS: tuple[Any, ...] = (2, "fro", "nuc")


@dataclass(frozen=True)
class Training:
    """``V <- momentum V + update(G) + decay W``, ``W <- W - rate V``, ``V = 0`` at first; `rank` is that of each G."""

    start: Array
    gradients: Array
    rates: Array
    decays: Array
    rank: int
    momentum: float = 0.0
    update: Callable[[Array], Array] = np.positive

    def states(self) -> tuple[list[Array], list[Array]]:
        """Weights and velocities before and after every step."""
        W, V = [self.start], [np.zeros_like(self.start)]
        for G, rate, decay in zip(self.gradients, self.rates, self.decays, strict=True):
            V.append(self.momentum * V[-1] + self.update(G) + decay * W[-1])
            W.append(W[-1] - rate * V[-1])
        return W, V


def draw_training(rng: Generator, steps: int, *, rank: int = 1, shape: tuple[int, int] = (9, 8)) -> Training:
    """Random start and gradients of norms about 1, with rates that vary."""
    m, n = shape
    factors = rng.normal(size=(steps, m, rank)), rng.normal(size=(steps, rank, n))
    gradients = factors[0] @ factors[1] / np.sqrt(m * n)
    start = rng.normal(size=shape) / np.sqrt(m)
    return Training(start, gradients, rng.uniform(0.3, 0.6, steps), rng.uniform(0.3, 0.6, steps), rank)


def cyclic(size: int, batch: int, rate: float, decay: float) -> Training:
    """Samples x_i = e_i with losses l_i(u) = u_i, in batches of a fixed cycle, for as long as it takes to forget."""
    cycle = [np.diag((np.arange(size) // batch == b) / batch) for b in range(size // batch)]
    turns = int(np.ceil(40 / (rate * decay) / len(cycle)))
    gradients = np.array(cycle * turns)
    rates = np.ones(len(gradients))
    return Training(np.zeros((size, size)), gradients, rate * rates, decay * rates, batch)


def tail(W: Array, rank: int, order: Any) -> float:
    """Distance to the matrices of at most this rank, by truncation and the norm of what is left."""
    U, s, Vt = np.linalg.svd(W)
    return float(np.linalg.norm(W - (U[:, :rank] * s[:rank]) @ Vt[:rank], order))


def _adaptive(G: Array) -> Array:
    """A step length for each entry, as Adam has one."""
    return np.cbrt(G)


def _young(run: Training, _: Generator) -> Training:
    """Stopped after one cycle from a large start."""
    steps = len(run.start) // run.rank
    return replace(
        run,
        start=9 * np.diag(np.arange(1.0, len(run.start) + 1)),
        gradients=run.gradients[:steps],
        rates=run.rates[:steps],
        decays=run.decays[:steps],
    )


NO_MOMENTUM: Hypothesis[Any] = Hypothesis(
    lambda run: run.momentum == 0, lambda run, rng: replace(run, momentum=rng.uniform(0.5, 0.8))
)
PLAIN: Hypothesis[Any] = Hypothesis(
    lambda run: run.update is np.positive, lambda run, _: replace(run, update=_adaptive)
)
SETTLED: Hypothesis[Any] = Hypothesis(lambda run: bool(np.sum(run.rates * run.decays) > 30), _young)
