r"""SGD with weight decay on the entries of a matrix, L > 2: a ball around zero that no draw of entries leaves.

A step on one entry Y_ij = y of N, with :math:`\eta = N \cdot` learning rate and x = learning rate :math:`\cdot` decay,
takes a layer of norm u that carries the whole alignment, A_ij = a, to the squared norm

.. math:: (1-x)^2 u^2 + 2 (1-x) \eta (y - a) a + \eta^2 (y - a)^2 u^{2L-2}, \qquad |a| \le u^L ,

which is largest, and at the decay :math:`N (y - u^L) u^{L-2}` equal to u^2, where a = u^L.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..proof import Proof
from ..statement import Statement
from ..trial import Hypothesis, Trial


@dataclass(frozen=True)
class Case:
    """The radius u, the entries, the start, and the learning rate over the largest one that is claimed."""

    u: float
    Y: Array
    depth: int
    haste: float
    weights: list[list[Array]]  # several networks

    @property
    def y(self) -> float:
        return float(np.abs(self.Y).max())


def claim_decay(u: Any, y: Any, N: Any, depth: Any) -> Any:
    """Least weight decay at which the ball of radius u is not left."""
    return N * (y - u**depth) * u ** (depth - 2)


def claim_slack(a: Any, u: Any, y: Any, eta: Any, x: Any, depth: Any) -> Any:
    """How far below u^2 the squared norm of the first layer falls when A_ij = a, at that decay."""
    q = u**depth
    return eta * (q - a) * (2 * (1 - x) * (y - q - a) - eta * u ** (2 * depth - 2) * (2 * y - q - a))


def _stepped(weights: Sequence[Any], entry: tuple[int, int], y: Any, eta: Any, x: Any) -> list[Any]:
    """The layers after a step on one entry."""
    A = network.end_to_end(weights)
    G = 0 * A
    G[entry] = A[entry] - y
    return [(1 - x) * W - eta * g for W, g in zip(weights, network.layer_gradients(weights, G), strict=True)]


def _aligned(u: Any, cosine: Any, sine: Any, shape: tuple[int, int], depth: int) -> list[Any]:
    """Layers of rank one and norm u with A_00 = u^L cosine."""
    n_L, n_0 = shape
    inputs = np.array([cosine, sine, *[0 * u] * (n_0 - 2)])
    outputs = np.array([1, *[0] * (n_L - 1)])
    h = np.array([1, 0])
    return [u * np.outer(h, inputs), *[u * np.outer(h, h)] * (depth - 2), u * np.outer(outputs, h)]


def identities() -> Iterator[tuple[str, Any]]:
    u, y, eta, c = sp.symbols("u y eta c")
    sine = sp.Symbol("sine")
    for depth in (3, 4, 5):
        x = claim_decay(u, y, eta, depth)
        still = _aligned(u, 1, 0, (2, 2), depth)
        for W, V in zip(still, _stepped(still, (0, 0), y, eta, x), strict=True):
            yield f"nothing moves where all is aligned, L = {depth}", V - W
        tilted = _aligned(u, c, sine, (2, 2), depth)
        square = np.sum(_stepped(tilted, (0, 0), y, eta, x)[0] ** 2)
        slack = claim_slack(u**depth * c, u, y, eta, x, depth)
        yield f"the norm of the first layer, L = {depth}", u**2 - square - slack


def residual(case: Case) -> float:
    """Excess of the norms over u after a step on any entry, and the distance from the formula for tilted layers."""
    samples, depth, u, y = case.Y.size, case.depth, case.u, case.y
    decay = claim_decay(u, y, samples, depth)
    rate = case.haste / (decay + 1.5 * samples * u ** (2 * depth - 2))
    eta, x = rate * samples, rate * decay
    excess = [
        np.linalg.norm(W) / u - 1
        for weights in case.weights
        for entry, value in np.ndenumerate(case.Y)
        for W in _stepped(weights, entry, value, eta, x)
    ]
    off = [0.0]
    for angle in np.linspace(0.0, np.pi, 9):
        tilted = _aligned(u, np.cos(angle), np.sin(angle), (len(case.Y), case.Y.shape[1]), depth)
        for value in (y, -y):
            first = _stepped(tilted, (0, 0), value, eta, x)[0]
            excess.append(np.linalg.norm(first) / u - 1)
            slack = claim_slack(u**depth * np.cos(angle) * np.sign(value), u, y, eta, x, depth)
            off.append(abs(np.sum(first**2) - u**2 + slack) / (x * u**2))
    return float(np.max([*off, *excess]))


def _draw(rng: Generator, depth: int) -> Case:
    """Layers on the sphere, some near to the most dangerous ones; the first entry is the largest."""
    Y = rng.uniform(-1.0, 1.0, size=rng.integers(2, 4, size=2))
    Y[0, 0] = rng.uniform(1.0, 2.0)
    u = (rng.uniform(0.02, 0.25) * np.abs(Y).max()) ** (1 / depth)
    near = _aligned(1.0, 1.0, 0.0, Y.shape, depth)
    noise = [[size * rng.normal(size=W.shape) for W in near] for size in (0.01, 0.1, 1.0, 10.0)]
    nets = [[u * _unit(W + E) for W, E in zip(near, several, strict=True)] for several in noise]
    return Case(u, Y, depth, rng.uniform(0.1, 1.0), nets)


def _unit(W: Array) -> Array:
    return np.asarray(W / np.linalg.norm(W))


def _outside(case: Case, rng: Generator) -> Case:
    factor = rng.uniform(1.1, 1.3)
    return replace(case, weights=[[factor * W for W in weights] for weights in case.weights])


def _large(case: Case, rng: Generator) -> Case:
    u = (rng.uniform(0.8, 0.95) * case.y) ** (1 / case.depth)
    return replace(case, u=u, weights=[[u / case.u * W for W in weights] for weights in case.weights])


STATEMENT = Statement(
    title="SGD with weight decay never leaves a small ball around zero, whatever entries it draws",
    formula="for L > 2 steps on any of N entries, or on batches, keep max_l ||W_l||_F <= u if N (y - u^L) u^{L-2} <= "
    "weight_decay with y = max |Y_ij| >= 4 u^L and learning_rate (weight_decay + 3/2 N u^{2L-2}) <= 1; sharp in u",
    source="Z. Wang, A. Jacot, arXiv 2305.16038, for sets of every rank; derived for rank 0",
    symbolic=Proof(
        "aligned and tilted layers of rank one, A of shape (2, 2), L = 3, 4, 5; the sine of the tilt is free",
        identities,
        {sp.Symbol("sine") ** 2: 1 - sp.Symbol("c") ** 2},
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the layers lie in the ball": Hypothesis(
                lambda case: all(
                    np.linalg.norm(W) <= case.u * (1 + 1e-12) for weights in case.weights for W in weights
                ),
                _outside,
            ),
            "the ball is small": Hypothesis(lambda case: 4 * case.u**case.depth <= case.y, _large),
            "the step is small": Hypothesis(
                lambda case: case.haste <= 1, lambda case, rng: replace(case, haste=rng.uniform(4.0, 5.0))
            ),
        },
        residual=residual,
        tolerance=1e-10,
        depths=(3, 4, 5),
    ),
)
