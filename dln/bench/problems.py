"""The problems of the work-precision pages: named, seeded, and free of any integrator.

A problem is a start W_1, ..., W_L, a cost 1/2 ||mask * (A - target)||_F^2 of A = W_L ... W_1, and the fraction
of its starting cost at which the gradient flow has arrived. A family carries parameters in its names: "P4-500"
is P4 with hidden width 500, "P7-L3-1e-4" has three layers and a start of size 1e-4. A new problem is a new
entry of `SINGLE`, or of `FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from ..typing import Array

__all__ = ["FAMILIES", "SINGLE", "Family", "Problem", "Spec", "end_to_end", "expand", "make", "names", "spec"]

# The horizon of a plateau grows like alpha^-(L-2): below these starts an explicit reference takes too long.
LEAST_EXPLICIT_ALPHA = {3: 1e-2, 4: 1e-1}
LARGEST_EXPLICIT_WIDTH = 100


@dataclass(frozen=True)
class Spec:
    """What is drawn: widths n_0 ... n_L, spectrum of the target, size of the start, share of entries seen.

    `explicit` says whether explicit methods give the reference, well within a minute and rounding.
    """

    widths: tuple[int, ...]
    singular_values: tuple[float, ...]
    alpha: float
    fraction: float = 1e-8
    observed: float = 1.0
    explicit: bool = True


@dataclass(frozen=True)
class Family:
    """Problems that differ by parameters in their names, and the members that a run of all of them takes."""

    pattern: str  # of the parameters, after the family's name
    rule: str  # the same for readers
    build: Callable[..., Spec]
    members: tuple[str, ...]


def _p4(width: str) -> Spec:
    w = int(width)
    # The entries of A at the start hold 7e-6 / w of its cost and decay 100 times more slowly than the modes grow: a
    # fraction of 1e-8 would measure that decay below w = 500, and the growth above.
    return Spec((10, w, w, 10), (3, 2, 1), alpha=0.1, fraction=1e-7, explicit=w <= LARGEST_EXPLICIT_WIDTH)


def _p7(depth: str, wide: str | None, alpha: str) -> Spec:
    n, hidden = (10, 20) if wide else (5, 5)
    widths = (n, *(hidden,) * (int(depth) - 1), n)
    explicit = float(alpha) >= LEAST_EXPLICIT_ALPHA[int(depth)]
    return Spec(widths, (3, 2, 1), float(alpha), explicit=explicit)


def _p8(width: str) -> Spec:
    return Spec((10, int(width), 10), (3, 2, 1), alpha=1e-2)


P6 = Spec(widths=(30,) * 4, singular_values=(30, 20, 10), alpha=0.1, fraction=1e-6, observed=0.5)
SINGLE = {
    "P1": Spec(widths=(10, 10, 10), singular_values=(5, 4, 3, 2, 1), alpha=1e-3),
    "P2": Spec(widths=(10, 20, 20, 10), singular_values=(3, 2, 1), alpha=1e-2),
    "P3": Spec(widths=(5, 5, 5, 5, 5), singular_values=(2, 1), alpha=3e-2),
    "P6": P6,
    "P6L": replace(P6, fraction=1e-8, explicit=False),  # an algebraic tail: slow, then stiff
}
FAMILIES = {
    "P4": Family(r"([1-9]\d*)", "P4-WIDTH", _p4, ("100", "500", "1000")),
    "P7": Family(
        r"L([34])(-wide)?-(\d+e-\d+)",
        "P7-L3-ALPHA, P7-L4-ALPHA, P7-L3-wide-ALPHA, P7-L4-wide-ALPHA with ALPHA like 1e-4",
        _p7,
        tuple(
            f"L{depth}{wide}-1e-{k}"
            for depth, most in ((3, 6), (4, 4))
            for wide in ("", "-wide")
            for k in range(1, most + 1)
        ),
    ),
    "P8": Family(r"([1-9]\d*)", "P8-WIDTH", _p8, ("100", "1000", "10000", "100000")),
}


def names() -> tuple[str, ...]:
    """Names of all problems, the members of the families in full."""
    return (*SINGLE, *(f"{name}-{member}" for name, family in FAMILIES.items() for member in family.members))


def expand(wanted: Iterable[str]) -> list[str]:
    """Full names: a family's name stands for its members, "all" for everything; ValueError for an unknown name."""
    full: list[str] = []
    for name in wanted:
        if name == "all":
            full.extend(names())
        elif name in FAMILIES:
            full.extend(f"{name}-{member}" for member in FAMILIES[name].members)
        else:
            spec(name)
            full.append(name)
    return list(dict.fromkeys(full))


def spec(name: str) -> Spec:
    """What the problem `name` is drawn from; ValueError for an unknown name."""
    if name in SINGLE:
        return SINGLE[name]
    family, _, parameters = name.partition("-")
    if family in FAMILIES and (match := re.fullmatch(FAMILIES[family].pattern, parameters)):
        return FAMILIES[family].build(*match.groups())
    rules = ", ".join([*SINGLE, *(family.rule for family in FAMILIES.values())])
    raise ValueError(f"`problem` must be one of {rules}, got {name!r}. Choose a known name, or `all`.")


@dataclass(frozen=True)
class Problem:
    """Gradient flow of 1/2 ||mask * (A - target)||_F^2 from `weights` to `fraction` of the starting cost."""

    name: str
    seed: int
    weights: tuple[Array, ...]
    target: Array
    mask: Array
    fraction: float
    explicit: bool = True

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """The widths (n_0, ..., n_L)."""
        return (self.weights[0].shape[1], *(W.shape[0] for W in self.weights))

    @cached_property
    def start(self) -> Array:
        """The flat start: W_1, ..., W_L one after the other, row-major."""
        return np.concatenate([W.ravel() for W in self.weights])

    @property
    def scale(self) -> float:
        """Root mean square of the entries of the start: what an absolute tolerance should know."""
        return float(np.sqrt(np.mean(self.start**2)))

    @property
    def fully_observed(self) -> bool:
        """Whether every entry of the target enters the cost."""
        return bool(np.all(self.mask == 1.0))

    @property
    def fastest_rate(self) -> float:
        """L s_1^(2 - 2/L): the largest curvature at the minimum, by which explicit steps are bounded."""
        depth, s = len(self.weights), float(np.linalg.norm(self.target, 2))
        return float(depth * s ** (2.0 - 2.0 / depth))

    def cost(self, A: Array) -> Array:
        """Cost of A, shape (..., n_L, n_0)."""
        return np.asarray(0.5 * np.sum((self.mask * (A - self.target)) ** 2, axis=(-2, -1)))


def make(name: str, seed: int = 0) -> Problem:
    """The problem `name`, drawn from `seed`.

    The target is U diag(singular_values) V^T with Haar distributed U and V, the entries of W_l are
    alpha N(0, 1) / sqrt(max(n_l, n_{l-1})), and an entry of the target is seen with probability `observed`.
    """
    drawn, rng = spec(name), np.random.default_rng(seed)
    rank, n_0, n_L = len(drawn.singular_values), drawn.widths[0], drawn.widths[-1]
    target = (_orthogonal(n_L, rng)[:, :rank] * drawn.singular_values) @ _orthogonal(n_0, rng)[:, :rank].T
    weights = tuple(
        drawn.alpha * rng.normal(size=(m, k)) / np.sqrt(max(m, k)) for k, m in pairwise(drawn.widths)
    )
    mask = (rng.random(target.shape) < drawn.observed).astype(float)
    return Problem(name, seed, weights, target, mask, drawn.fraction, drawn.explicit)


def end_to_end(states: Array, widths: tuple[int, ...]) -> Array:
    """A = W_L ... W_1, shape (T, n_L, n_0), from flat states of shape (T, n)."""
    A, start = np.eye(widths[0]), 0
    for k, m in pairwise(widths):
        A = states[:, start : start + m * k].reshape(-1, m, k) @ A
        start += m * k
    return A


def _orthogonal(n: int, rng: np.random.Generator) -> Array:
    Q, R = np.linalg.qr(rng.normal(size=(n, n)))
    return np.asarray(Q * np.sign(np.diag(R)))
