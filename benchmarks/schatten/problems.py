"""Thirty completion problems, and the one function that judges every answer to them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

import dln

# shape, rank, observed fraction, noise relative to an entry; the fractions are 1.4 to 2.4 times what the rank needs
CASES = (
    ((10, 10), 1, 0.35, 0.00),
    ((10, 12), 2, 0.80, 0.10),
    ((20, 20), 2, 0.28, 0.00),
    ((20, 30), 3, 0.38, 0.01),
    ((30, 30), 1, 0.12, 0.00),
    ((30, 30), 4, 0.60, 0.10),
    ((50, 50), 3, 0.16, 0.01),
    ((50, 80), 5, 0.30, 0.00),
    ((100, 100), 4, 0.12, 0.00),
    ((100, 100), 8, 0.30, 0.01),
)
DEPTHS = (2, 3, 4)
# Singular values below one of these fractions of the largest may be rounding or slow convergence: an answer is judged
# without them where that makes its objective smaller.
CUTS = (1e-9, 1e-6, 1e-4, 1e-3, 1e-2)
DRAWS = 100_000


@dataclass(frozen=True)
class Problem:
    """Minimise 1/2 ||mask * (A - observed)||_F^2 + weight_decay (depth/2) sum s(A)^(2/depth)."""

    name: str
    truth: np.ndarray
    mask: np.ndarray
    observed: np.ndarray  # the noisy entries, zero elsewhere
    weight_decay: float
    depth: int
    description: dict = field(default_factory=dict)

    @property
    def power(self):
        return 2.0 / self.depth

    def residual(self, A):
        return self.mask * A - self.observed

    def judge(self, A):
        """Objective of A without its spurious singular values, its rank, and its distance to the truth."""
        if not np.isfinite(A).all():
            return np.inf, 0, np.inf
        U, s, Vt = np.linalg.svd(A, full_matrices=False)
        ranks = {int(np.count_nonzero(s > cut * s[0])) for cut in CUTS}
        answers = [(U[:, :k] * s[:k]) @ Vt[:k] for k in ranks]
        values = [self._objective(B, s[:k]) for B, k in zip(answers, ranks, strict=True)]
        best = int(np.argmin(values))
        error = np.linalg.norm(answers[best] - self.truth) / np.linalg.norm(self.truth)
        return float(values[best]), list(ranks)[best], float(error)

    def _objective(self, A, s):
        penalty = self.depth / 2 * np.sum(s**self.power)
        return 0.5 * np.sum(self.residual(A) ** 2) + self.weight_decay * penalty


def make(case, depth, seed=0):
    """The problem of `CASES[case]` at that depth; the same for the same seed."""
    (rows, columns), rank, fraction, noise = CASES[case]
    rng = np.random.default_rng([seed, case, depth])
    truth = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
    truth *= np.sqrt(truth.size) / np.linalg.norm(truth)
    mask = _mask(rng, rows, columns, rank, fraction)
    observed = mask * (truth + noise * rng.normal(size=truth.shape))
    least = np.linalg.svd(truth, compute_uv=False)[rank - 1]
    # what a fully observed matrix would lose: a twentieth of its least mode, and all of the noise
    threshold = 0.05 * fraction * least + noise * np.sqrt(fraction) * (np.sqrt(rows) + np.sqrt(columns))
    weight_decay = float((threshold / dln.schatten.threshold(1.0, depth)) ** (2.0 - 2.0 / depth))
    needed = rank * (rows + columns - rank)
    description = {
        "shape": [rows, columns], "rank": rank, "fraction": fraction, "noise": noise, "depth": depth,
        "weight_decay": weight_decay, "oversampling": mask.sum() / needed,
    }  # fmt: skip
    name = f"{rows}x{columns} rank {rank}, {fraction:.0%} seen, noise {noise:g}, L = {depth}"
    return Problem(name, truth, mask, observed, weight_decay, depth, description)


def everything(seed=0, largest=100):
    """All problems of at most that size, small ones first."""
    cases = [i for i, (shape, *_) in enumerate(CASES) if max(shape) <= largest]
    return [make(case, depth, seed) for case in cases for depth in DEPTHS]


def _mask(rng, rows, columns, rank, fraction):
    """So many entries at random that every row and column shows more than the rank."""
    size = rows * columns
    for _ in range(DRAWS):
        flat = np.zeros(size)
        flat[rng.permutation(size)[: round(fraction * size)]] = 1.0
        mask = flat.reshape(rows, columns)
        if min(mask.sum(axis=0).min(), mask.sum(axis=1).min()) > rank:
            return mask
    raise ValueError(
        f"{fraction:.0%} of {rows}x{columns} entries never show more than {rank} in every row and column."
    )
