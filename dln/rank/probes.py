r"""Probes: what watches every step of SGD for a small share of its cost.

A step is W' = a W + b V + c G with :math:`G = \Delta^T U`, one row of signals and one of inputs for each use of the
matrix in the batch. With q standard normal and fixed, :math:`|E q|^2` has the mean :math:`\|E\|_F^2`, so

.. math:: E = W' - a W - b V - c\,\Delta^T U

is estimated from products with q, none of which costs more than one reading of the weights; an E that is not zero is
missed with probability zero. As the rank of :math:`\Delta^T U` is at most the number of its rows in which neither
factor is zero (one less where the rows of :math:`\Delta` sum to zero), the step has that rank up to E: Weyl's and
Mirsky's inequalities hold for it with no more error than the size of E.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..typing import Array
from .layout import Layout

__all__ = ["ANGLE", "ENTRIES", "NORM", "RANK", "RESIDUAL", "SPARE", "TOTAL", "Watch"]

# Of each step and layer, as core.probe has them: the norm of W', the size of E in units of W, the angle of G and W, by
# how much the rank of G is below its bound, that rank, and the sum of the ranks so far.
ENTRIES = ("norm", "residual", "angle", "spare", "rank", "total")
NORM, RESIDUAL, ANGLE, SPARE, RANK, TOTAL = range(len(ENTRIES))


class Watch:
    """What watches steps from given weights on: in NumPy here, and in compiled loops by the same arrays.

    Parameters
    ----------
    layout : Layout
    tolerance : float
    energy : ndarray, shape (layers,)
        Largest |<G, W>| / (|G| |W|).
    uses, normed : ndarray, shape (layers,)
        Uses of each matrix for a sample, and whether a batch norm follows.

    Attributes
    ----------
    rows : ndarray, shape (steps, 6, layers)
        What was found, as `ENTRIES` says.
    """

    def __init__(self, layout: Layout, tolerance: float, energy: Array, uses: Any, normed: Any) -> None:
        self.layout, self.uses, self.normed, shapes = layout, uses, normed, layout.shapes
        self.least = np.array([min(shape) for shape in shapes])
        ends = np.cumsum([0, *(columns for _, columns in shapes)])
        places = 3 * np.cumsum([0, *(rows for rows, _ in shapes)])
        self.probes = np.random.default_rng(0).standard_normal(ends[-1])
        # W q, V q and G q of each layer, then room for two products and a batch
        self.kept, self.room = np.zeros(0), int(places[-1] + 2 * max(shapes)[0])
        self.stale = True  # whether there have been steps that were not watched
        self.spans = [
            (self.probes[ends[l] : ends[l + 1]], slice(places[l], places[l + 1])) for l in range(len(shapes))
        ]
        # the six numbers of a step, the tolerance, and of each layer the energy, the norm of W, the sum of ranks
        self.limits = np.concatenate([np.zeros(6), [tolerance], energy, np.zeros(2 * len(shapes))])
        self.rows = np.zeros((0, len(ENTRIES), len(shapes)))

    def begin(self, W: Array, V: Array, before: Array, rows: Array, batch_size: int, step: Any) -> None:
        """Watch steps from these weights and velocities (none without momentum) on, row after row of `rows`.

        What was kept of the last step serves the next, so that the pieces in which a run is watched leave no trace.
        """
        if self.stale or self.kept.size != self.room + batch_size:
            self.kept, self.stale = np.zeros(self.room + batch_size), False
            for flat, which in ((W, 0), (V, 1)):
                for (q, kept), M in zip(
                    self.each, self.layout.matrices(flat) if flat.size else (), strict=False
                ):
                    np.matmul(M, q, out=kept[which])
        self.limits[:6], self._layers[1], self._layers[2] = step, before[NORM], before[TOTAL]
        self.most, self.rows = batch_size * self.uses, rows
        rows[:, ANGLE] = 0.0

    @property
    def each(self) -> list[tuple[Array, Array]]:
        """Of each layer its probe, and what is kept of it, (3, rows)."""
        return [(q, self.kept[where].reshape(3, -1)) for q, where in self.spans]

    @property
    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """What a compiled loop is given."""
        return self.probes, self.kept, self.limits, self.rows.reshape(-1)

    def look(self, i: int, weights: Sequence[Any], gradients: Sequence[Any], factors: Sequence[Any]) -> None:
        """Look at the gradients of step i before it is taken; None for factors that are not known."""
        row, tolerance = self.rows[i], self.limits[6]
        for l, (q, kept) in enumerate(self.each):
            normed = bool(self.normed[l])
            if factors[l] is None:
                kept[2], row[RANK, l] = gradients[l] @ q, np.inf
            else:
                signals, inputs = factors[l]
                kept[2] = (inputs @ q) @ signals
                off = np.linalg.norm(signals.sum(axis=0)) if normed else np.inf
                centred = off <= tolerance * math.sqrt(len(signals)) * np.linalg.norm(signals)
                active = np.count_nonzero(signals.any(axis=1) & inputs.any(axis=1))
                row[RANK, l] = min(active, self.most[l] - centred)
            if normed:
                W, G = weights[l].ravel(), gradients[l].ravel()
                size = np.sqrt((W @ W) * (G @ G))
                row[ANGLE, l] = abs(W @ G) / size if size > 0 else 0.0

    def compare(self, i: int, weights: Sequence[Any], velocities: Sequence[Any] | None) -> bool:
        """Hold the weights behind step i against those before it; whether all is as it should be."""
        a, b, c, d, e, f, tolerance = self.limits[:7]
        energy, norms, totals = self._layers
        row, bound = self.rows[i], self.most - self.normed
        for l, (q, kept) in enumerate(self.each):
            W, found = weights[l].ravel(), weights[l] @ q
            old, velocity, made = kept
            residual = np.linalg.norm(found - a * old - b * velocity - c * made)
            if velocities is not None:
                after = velocities[l] @ q
                residual = np.hypot(residual, c * np.linalg.norm(after - d * old - e * velocity - f * made))
                kept[1] = after
            kept[0], row[NORM, l], row[RESIDUAL, l] = found, np.sqrt(W @ W), residual
        scale = np.maximum(row[NORM], norms)
        row[RESIDUAL] /= np.where(scale > 0, scale, 1.0)
        counted = np.where(np.isinf(row[RANK]), bound, row[RANK])  # the bound itself, where nothing was seen
        row[SPARE] = np.where((bound < self.least) & np.isfinite(row[RANK]), bound - counted, np.inf)
        row[RANK] = np.minimum(counted, self.least)
        norms[:], totals[:] = row[NORM], totals + row[RANK]
        row[TOTAL] = totals
        return bool(((row[RESIDUAL] <= tolerance) & (row[ANGLE] <= energy) & (row[SPARE] >= 0)).all())

    @property
    def _layers(self) -> Array:
        return self.limits[7:].reshape(3, -1)
