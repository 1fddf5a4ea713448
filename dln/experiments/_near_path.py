r"""Runs beside the limit path: random problems with large gaps, the exponents of alpha to expect, and what is seen.

At a saddle let :math:`s_1 > s_2 \ge \dots` be the singular values of dC/dA between the complements of A. A run leaves
it beside the singular pair :math:`u_1 v_1^T`, by :math:`x\,(u_j v_1^T + u_1 v_j^T)` for a new mode of size x, with x
relative to that size as

.. math:: c_j\,\alpha^{e\,(1 - s_j/s_1)} ,

where :math:`\alpha^e` is the size, in the weights, of what waits as the run arrives; e = 1 for L >= 3, where what waits
grows by a factor only, but for the mode that leaves. With two layers it grows all the time: in the time
:math:`e_1 / s_1 \log(1/\alpha)` at a saddle the exponents :math:`e_1 \le e_2 \le \dots` of what waits become
:math:`e_j - e_1 s_j/s_1`, j >= 2. And the stay is of the order of the relaxation before it, so the run turns off before
it has arrived: the slowest mode, of rate :math:`\mu`, has decayed to

.. math:: \alpha^{2 e_1 \mu / (\mu + 2 s_1)}

when the new one is as large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from .. import costs
from ..costs import Cost
from ..saddles import PathSaddle, SaddlePath, saddle_to_saddle
from ..schatten.fixed_rank import Penalised, Point
from ..trajectory import Trajectory
from ..typing import Array
from ._starts import low_rank

__all__ = ["GAP", "KINDS", "RANK", "Exponents", "draw", "expected", "gaps", "seen"]

RANK, RATIOS, GAP = (
    3,
    (0.1, 0.3),
    0.3,
)  # of targets; between their singular values; largest s_2/s_1 at a saddle
FLAT = 0.2  # power of alpha up to which a run of two layers is taken not to come near a saddle at all
TRIES = 500
EARLY = 0.02  # share of its size at the next saddle at which a new mode's direction is looked at
FINER, ZOOMS = 8, 3  # pieces of the steps beside the farthest time, and how often they are cut


def _masked(A: Array, random: np.random.Generator) -> Cost:
    """Five sixths of the entries: enough that saddles are isolated."""
    mask = np.ones(A.size)
    mask[random.permutation(A.size)[: A.size // 6]] = 0.0
    return costs.MatrixCompletion(A, mask.reshape(A.shape))


def _sensed(A: Array, random: np.random.Generator) -> Cost:
    """Three Gaussian measurements for each entry."""
    S = random.normal(size=(3 * A.size, *A.shape)) / (3 * A.size) ** 0.5
    return costs.MatrixSensing(S, np.einsum("kij,ij->k", S, A))


KINDS: dict[str, Callable[[Array, np.random.Generator], Cost]] = {
    "full": lambda A, _: costs.FullyObserved(A),
    "masked": _masked,
    "sensed": _sensed,
}


def draw(
    kind: str, size: int, depths: Sequence[int], random: np.random.Generator
) -> tuple[Cost, dict[int, SaddlePath]]:
    """A random problem with a large gap at every saddle that its paths leave, and its path for every depth."""
    for _ in range(TRIES):
        values = np.cumprod([1.0, *random.uniform(*RATIOS, size=RANK - 1)])
        cost = KINDS[kind](low_rank(size, values.tolist(), random), random)
        s = np.linalg.svd(cost.gradient(np.zeros((size, size))), compute_uv=False)
        if s[1] > GAP * s[0]:
            continue
        paths = {}
        for depth in sorted(depths, reverse=True):
            path = saddle_to_saddle(cost, depth)
            if not _regular(path, depth, turning=kind != "full"):
                break
            paths[depth] = path
        else:
            return cost, paths
    raise ValueError(f"`--size` must leave problems with large gaps, got {size}: none in {TRIES}. Take 6.")


def _regular(path: SaddlePath, depth: int, turning: bool) -> bool:
    """Whether a path goes up rank by rank to a minimum, by large gaps, and settles at every saddle."""
    ranks = [saddle.rank for saddle in path.saddles] == list(range(RANK + 1))
    if not ranks or path.saddles[-1].kind != "minimum" or min(gaps(path)) < 1 - GAP:
        return False
    if depth == 2:
        return min(expected(path, depth, turning).corners) > FLAT
    return not any(saddle.index for saddle in path.saddles)  # which would be left within its rank


def gaps(path: SaddlePath) -> list[float]:
    """1 - s_2/s_1 of the gradient at every saddle that is left."""
    left = [_normal(path, saddle)[1] for saddle in path.saddles[:-1]]
    return [float(1 - s[1] / s[0]) for s in left]


@dataclass(frozen=True)
class Exponents:
    """Powers of alpha, for each segment."""

    directions: tuple[Array, ...]  # (2, j - 1): of u_j v_1^T + u_1 v_j^T, and of the difference
    corners: tuple[float, ...]  # at the saddles before and after: how near a run comes

    @property
    def slowest(self) -> list[float]:
        """Of the slowest direction aside of u_1 v_1^T."""
        return [float(min(p[0, 0], corner)) for p, corner in zip(self.directions, self.corners, strict=False)]

    @property
    def distances(self) -> list[float]:
        """Of the distances to the path in the limit."""
        return [min(some) for some in zip(self.slowest, self.corners[1:], strict=True)]

    def blended(self, asides: Sequence[Array]) -> list[float]:
        """Of the distances where several directions still have their share in what is seen aside."""
        powers = [np.average(p, weights=aside**2) for p, aside in zip(self.directions, asides, strict=True)]
        return [float(min(p, *both)) for p, both in zip(powers, pairwise(self.corners), strict=True)]


def expected(path: SaddlePath, depth: int, turning: bool) -> Exponents:
    """What the theory says; `turning`: whether singular vectors of A turn on the way, as but for full observation."""
    e, directions, corners = np.ones(len(path.saddles[0].end_to_end)), [], []
    for saddle in path.saddles[:-1]:
        s = _normal(path, saddle)[1]
        mu = _slowest(path, saddle, turning) if depth == 2 and saddle.rank else np.inf
        corners.append(float(2 * e[0] / (1 + 2 * s[0] / mu)) if mu < np.inf else np.inf)
        # Where nothing turns, a direction has not met the growth of the one before.
        before, growth = np.full(len(s) - 1, e[0]) if turning else e[1:], e[0] * s[1:] / s[0]
        directions.append(np.array([before - growth, before + growth]))
        e = np.sort(e[1:] - growth) if depth == 2 else e[1:]
    return Exponents(tuple(directions), (*corners, np.inf))


def _normal(path: SaddlePath, saddle: PathSaddle) -> tuple[Array, Array, Array]:
    """Singular vectors and values of -dC/dA between the complements of A: bases (n_L, .), values, (., n_0)."""
    U, _, Vt = np.linalg.svd(saddle.end_to_end)
    left, right = U[:, saddle.rank :], Vt[saddle.rank :]
    P, s, Qt = np.linalg.svd(-left.T @ path.segments[0].cost_function.gradient(saddle.end_to_end) @ right.T)
    return left @ P, s, Qt @ right


def _slowest(path: SaddlePath, saddle: PathSaddle, turning: bool) -> float:
    """Least rate at which an orbit settles at a saddle: of the newest mode alone where nothing turns."""
    (U, s, Vt), r, segment = np.linalg.svd(saddle.end_to_end), saddle.rank, path.segments[0]
    if not turning:
        return float(segment.depth * s[r - 1] ** (2 - 2 / segment.depth))
    point = Point(Penalised(segment.cost_function, 0.0, segment.depth), U[:, :r], s[:r], Vt[:r].T)
    root = np.sqrt(point.kernel)
    return max(1e-300, float(np.linalg.eigvalsh(root[:, None] * point.dense_hessian * root)[0]))


def seen(path: SaddlePath, run: Trajectory) -> tuple[list[float], list[Array]]:
    """Distances to the path between the visits of a run to its saddles, and what is aside of u_1 v_1^T after each."""
    gap, A = path.distances(run)[0], run.end_to_end
    visits = [
        int(np.argmin(np.linalg.norm(A - saddle.end_to_end, axis=(1, 2)))) for saddle in path.saddles[1:-1]
    ]
    if not all(a < b for a, b in pairwise([0, *visits, len(A)])):
        raise ValueError(
            f"`--seed` must give runs past every saddle of the path, got visits {visits}. Take another."
        )
    windows = pairwise([0, *visits, len(A)])
    distances = [_farthest(path, run, a + int(np.argmax(gap[a:b]))) for a, b in windows]
    return distances, [_aside(path, k, run) for k in range(len(path.segments))]


def _farthest(path: SaddlePath, run: Trajectory, i: int) -> float:
    """Largest distance to the path around the i-th saved time, between the saved ones too."""
    t = run.t
    for _ in range(ZOOMS):
        t = t[max(i - 1, 0) : i + 2]
        t = np.interp(np.arange((len(t) - 1) * FINER + 1) / FINER, np.arange(len(t)), t)
        gap = path.distances(replace(run, t=t, end_to_end=run.at(t), weights=None))[0]
        i = int(np.argmax(gap))
    return float(gap[i])


def _aside(path: SaddlePath, k: int, run: Trajectory) -> Array:
    """Components along u_j v_1^T +- u_1 v_j^T of a run less the path, when a new mode is small, over its size."""
    U, _, Vt = _normal(path, path.saddles[k])
    size = EARLY * float(np.linalg.svd(path.saddles[k + 1].end_to_end, compute_uv=False)[k])
    off = U.T @ (_grown(run, k, size) - _grown(path.segments[k], k, size)) @ Vt.T
    return np.array([off[1:, 0] + off[0, 1:], off[1:, 0] - off[0, 1:]]) / (2 * size)


def _grown(flow: Trajectory, mode: int, size: float) -> Array:
    """A when a singular value first has a size."""
    from scipy.optimize import brentq

    i = int(np.argmax(flow.singular_values[:, mode] >= size))

    def above(t: float) -> float:
        return float(np.linalg.svd(flow.at(t), compute_uv=False)[mode]) - size

    return flow.at(brentq(above, flow.t[i - 1], flow.t[i], xtol=1e-14 * flow.t[i], rtol=1e-14))
