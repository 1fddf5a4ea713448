r"""The first path: small starts, shifted in time, against the deterministic escape path of a network of width 1.

A start :math:`\alpha\theta_0` leaves zero along the optimal escape path of arXiv 2106.15933v2 (their theorem), which is
that of a network of width 1. Shifted so that the leading singular values agree at half height, the runs differ from it
by :math:`\alpha^{1 - s_2/s_1}` at every depth. The theorem promises the escape with probability one for L <= 3 and at
least one half for L > 3, where :math:`H(\theta_0)` may have the wrong sign; how often does it fail?
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, progress
from ..costs import Cost, FullyObserved
from ..flow import gradient_flow
from ..network import end_to_end
from ..problem import Until
from ..saddles import escape_time, saddle_to_saddle
from ..trajectory import Trajectory
from ..typing import Array
from . import Outcome
from ._starts import (
    ALPHAS,
    COSTS,
    depths_of,
    exponent,
    figure,
    low_rank,
    pairs,
    problem_options,
    scaled,
    singular_values_of,
    start,
)

TITLE = "the first path: runs from ever smaller starts against the escape path of a network of width 1"

COLUMNS = ("cost", "depth", "alpha", "distance", "s_2 of the layers", "starts", "sign of H", "escaped")
WINDOW = 2.0  # time before and after half height, in units of 1/s_1
POINTS = 81
HALFWAY = 0.2  # between the costs 0.625 of zero and 0.125 of the first mode
ESCAPES = {2: 1e-2, 3: 1e-1, 4: 2e-1, 5: 3e-1, 6: 4e-1}  # depth -> alpha of the starts that are counted


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    problem_options(parser, quick="full observation, depths 2 and 3, 5 starts")
    parser.add_argument(
        "--starts", type=int, default=60, help="starts of either sign of H that are counted (default 60)"
    )


@dataclass(frozen=True)
class Shifted:
    """One run beside the path."""

    kind: str
    depth: int
    alpha: float
    gap: float  # s_2/s_1
    distance: float  # sup over the window
    second: float  # largest s_2(W_l) at half height


def run(options: argparse.Namespace) -> Outcome:
    """Distances to the path against alpha, and counts of the starts that escape."""
    if options.quick:
        options.depths, options.costs, options.starts = [2, 3], ["full"], 5
    depths, values = depths_of(options), singular_values_of(options)
    kinds = [checks.one_of(kind, "--costs", tuple(COSTS)) for kind in options.costs]
    seed, count = (
        checks.integer(options.seed, "--seed", least=0),
        checks.integer(options.starts, "--starts", least=1),
    )
    counted = [depth for depth in ESCAPES if depth <= max(depths) or not options.quick]
    found, rows = [], []
    with progress.bar(options.progress, "settings", len(kinds) * len(depths) + len(counted)) as report:
        for done, (kind, depth) in enumerate(pairs(kinds, depths)):
            report(done, f"{kind}, depth {depth}")
            random = np.random.default_rng(seed)
            cost = COSTS[kind](low_rank(options.size, values, random), random)
            found += _along(kind, depth, cost, start((options.size,) * 2, depth, options.width, random))
        for done, depth in enumerate(counted, start=len(kinds) * len(depths)):
            report(done, f"starts, depth {depth}")
            rows += _counts(depth, count, np.random.default_rng([seed, depth]))
    fits = [_fit(kind, depth, found) for kind, depth in pairs(kinds, depths)]
    return Outcome(
        title=f"singular values {', '.join(f'{s:g}' for s in values)}, width {options.width}, one start at every alpha",
        columns=COLUMNS,
        rows=[*map(_row, found), *rows],
        notes=[
            f"distance: largest ||A(t) - A_path(t)||_F for |t - t_half| <= {WINDOW:g}/s_1. escaped: starts that "
            "lower the cost by more than half of what the first mode holds.",
            *(_described(fit) for fit in fits),
        ],
        parameters={
            "depths": depths,
            "costs": kinds,
            "singular_values": values,
            "fits": fits,
            "escapes": rows,
        },
        figures={"first-path": _figure(found, depths)},
    )


def _half(run: Trajectory, goal: float) -> float:
    """First time at which the leading singular value of A is `goal`."""
    from scipy.optimize import brentq

    i = int(np.argmax(run.singular_values[:, 0] >= goal))
    if run.singular_values[i, 0] < goal or i == 0:
        return math.nan
    return float(
        brentq(
            lambda t: float(np.linalg.norm(run.at(t), 2)) - goal,
            run.t[i - 1],
            run.t[i],
            xtol=1e-13 * run.t[i],
        )
    )


def _along(kind: str, depth: int, cost: Cost, weights: list[Array]) -> list[Shifted]:
    path = saddle_to_saddle(cost, depth, max_rank=1)
    s = np.linalg.svd(cost.gradient(path.saddles[0].end_to_end), compute_uv=False)
    goal = float(np.linalg.norm(path.saddles[1].end_to_end, 2)) / 2
    shifts = np.linspace(-WINDOW, WINDOW, POINTS) / s[0]
    expected = path.segments[0].at(_half(path.segments[0], goal) + shifts)
    found = []
    for alpha in ALPHAS[depth]:
        begin = scaled(weights, alpha)
        end = 1.2 * escape_time(cost, begin) + 10 * WINDOW / float(s[0])
        flow = gradient_flow(cost, begin, (0.0, end), rtol=1e-11)
        half = _half(flow, goal)
        distance = float(np.linalg.norm(flow.at(half + shifts) - expected, axis=(1, 2)).max())
        layers = flow.weights_at(half) or ()
        second = max(float(np.linalg.svd(W, compute_uv=False)[1]) for W in layers)
        found.append(Shifted(kind, depth, alpha, float(s[1] / s[0]), distance, second))
    return found


def _counts(depth: int, count: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """Starts of width 4 with H(theta_0) of either sign, and how many leave zero; the singular values are 1, 0.5."""
    cost = FullyObserved(low_rank(3, (1.0, 0.5), random))
    G = cost.gradient(np.zeros((3, 3)))
    rows = []
    for sign in (-1, 1):
        escaped = 0
        for _ in range(count):
            weights = scaled(start((3, 3), depth, 4, random), ESCAPES[depth])
            if np.sign(np.sum(G * end_to_end(weights))) != sign:
                weights[0] = -weights[0]
            flow = gradient_flow(
                cost, weights, (0.0, math.inf), rtol=1e-6, until=Until(cost=HALFWAY), max_steps=20_000
            )
            escaped += flow.status == "cost"
        values = (None, depth, ESCAPES[depth], None, None, count, sign, escaped)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def _row(one: Shifted) -> dict[str, Any]:
    values = (one.kind, one.depth, one.alpha, one.distance, one.second, None, None, None)
    return dict(zip(COLUMNS, values, strict=True))


def _fit(kind: str, depth: int, found: list[Shifted]) -> dict[str, Any]:
    mine = [one for one in found if (one.kind, one.depth) == (kind, depth)]
    alphas, gap = [one.alpha for one in mine], mine[0].gap
    return {
        "cost": kind,
        "depth": depth,
        "s_2/s_1": gap,
        "distance": exponent(alphas, [one.distance for one in mine]),
        "distance (theory)": 1 - gap,
        "s_2": exponent(alphas, [one.second for one in mine]),
        "s_2 (theory)": 1 - gap if depth == 2 else 1.0,
    }


def _described(fit: dict[str, Any]) -> str:
    return (
        f"{fit['cost']}, depth {fit['depth']}: distance like alpha^{fit['distance']:.3f} (1 - s_2/s_1 = "
        f"{fit['distance (theory)']:.3f}), s_2 of the layers like alpha^{fit['s_2']:.3f} ({fit['s_2 (theory)']:.3f})"
    )


def _figure(found: list[Shifted], depths: list[int]) -> Any:
    from .. import plotting

    drawn, (left, right) = figure(2, "Runs from one start scaled by alpha, beside the first path")
    for kind, marker, style in (("full", "o", "-"), ("masked", "s", "--")):
        for depth in depths:
            mine = [one for one in found if (one.kind, one.depth) == (kind, depth)]
            if not mine:
                continue
            look = {"color": plotting.colour(depth - 2), "marker": marker, "ms": 3.5, "lw": 0}
            alphas = np.array([one.alpha for one in mine])
            for ax, values, power in (
                (left, [one.distance for one in mine], 1 - mine[0].gap),
                (right, [one.second for one in mine], 1 - mine[0].gap if depth == 2 else 1.0),
            ):
                ax.loglog(alphas, values, **look, label=f"L = {depth}, {kind}")
                ax.loglog(
                    alphas, values[-1] * (alphas / alphas[-1]) ** power, style, color=look["color"], lw=0.8
                )
    left.set(xlabel=r"$\alpha$", ylabel=r"$\sup_t \|A(t) - A_{path}(t)\|_F$")
    right.set(xlabel=r"$\alpha$", ylabel=r"largest $s_2(W_l)$ at half height")
    right.legend(frameon=False, fontsize="x-small", title="line: predicted power", title_fontsize="x-small")
    return drawn
