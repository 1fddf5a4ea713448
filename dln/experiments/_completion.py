"""What the experiments on minima share: a matrix of low rank, seen at some entries with noise."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import checks, costs
from ..typing import Array

__all__ = ["Problem", "options", "problem"]


@dataclass(frozen=True)
class Problem:
    """A truth of low rank, and what is seen of it."""

    truth: Array
    mask: Array
    seen: Array

    @property
    def cost(self) -> costs.MatrixCompletion:
        """Half the squared distance on the entries seen."""
        return costs.MatrixCompletion(self.seen, self.mask)

    def test_error(self, A: Array) -> float:
        """Mean square over the entries not observed, against the truth."""
        return float(np.sum(((1 - self.mask) * (A - self.truth)) ** 2) / np.sum(1 - self.mask))


def options(
    parser: argparse.ArgumentParser,
    *,
    size: int,
    singular_values: Sequence[float],
    observed: int,
    noise: float,
) -> None:
    """Options of the problem, with their defaults."""
    add, values = parser.add_argument, list(singular_values)
    shown = " ".join(f"{s:g}" for s in values)
    add("--size", type=int, default=size, metavar="N", help=f"the matrix is N x N (default {size})")
    add("--singular-values", type=float, nargs="+", default=values, metavar="S", help=f"(default {shown})")
    add("--observed", type=int, default=observed, metavar="M", help=f"observed entries (default {observed})")
    add("--noise", type=float, default=noise, help=f"standard deviation on those (default {noise:g})")


def problem(options: argparse.Namespace, seed: int) -> Problem:
    """The problem of a seed."""
    n = checks.integer(options.size, "--size", least=2)
    singular_values = [checks.positive(s, "--singular-values") for s in options.singular_values]
    if len(singular_values) > n:
        raise ValueError(
            f"`--singular-values` must be at most --size = {n}, got {len(singular_values)}. Give fewer."
        )
    observed = checks.integer(options.observed, "--observed", least=1, most=n * n - 1)
    noise = checks.nonnegative(options.noise, "--noise")
    random = checks.generator(seed)
    U, V = (np.linalg.qr(random.normal(size=(n, len(singular_values))))[0] for _ in range(2))
    truth = (U * singular_values) @ V.T
    mask = np.zeros((n, n))
    mask.flat[random.permutation(n * n)[:observed]] = 1.0
    return Problem(truth, mask, mask * (truth + noise * random.normal(size=(n, n))))
