"""Escapes from small starts against their laws: when, how fast, in which direction, of which rank in every layer.

One random start is scaled by ever smaller alpha. The k-th escape is predicted from the start (`dln.escape_times`) and
measured on the run (`dln.measure_escapes`).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, progress
from ..flow import gradient_flow
from ..problem import Until
from ..saddles import Escape, escape_times, measure_escapes, saddle_to_saddle
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

TITLE = "escapes from small starts: times, speeds, directions and ranks of the layers, measured and predicted"

COLUMNS = (
    "cost", "depth", "alpha", "escape", "time", "predicted", "relative error", "speed/predicted", "misalignment",
    "s_k+1/s_k of layers",
)  # fmt: skip
LEAST = 1e-12  # relative error of a time, and misalignment, that the tolerance of the run lets one see


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    problem_options(parser, quick="full observation, depths 2 and 3, fewer alphas")


@dataclass(frozen=True)
class Case:
    """One escape of one run."""

    kind: str
    depth: int
    alpha: float
    escape: Escape
    predicted: float
    gap: float  # s_2/s_1 of the gradient at the saddle

    @property
    def error(self) -> float:
        return self.predicted / self.escape.time - 1


def run(options: argparse.Namespace) -> Outcome:
    """Every escape of every run, and the exponents in alpha."""
    if options.quick:
        options.depths, options.costs = [2, 3], ["full"]
    depths, values = depths_of(options), singular_values_of(options)
    kinds = [checks.one_of(kind, "--costs", tuple(COSTS)) for kind in options.costs]
    cases, alphas = [], {depth: ALPHAS[depth][:: 2 if options.quick else 1] for depth in depths}
    with progress.bar(options.progress, "runs", len(kinds) * sum(map(len, alphas.values()))) as report:
        done = 0
        for kind, depth in pairs(kinds, depths):
            random = np.random.default_rng(checks.integer(options.seed, "--seed", least=0))
            cost = COSTS[kind](low_rank(options.size, values, random), random)
            weights = start((options.size,) * 2, depth, options.width, random)
            path = saddle_to_saddle(cost, depth)
            for alpha in alphas[depth]:
                report(done, f"{kind}, depth {depth}, alpha {alpha:g}")
                cases += _cases(kind, depth, alpha, cost, scaled(weights, alpha), path)
                done += 1
    fits = [_fit(kind, depth, cases) for kind, depth in pairs(kinds, depths)]
    return Outcome(
        title=f"singular values {', '.join(f'{s:g}' for s in values)}, width {options.width}, one start at every alpha",
        columns=COLUMNS,
        rows=[_row(case) for case in cases],
        notes=[
            "escape k: the k-th singular value of A reaches half of what it has at the next critical point. "
            "misalignment: 1 - cosine of the growth and u_1 v_1^T. s_k+1/s_k: largest over the layers at that time.",
            "Theory of the error of the first time: at least alpha^(2 - 2 s_2/s_1); masked: alpha^(1 - s_2/s_1).",
            *(_described(fit) for fit in fits),
        ],
        parameters={"depths": depths, "costs": kinds, "singular_values": values, "fits": fits},
        figures={"escape-laws": _figure(cases, depths)},
    )


def _cases(kind: str, depth: int, alpha: float, cost: Any, weights: Any, path: Any) -> list[Case]:
    predicted = escape_times(cost, weights)
    end = 1.5 * float(predicted[np.isfinite(predicted)].max(initial=1.0)) + 500.0
    until = Until(cost=1e-12 * path.saddles[0].cost)
    flow = gradient_flow(cost, weights, (0.0, end), rtol=1e-11, until=until, max_steps=200_000)
    cases = []
    for escape in measure_escapes(flow):
        saddle = next((s for s in path.saddles if s.rank == escape.rank), None)
        if saddle is None or not escape.rank < len(predicted) or math.isnan(escape.time):
            continue
        s = np.append(np.linalg.svd(cost.gradient(saddle.end_to_end), compute_uv=False), 0.0)
        gap = float(s[1] / s[0])
        cases.append(Case(kind, depth, alpha, escape, float(predicted[escape.rank]), gap))
    return cases


def _row(case: Case) -> dict[str, Any]:
    found = case.escape
    values = (
        case.kind, case.depth, case.alpha, found.rank + 1, found.time, case.predicted, case.error,
        found.speed / found.predicted_speed, 1 - found.alignment, float(found.layer_ratios.max()),
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _fit(kind: str, depth: int, cases: list[Case]) -> dict[str, Any]:
    """Exponents of the first escape, measured and predicted, and the largest error of each time at the least alpha."""
    first = [c for c in cases if (c.kind, c.depth) == (kind, depth) and c.escape.rank == 0]
    alphas = [c.alpha for c in first]
    absolute = [c.error * c.escape.time for c in first]
    gap = first[0].gap
    last = [c for c in cases if (c.kind, c.depth, c.alpha) == (kind, depth, min(alphas))]
    return {
        "cost": kind,
        "depth": depth,
        "s_2/s_1": gap,
        "time": exponent(alphas, absolute, LEAST * first[0].escape.time),
        "time (theory)": (1 - gap) * (2 if kind == "full" else 1),
        "ratio": exponent(alphas, [c.escape.layer_ratios.max() for c in first]),
        "ratio (theory)": 1 - gap if depth == 2 else 1.0,
        "errors": {c.escape.rank + 1: c.error for c in last},
    }


def _described(fit: dict[str, Any]) -> str:
    errors = ", ".join(f"{error:.1e}" for error in fit["errors"].values())
    return (
        f"{fit['cost']}, depth {fit['depth']}, first escape: error of the time like alpha^{fit['time']:.2f} "
        f"(at least {fit['time (theory)']:.2f}), s_2/s_1 of the layers like alpha^{fit['ratio']:.2f} "
        f"({fit['ratio (theory)']:.2f}); relative errors of all times at the least alpha {errors}"
    )


def _figure(cases: list[Case], depths: list[int]) -> Any:
    from .. import plotting

    drawn, (left, middle, right) = figure(3, "Escapes from one start scaled by alpha (full observation)")
    for depth in depths:
        mine = [c for c in cases if c.depth == depth and c.kind == cases[0].kind]
        for k in sorted({c.escape.rank for c in mine}):
            alphas, escapes = zip(*((c.alpha, c) for c in mine if c.escape.rank == k), strict=True)
            style = {"color": plotting.colour(depth - 2), "marker": "osD^v"[k % 5], "ms": 3.5, "lw": 0}
            left.loglog(alphas, [c.escape.time for c in escapes], **style)
            left.loglog(alphas, [c.predicted for c in escapes], color=style["color"], lw=0.9)
            middle.loglog(alphas, [max(abs(c.error), 1e-13) for c in escapes], **style | {"lw": 0.7})
            if k == 0:
                ratios = np.array([c.escape.layer_ratios for c in escapes])
                right.loglog(alphas, ratios.max(axis=1), **style | {"lw": 0.7}, label=f"L = {depth}")
    left.set(xlabel=r"$\alpha$", ylabel="escape time (line: predicted)")
    middle.set(xlabel=r"$\alpha$", ylabel="relative error of the time")
    right.set(xlabel=r"$\alpha$", ylabel=r"$s_2/s_1$ of the layers, first escape")
    right.legend(frameon=False, fontsize="small")
    for k in range(max(c.escape.rank for c in cases) + 1):
        left.plot([], [], "osD^v"[k % 5], color="0.4", ms=3.5, label=f"escape {k + 1}")
    left.legend(frameon=False, fontsize="small")
    return drawn
