"""The flow of a balanced network in its end-to-end matrix alone: n_L x n_0 numbers at any depth and width."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .. import critical
from ..method import Method
from ..network import balances, end_to_end
from ..problem import Problem
from ..typing import Array
from .weights import Weights

__all__ = ["EndToEnd"]

BALANCED = 1e-12  # of the sizes of the two layers, squared
EPS = float(np.finfo(float).eps)
RESOLVED = 100 * EPS  # the least tolerance that float64 resolves


class EndToEnd(Weights):
    r"""State: A = U diag(a) V^T, row by row, which moves by itself if the layers are balanced.

    .. math::
        \dot A = -U (K \circ (U^T G V)) V^T - L \lambda A, \qquad
        K_{ij} = \sum_l a_i^{2 (L - l) / L} a_j^{2 (l - 1) / L} .

    The rotations of the hidden layers are lost, and modes below the rounding of the largest one with them. An error
    that is small beside A may be large beside a mode that waits to grow: steps are held to the smallest mode.
    """

    name = "end_to_end"
    purpose = (
        "balanced starts of any depth and width by their end-to-end matrix; explicit and stabilised methods"
    )

    def takes(self, method: Method) -> bool:
        """Whether a method can integrate it: those without products with the Hessian."""
        return not method.curvature

    def refusal(self, problem: Problem, rtol: float) -> str:
        """What of a problem rules this form out, and what to do; "" where nothing does."""
        squares = [float(np.sum(W**2)) for W in problem.weights]
        gaps = [float(np.linalg.norm(D)) for D in balances(problem.weights)]
        pairs = zip(gaps, map(max, pairwise(squares)), strict=True)
        uneven = max((gap / square for gap, square in pairs if gap > 0), default=0.0)
        if uneven > BALANCED:
            return f"layers out of balance by {uneven:.1e} of their squared norms"
        if (share := self.smallest(problem)) * rtol < RESOLVED:
            return f"a mode {share:.1e} as large as the largest, below the rounding of that one at rtol = {rtol:g}"
        return ""

    def smallest(self, problem: Problem) -> float:
        """The smallest mode of the start, of the largest that it has or heads for; modes of one layer do not matter."""
        a = self._modes(problem)
        if problem.depth == 1 or not len(a):
            return 1.0
        try:
            heading = critical.escape(problem.cost, end_to_end(problem.weights))[1]
        except Exception:  # of a cost of the user's own: the run will tell
            heading = 0.0
        largest = max(float(a.max()), heading if math.isfinite(heading) else 0.0)
        return float(a.min()) / largest if largest > 0.0 else 0.0

    @staticmethod
    def _modes(problem: Problem) -> Array:
        """Singular values of A at the start that are not zero, from those that all layers share."""
        u = np.linalg.svd(min(problem.weights, key=lambda W: W.size), compute_uv=False)
        return u[u > max(problem.widths) * EPS * u[0]] ** problem.depth

    def index(self, problem: Problem) -> Array:
        """What the kernels are told: n_0, the depth, the rank, which is that of the start but for one layer, n_L."""
        n_0, *_, n_L = problem.widths
        rank = min(n_0, n_L) if problem.depth == 1 else len(self._modes(problem))
        return np.array([n_0, problem.depth, rank, n_L], dtype=np.int64)

    def enter(self, problem: Problem) -> Array:
        """State at the start."""
        return end_to_end(problem.weights).ravel()

    def blocks(self, problem: Problem) -> Array:
        """One block: all of A."""
        return np.array([0, problem.widths[0] * problem.widths[-1]])

    def velocity_size(self, problem: Problem) -> int:
        """Length of a velocity: that of A."""
        return problem.widths[0] * problem.widths[-1]

    def direction(self, problem: Problem) -> Array:
        """Where the power iteration for the spectral radius begins."""
        direction = np.cos(np.arange(self.velocity_size(problem)) ** 2 * 1.0)
        return direction / np.linalg.norm(direction)

    def balanced(self, problem: Problem) -> tuple[Array, ...]:
        """The narrowest layers of a balanced network, up to the rotations of the hidden layers."""
        return self.layers(self.enter(problem), problem.widths)

    def layers(self, states: Array, widths: Sequence[int]) -> tuple[Array, ...]:
        """Balanced layers with the product A, up to the rotations of the hidden layers, which A does not know."""
        n_0, n_L, depth, k = widths[0], widths[-1], len(widths) - 1, min(widths)
        U, a, Vt = np.linalg.svd(states.reshape(*states.shape[:-1], n_L, n_0), full_matrices=False)
        a = np.where(a > max(n_0, n_L) * EPS * a[..., :1], a, 0.0)  # roots of rounding would be large
        u = a[..., :k] ** (1 / depth)
        if depth == 1:
            return (states.reshape(*states.shape[:-1], n_L, n_0),)
        middle = [u[..., None] * np.eye(k)] * (depth - 2)
        return (u[..., :, None] * Vt[..., :k, :], *middle, U[..., :, :k] * u[..., None, :])

    def work_size(self, widths: Sequence[int]) -> int:
        """Length of the scratch array of the kernels."""
        from ..core import balanced

        return balanced.work_size(widths[0], widths[-1])

    def kernels(self) -> tuple[Callable[..., Any], ...]:
        """Compiled velocity, measure and read."""
        from ..core import balanced
        from ..core.compile import compiled

        return tuple(compiled(getattr(balanced, name), name) for name in ("velocity", "measure", "read"))
