"""What is asked of the weights at both ends of a few steps, by their singular values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..typing import Array
from . import inequalities
from .layout import Layout

__all__ = ["EACH_WINDOW", "Window", "sparing"]

EACH_WINDOW = ("update_rank", "interlacing", "window", "noise", "certified")
LONGEST = 8  # steps of a window that nobody has asked for
SHARE = 0.03  # of the operations of the steps, for the windows


@dataclass(frozen=True, eq=False)
class Window:
    """Where a window began: weights and velocity as flat vectors, and the number of the step."""

    W: Array
    V: Array
    start: int

    def memory(self, a: float, b: float) -> Array:
        """What steps without gradients have left: a W + b V."""
        return a * self.W + b * self.V if self.V.size else a * self.W

    def slack(
        self, layout: Layout, W: Array, left: tuple[float, float], budget: Array, certified: Array, epsilon: float
    ) -> Array:  # fmt: skip
        """Slack of each certificate and layer, (5, layers), in the order of `EACH_WINDOW`; inf where nothing is asked.

        Layers of one shape are decomposed together. Singular values come from the matrices themselves: those of their
        Gram matrices are a fifth cheaper, and lost below the square root of the rounding.
        """
        least = np.array([min(shape) for shape in layout.shapes])
        asked = np.minimum(budget, certified) < least
        flats = (W, self.memory(*left), self.W)
        slack = np.full((len(EACH_WINDOW), len(least)), np.inf)
        for shape in sorted({shape for shape, ask in zip(layout.shapes, asked, strict=True) if ask}):
            chosen = [l for l, other in enumerate(layout.shapes) if other == shape and asked[l]]
            parts = [np.stack([layout.matrices(flat)[l] for l in chosen]) for flat in flats]
            slack[:, chosen] = self._of_shape(parts, left[0], budget[chosen], certified[chosen], epsilon)
        return slack

    def _of_shape(
        self, parts: list[Array], a: float, budget: Array, certified: Array, epsilon: float
    ) -> list[Array]:  # fmt: skip
        W, M, start = parts
        K, momentum = budget.astype(np.int64), self.V.size > 0
        s, m, u = np.linalg.svd(np.stack([W, M if momentum else start, W - M]), compute_uv=False)
        old, m = (np.zeros_like(m), m) if momentum else (m, a * m)
        size, step = np.maximum(s[:, 0], m[:, 0]), np.linalg.norm(W - start, axis=(1, 2))
        none = np.full(len(W), np.inf)
        return [
            inequalities.low_rank(u, size, K),
            inequalities.interlacing(s, m, K),
            inequalities.within(s, m, K),
            none if momentum else inequalities.shrinking(step, old, a, K),
            none if momentum else inequalities.near(s, certified, epsilon),
        ]


def sparing(shapes: Sequence[tuple[int, ...]], uses: Sequence[int], batch_size: int) -> tuple[int, int]:
    """(every, window) for which windows cost some `SHARE` of the steps of a compiled network, by counting operations.

    The window is as long as leaves half of the rank of a matrix untouched, and at most `LONGEST`. Nothing is timed: the
    same run has the same windows on every machine.
    """
    length = max(min(shape) // (2 * m * batch_size) for shape, m in zip(shapes, uses, strict=True))
    window = min(max(length, 1), LONGEST)
    # nanoseconds, as measured for widths 16 to 64 on one core
    step = sum(
        math.prod(shape) * (0.25 + 0.067 * m * batch_size) for shape, m in zip(shapes, uses, strict=True)
    )
    decomposed = sum(math.prod(shape) * (20 + min(shape) / 10) + 1500 for shape in shapes)
    return math.ceil(((3 + window) * decomposed + 3e5) / (SHARE * step)), window
