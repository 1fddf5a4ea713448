"""What the experiments on small starts share: targets, costs, one start at every scale, fitted exponents."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import checks, costs, inits
from ..costs import Cost
from ..typing import Array

__all__ = [
    *("ALPHAS", "COSTS", "depths_of", "exponent", "figure", "low_rank", "pairs", "problem_options", "scaled"),
    *("singular_values_of", "start"),
]

# Scales of a start whose layers have norms near 1, from which escapes are looked at.
ALPHAS = {
    2: (1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
    3: (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4),
    4: (2e-1, 1e-1, 5e-2, 2e-2, 1e-2, 5e-3),
}


def low_rank(n: int, singular_values: Sequence[float], random: np.random.Generator) -> Array:
    """n x n matrix with the given singular values, between random singular vectors."""
    U, V = (np.linalg.qr(random.standard_normal((n, n)))[0][:, : len(singular_values)] for _ in range(2))
    return np.asarray((U * np.asarray(singular_values)) @ V.T)


def _masked(A: Array, random: np.random.Generator) -> Cost:
    """Three quarters of the entries."""
    hidden = random.permutation(A.size)[: A.size // 4]
    mask = np.ones(A.size)
    mask[hidden] = 0.0
    return costs.MatrixCompletion(A, mask.reshape(A.shape))


COSTS: dict[str, Callable[[Array, np.random.Generator], Cost]] = {
    "full": lambda A, _: costs.FullyObserved(A),
    "masked": _masked,
}


def start(shape: tuple[int, int], depth: int, width: int, random: np.random.Generator) -> list[Array]:
    """Gaussian layers of norms near 1."""
    widths = (shape[1], *[width] * (depth - 1), shape[0])
    return [W / max(W.shape) ** 0.5 for W in inits.gaussian(widths, std=1.0, rng=random)]


def scaled(weights: Sequence[Array], alpha: float) -> list[Array]:
    """The start alpha theta_0."""
    return [alpha * W for W in weights]


def exponent(x: Sequence[float], y: Sequence[float], least: float = 0.0) -> float:
    """Slope of log y against log x over the smaller half of the x, where y is above its rounding; NaN if too few."""
    a, b = np.asarray(x, dtype=float), np.abs(np.asarray(y, dtype=float))
    kept = np.isfinite(b) & (b > least) & (b > 0)
    a, b = a[kept], b[kept]
    smaller = np.argsort(a)[: max(3, (len(a) + 1) // 2)]
    return float(np.polyfit(np.log(a[smaller]), np.log(b[smaller]), 1)[0]) if len(a) >= 2 else np.nan


def problem_options(parser: argparse.ArgumentParser, *, quick: str) -> None:
    """Options of targets and starts; `quick` says what that variant does."""
    add = parser.add_argument
    add("--depths", type=int, nargs="+", default=[2, 3, 4], metavar="L", help="among 2 3 4 (default all)")
    add("--costs", nargs="+", default=list(COSTS), metavar="KIND", help="full, masked (default both)")
    values = [1.0, 0.25, 0.05]
    add("--singular-values", type=float, nargs="+", default=values, metavar="S", help="(default 1 .25 .05)")
    add("--size", type=int, default=4, help="rows and columns of the target (default 4)")
    add("--width", type=int, default=6, help="of the hidden layers (default 6)")
    add("--seed", type=int, default=1, help="seed of targets and starts (default 1)")
    add("--quick", action="store_true", help=quick)


def depths_of(options: argparse.Namespace) -> list[int]:
    """The depths asked for, of those that have a list of scales."""
    for depth in options.depths:
        if depth not in ALPHAS:
            raise ValueError(f"`--depths` must be among {tuple(ALPHAS)}, got {depth}. Choose from them.")
    return sorted(set(options.depths))


def singular_values_of(options: argparse.Namespace) -> list[float]:
    """The singular values asked for, the largest first."""
    values = [checks.positive(s, "--singular-values") for s in options.singular_values]
    if sorted(set(values), reverse=True) != values or len(values) > options.size:
        raise ValueError(
            f"`--singular-values` must fall, and be at most {options.size}, got {values}. Order them."
        )
    return values


def figure(columns: int, title: str, width: float = 3.4, height: float = 3.1) -> tuple[Any, Any]:
    """A row of axes in the style of the library."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    with mpl.rc_context(plotting.STYLE):
        drawn, axes = plt.subplots(
            1, columns, figsize=(width * columns, height), layout="constrained", squeeze=False
        )
        drawn.suptitle(title, fontsize="medium")
    return drawn, axes[0]


def pairs(kinds: Sequence[str], depths: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Every kind of cost with every depth."""
    return ((kind, depth) for kind in kinds for depth in depths)
