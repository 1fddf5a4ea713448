"""Wide Gaussian starts in their Krylov form, tangent kernels, and the minimisers of the cost nearest to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.optimize import minimize

from .. import network
from ..inits import reduced_gaussian
from ..typing import Array
from .runs import Quadratic, R, Run, flat, product
from .trial import Hypothesis

__all__ = [
    "ALONE",
    "LARGE",
    "SMALL_PRODUCT",
    "ONE_SCALE",
    "WIDE",
    "Wide",
    "draw_wide",
    "jacobian",
    "nearest",
    "observed",
    "turned",
]

WIDEST, NARROW = 2**53, 30


@dataclass(frozen=True, kw_only=True)
class Wide(Run):
    """A run from a start of entries N(0, scale_l^2 width^-gamma), cut down to Krylov spaces of an order."""

    width: int
    gamma: float
    scales: Array
    order: int

    @property
    def rho(self) -> float:
        """Standard deviation times the root of the width."""
        return float(self.width ** ((1 - self.gamma) / 2))

    def drawn(self, rng: Generator, **changes: Any) -> Wide:
        """Another start, of other width, exponent or scales."""
        run = replace(self, **changes)
        n, m = run.cost.target.shape
        widths = (m, *[run.width] * (len(run.scales) - 1), n)
        weights = reduced_gaussian(widths, order=run.order, gamma=run.gamma, rng=rng)
        return replace(run, weights=[c * W for c, W in zip(run.scales, weights, strict=True)])


def draw_wide(rng: Generator, depth: int, cost: Quadratic, *, rho: float, order: int) -> Wide:
    """A start of the largest width that float64 counts, where w^(-1/2) is 1e-8."""
    ones, gamma = np.ones(depth), 1 - 2 * np.log(rho) / np.log(WIDEST)
    run = Wide([], cost, ones, 0 * ones, width=WIDEST, gamma=gamma, scales=ones, order=order)
    return run.drawn(rng)


def observed(rng: Generator, n: int, m: int, count: int) -> Quadratic:
    """Cost that sees so many numbers of A, ``1/2 sum_k <R_k, A - target>^2`` with random orthonormal matrices R_k."""
    rows = np.linalg.qr(rng.normal(size=(n * m, count)))[0].T
    return Quadratic(rng.normal(size=(n, m)), rows.T @ rows)


def jacobian(weights: Sequence[Any], rows: Any) -> Any:
    """Derivatives of the ``<R_k, A>`` in all entries of the layers."""
    return np.array(
        [np.concatenate([np.ravel(g) for g in network.layer_gradients(weights, R)]) for R in rows]
    )


def nearest(run: Run, near: Sequence[Array]) -> list[Array]:
    """Minimiser of the cost nearest to the layers of the run, searched from `near`.

    The last layer follows from the others by least squares; these are found by L-BFGS.
    """
    *inner, last = run.weights
    h, Q = np.linalg.eigh(run.cost.H)
    rows = Q[:, h > 1e-9 * h[-1]].T.reshape(-1, *run.cost.target.shape)
    y, ends = np.tensordot(rows, run.cost.target, 2), np.cumsum([W.size for W in inner])[:-1]

    def met(x: Array) -> tuple[list[Array], list[Array], Array, float]:
        steps = [part.reshape(W.shape) for part, W in zip(np.split(x, ends), inner, strict=True)]
        moved = [W + D for W, D in zip(inner, steps, strict=True)]
        N = (rows @ product(moved).T).reshape(len(rows), -1)
        excess = y - N @ np.ravel(last)
        multipliers = np.linalg.solve(N @ N.T, excess)
        layers = [*moved, last + (N.T @ multipliers).reshape(last.shape)]
        return steps, layers, multipliers, float(x @ x + excess @ multipliers)

    def half_square(x: Array) -> tuple[float, Array]:
        steps, layers, multipliers, square = met(unit * x)
        pull = network.layer_gradients(layers, np.tensordot(multipliers, rows, 1))[:-1]
        return square / unit**2 / 2, flat([D - g for D, g in zip(steps, pull, strict=True)]) / unit

    first = flat([V - W for V, W in zip(near[:-1], inner, strict=True)])
    unit = np.sqrt(met(first)[-1])
    options: Any = {"maxiter": 3000, "maxfun": 4000, "maxcor": 20, "ftol": 1e-16, "gtol": 1e-10}
    found = minimize(half_square, first / unit, jac=True, method="L-BFGS-B", options=options)
    return met(unit * found.x)[1]


def turned(weights: Sequence[Array], U: Array, roots: Array, V: Array) -> list[Array]:
    """Balanced factors, each hidden basis in its turn as near to the layers as can be."""
    o = [V]
    for W in weights[:-1]:
        o.append(_polar(W @ o[-1]))
    o.append(U)
    for _ in range(10):
        for l, (below, above) in enumerate(pairwise(weights), start=1):
            o[l] = _polar(below @ o[l - 1] + above.T @ o[l + 1])
    return [p * roots @ q.T for q, p in pairwise(o)]


def _polar(M: Array) -> Array:
    P, _, Qt = np.linalg.svd(M, full_matrices=False)
    return np.asarray(P @ Qt)


def _size_unseen(run: R, rng: Generator) -> R:
    """The cost sees all numbers of A but one, which is about the size of the target."""
    size = np.ravel(run.cost.target) + 0.2 * rng.normal(size=run.cost.target.size)
    H = np.eye(len(size)) - np.outer(size, size) / (size @ size)
    return replace(run, cost=replace(run.cost, H=H))


ALONE: Hypothesis[Any] = Hypothesis(lambda run: bool(np.linalg.eigvalsh(run.cost.H)[0] > 1e-9), _size_unseen)
WIDE: Hypothesis[Any] = Hypothesis(
    lambda run: run.width > 1000, lambda run, rng: run.drawn(rng, width=NARROW)
)
LARGE: Hypothesis[Any] = Hypothesis(lambda run: run.gamma < 1, lambda run, rng: run.drawn(rng, gamma=1.0))
SMALL_PRODUCT: Hypothesis[Any] = Hypothesis(
    lambda run: run.gamma > 1 - 1 / len(run.scales),
    # at a width that leaves rho about 3 or more, yet small enough for its effects to be felt
    lambda run, rng: run.drawn(rng, gamma=1 - 1 / len(run.scales), width=10**5),
)
ONE_SCALE: Hypothesis[Any] = Hypothesis(
    lambda run: bool(np.ptp(run.scales) == 0),
    lambda run, rng: run.drawn(rng, scales=np.array([2.0, 0.5, *run.scales[2:]])),
)
