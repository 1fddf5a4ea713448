r"""How directions on the unit sphere turn near an escape direction, L > 2: only the fastest one attracts.

With the size c of the layers for a clock, a direction near e, :math:`\nabla H(e) = -s\,e`, moves by
:math:`-\nabla^2 H(e)/s - 1`, whose eigenvalues are the rates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...typing import Array
from ..points import Aligned, aligned, hessian
from ..proof import Proof, derivative, rotation
from ..runs import LINEAR_COST, NO_DECAY, UNIT_RATES, flat, linear_cost
from ..statement import Statement
from ..trial import Trial


def claim_pair(ratio: Any, sign: Any) -> Any:
    """Rates of a waiting mode of singular value `ratio` times that of the mode which grows (1: of a free neuron)."""
    return sign * ratio - 1


def claim_together(depth: Any) -> Any:
    """Rate at which one of several modes that grow together parts from the others."""
    return depth - 2


def _alone(layer: int, M: Any, depth: int) -> Any:
    """Layers that are zero but for one, as one array."""
    return np.array([M if k == layer else 0 * M for k in range(depth)])


def _bent(weights: Any, G: Any, step: Any) -> Any:
    """Second derivatives of H times a step."""
    return derivative(lambda W: network.layer_gradients(W, G), weights, step)


def identities() -> Iterator[tuple[str, Any]]:
    """What the second derivatives of H do to the eigenvectors, in any singular bases."""
    U, V, Q = rotation("phi"), rotation("psi"), rotation("chi")
    for depth in (3, 4):
        frames = [V, *[Q] * (depth - 1), U]
        yield from _one_mode(frames, sp.Symbol(f"r{depth}", positive=True))
        yield from _two_modes(frames)


def _one_mode(frames: list[Any], r: Any) -> Iterator[tuple[str, Any]]:
    depth, (s_1, s_2) = len(frames) - 1, sp.symbols("s_1 s_2", positive=True)
    G, speed = -(frames[-1] * np.array([s_1, s_2])) @ frames[0].T, s_1 * r ** (depth - 2)

    def unit(layer: int, i: int, k: int) -> Any:
        return _alone(layer, np.outer(frames[layer + 1][:, i], frames[layer][:, k]), depth)

    direction = r * sum(unit(layer, 0, 0) for layer in range(depth))
    yield f"the ray at L = {depth}", np.array(network.layer_gradients(direction, G)) + speed * direction
    imbalance = unit(0, 0, 0) - unit(1, 0, 0)
    turns = [("imbalance", imbalance, claim_pair(1, -1))]
    for sign in (1, -1):
        outer = unit(0, 0, 1) + sign * unit(depth - 1, 1, 0)
        turns.append((f"singular vectors, {sign:+}", outer, claim_pair(s_2 / s_1, sign)))
        for layer in range(depth - 1):
            hidden = unit(layer, 1, 0) + sign * unit(layer + 1, 0, 1)
            turns.append((f"hidden layer {layer + 1}, {sign:+}", hidden, claim_pair(1, sign)))
    for label, step, rate in turns:
        yield f"{label} at L = {depth}", _bent(direction, G, step) + speed * (1 + rate) * step


def _two_modes(frames: list[Any]) -> Iterator[tuple[str, Any]]:
    depth, (S, *c) = len(frames) - 1, sp.symbols("S c_1 c_2", positive=True)
    modes = [
        np.array([np.outer(y[:, i], x[:, i]) for x, y in zip(frames, frames[1:], strict=False)])
        for i in (0, 1)
    ]
    G = -(frames[-1] * np.array([S / x ** (depth - 2) for x in c])) @ frames[0].T
    bent = _bent(c[0] * modes[0] + c[1] * modes[1], G, modes[0])
    yield f"two modes at L = {depth}", bent + S * (1 + claim_together(depth)) * modes[0]


def residual(case: Aligned) -> float:
    """All eigenvalues across the direction of one mode, or how two modes part, by the second derivatives."""
    modes, depth, x = np.flatnonzero(case.u), len(case.weights), flat(case.weights)
    speed = case.s[modes[0]] * case.u[modes[0]] ** (depth - 2)
    off_ray = float(np.linalg.norm(flat(case.velocity()) - speed * x))
    turning = -hessian(case) / speed - np.eye(len(x))
    if len(modes) == 2:
        e = flat(_part(case, int(modes[0])))
        return off_ray + float(np.linalg.norm(turning @ e - claim_together(depth) * e) / np.linalg.norm(e))
    across = np.linalg.svd(x[None])[2][1:]
    found = np.linalg.eigvalsh(across @ (turning + turning.T) @ across.T / 2)
    return off_ray + float(np.max(np.abs(found - _rates(case, int(modes[0]), len(found)))))


def _part(case: Aligned, mode: int) -> list[Array]:
    """The layers of one of the modes alone."""
    U, _, Vt = np.linalg.svd(case.cost.slope)
    frames, h = [], Vt[mode]
    for W in case.weights[:-1]:
        h = W @ h / np.linalg.norm(W @ h)
        frames.append(h)
    ends = [Vt[mode], *frames, -U[:, mode]]
    return [np.outer(y, x) for x, y in zip(ends, ends[1:], strict=False)]


def _rates(case: Aligned, mode: int, count: int) -> Array:
    """Turns of the singular vectors, turns of every hidden layer by its free neurons, imbalances; the rest is idle."""
    ratios = [x / case.s[mode] for j, x in enumerate(case.s) if j != mode]
    ratios += [1.0] * sum(W.shape[0] - 1 for W in case.weights[:-1])
    rates = [claim_pair(ratio, sign) for ratio in ratios for sign in (1, -1)]
    rates += [claim_pair(1.0, -1)] * (len(case.weights) - 1)
    return np.sort([*rates, *[claim_pair(0.0, 1)] * (count - len(rates))])


def _draw(rng: Generator, depth: int) -> Aligned:
    """One of three modes, or two."""
    s = np.array([2.0, 1.3, 0.8]) * rng.uniform(0.9, 1.1, size=3)
    u = np.zeros(3)
    if rng.random() < 0.5:
        u[rng.integers(3)] = depth**-0.5
    else:
        u[:2] = s[:2] ** (-1 / (depth - 2))
    run = aligned(rng, s, u, 0.0, [3, *(int(n) for n in rng.integers(3, 5, size=depth - 1)), 3])
    return replace(run, cost=linear_cost(-run.cost.target))


STATEMENT = Statement(
    title="only the fastest escape direction attracts",
    formula="for L > 2, near the direction of one singular mode i of G a direction turns by powers of the size c: "
    "-1 +- s_j/s_i for every other mode j, 0 and -2 for every free neuron of a hidden layer, -2 for the imbalance of "
    "neighbours, -1 for all else, so that i = 1 alone attracts; where several modes grow together, each parts from the "
    "others like c^(L-2)",
    source="A. Jacot et al., arXiv 2106.15933, optimal escape directions; rates derived",
    symbolic=Proof(
        "A of shape (2, 2), width 2, in any singular bases, L = 3, 4",
        identities,
        rules={sp.Symbol(f"r{depth}", positive=True) ** 2: sp.Rational(1, depth) for depth in (3, 4)},
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the cost is linear": LINEAR_COST,
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-9,
        depths=(3, 4, 5),
    ),
)
