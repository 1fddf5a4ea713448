r"""The limit path against alpha: how far real runs are from it, and what the limit costs beside a run.

The distance is the largest one of A(t) to the path as a curve. Each saddle contributes
:math:`\alpha^{1 - s_2/s_1}` of its gradient, so that the smallest of these exponents is expected.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, progress
from ..costs import MatrixCompletion
from ..flow import gradient_flow
from ..problem import Until
from ..saddles import SaddlePath, find_saddles, saddle_to_saddle
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

TITLE = "runs from ever smaller starts against the limit path: distance, its exponent, and the price of both"

COLUMNS = ("cost", "depth", "alpha", "distance", "saddles", "time", "steps")
SMALLER = {3: (3e-5, 1e-5, 3e-6, 1e-6), 4: (2e-3, 1e-3)}  # alphas beside the usual ones
FITTED = 1e-10  # share of the first cost at which a run ends
# Size, singular values and alpha of the problem of depth 3 that is timed.
TIMED = {False: (30, (10.0, 7.0, 5.0, 3.5, 2.5), 1e-6), True: (12, (10.0, 7.0), 1e-2)}


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    problem_options(parser, quick="full observation, depths 2 and 3; a small problem is timed")


@dataclass(frozen=True)
class Case:
    """One run beside the path."""

    kind: str
    depth: int
    alpha: float
    distance: float
    saddles: int
    end: float
    steps: int
    segments: tuple[float, ...]  # the distance from each of them


def run(options: argparse.Namespace) -> Outcome:
    """Distances against alpha with their exponents, and the times of a larger problem."""
    if options.quick:
        options.depths, options.costs = [2, 3], ["full"]
    depths, values = depths_of(options), singular_values_of(options)
    kinds = [checks.one_of(kind, "--costs", tuple(COSTS)) for kind in options.costs]
    seed = checks.integer(options.seed, "--seed", least=0)
    cases: list[Case] = []
    fits = []
    with progress.bar(options.progress, "settings", len(kinds) * len(depths) + 1) as report:
        for done, (kind, depth) in enumerate(pairs(kinds, depths)):
            report(done, f"{kind}, depth {depth}")
            random = np.random.default_rng(seed)
            cost = COSTS[kind](low_rank(options.size, values, random), random)
            weights = start((options.size,) * 2, depth, options.width, random)
            path = saddle_to_saddle(cost, depth)
            alphas = (*ALPHAS[depth], *SMALLER.get(depth, ()))
            found = [_against(path, kind, depth, alpha, cost, scaled(weights, alpha)) for alpha in alphas]
            cases += found
            fits.append(_fit(path, found))
        report(len(kinds) * len(depths), "a larger problem")
        timed = _timed(seed, *TIMED[options.quick])
    return Outcome(
        title=f"singular values {', '.join(f'{s:g}' for s in values)}, width {options.width}, one start at every alpha",
        columns=COLUMNS,
        rows=[_row(case) for case in cases],
        notes=[
            "distance: sup over t of ||A(t) - path||_F. saddles: how many the run shows.",
            *(_described(fit) for fit in fits),
            f"{timed['size']} x {timed['size']}, rank {timed['rank']}, half observed, depth 3: the limit path in "
            f"{timed['path']:.2f} s, saddles of rank {timed['ranks']}; a run from alpha = {timed['alpha']:g} to t = "
            f"{timed['time']:.3g} in {timed['run']:.2f} s ({timed['steps']} steps, {timed['status']}), at a "
            f"distance of {timed['distance']:.2g}.",
        ],
        parameters={
            "depths": depths,
            "costs": kinds,
            "singular_values": values,
            "fits": fits,
            "timed": timed,
        },
        figures={"limit-path": _figure(cases, fits)},
    )


def _against(path: SaddlePath, kind: str, depth: int, alpha: float, cost: Any, weights: Any) -> Case:
    until = Until(cost=FITTED * path.saddles[0].cost)
    flow = gradient_flow(cost, weights, (0.0, math.inf), rtol=1e-10, until=until, max_steps=200_000)
    seen, (gaps, places) = len(find_saddles(flow)), path.distances(flow)
    each = tuple(float(gaps[places.astype(int) == k].max(initial=0.0)) for k in range(len(path.segments)))
    return Case(kind, depth, alpha, max(each), seen, float(flow.t[-1]), flow.n_steps, each)


def _fit(path: SaddlePath, found: list[Case]) -> dict[str, Any]:
    gaps = []
    for saddle, segment in zip(path.saddles, path.segments, strict=False):
        s = np.append(np.linalg.svd(segment.cost_function.gradient(saddle.end_to_end), compute_uv=False), 0.0)
        gaps.append(float(1 - s[1] / s[0]))
    return {
        "cost": found[0].kind,
        "depth": found[0].depth,
        "exponent": exponent([case.alpha for case in found], [case.distance for case in found]),
        "exponent (theory)": min(gaps),
        "segments": [
            exponent([case.alpha for case in found], [case.segments[k] for case in found])
            for k in range(len(gaps))
        ],
        "segments (theory)": gaps,
    }


def _timed(seed: int, n: int, values: tuple[float, ...], alpha: float) -> dict[str, Any]:
    """The limit path of a larger problem of depth 3, and a run from a small start beside it."""
    random = np.random.default_rng(seed)
    mask = np.zeros(n * n)
    mask[random.permutation(n * n)[: n * n // 2]] = 1.0
    cost = MatrixCompletion(low_rank(n, values, random), mask.reshape(n, n))
    weights = scaled(start((n, n), 3, n, random), alpha)
    saddle_to_saddle(cost, 3, max_rank=1)  # what is compiled or loaded is so once
    began = time.perf_counter()
    path = saddle_to_saddle(cost, 3)
    between = time.perf_counter()
    until = Until(cost=1e-8 * path.saddles[0].cost)
    flow = gradient_flow(cost, weights, (0.0, math.inf), method="radau13", until=until, max_steps=20_000)
    ended = time.perf_counter()
    return {
        "size": n, "rank": len(values), "path": between - began, "run": ended - between, "alpha": alpha,
        "time": float(flow.t[-1]), "steps": flow.n_steps, "status": flow.status, "distance": path.distance(flow),
        "ranks": [saddle.rank for saddle in path.saddles], "kinds": [saddle.kind for saddle in path.saddles],
    }  # fmt: skip


def _row(case: Case) -> dict[str, Any]:
    values = (case.kind, case.depth, case.alpha, case.distance, case.saddles, case.end, case.steps)
    return dict(zip(COLUMNS, values, strict=True))


def _described(fit: dict[str, Any]) -> str:
    each = ", ".join(
        f"{found:.3f} ({theory:.3f})"
        for found, theory in zip(fit["segments"], fit["segments (theory)"], strict=True)
    )
    return (
        f"{fit['cost']}, depth {fit['depth']}: distance like alpha^{fit['exponent']:.3f}; from each segment alpha^p, p "
        f"(1 - s_2/s_1 at its saddle) = {each}"
    )


def _figure(cases: list[Case], fits: list[dict[str, Any]]) -> Any:
    from .. import plotting

    drawn, (ax,) = figure(1, "Distance of runs to the limit path", width=4.6, height=3.6)
    for fit in fits:
        mine = [c for c in cases if (c.kind, c.depth) == (fit["cost"], fit["depth"])]
        alphas, line = np.array([c.alpha for c in mine]), "-" if fit["cost"] == "full" else "--"
        look = {
            "color": plotting.colour(fit["depth"] - 2),
            "marker": "o" if line == "-" else "s",
            "ms": 4,
            "lw": 0,
        }
        ax.loglog(alphas, [c.distance for c in mine], **look, label=f"L = {fit['depth']}, {fit['cost']}")
        power = mine[-1].distance * (alphas / alphas[-1]) ** fit["exponent (theory)"]
        ax.loglog(alphas, power, line, color=look["color"], lw=0.8)
    ax.set(xlabel=r"$\alpha$", ylabel=r"$\sup_t$ distance of $A(t)$ to the path")
    ax.legend(frameon=False, fontsize="x-small", title="line: predicted power", title_fontsize="x-small")
    return drawn
