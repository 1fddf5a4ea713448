r"""How directions on the unit sphere turn near an escape direction, L > 2: only the fastest one attracts.

With the size c of the layers for a clock, a direction near e, :math:`\nabla H(e) = -s\,e`, moves by
:math:`-\nabla^2 H(e)/s - 1`, whose eigenvalues are the rates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def _single(l: int, shape: tuple[int, int], depth: int, M: Any) -> list[Any]:
    """Layers that are zero but for the l-th."""
    return [M if k == l else np.zeros(shape, dtype=int) for k in range(depth)]


def _sum(left: Sequence[Any], sign: int, right: Sequence[Any]) -> list[Any]:
    return [V + sign * W for V, W in zip(left, right, strict=True)]


def identities() -> Iterator[tuple[str, Any]]:
    """What the second derivatives of H do to the eigenvectors, in any singular bases."""
    U, V, Q = rotation("phi"), rotation("psi"), rotation("chi")
    for depth in (3, 4):
        r, s_1, s_2 = sp.symbols(f"r{depth} s_1 s_2", positive=True)
        frames = [V, *[Q] * (depth - 1), U]

        def unit(l: int, i: int, k: int, frames: Any = frames, depth: int = depth) -> list[Any]:
            return _single(l, (2, 2), depth, np.outer(frames[l + 1][:, i], frames[l][:, k]))

        def moved(weights: Any, step: Any, G: Any) -> Any:
            return derivative(lambda W: network.layer_gradients(W, G), weights, step)

        direction = [r * np.outer(y[:, 0], x[:, 0]) for x, y in zip(frames, frames[1:], strict=False)]
        G, speed = -(U * np.array([s_1, s_2])) @ V.T, s_1 * r ** (depth - 2)
        for gradient, W in zip(network.layer_gradients(direction, G), direction, strict=True):
            yield f"the ray at L = {depth}", gradient + speed * W
        for sign in (1, -1):
            steps = {
                "turn of the singular vectors": (_sum(unit(0, 0, 1), sign, unit(depth - 1, 1, 0)), s_2 / s_1)
            }
            for l in range(depth - 1):
                steps[f"turn of hidden layer {l + 1}"] = (_sum(unit(l, 1, 0), sign, unit(l + 1, 0, 1)), 1)
            for label, (step, ratio) in steps.items():
                rate = claim_pair(ratio, sign)
                yield (
                    f"{label} at L = {depth}, {sign}",
                    moved(direction, step, G) + speed * (1 + rate) * np.array(step),
                )
        uneven = _sum(unit(0, 0, 0), -1, unit(1, 0, 0))
        rate = claim_pair(1, -1)
        yield f"imbalance at L = {depth}", moved(direction, uneven, G) + speed * (1 + rate) * np.array(uneven)
        c = np.array(sp.symbols("c_:2", positive=True))
        both = [(y * c) @ x.T for x, y in zip(frames, frames[1:], strict=False)]
        G = -(U * (s_1 / c ** (depth - 2))) @ V.T
        step = [np.outer(y[:, 0], x[:, 0]) for x, y in zip(frames, frames[1:], strict=False)]
        rate = claim_together(depth)
        yield f"two modes at L = {depth}", moved(both, step, G) + s_1 * (1 + rate) * np.array(step)


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
