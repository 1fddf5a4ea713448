r"""A minimum is as far from a small start as from zero, up to a term of order rho.

.. math:: d_m^2 = L \sum_i s_i^{2/L} - 2 \sqrt 2\, (L - 1)\, \rho \sum_i s_i^{1/L} + O(\rho^2)

with the singular values of the minimiser of least :math:`\sum_i s_i^{2/L}`. To first order the nearest layers are
balanced, :math:`s^{1/L} o_l o_{l-1}^T` for one mode, and turned to where :math:`\sum_l o_l^T W_l o_{l-1}` is greatest.
By S. Chevet's inequality that is at most what it is with independent Gaussian vectors for both sides of every layer,
:math:`\sqrt 2\, \rho` for each hidden one. A tree of neurons, each of the weight of its parent times :math:`2^{-1/2}`,
attains it, and a tree for each of several modes. That several gain no more is proved for two layers, tried for three.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...inits import reduced_gaussian
from ...typing import Array
from ..proof import Proof, layers, rotation
from ..runs import Quadratic, draw_orthogonal, flat
from ..statement import Statement
from ..trial import Hypothesis, Trial
from ..wide import ONE_SCALE, WIDE, Wide, draw_wide, nearest, turned
from . import representation_cost

SMALL, ORDER, NARROW = 1e-4, 12, 8


def claim(roots: Any, rho: Any, depth: Any) -> Any:
    """What the squared distance lacks of the least squared norm, by the sum of the roots s^(1/L)."""
    return sp.sqrt(8) * (depth - 1) * rho * roots


def identities() -> Iterator[tuple[str, Any]]:
    """One mode: what layers are near, both sides of a layer against the layer, and the tree of neurons."""
    rho, u = sp.symbols("rho u", positive=True)
    for depth in (2, 3):
        o = [np.ones((1, 1), dtype=int), *(rotation(f"phi_{l}")[:, :1] for l in range(depth - 1))]
        o.append(o[0])
        start = layers((1, *[2] * (depth - 1), 1))
        pairs = [*zip(o[1:], start, o, strict=False)]
        rest = [
            (np.eye(len(p), dtype=int) - p @ p.T) @ W @ (np.eye(len(q), dtype=int) - q @ q.T)
            for p, W, q in pairs
        ]
        near = [u * p @ q.T + rho * R for (p, _, q), R in zip(pairs, rest, strict=True)]
        yield f"factors at L = {depth}", network.end_to_end(near) - u**depth
        square = sp.expand(sum(np.sum((V - rho * W) ** 2) for V, W in zip(near, start, strict=True)))
        least = representation_cost.claim([u**depth], sp.Integer(depth))
        yield f"their squared norm at L = {depth}", square.coeff(rho, 0) - least
        kept = sum((p.T @ W @ q)[0, 0] for p, W, q in pairs)
        yield f"how far they are at L = {depth}", square.coeff(rho, 1) + 2 * u * kept
    p, q, r, t = (rotation(f"phi_{i}")[:, 0] for i in range(4))
    apart, together = np.sum((p - q) ** 2) + np.sum((r - t) ** 2), np.outer(p, r) - np.outer(q, t)
    yield "what a layer lacks is positive", apart - np.sum(together**2) - 2 * (1 - p @ q) * (1 - r @ t)
    yield from _tree(rho)


def _tree(rho: Any) -> Iterator[tuple[str, Any]]:
    for depth in (2, 3, 4, 5):
        widths = (1, *[math.inf] * (depth - 1), 1)
        trees = [[W.astype(int) for W in reduced_gaussian(widths, order=k, rho=1.0)] for k in (2, 3)]
        missing = []
        for tree in trees:
            one = np.array([1])
            o = [one, *(sp.sqrt(2) ** (-1 - g) for g in _generations(tree)), one]
            worth = rho * sum(p @ W @ q for W, (q, p) in zip(tree, pairwise(o), strict=True))
            lengths = [np.sum(x**2) for x in o]
            yield f"worth at L = {depth}", 2 * (depth - 1) * worth - claim(1, rho, depth) * sum(lengths[1:-1])
            missing.append([1 - length for length in lengths])
        few, more = missing
        halves = [(a + b) / 2 for a, b in zip(few, few[2:], strict=False)]
        yield f"lengths tend to one at L = {depth}", np.array(more[1:-1]) - halves
        sides = 2 * (depth - 1) * sp.sqrt(rho**2 + rho**2)
        yield f"no more than two Gaussian vectors at L = {depth}", sides - claim(1, rho, depth)


def _generations(tree: Sequence[Array]) -> list[Any]:
    """Edges between each neuron of the hidden layers and a root: those that know an input or an output."""
    ages = [np.full(len(W), 10**6, dtype=object) for W in tree[:-1]]
    ages[0][np.ravel(tree[0] != 0)] = ages[-1][np.ravel(tree[-1] != 0)] = 0
    for _ in range(8):
        for W, low, high in zip(tree[1:-1], ages, ages[1:], strict=False):
            for i, j in np.argwhere(W):
                low[j], high[i] = min(low[j], high[i] + 1), min(high[i], low[j] + 1)
    return ages


def residual(run: Wide) -> float:
    """The nearest minimiser, found from balanced factors turned to the start."""
    depth, seen = len(run.weights), run.cost.H @ np.ravel(run.cost.target)
    U, s, Vt = np.linalg.svd(seen.reshape(run.cost.target.shape), full_matrices=False)
    roots = s ** (1 / depth)
    found = nearest(run, turned(run.weights, U, roots, Vt.T))
    square = np.sum((flat(found) - flat(run.weights)) ** 2)
    missing = representation_cost.claim(s, depth) - square
    return float(abs(missing / float(claim(np.sum(roots), run.rho, depth)) - 1))


def _draw(rng: Generator, depth: int) -> Wide:
    """Costs that see A in some directions of the outputs: the minimiser of least norm has nothing in the others."""
    m, k, n = np.sort(rng.integers(1, 4, size=3))
    P, V = draw_orthogonal(rng, n)[:, :k], draw_orthogonal(rng, m)
    target: Array = P @ draw_orthogonal(rng, k)[:, :m] * rng.uniform(1.0, 2.0, size=m) @ V.T
    hidden = rng.normal(size=(n, m))
    seen = np.asarray(np.kron(P @ P.T, np.eye(m)), dtype=float)
    cost = Quadratic(target + hidden - P @ P.T @ hidden, seen)
    return draw_wide(rng, depth, cost, rho=SMALL, order=ORDER)


def _narrow(run: Wide, rng: Generator) -> Wide:
    """Few neurons and the same rho; of three starts that which is least like the law, none being so by chance."""
    gamma = 1 - 2 * np.log(run.rho) / np.log(NARROW)
    return max((run.drawn(rng, width=NARROW, gamma=gamma) for _ in range(3)), key=residual)


STATEMENT = Statement(
    title="from a wide and small start the minima are nearer than from zero by a term of order rho",
    formula="for entries N(0, w^-gamma), gamma > 1, w to infinity, rho = w^((1-gamma)/2): the squared distance to the "
    "minima of the loss is L sum_i s_i^(2/L) - 2 sqrt(2) (L-1) rho sum_i s_i^(1/L) + O(rho^2), s the singular values "
    "of the minimiser A of the cost whose L sum_i s_i^(2/L) is least, and not zero",
    source="A. Jacot et al., arXiv 2106.15933v2, phase transition of the distances; the term of order rho is derived",
    symbolic=Proof(
        "one mode; attained to first order at L = 2, 3, and by trees of neurons at L = 2 to 5", identities
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the network is wide": Hypothesis(WIDE.holds, _narrow),
            "the start is small": Hypothesis(
                lambda run: run.gamma > 1, lambda run, rng: run.drawn(rng, gamma=1.0)
            ),
            "all layers have one variance": ONE_SCALE,
        },
        residual=residual,
        tolerance=3e-4,
        depths=(2, 3),
        repeats=2,
    ),
)
