"""Which samples each step takes: orders that depend on a seed and the epoch alone, so that a run can be taken up again.

Every epoch has N // B steps; what is left over at its end is skipped. To add an order, add a function to `ALL`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["ALL"]


def cyclic(samples: int, size: int, seed: int, epoch: int) -> Any:
    """The samples in the order given, the same batches in every epoch, as in the theorem."""
    return np.arange(samples // size * size).reshape(-1, size)


def shuffle(samples: int, size: int, seed: int, epoch: int) -> Any:
    """A new order of all samples, cut into batches."""
    order = np.random.default_rng((seed, epoch)).permutation(samples)
    return order[: samples // size * size].reshape(-1, size)


def replacement(samples: int, size: int, seed: int, epoch: int) -> Any:
    """Every sample drawn independently."""
    return np.random.default_rng((seed, epoch)).integers(samples, size=(samples // size, size))


# name -> (samples, batch size, seed, epoch) -> indices of the samples, (steps, batch size)
ALL: dict[str, Callable[[int, int, int, int], Any]] = {
    "shuffle": shuffle,
    "cyclic": cyclic,
    "replacement": replacement,
}
