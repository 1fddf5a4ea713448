r"""The limit path against alpha: how far real runs are from it, by which powers, and what the limit costs beside a run.

Random problems are drawn until s_2/s_1 <= 0.3 at every saddle that is left, and none is nearly flat. The distance is
the largest one of A(t) to the path as a curve, between the visits to one saddle and the next. Its exponent is to be
:math:`1 - s_2/s_1` of that saddle for L >= 3; what it is for two layers, and by which powers single directions fall,
says `_near_path`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, progress
from ..costs import Cost, MatrixCompletion
from ..flow import gradient_flow
from ..problem import Until
from ..saddles import SaddlePath, saddle_to_saddle
from ..trajectory import Trajectory
from ..typing import Array
from . import Outcome
from ._near_path import GAP, KINDS, RANK, Exponents, draw, expected, gaps, seen
from ._starts import depths_of, exponent, figure, low_rank, scaled, start

TITLE = (
    "runs from ever smaller starts against the limit path: distances, their exponents, and the price of both"
)

SADDLES = tuple(f"from A_{k}" for k in range(RANK))
COLUMNS = ("cost", "problem", "depth", "distance", "exponent", "theory", *SADDLES)
# Rounding moves what waits by some 1e-17 alpha^(1 - L) of itself during a plateau: smaller ones cannot be had.
ALPHAS = {2: (1e-5, 1e-7, 1e-9, 1e-11), 3: (1e-5, 1e-6, 1e-7), 4: (3e-4, 1e-4, 3e-5)}
WITHIN = 0.1  # of an exponent
METHOD, RTOL, MOST_STEPS = "radau13", 1e-10, 50_000
FITTED = 1e-9  # share of the first cost at which a run ends
KNOWN = 1e-8  # a distance down to which its own error does not count
ASIDE = 1e-7  # the same for a direction
# Size, singular values and alpha of the problem of depth 3 that is timed.
TIMED = {False: (30, (10.0, 7.0, 5.0, 3.5, 2.5), 1e-6), True: (12, (10.0, 7.0), 1e-2)}


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--depths", type=int, nargs="+", default=[2, 3, 4], metavar="L", help="among 2 3 4 (default all)")
    add("--costs", nargs="+", default=list(KINDS), metavar="KIND", help="full, masked, sensed (default all)")
    add("--problems", type=int, default=5, help="of each cost (default 5)")
    add("--size", type=int, default=6, help="rows and columns of the target, of rank 3 (default 6)")
    add("--width", type=int, default=8, help="of the hidden layers (default 8)")
    add("--seed", type=int, default=1, help="seed of problems and starts (default 1)")
    add(
        "--quick",
        action="store_true",
        help="one problem of each cost, without the last alpha; a small one is timed",
    )


@dataclass(frozen=True)
class Case:
    """The runs of a problem and a depth beside the path, for each alpha and segment."""

    kind: str
    problem: int
    depth: int
    alphas: tuple[float, ...]
    gaps: list[float]
    theory: Exponents
    distances: Array
    asides: Sequence[list[Array]]
    runs: Sequence[Trajectory]

    @property
    def whole(self) -> Array:
        """Largest distances of whole runs."""
        return np.asarray(self.distances.max(axis=1))

    def powers(self) -> dict[str, Any]:
        """Exponents found and expected: of the whole run, of each segment, and of its slowest direction."""
        slow = np.array([[abs(aside[0, 0]) for aside in asides] for asides in self.asides])
        return {
            "cost": self.kind, "problem": self.problem, "depth": self.depth, "gaps": self.gaps, "alphas": self.alphas,
            "exponent": exponent(self.alphas, self.whole.tolist(), KNOWN),
            "exponent (theory)": min(self.theory.distances),
            "segments": [exponent(self.alphas, d, KNOWN) for d in self.distances.T],
            "segments (theory)": self.theory.distances,
            "segments (blended)": np.mean([self.theory.blended(aside) for aside in self.asides], axis=0).tolist(),
            "directions": [exponent(self.alphas, x, ASIDE) for x in slow.T],
            "directions (theory)": self.theory.slowest,
            "distances": self.distances.tolist(), "times": [float(flow.t[-1]) for flow in self.runs],
            "steps": [flow.n_steps for flow in self.runs],
        }  # fmt: skip


def run(options: argparse.Namespace) -> Outcome:
    """Exponents of distances and directions, problem by problem, and the times of a larger problem."""
    last = None
    if options.quick:
        options.problems, last = 1, -1
    kinds = [checks.one_of(kind, "--costs", tuple(KINDS)) for kind in options.costs]
    depths, count = depths_of(options), checks.integer(options.problems, "--problems", least=1)
    seed = checks.integer(options.seed, "--seed", least=0)
    sizes = [
        checks.integer(options.size, "--size", least=RANK + 2),
        checks.integer(options.width, "--width", least=RANK),
    ]
    cases = []
    with progress.bar(options.progress, "problems", len(kinds) * count + 1) as report:
        for done, (kind, problem) in enumerate((kind, i) for kind in kinds for i in range(count)):
            report(done, f"{kind}, problem {problem}")
            random = np.random.default_rng([seed, list(KINDS).index(kind), problem])
            cases += _beside(kind, problem, depths, sizes, last, random)
        report(len(kinds) * count, "a larger problem")
        timed = _timed(seed, *TIMED[options.quick])
    fits = [case.powers() for case in cases]
    return Outcome(
        title=f"{count} random problems of each cost, {sizes[0]} x {sizes[0]}, s_2/s_1 <= {GAP:g} at every saddle left",
        columns=COLUMNS,
        rows=[_row(fit) for fit in fits],
        notes=[
            "distance: sup over t of ||A(t) - path||_F at the smallest alpha. Exponents of alpha: of the whole run, "
            "and between the visits to one saddle and the next, found (theory).",
            *(_summary(depth, [fit for fit in fits if fit["depth"] == depth]) for depth in depths),
            f"{timed['size']} x {timed['size']}, rank {timed['rank']}, half observed, depth 3: the limit path in "
            f"{timed['path']:.2f} s, saddles of rank {timed['ranks']}; a run from alpha = {timed['alpha']:g} to t = "
            f"{timed['time']:.3g} in {timed['run']:.2f} s ({timed['steps']} steps, {timed['status']}), at a "
            f"distance of {timed['distance']:.2g}.",
        ],
        parameters={"depths": depths, "costs": kinds, "seed": seed, "fits": fits, "timed": timed},
        figures={"limit-path": _figure(cases, fits)},
    )


def _beside(
    kind: str,
    problem: int,
    depths: list[int],
    sizes: list[int],
    last: int | None,
    random: np.random.Generator,
) -> list[Case]:
    """Runs of one problem at all depths, and at all alphas up to the last one wanted."""
    cost, paths = draw(kind, sizes[0], depths, random)
    cases = []
    for depth in depths:
        path, weights = paths[depth], start((sizes[0],) * 2, depth, sizes[1], random)
        tried = [(alpha, _flow(cost, path, scaled(weights, alpha))) for alpha in ALPHAS[depth][:last]]
        ended = [(alpha, flow) for alpha, flow in tried if flow.success]
        if len(ended) < 2:
            raise ValueError(f"`--seed` must give runs that end, got {tried[0][1].status!r}. Take another.")
        alphas, runs = zip(*ended, strict=True)
        distances, asides = zip(*(seen(path, flow) for flow in runs), strict=True)
        theory = expected(path, depth, turning=kind != "full")
        cases.append(
            Case(kind, problem, depth, alphas, gaps(path), theory, np.array(distances), asides, runs)
        )
    return cases


def _flow(cost: Cost, path: SaddlePath, weights: list[Array]) -> Trajectory:
    until = Until(cost=FITTED * path.saddles[0].cost)
    return gradient_flow(
        cost, weights, (0.0, math.inf), method=METHOD, rtol=RTOL, until=until, max_steps=MOST_STEPS
    )


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


def _row(fit: dict[str, Any]) -> dict[str, Any]:
    pairs = zip(SADDLES, fit["segments"], fit["segments (theory)"], strict=True)
    largest = max(fit["distances"][-1])
    head = (fit["cost"], fit["problem"], fit["depth"], largest, fit["exponent"], fit["exponent (theory)"])
    return dict(zip(COLUMNS, head, strict=False)) | {
        name: f"{found:.3f} ({theory:.3f})" for name, found, theory in pairs
    }


def _summary(depth: int, fits: list[dict[str, Any]]) -> str:
    """How many exponents are within the tolerance, and their spread."""
    alphas = ", ".join(f"{alpha:g}" for alpha in fits[0]["alphas"])
    pairs = {
        "whole runs": ("exponent", "exponent (theory)"),
        "segments": ("segments", "segments (theory)"),
        "segments, as the directions blend at these alpha": ("segments", "segments (blended)"),
        "slowest directions": ("directions", "directions (theory)"),
    }
    texts = [f"{name} {_spread(fits, *keys)}" for name, keys in pairs.items()]
    return f"depth {depth}, alpha = {alphas}: exponent found less theory: {'; '.join(texts)}."


def _spread(fits: list[dict[str, Any]], found: str, theory: str) -> str:
    off = np.concatenate([np.atleast_1d(fit[found]) - np.atleast_1d(fit[theory]) for fit in fits])
    off = off[np.isfinite(off)]
    within = int(np.sum(np.abs(off) <= WITHIN))
    return f"{off.min():.3f} to {off.max():.3f}, {within} of {len(off)} within {WITHIN:g}"


def _figure(cases: Sequence[Case], fits: Sequence[dict[str, Any]]) -> Any:
    from .. import plotting

    marks = dict(zip(KINDS, "os^", strict=True))
    drawn, (left, right) = figure(2, "Distance of runs to the limit path", width=3.3, height=3.2)
    for case, fit in zip(cases, fits, strict=True):
        look = {"color": plotting.colour(case.depth - 2), "marker": marks[case.kind], "ms": 3.5}
        left.loglog(case.alphas, case.whole, **look, lw=0.7)
        right.plot(fit["segments (theory)"], fit["segments"], **look, lw=0, mfc="none", mew=0.8)
    ends = np.array([0.15, 1.05])
    right.fill_between(ends, ends - WITHIN, ends + WITHIN, color="0.9", zorder=0)
    right.plot(ends, ends, color="0.5", lw=0.8, zorder=0)
    left.set(xlabel=r"$\alpha$", ylabel=r"$\sup_t$ distance of $A(t)$ to the path")
    right.set(xlabel="exponent, theory", ylabel="exponent of each segment, found")
    for depth in sorted({case.depth for case in cases}):
        left.plot([], [], color=plotting.colour(depth - 2), lw=2, label=f"L = {depth}")
    for kind in dict.fromkeys(case.kind for case in cases):
        right.plot([], [], marks[kind], color="0.3", mfc="none", ms=4, label=kind)
    for ax in (left, right):
        ax.legend(frameon=False, fontsize="x-small")
    return drawn
