"""A search for counterexamples to the saddle-to-saddle conjecture: random problems, small starts, and their limit.

For each problem the limit path alpha -> 0 is computed, and runs from one start scaled by ever smaller alpha, until
the saddles that the run visits are those of the path: the same ranks, and the same costs. Where no alpha is small
enough, two numbers of the path say whether float64 can decide at all: how well the fastest mode has outgrown the second
when it leaves a saddle, alpha^(1 - s_2/s_1), and how far the next mode grows while an orbit is under way, relative
to what it has to grow. A run that differs although both are small is a candidate for a counterexample. What is not
decided is reported with the alpha that would make both small, and everything but agreement with the problem itself.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, costs, inits, progress
from ..costs import Cost
from ..flow import gradient_flow
from ..problem import Until
from ..saddles import SaddlePath, find_saddles, saddle_to_saddle
from ..trajectory import Trajectory
from ..typing import Array
from . import Outcome

TITLE = "random problems against the saddle-to-saddle conjecture: does the flow follow the limit path?"

NAMES = ("agree", "undecided", "differ")
COLUMNS = ("depth", "cost", "problems", *NAMES, "largest cost error", "distance")
ALPHAS = {
    2: (1e-5, 1e-12, 1e-40, 1e-140),
    3: (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8),
    4: (1e-2, 3e-3, 1e-3, 1e-4, 1e-5, 1e-6),
    5: (3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4),
}
MOST_STEPS = 20_000
SAME = 1e-3  # relative error of a plateau's cost
RESOLUTION = 1e-7  # share of the whole drop of the cost to which plateaus are told apart: runs end there
ALIGNED, CROWDED = 0.03, 0.1  # beyond these the start is too large to tell
ARRIVED = 1e-2  # of the length of an orbit


@dataclass(frozen=True)
class Problem:
    """A cost, and what is needed to draw it and its start again."""

    seed: int
    depth: int
    kind: str
    cost: Cost
    start: list[Array]  # for alpha = 1


@dataclass(frozen=True)
class Verdict:
    """What the smallest alpha that was needed, or could be had, showed."""

    problem: Problem
    verdict: str  # one of NAMES
    alpha: float
    error: float  # of the cost of a plateau, relative; inf where a rank is missing
    distance: float  # of the run to the path, relative to the last A
    aligned: float
    crowded: float
    wanted: float  # log10 of the alpha that would make both small


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--problems", type=int, default=200, help="number of random problems (default 200)")
    add("--depths", type=int, nargs="+", default=[2, 3, 4, 5], metavar="L", help="(default 2 3 4 5)")
    add("--seed", type=int, default=0, help="seed of the first problem (default 0)")
    add("--quick", action="store_true", help="12 problems of depth 2 and 3")


def run(options: argparse.Namespace) -> Outcome:
    """Verdicts by depth and cost, and the distances against alpha."""
    if options.quick:
        options.problems, options.depths = 12, [2, 3]
    count = checks.integer(options.problems, "--problems", least=1)
    first = checks.integer(options.seed, "--seed", least=0)
    for depth in options.depths:
        if depth not in ALPHAS:
            raise ValueError(f"`--depths` must be among {tuple(ALPHAS)}, got {depth}. Choose from them.")
    verdicts = []
    with progress.bar(options.progress, "problems", count) as report:
        for done in range(count):
            problem = _draw(first + done, options.depths[done % len(options.depths)])
            report(done, f"depth {problem.depth}, {problem.kind}")
            verdicts.append(_judge(problem))
    other = [v for v in verdicts if v.verdict != "agree"]
    return Outcome(
        title=f"{count} random problems: saddles of small starts against those of the limit path",
        columns=COLUMNS,
        rows=[
            _row(depth, kind, found)
            for depth in options.depths
            for kind in KINDS
            if (found := [v for v in verdicts if (v.problem.depth, v.problem.kind) == (depth, kind)])
        ],
        notes=[
            "agree: at some alpha every saddle of the path has a plateau of its rank, its cost within 1e-3. undecided: "
            "the smallest alpha of the list leaves the modes unseparated, by one of the two numbers. differ: neither.",
            "largest cost error, distance: over the problems that agree, of plateaus (relative), and of A(t) to the "
            "path (median, over the norm of the last A).",
            *(_described(v) for v in other),
        ],
        parameters={
            "problems": count, "seed": first, "depths": options.depths,
            "verdicts": [
                {
                    "seed": v.problem.seed, "depth": v.problem.depth, "cost": v.problem.kind, "verdict": v.verdict,
                    "alpha": v.alpha, "cost_error": v.error, "distance": v.distance, "aligned": v.aligned,
                    "crowded": v.crowded, "wanted": v.wanted,
                } | ({} if v.verdict == "agree" else {"problem": _recorded(v.problem)})
                for v in verdicts
            ],
        },
        success=not any(v.verdict == "differ" for v in verdicts),
        figures={"conjecture": _figure(verdicts)},
    )  # fmt: skip


def _draw(seed: int, depth: int) -> Problem:
    random = np.random.default_rng([7, seed])
    kind = list(KINDS)[seed % 3]
    n_L, n_0 = (int(n) for n in random.integers(2, 6, size=2))
    r = min(n_L, n_0)
    U, V = (np.linalg.qr(random.normal(size=(n, r)))[0] for n in (n_L, n_0))
    s: Array = np.cumprod([random.uniform(1.0, 3.0), *random.uniform(0.2, 0.7, size=r - 1)])
    cost = KINDS[kind]((U * s) @ V.T, random)
    widths = (n_0, *[max(n_0, n_L) + 2] * (depth - 1), n_L)
    return Problem(seed, depth, kind, cost, inits.gaussian(widths, std=1.0, rng=random))


def _masked(A: Array, random: np.random.Generator) -> Cost:
    mask = random.random(A.shape) < 0.75
    mask[0, 0] = True
    return costs.MatrixCompletion(A, mask)


def _sensing(A: Array, random: np.random.Generator) -> Cost:
    m = int(random.integers(A.size // 2 + 1, 2 * A.size))
    S = random.normal(size=(m, *A.shape)) / math.sqrt(m)
    return costs.MatrixSensing(S, np.einsum("kij,ij->k", S, A))


KINDS: dict[str, Callable[[Array, np.random.Generator], Cost]] = {
    "full": lambda A, _: costs.FullyObserved(A),
    "masked": _masked,
    "sensing": _sensing,
}


def _judge(problem: Problem) -> Verdict:
    cost, depth = problem.cost, problem.depth
    path = saddle_to_saddle(cost, depth)
    until = _until(cost, path)
    ratios, growths = _separations(path)
    size = float(np.linalg.norm(path.saddles[-1].end_to_end))
    verdict: Verdict | None = None
    for alpha in ALPHAS[depth]:
        start = [alpha * W for W in problem.start]
        run = gradient_flow(cost, start, (0.0, math.inf), until=until, max_steps=MOST_STEPS)
        error = _error(path, run)
        room = -math.log(alpha) if depth == 2 else (alpha ** (2 - depth) - 1) / (depth - 2)
        aligned = max((alpha ** (1 - ratio) for ratio in ratios), default=0.0)
        crowded = max(
            (g / ((1 - q) * room + 1e-300) for g, q in zip(growths, ratios, strict=True)), default=0.0
        )
        told = aligned <= ALIGNED and crowded <= CROWDED
        name = "agree" if error <= SAME else "differ" if told and run.success else "undecided"
        if name == "undecided" and verdict is not None and verdict.verdict == "differ":
            continue  # a smaller start that tells less takes nothing back
        verdict = Verdict(
            problem, name, alpha, error, path.distance(run) / size, aligned, crowded,
            _wanted(math.log10(alpha), depth, aligned, crowded),
        )  # fmt: skip
        if name == "agree":
            break
    assert verdict is not None
    return verdict


def _until(cost: Cost, path: SaddlePath) -> Until:
    """When a run has told all: by the size of the problem."""
    scale = float(np.linalg.norm(cost.gradient(path.saddles[0].end_to_end), 2))
    return Until(cost=RESOLUTION * path.saddles[0].cost, gradient_norm=1e-6 * scale)


def _wanted(exponent: float, depth: int, aligned: float, crowded: float) -> float:
    """Exponent of 10 of the alpha at which both numbers are small, from what they are at another one."""
    stretch = max(1.0, math.log(ALIGNED) / math.log(aligned) if 0.0 < aligned < 1.0 else 1.0)
    slower = max(1.0, crowded / CROWDED)
    if depth == 2:
        return exponent * max(stretch, slower)
    return min(exponent * stretch, exponent - math.log10(slower) / (depth - 2))


def _error(path: SaddlePath, run: Trajectory) -> float:
    """Largest relative error of the cost of a plateau, infinite where the run has none of that rank."""
    try:
        visited = find_saddles(run, resolution=RESOLUTION)
    except RuntimeError:  # a run that broke off cannot be looked at between its saved times
        return math.inf
    errors = [
        min((abs(v.cost / saddle.cost - 1) for v in visited if v.rank == saddle.rank), default=math.inf)
        for saddle in path.saddles
        if saddle.kind == "saddle"
    ]
    return max(errors, default=0.0)


def _separations(path: SaddlePath) -> tuple[list[float], list[float]]:
    """At every saddle s_2/s_1 of the gradient; on the orbit from there the integral of the next mode's rate."""
    ratios, growths = [], []
    for segment in path.segments:
        cost, A = segment.cost_function, segment.end_to_end
        s = np.linalg.svd(cost.gradient(A[0]), compute_uv=False)
        ratios.append(float(s[1] / s[0]) if len(s) > 1 else 0.0)
        rank = int(np.sum(np.linalg.svd(A[-1], compute_uv=False) > 1e-6))
        gap = np.linalg.norm(A - A[-1], axis=(1, 2))
        under_way = (gap > ARRIVED * gap[0]) & (gap < (1 - ARRIVED) * gap[0])
        rates = [_next_rate(cost.gradient(a), a, rank) for a in A[under_way]]
        growths.append(float(np.trapezoid(rates, segment.t[under_way])))
    return ratios, growths


def _next_rate(G: Array, A: Array, rank: int) -> float:
    """Largest singular value of the gradient between the complements of the leading singular spaces of A."""
    U, _, Vt = np.linalg.svd(A)
    rest = U[:, rank:].T @ G @ Vt[rank:].T
    return float(np.linalg.norm(rest, 2)) if rest.size else 0.0


def _row(depth: int, kind: str, found: list[Verdict]) -> dict[str, Any]:
    agreed = [v for v in found if v.verdict == "agree"]
    counts = [sum(v.verdict == name for v in found) for name in NAMES]
    values = (
        depth, kind, len(found), *counts,
        max((v.error for v in agreed), default=None),
        float(np.median([v.distance for v in agreed])) if agreed else None,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _recorded(problem: Problem) -> dict[str, Any]:
    """The cost, as its class and the arrays of its constructor, and the start for alpha = 1, as lists."""
    cost = problem.cost
    return {
        "class": type(cost).__name__,
        "arguments": {name: getattr(cost, name).tolist() for name in cost.arguments},
        "start": [W.tolist() for W in problem.start],
    }


def _described(v: Verdict) -> str:
    return (
        f"{v.verdict}: seed {v.problem.seed}, depth {v.problem.depth}, {v.problem.kind}, alpha {v.alpha:g}: cost error "
        f"{v.error:.2g}, distance {v.distance:.2g}; alpha^(1 - s_2/s_1) = {v.aligned:.2g}, growth of the next mode "
        f"{v.crowded:.2g} of what it needs; alpha = 1e{v.wanted:.0f} would tell"
    )


def _figure(verdicts: list[Verdict]) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    marks = dict(zip(NAMES, "oxD", strict=True))
    with mpl.rc_context(plotting.STYLE):
        figure, ax = plt.subplots(figsize=(5.5, 4.0), layout="constrained")
        for v in verdicts:
            x, y = max(v.aligned, 1e-16), max(v.distance, 1e-8)
            ax.loglog(x, y, marks[v.verdict], color=plotting.colour(v.problem.depth - 1), ms=4, alpha=0.7)
        line = np.array([1e-12, 1.0])
        ax.loglog(line, line, color="0.6", lw=0.8, ls="--")
        for depth in sorted({v.problem.depth for v in verdicts}):
            ax.plot([], [], "o", color=plotting.colour(depth - 1), ms=4, label=f"L = {depth}")
        for name, mark in marks.items():
            ax.plot([], [], mark, color="0.3", ms=4, ls="", label=name)
        ax.set(
            xlabel=r"$\alpha^{1 - s_2/s_1}$, largest over the saddles",
            ylabel="distance of the run to the path, relative",
        )
        ax.legend(frameon=False, fontsize="small")
    return figure
