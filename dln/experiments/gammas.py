"""Test error of matrix completion against the size of the start, by depth: smaller starts generalise (2106.15933).

A 10 x 10 matrix of rank 3 with singular values 10, 7, 5 and 70 observed entries is learned by networks of width 100
from entries of variance w^-gamma, up to one train cost. A deep network finds the matrix from a small start; a shallow
one gains less, and in some problems little.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, costs, inits
from ..flow import gradient_flow
from ..problem import Until
from ..trajectory import Trajectory
from ..typing import Array
from . import Outcome
from ._pool import each
from ._store import Store

TITLE = "test error of matrix completion by depth and gamma, the size of the start"

SIZE, SINGULAR_VALUES, OBSERVED = 10, (10.0, 7.0, 5.0), 70
STOP = 3.5e-4  # train cost
GAMMAS = [0.9, 1.0, 1.25, 1.5, 2.0, 2.5]
FULL = {"depths": [2, 3, 4], "gammas": GAMMAS, "width": 100, "seeds": 10}
QUICK = {"depths": [2, 4], "gammas": [2.0], "width": 100, "seeds": 2}
COLUMNS = ("depth", "gamma", "test error", "lowest", "highest", "gain", "s_4/s_1", "time", "seeds")


@dataclass(frozen=True)
class Case:
    """One run, from the start of a seed."""

    depth: int
    gamma: float
    width: int
    seed: int
    data_seed: int


@dataclass(frozen=True)
class End:
    """Test error, s_4/s_1 of A, and time, where the train cost is reached."""

    test: float
    fourth: float
    time: float


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--depths", type=int, nargs="+", metavar="L", help="(default 2 3 4)")
    add("--gammas", type=float, nargs="+", metavar="G", help="beside 1-1/L (default 0.9 1 1.25 1.5 2 2.5)")
    add("--width", type=int, metavar="W", help="of the hidden layers (default 100)")
    add("--seeds", type=int, metavar="K", help="number of starts (default 10)")
    add("--seed", type=int, default=1, help="seed of the first (default 1)")
    add("--data-seed", type=int, default=0, help="seed of matrix and mask (default 0)")
    add(
        "--new-data",
        action="store_true",
        help="another matrix and mask for every start, data seeds counted on",
    )
    add("--jobs", type=int, metavar="J", help="runs at a time (default: one for each processor)")
    add("--quick", action="store_true", help="depths 2 and 4, gamma = 1-1/L and 2, 2 seeds by default")


def run(options: argparse.Namespace) -> Outcome:
    """Test errors with their spread over the seeds, and the figure."""
    for name, usual in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, usual)
    depths = sorted({checks.integer(L, "--depths", least=2, most=64) for L in options.depths})
    gammas = sorted({checks.number(gamma, "--gammas") for gamma in options.gammas})
    width = checks.integer(options.width, "--width", least=SIZE, most=checks.MOST)
    first, data = (
        checks.integer(options.seed, "--seed", least=0),
        checks.integer(options.data_seed, "--data-seed", least=0),
    )
    seeds = range(first, first + checks.integer(options.seeds, "--seeds", least=1))
    jobs = checks.integer(options.jobs or os.cpu_count() or 1, "--jobs", least=1)
    cases = [
        Case(L, gamma, width, seed, data + (seed - first) * options.new_data)
        for L in reversed(depths)
        for gamma in sorted({1 - 1 / L, *gammas}, reverse=True)
        for seed in seeds
    ]
    ends = each(_end, cases, jobs, options.progress, "runs", Store(options.output, "gammas"))
    rows = _rows(ends)
    return Outcome(
        title=f"{SIZE} x {SIZE} matrix of rank 3, {OBSERVED} entries observed, width {width}, {len(seeds)} starts"
        + (", each on data of its own" if options.new_data else ""),
        columns=COLUMNS,
        rows=rows,
        notes=[
            f"test error: mean square of the entries that were not observed, at train cost {STOP:g}; median, lowest "
            "and highest over the starts. gain: that at gamma = 1-1/L over this one, median over the starts.",
            *_extremes(rows),
        ],
        parameters={
            "width": width, "seed": first, "data_seed": data, "new_data": options.new_data,
            "seeds": len(seeds), "train_cost": STOP,
            "runs": [vars(case) | vars(end) for case, end in ends.items()],
        },
        success=len(ends) == len(cases),
        figures={"gammas": _figure(rows)},
    )  # fmt: skip


def problem(seed: int) -> tuple[Array, Array]:
    """The matrix and the mask of what is observed."""
    random = np.random.default_rng(seed)
    U, V = (np.linalg.qr(random.normal(size=(SIZE, 3)))[0] for _ in range(2))
    mask = np.zeros(SIZE * SIZE)
    mask[random.permutation(SIZE * SIZE)[:OBSERVED]] = 1.0
    return (U * SINGULAR_VALUES) @ V.T, mask.reshape(SIZE, SIZE)


def _end(case: Case) -> End:
    target, mask = problem(case.data_seed)
    widths = (SIZE, *[case.width] * (case.depth - 1), SIZE)
    start = inits.gaussian(widths, gamma=case.gamma, rng=case.seed)
    cost = costs.MatrixCompletion(target, mask)
    flow = gradient_flow(cost, start, (0.0, math.inf), until=Until(cost=STOP), rtol=1e-6, max_steps=200_000)
    time = _reached(flow, STOP)
    A = flow.at(time)
    s = np.linalg.svd(A, compute_uv=False)
    return End(float(np.sum(((1 - mask) * (A - target)) ** 2) / np.sum(1 - mask)), float(s[3] / s[0]), time)


def _reached(flow: Trajectory, goal: float) -> float:
    """Time at which the cost is exactly this: the last step goes beyond it."""
    from scipy.optimize import brentq

    if not flow.cost[-1] < goal < flow.cost[-2]:
        return float(flow.t[-1])
    value = flow.cost_function.value
    return float(brentq(lambda t: math.log(value(flow.at(t)) / goal), flow.t[-2], flow.t[-1], rtol=1e-6))


def _rows(ends: dict[Case, End]) -> list[dict[str, Any]]:
    rows = []
    for L, gamma in sorted({(case.depth, case.gamma) for case in ends}):
        mine = {c.seed: end for c, end in ends.items() if (c.depth, c.gamma) == (L, gamma)}
        lazy = {c.seed: end for c, end in ends.items() if (c.depth, c.gamma) == (L, 1 - 1 / L)}
        tests = [end.test for end in mine.values()]
        gains = [lazy[seed].test / end.test for seed, end in mine.items() if seed in lazy]
        values = (
            L, gamma, _median(tests), min(tests), max(tests), _median(gains),
            _median([end.fourth for end in mine.values()]), _median([end.time for end in mine.values()]), len(mine),
        )  # fmt: skip
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else math.nan


def _extremes(rows: Sequence[dict[str, Any]]) -> list[str]:
    gains = [f"{row['gain']:.3g} at L = {row['depth']}" for row in rows if row["gamma"] == 2.0]
    return (
        [f"From gamma = 1-1/L to 2 the test error falls by a factor of {', '.join(gains)}."] if gains else []
    )


def _figure(rows: Sequence[dict[str, Any]]) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    with mpl.rc_context(plotting.STYLE):
        figure, ax = plt.subplots(figsize=(4.4, 3.6), layout="constrained")
        for mark, L in zip("osD^v<>", sorted({row["depth"] for row in rows}), strict=False):
            mine = [row for row in rows if row["depth"] == L]
            gamma, median, low, high = (
                np.array([row[name] for row in mine]) for name in ("gamma", "test error", "lowest", "highest")
            )
            shade = plotting.colour(L - 1)
            ax.fill_between(gamma, low, high, color=shade, alpha=0.15, lw=0)
            ax.semilogy(gamma, median, mark + "-", ms=4, lw=1.4, color=shade, label=f"L = {L}")
        ax.axvline(1.0, color="0.6", lw=0.8, ls=":")
        ax.set(xlabel=r"$\gamma$ (entries of variance $w^{-\gamma}$)", ylabel="test mean square at the end")
        ax.legend(frameon=False, fontsize="small")
    return figure
