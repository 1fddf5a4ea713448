"""The problems of the work-precision pages: named, seeded, and free of any integrator.

A problem is a start W_1, ..., W_L, a cost 1/2 ||mask * (A - target)||_F^2 of A = W_L ... W_1, and the
fraction of its starting cost at which the gradient flow has arrived. A new problem is a new entry of `ALL`.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Spec:
    """What is drawn: widths n_0 ... n_L, spectrum of the target, size of the start, share of entries seen."""

    widths: tuple
    singular_values: tuple
    alpha: float
    fraction: float
    observed: float = 1.0


ALL = {
    "P1": Spec(widths=(10, 10, 10), singular_values=(5, 4, 3, 2, 1), alpha=1e-3, fraction=1e-8),
    "P2": Spec(widths=(10, 20, 20, 10), singular_values=(3, 2, 1), alpha=1e-2, fraction=1e-8),
    "P3": Spec(widths=(5, 5, 5, 5, 5), singular_values=(2, 1), alpha=3e-2, fraction=1e-8),
    "P6": Spec(widths=(30,) * 4, singular_values=(30, 20, 10), alpha=0.1, fraction=1e-6, observed=0.5),
}


@dataclass(frozen=True)
class Problem:
    """Gradient flow of 1/2 ||mask * (A - target)||_F^2 from `weights` to `fraction` of the starting cost."""

    name: str
    seed: int
    weights: tuple
    target: np.ndarray
    mask: np.ndarray
    fraction: float

    @cached_property
    def widths(self):
        """The widths (n_0, ..., n_L)."""
        return (self.weights[0].shape[1], *(W.shape[0] for W in self.weights))

    @cached_property
    def start(self):
        """The flat start: W_1, ..., W_L one after the other, row-major."""
        return np.concatenate([W.ravel() for W in self.weights])

    @property
    def scale(self):
        """Root mean square of the entries of the start: what an absolute tolerance should know."""
        return float(np.sqrt(np.mean(self.start**2)))

    @property
    def fully_observed(self):
        """Whether every entry of the target enters the cost."""
        return bool(np.all(self.mask == 1.0))

    def cost(self, A):
        """Cost of A, shape (..., n_L, n_0)."""
        return 0.5 * np.sum((self.mask * (A - self.target)) ** 2, axis=(-2, -1))


def make(name, seed=0):
    """The problem `name`, drawn from `seed`.

    The target is U diag(singular_values) V^T with Haar distributed U and V, the entries of W_l are
    alpha N(0, 1) / sqrt(max(n_l, n_{l-1})), and an entry of the target is seen with probability `observed`.
    """
    spec, rng = ALL[name], np.random.default_rng(seed)
    rank, n_0, n_L = len(spec.singular_values), spec.widths[0], spec.widths[-1]
    target = (_orthogonal(n_L, rng)[:, :rank] * spec.singular_values) @ _orthogonal(n_0, rng)[:, :rank].T
    weights = tuple(
        spec.alpha * rng.normal(size=(m, k)) / np.sqrt(max(m, k)) for k, m in pairwise(spec.widths)
    )
    mask = (rng.random(target.shape) < spec.observed).astype(float)
    return Problem(name, seed, weights, target, mask, spec.fraction)


def end_to_end(states, widths):
    """A = W_L ... W_1, shape (T, n_L, n_0), from flat states of shape (T, n)."""
    A, start = np.eye(widths[0]), 0
    for k, m in pairwise(widths):
        A = states[:, start : start + m * k].reshape(-1, m, k) @ A
        start += m * k
    return A


def _orthogonal(n, rng):
    Q, R = np.linalg.qr(rng.normal(size=(n, n)))
    return Q * np.sign(np.diag(R))
