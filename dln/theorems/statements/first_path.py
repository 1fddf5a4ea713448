r"""The first path, under any cost: that of width 1, delayed by what the start needs to get onto a ray.

While it is small, the flow from :math:`\alpha\theta_0` is :math:`\alpha` times that of :math:`\dot\theta = -\nabla H`
from :math:`\theta_0`, :math:`\alpha^{2-L}` times as slow, and turns to the ray of an optimal escape direction, rotated
and padded with zeros as in `rotations` and `inclusions`. The path that leaves along the ray is one, see `escape_path`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator
from scipy.special import boxcox

from ... import network
from ..proof import Proof, layers, matrix
from ..runs import flat, gap, product
from ..starts import GENERIC, ONE_PACE, SIMPLE, UNDECAYED, SmallStart, draw_small_start, homogeneous
from ..statement import Statement
from ..trial import Hypothesis, Trial
from . import escape_ray

SMALL = 1e-5
GROWTH = 10.0  # logarithm of that of the homogeneous flow, after which it is on the ray
BARE = 0.003  # size of the path where it is taken for the ray


def claim_size(size: Any, alpha: Any) -> Any:
    """Size of the layers on the ray, by that of the homogeneous flow."""
    return size * alpha


def claim_time(time: Any, alpha: Any, depth: Any) -> Any:
    """When they have it, by the time of the homogeneous flow."""
    return time * alpha ** (2 - depth)


def identities() -> Iterator[tuple[str, Any]]:
    """Velocities of the small layers, and what the curvature of the cost adds: alpha^(2L - 1) against alpha^(L - 1)."""
    alpha = sp.Symbol("alpha", positive=True)
    for depth in (2, 3, 4, 5):
        weights, G = layers([2, *[1] * (depth - 1), 2]), matrix("G", 2, 2)
        small, slower = [claim_size(W, alpha) for W in weights], claim_time(1, alpha, depth)
        Z, Z_small = network.end_to_end(weights), network.end_to_end(small)
        for l in range(depth):
            slow = claim_size(network.layer_gradients(weights, G)[l], alpha) / slower
            yield f"layer {l + 1} at L = {depth}", slow - network.layer_gradients(small, G)[l]
            curved = alpha ** (2 * depth - 1) * network.layer_gradients(weights, Z)[l]
            added = network.layer_gradients(small, Z_small)[l]
            yield f"what is left out of layer {l + 1} at L = {depth}", curved - added


def residual(case: SmallStart) -> float:
    """A and the sizes of the layers at two times at which they are no longer small."""
    depth, r = len(case.weights), len(case.weights) ** -0.5
    speed = escape_ray.claim_speed(case.s[0], r, depth)
    late, time = homogeneous(case, GROWTH / speed)
    size = claim_size(np.linalg.norm(flat(late.weights)), case.alpha)
    begin = claim_time(time, case.alpha, depth) - _on_ray(BARE, float(size), depth) / speed
    frames = [case.V[:, 0], *[np.ones(1)] * (depth - 1), case.U[:, 0]]
    path = replace(case, weights=[BARE * W for W in escape_ray.claim_direction(frames, r)])
    gaps = []
    for end in (0.7, 1.0):
        time = _on_ray(BARE, end, depth) / speed
        found, expected = case.small().flow(begin + time), path.flow(time)
        gaps.append(gap(product(found), product(expected)))
        gaps.append(gap(*(np.array([np.linalg.norm(W) for W in layers]) for layers in (found, expected))))
    return float(np.max(gaps))


def _on_ray(start: float, end: float, depth: int) -> float:
    """Time from one size to another on a ray of unit speed: a difference of logarithms, or of powers 2 - L."""
    return float(boxcox(end, 2 - depth) - boxcox(start, 2 - depth))


def _draw(rng: Generator, depth: int) -> SmallStart:
    """The remainder is of order alpha^(1 - s_2/s_1)."""
    S = rng.normal(size=(9, 9))
    return draw_small_start(rng, depth, alpha=SMALL, H=0.5 * np.eye(9) + S @ S.T / 9)


STATEMENT = Statement(
    title="small starts follow the optimal escape path of width 1",
    formula="for a convex cost C and alpha -> 0, the flow from alpha theta_0 is R I theta_1(t - t_0) up to "
    "O(alpha^(1 - s_2/s_1)): I pads every hidden layer with zeros, R rotates it, and theta_1 is the path of width "
    "1 that escapes along the ray c(t) e at t -> -inf, c' = s* c^(L-1), c(0) = 1 at L = 2 and inf at L > 2. The flow "
    "theta' = -grad H from theta_0, H = <dC/dA(0), A>, comes to the ray c(t - T) R I e: t_0 = T - ln(alpha)/s_1 at "
    "L = 2, and t_0 = alpha^(2-L) T at L > 2, where T is when it blows up",
    source="A. Jacot et al., arXiv 2106.15933, theorem on the first path; times and rate derived",
    symbolic=Proof("the network of width 1 and A of shape (2, 2), L = 2, 3, 4, 5", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the start is small": Hypothesis(
                lambda case: case.alpha < 1e-3, lambda case, _: replace(case, alpha=0.05)
            ),
            "the largest singular value of the gradient at zero is simple": SIMPLE,
            "the start has something of the first mode": GENERIC,
            "there is no weight decay": UNDECAYED,
            "all layers move at one rate": ONE_PACE,
        },
        residual=residual,
        tolerance=1e-3,
        depths=(2, 3),
        repeats=1,
    ),
)
